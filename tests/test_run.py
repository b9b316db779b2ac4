"""The main job from end to end: real Ray, real weights, a folder and a real S3 server."""

import hashlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stylebatch.cli import main
from stylebatch.cluster.driver import run_job
from stylebatch.cluster.jobs import make_job
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Progress
from stylebatch.manifest import write_manifest
from stylebatch.pictures import decode, read_provenance
from stylebatch.recipe import Recipe
from stylebatch.results import read_results
from stylebatch.storage import UriStore
from stylebatch.synthesis.families import BUNDLED_SHA256, bundled_weights

SMALL = ["--set", "size=32", "--set", "iterations=3", "--workers", "1"]


def picture(seed: int, width: int = 40, height: int = 30) -> bytes:
    """A smooth coloured picture, so that every pair is different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stylebatch", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_ten_pairs_of_which_three_images_are_bad(tmp_path: Path) -> None:
    store = UriStore()
    contents = [f"photo-{number}.png" for number in range(7)]
    for seed, name in enumerate([*contents, "style.png"]):
        (tmp_path / name).write_bytes(picture(seed))
    (tmp_path / "cut.png").write_bytes(picture(1, 400, 300)[:700])
    (tmp_path / "text.jpg").write_text("this is no picture")
    contents += ["cut.png", "missing.png", "text.jpg"]
    table = pa.table({"content": contents, "style": ["style.png"] * 10, "order": list(range(10))})
    write_manifest(store, str(tmp_path / "pairs.parquet"), table)
    output = tmp_path / "out"
    run = ["run", str(tmp_path / "pairs.parquet"), "--output", str(output), "--unit-size", "4", *SMALL]

    first = command_line(*run)

    assert first.returncode == 1, first.stderr
    assert "7 of 10 pairs ok, 3 failed." in first.stdout
    assert "2 x PictureError:" in first.stdout
    assert "1 x NotFoundError:" in first.stdout
    rows = read_results(store, str(output)).to_pylist()
    assert [row["row"] for row in rows] == list(range(10))
    assert [row["order"] for row in rows] == list(range(10))
    assert [row["status"] for row in rows] == ["ok"] * 7 + ["failed"] * 3
    assert "truncated" in rows[7]["error"]
    assert "no such file" in rows[8]["error"]
    assert "not a picture" in rows[9]["error"]
    for row in rows[:7]:
        check_image(store, row)
    assert not list((output / "records").rglob("*.json"))
    assert (output / "_SUCCESS").read_text() == '{"failed": 3, "ok": 7, "rows": 10}'

    stored = {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*.png")}
    again = command_line(*run)

    assert again.returncode == 1, again.stderr
    assert "7 of 10 pairs ok, 3 failed. 10 had ended before this run." in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*.png")} == stored

    other = command_line(*run, "--set", "style_weight=5")

    assert other.returncode == 2
    assert "recipe: style_weight is 1000.0 there and 5.0 here" in other.stderr


def check_image(store: UriStore, row: dict[str, object]) -> None:
    """The image that a row names is there, is what the row says, and carries the same facts."""
    uri = str(row["image"])
    data = store.get(uri)
    assert hashlib.sha256(data).hexdigest() == row["image_sha256"]
    assert decode(data, uri).size == (row["width"], row["height"]) == (32, 24)
    inside = read_provenance(data, uri)
    for name in ("pair_id", "loss", "style_loss", "evaluations", "weights_sha256", "recipe_sha256"):
        assert inside[name] == row[name], name


def test_manifest_images_weights_and_output_in_a_bucket(s3_bucket: str) -> None:
    store = UriStore()
    for seed, name in enumerate(["a.png", "b.png", "style/one.png", "style/two.png"]):
        store.put(f"{s3_bucket}/in/{name}", picture(seed))
    store.put(f"{s3_bucket}/weights/vgg19.bin", bundled_weights().read_bytes())
    table = pa.table(
        {
            "pair_id": ["one", "blend", "texture", "reconstruction"],
            "content": ["a.png", "b.png", None, "b.png"],
            "style": [["style/one.png"], ["style/one.png", "style/two.png"], ["style/two.png"], None],
            "style_weight": pa.array([1e4, None, None, None], pa.float64()),
            "condition": ["x", "y", None, "z"],
        }
    )
    write_manifest(store, f"{s3_bucket}/in/pairs.parquet", table)
    recipe = Recipe(size=32, iterations=3, weights=f"{s3_bucket}/weights/vgg19.bin")
    job = make_job(store, f"{s3_bucket}/in/pairs.parquet", f"{s3_bucket}/out", recipe)

    tally = run_job(job, store, RunOptions(workers=1))

    assert (tally.ok, tally.failed) == (4, 0), tally.error_examples
    rows = read_results(store, f"{s3_bucket}/out").to_pylist()
    parts = [
        pq.read_table(io.BytesIO(store.get(stored.uri))) for stored in store.list(f"{s3_bucket}/out/results")
    ]
    assert pa.concat_tables(parts).to_pylist() == rows
    images = {stored.uri for stored in store.list(f"{s3_bucket}/out/images")}
    assert images == {row["image"] for row in rows}
    for row, given in zip(rows, table.to_pylist(), strict=True):
        check_image(store, row)
        assert row["status"] == "ok"
        assert row["weights_sha256"] == BUNDLED_SHA256
        assert (row["pair_id"], row["condition"]) == (given["pair_id"], given["condition"])
        assert row["style_weight"] == (given["style_weight"] or 1000.0)
        assert row["loss"] == pytest.approx(row["content_loss"] + row["style_loss"], rel=1e-6)
    assert rows[2]["content_loss"] == 0
    assert rows[3]["style_loss"] == 0


def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    store = UriStore()
    for seed, name in enumerate(["a.png", "b.png", "c.png", "style.png"]):
        (tmp_path / name).write_bytes(picture(seed))
    table = pa.table({"content": ["a.png", "b.png", "c.png"], "style": ["style.png"] * 3})
    write_manifest(store, str(tmp_path / "pairs.parquet"), table)
    job = make_job(
        store, str(tmp_path / "pairs.parquet"), str(tmp_path / "out"), Recipe(size=32, iterations=60)
    )
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        for worker in progress.workers:
            if not killed and worker.activity.evaluations > 0:
                killed.append(worker.process)
                os.kill(worker.process, signal.SIGKILL)

    tally = run_job(job, store, RunOptions(workers=1), kill_once)

    assert len(killed) == 1
    assert (tally.ok, tally.failed) == (3, 0), tally.error_examples
    rows = read_results(store, str(tmp_path / "out")).to_pylist()
    assert {row["attempts"] for row in rows} == {2}
    for row in rows:
        check_image(store, row)


@pytest.mark.parametrize(
    ("secret", "bucket", "sentence"),
    [
        ("wrong", None, "was given no valid credentials (SignatureDoesNotMatch)"),
        (None, "s3://there-is-no-such-bucket", "there is no bucket 'there-is-no-such-bucket'"),
    ],
)
def test_an_output_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    secret: str | None,
    bucket: str | None,
    sentence: str,
) -> None:
    write_manifest(UriStore(), str(tmp_path / "pairs.parquet"), pa.table({"content": ["a.png"]}))
    if secret:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    assert main(["run", str(tmp_path / "pairs.parquet"), "-o", f"{bucket or s3_bucket}/out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
