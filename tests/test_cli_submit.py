"""The command ``submit``: what a cluster is asked for, what is refused before, and what is said."""

import argparse
import shlex
import shutil
import socket
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scriptedjobs import ScriptedJobs, details

from stylebatch.cli import main
from stylebatch.cli.submitting import add_submit, typed_options
from stylebatch.cluster import submitter

WORDS = ["submit", "s3://bucket/pairs.parquet", "-o", "s3://bucket/out"]


class Cluster(ScriptedJobs):
    """Stands for the cluster: what was asked of it, and at which address."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.logs, self.statuses, self.exit_code = [["the log\n"]], ["SUCCEEDED"], 0

    def connect(self, address: str) -> "Cluster":
        self.addresses.append(address)
        return self

    @property
    def command(self) -> list[str]:
        """What ``python -m stylebatch`` was to be given."""
        (words,) = self.submitted
        return shlex.split(words["entrypoint"].partition("; exec ")[2])[3:]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    double = Cluster()
    monkeypatch.setattr(submitter, "connect", double.connect)
    return double


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: ``pairs.parquet``, whose images are on S3, and ``recipe.yaml``."""
    monkeypatch.chdir(tmp_path)
    columns = {"content": ["s3://bucket/a.png"], "style": ["s3://bucket/s.png"]}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    (tmp_path / "recipe.yaml").write_text("size: 64\n")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says as it refuses."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_everything_is_passed_on_as_it_was_typed(cluster: Cluster, folder: Path) -> None:
    options = ["--preset=photo", "--recipe=recipe.yaml", "--set=iterations=3", "--set=seed=7"]
    options += ["--workers=3", "--device=gpu", "--batch=4", "--stall-timeout=90", "--grace=2.50"]
    options += ["--max-pixels=1000", "--checkpoint-seconds=0", "--unit-size=7", "--retry-failed"]
    assert (
        main(["submit", "pairs.parquet", "--output=s3://bucket/out/", "--address=http://head:1/", *options])
        == 0
    )
    assert cluster.addresses == ["http://head:1"]
    assert cluster.command[:3] == ["run", "manifest.parquet", "--output=s3://bucket/out"]
    assert cluster.command[-1] == "--address=auto"
    assert sorted(cluster.command[3:-1]) == sorted(options)
    assert cluster.uploaded == [
        {
            "manifest.parquet": (folder / "pairs.parquet").read_bytes(),
            "recipe.yaml": (folder / "recipe.yaml").read_bytes(),
        }
    ]
    assert cluster.submitted[0]["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "33"}


def test_the_defaults(cluster: Cluster) -> None:
    assert main(WORDS) == 0
    assert cluster.addresses == ["http://127.0.0.1:8265"]
    assert cluster.command == [
        "run",
        "s3://bucket/pairs.parquet",
        "--output=s3://bucket/out",
        "--address=auto",
    ]
    assert cluster.submitted[0]["runtime_env"] == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "60"}}


def test_what_run_refuses_to_parse_is_refused_here(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--grace=soon"], ["--device=tpu"], ["--batch=0"], ["--restart", "--retry-failed"]):
        with pytest.raises(SystemExit, match="2"):
            main([*WORDS, *words])
    err = capsys.readouterr().err
    assert "'soon' is not a number of seconds, 0 or more" in err
    assert "'0' is not a whole number of 1 or more" in err
    assert cluster.submitted == []


def test_shared_folders(cluster: Cluster, folder: Path) -> None:
    table = {"content": ["a.png"]}
    pq.write_table(pa.table(table), folder / "near.parquet")  # its images are beside it
    words = ["submit", "near.parquet", "-o", "out", "--recipe=recipe.yaml", "--set=start=./s.png"]
    assert main([*words, "--shared", "/mnt", "--shared", "."]) == 0
    assert cluster.command == [
        *("run", f"{folder}/near.parquet", f"--output={folder}/out", f"--recipe={folder}/recipe.yaml"),
        *("--set=start=./s.png", f"--set=start={folder}/s.png", "--address=auto"),
    ]
    assert cluster.uploaded == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["submit", "s3://bucket/p.parquet", "-o", "out"],
            "--output 'out': the cluster cannot write to a folder",
        ),
        ([*WORDS, "--set=weights=./w.bin"], "/w.bin', a file of this machine, which the cluster cannot see"),
        (["submit", "near.parquet", "-o", "s3://bucket/o"], "near.parquet: row 0: content is 'a.png'"),
        (["submit", "gone.parquet", "-o", "s3://bucket/o"], "gone.parquet: there is no such file"),
        ([*WORDS, "--recipe=gone.yaml"], "gone.yaml"),
        ([*WORDS, "--set=style_wieght=1"], "did you mean style_weight?"),
        ([*WORDS, "--address=auto"], "--address 'auto' is not a dashboard's address; write http://HEAD:8265"),
        (["submit", "s3://k:secret@bucket/p", "-o", "s3://bucket/o"], "must not carry credentials"),
    ],
)
def test_what_is_refused_before_a_cluster_is_asked(
    cluster: Cluster, folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    pq.write_table(pa.table({"content": ["a.png"]}), folder / "near.parquet")
    err = refused(capsys, *words)
    assert sentence in err
    assert "secret" not in err
    assert cluster.submitted == []


def test_the_log_is_shown(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    submission_id = cluster.submitted[0]["submission_id"]
    assert capsys.readouterr() == (
        f"Submitted to http://127.0.0.1:8265 as {submission_id}.\nthe log\n",
        "",
    )


@pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("FAILED", 2)])
def test_the_code_is_the_jobs(cluster: Cluster, status: str, code: int) -> None:
    cluster.statuses, cluster.exit_code = [status], code
    assert main(WORDS) == code


