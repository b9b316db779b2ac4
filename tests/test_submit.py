"""``stylebatch submit`` to a real Ray head with its dashboard, its token and a bucket."""

import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from inmemory import picture_bytes
from rayhead import Head, running_head
from s3server import S3Server, show_only_server

GRACE = 6
"""Seconds: twice what Ray waits before it kills, unless it is told to wait longer."""
PATIENCE = 150


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    name = f"submit-{uuid.uuid4().hex[:12]}"
    s3_server.client.create_bucket(Bucket=name)
    for number in range(2):
        s3_server.client.put_object(Bucket=name, Key=f"in/{number}.png", Body=picture_bytes(40, 30, number))
    return f"s3://{name}"


@pytest.fixture(scope="module")
def head(s3_server: S3Server) -> Iterator[Head]:
    """One for all tests. The cluster knows the bucket; who submits to it has no key."""
    with pytest.MonkeyPatch.context() as patch:
        show_only_server(patch, s3_server.endpoint, s3_server.access_key, s3_server.secret_key)
        with running_head({"OMP_NUM_THREADS": "1"}) as running:
            yield running


@pytest.fixture
def folder(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a manifest, a recipe and much that is nobody's business."""
    monkeypatch.chdir(tmp_path)
    contents = [f"{bucket}/in/0.png", f"{bucket}/in/missing.png"]
    table = {"pair_id": ["there", "missing"], "content": contents, "style": [f"{bucket}/in/1.png"] * 2}
    pq.write_table(pa.table(table), tmp_path / "my pairs.parquet")
    (tmp_path / "recipe.yaml").write_text("size: 32\niterations: 2\n")
    (tmp_path / "private.txt").write_text("stays here")
    return tmp_path


def finish(command: "subprocess.Popen[str]", code: int) -> tuple[str, str]:
    """What a command printed, and that it ended with this code."""
    try:
        out, err = command.communicate(timeout=PATIENCE)
    finally:
        command.kill()
    assert command.returncode == code, f"{command.args} ended with {command.returncode}:\n{out}\n{err}"
    return out, err


def wait_for(command: "subprocess.Popen[str]", text: str) -> str:
    """Read lines of a command until one has this text."""
    assert command.stdout
    read = ""
    for line in command.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} is not in what was printed:\n{read}")


def test_a_manifest_and_a_recipe_of_this_machine(head: Head, bucket: str, folder: Path) -> None:
    words = ["submit", "my pairs.parquet", "-o", f"{bucket}/out/", "--recipe", "recipe.yaml"]
    words += ["--set", "seed=7", "--device=cpu", "--address", head.address]

    out, err = finish(head.command(*words), 1)

    submitted = out.splitlines()[0].removeprefix(f"Submitted to {head.address} as ").rstrip(".")
    assert submitted.startswith("stylebatch-")
    assert submitted.endswith("-1")
    assert "2 pairs from /" in out
    assert "1 of 2 pairs ok, 1 failed." in out  # the exit code says so too
    assert "1 x NotFoundError" in out
    assert err == ""
    packages = [*head.processes.folder.glob("t/session_latest/runtime_resources/working_dir_files/*/*")]
    assert {package.name for package in packages} == {"manifest.parquet", "recipe.yaml"}

    # The same once more has a new id, since Ray refuses old ones, and finds everything done.
    out, _ = finish(head.command(*words), 1)
    assert f"as {submitted.removesuffix('1')}2." in out
    assert "2 had ended before this run" in out

    # Another job on the same output is refused there, and so here.
    out, _ = finish(head.command(*words, "--unit-size", "5"), 2)
    assert "unit_size is 256 there and 5 here" in out


def test_leaving_joining_and_stopping(head: Head, bucket: str, folder: Path, s3_server: S3Server) -> None:
    table = {"pair_id": ["long"], "content": [f"{bucket}/in/0.png"], "style": [f"{bucket}/in/1.png"]}
    pq.write_table(pa.table(table), folder / "long.parquet")
    words = [
        "submit",
        "long.parquet",
        "-o",
        f"{bucket}/long",
        "--set",
        "size=64",
        "--set",
        "iterations=100000",
    ]
    words += ["--set", "tolerance=0", "--grace", str(GRACE), "--address", head.address]

    out, _ = finish(head.command(*words, "--no-follow"), 0)

    first, _, look, _, stop = out.splitlines()
    submission_id = first.rpartition(" ")[2].rstrip(".")
    assert look.strip().endswith(f"--address={head.address}")

    follower = head.command(*words)
    assert f"{submission_id} does this work already; nothing was submitted." in wait_for(follower, "already")
    wait_for(follower, "long (")  # the worker is at it
    follower.send_signal(signal.SIGINT)
    _, err = finish(follower, 3)
    assert f"Detached; {submission_id} goes on." in err
    assert stop in err

    out, err = finish(head.command(*words, "--retry-failed"), 2)
    assert f"{submission_id} works on this output already, and cannot take up --retry-failed" in err

    other = head.command(*words, "--workers=1")
    assert "already, started with other options; nothing was submitted." in wait_for(other, "already")
    wait_for(other, "long (")
    subprocess.run(stop, shell=True, env=head.processes.environment, check=True, capture_output=True)
    out, err = finish(other, 3)
    assert "stopped by SIGTERM: 0 of 1 pairs have ended; 1 under way" in out
    assert f"stylebatch: {submission_id} has ended part-way: it was stopped" in err
    assert "To go on where it stopped:\n" in err
    name = bucket.removeprefix("s3://")
    listed = s3_server.client.list_objects_v2(Bucket=name, Prefix="long/checkpoints/")
    assert [entry["Key"] for entry in listed["Contents"]] == ["long/checkpoints/000000/long.ckpt"]


def test_another_token_is_refused(head: Head, bucket: str, folder: Path) -> None:
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("0" * 64)
    words = ["submit", f"{bucket}/pairs.parquet", "-o", f"{bucket}/out", "--address", head.address]
    out, err = finish(head.command(*words, home=folder), 2)
    assert out == ""
    assert err.startswith(f"stylebatch: the cluster at {head.address} wants its token: ")
