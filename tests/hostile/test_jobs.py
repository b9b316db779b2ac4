"""A whole job over what strangers uploaded: it ends, good pairs are good, and nothing leaks or escapes."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.pictures import compressed_zeros, png
from inmemory import picture_bytes

from stylebatch.cli import main
from stylebatch.results import read_results
from stylebatch.storage import UriStore

SECRET = "a-secret-that-nothing-may-show"
SMALL = ["--set", "size=32", "--set", "iterations=2", "--workers", "1", "--max-pixels", "1000000"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_strangers_images_fail_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "good.png": picture_bytes(40, 30, 1),
        "style.png": picture_bytes(32, 32, 2),
        "bomb.png": png(60_000, 60_000, compressed_zeros(1 << 24)),
        "strip.png": picture_bytes(2000, 1, 3),
        "pixel.png": picture_bytes(1, 1, 4),
        "cut.jpg": picture_bytes(400, 300, 5, "JPEG")[:3000],
        "text.png": f"aws_secret_access_key = {SECRET}\n".encode(),
        "empty.png": b"",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    contents = [*files, "pipe.png", "/dev/zero", "last.png"]
    contents.remove("style.png")
    (folder / "last.png").write_bytes(files["good.png"])
    table = pa.table({"content": contents, "style": ["style.png"] * len(contents)})
    pq.write_table(table, folder / "pairs.parquet")
    before = everything_below(folder)

    assert main(["run", "in/pairs.parquet", "-o", "out", *SMALL]) == 1

    rows: list[dict[str, Any]] = read_results(UriStore(), f"{folder.parent}/out").to_pylist()
    good = {"good.png", "pixel.png", "last.png"}
    assert {Path(row["content"]).name for row in rows if row["status"] == "ok"} == good
    for row in (row for row in rows if row["status"] == "failed"):
        assert row["content"] in row["error"] or row["error_type"] == "SynthesisError", row["error"]
        assert len(row["error"]) < 500
    said = capsys.readouterr()
    assert "3 of 10 pairs ok, 7 failed." in said.out
    assert everything_below(folder) == before
    assert {path.name for path in folder.parent.iterdir()} == {"in", "out"}
    stored = everything_below(folder.parent / "out")
    assert not any(SECRET.encode() in data for data in stored.values())
    assert SECRET not in said.out + said.err


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("pair_id", "../../etc/passwd", "A-Z, a-z, 0-9"),
        ("pair_id", "a/b", "A-Z, a-z, 0-9"),
        ("pair_id", "a\0b", "A-Z, a-z, 0-9"),
        ("pair_id", "а", "A-Z, a-z, 0-9"),  # a Cyrillic letter
        ("pair_id", "\x1b[2J", "A-Z, a-z, 0-9"),
        ("pair_id", "x" * 10_000, "128"),
        ("pair_id", "..", "A-Z, a-z, 0-9"),
        ("content", "https://example.org/a.png", "s3://bucket/key or a path"),
        ("content", f"s3://KEY:{SECRET}@bucket/a.png", "must not carry credentials"),
        ("content", f"s3://bucket/a.png?X-Amz-Signature={SECRET}", "credentials"),
        ("content", "/proc/self/environ", "/proc"),
        ("content", "a\0b.png", "printable characters"),
        ("content", "x" * 10_000, "4096"),
    ],
)
def test_a_row_that_could_do_harm_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: str, allowed: str
) -> None:
    columns = {"pair_id": ["fine", "other"], "content": ["good.png"] * 2}
    columns[column][1] = value
    pq.write_table(pa.table(columns), folder / "pairs.parquet")
    assert main(["run", "in/pairs.parquet", "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert "pairs.parquet: row 1: " in said
    assert allowed in said
    assert SECRET not in said
    assert len(said) < 1000
    assert said.replace("\n", "").isprintable()
    assert not (folder.parent / "out").exists()