def test_a_job_that_stopped_part_way(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.statuses, cluster.exit_code = ["FAILED"], 3
    assert main([*WORDS, "--restart", "--set", "size=32"]) == 3
    submission_id = cluster.submitted[0]["submission_id"]
    assert capsys.readouterr().err.splitlines() == [
        f"stylebatch: {submission_id} has ended part-way: exit code 3; its log says why",
        "To go on where it stopped:",
        "  stylebatch submit s3://bucket/pairs.parquet -o s3://bucket/out --set size=32",
    ]


def test_without_following(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "submit",
        "s3://bucket/my pairs.parquet",
        "-o",
        "s3://bucket/out",
        "--restart",
        "--set",
        "size=32",
    ]
    assert main([*words, "--no-follow", "--address=http://head:1"]) == 0
    submission_id = cluster.submitted[0]["submission_id"]
    assert capsys.readouterr().out.splitlines() == [
        f"Submitted to http://head:1 as {submission_id}.",
        "To look again:",
        "  stylebatch submit 's3://bucket/my pairs.parquet' --output=s3://bucket/out --set=size=32 --address=http://head:1",
        "To stop it, with checkpoints:",
        f"  RAY_AUTH_MODE=token ray job stop {submission_id} --address http://head:1",
    ]
    assert len(cluster.logs) == len(cluster.statuses) == 1  # nobody looked


def test_ctrl_c_detaches(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.logs = [["the log\n", KeyboardInterrupt()]]
    assert main(WORDS) == 3
    out, err = capsys.readouterr()
    submission_id = cluster.submitted[0]["submission_id"]
    assert out.endswith("the log\n")
    assert err.splitlines()[:4] == [
        "",
        f"Detached; {submission_id} goes on.",
        "To look again:",
        "  stylebatch submit s3://bucket/pairs.parquet --output=s3://bucket/out",
    ]


def submitted_before(cluster: Cluster, *words: str) -> str:
    """A job under way that was submitted with these words; its id."""
    assert main([*WORDS, *words]) == 0
    asked: dict[str, Any] = cluster.submitted.pop()
    cluster.jobs = [details(asked["submission_id"], "RUNNING", asked["entrypoint"])]
    cluster.logs, cluster.statuses = [["the rest\n"]], ["SUCCEEDED"]
    return str(asked["submission_id"])


@pytest.mark.parametrize(("words", "other"), [([], ""), (["--workers=2"], ", started with other options")])
def test_the_same_job_again_is_followed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], words: list[str], other: str
) -> None:
    submission_id = submitted_before(cluster)
    capsys.readouterr()
    assert main([*WORDS, *words]) == 0
    assert capsys.readouterr().out == (
        f"{submission_id} does this work already{other}; nothing was submitted.\nthe rest\n"
    )
    assert cluster.submitted == []


def test_starting_over_is_not_taken_for_following(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    submission_id = submitted_before(cluster)
    capsys.readouterr()
    assert f"{submission_id} works on this output already" in refused(capsys, *WORDS, "--restart")
    assert cluster.submitted == []
    assert len(cluster.logs) == 1


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    assert f"no Ray dashboard answers at {address}" in refused(capsys, *WORDS, "--address", address)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--many=a b", "--many=--c"],
        ["--switch", "--no-both", "--other=auto"],
        ["--both", "--number=007"],
    ],
)
def test_options_are_typed_again_as_they_were(words: list[str]) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--output", "-o")
        parser.add_argument("--many", action="append", default=[])
        parser.add_argument("--switch", action="store_true")
        parser.add_argument("--both", action=argparse.BooleanOptionalAction)
        parser.add_argument("--number", "-n", type=int)
        parser.add_argument("--other", type=lambda text: None, default="x")

    parser = argparse.ArgumentParser()
    add_submit(parser.add_subparsers(), add)
    options = parser.parse_args(["submit", "-oout", *words])
    assert sorted(typed_options(options, ())) == sorted(["--output=out", *words])
    assert sorted(typed_options(options, ("output", "both"))) == sorted(
        word for word in words if not word.endswith("both")
    )
