"""``describe``, ``verify`` and ``similarity`` on what a real run has made; and the exact library calls."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from finishedjob import edit_part
from inmemory import picture_bytes
from PIL import Image, PngImagePlugin

from stylebatch.audit import devices, similarity, verifying
from stylebatch.audit.measuring import Layers
from stylebatch.audit.remaking import Remade
from stylebatch.audit.similarity import Comparison, SimilarityOptions
from stylebatch.audit.verdict import Problem, Verdict, VerifyOptions
from stylebatch.cli import main
from stylebatch.errors import JobError
from stylebatch.storage import UriStore


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a manifest, and the finished output of a real run in ``out``."""
    folder = tmp_path_factory.mktemp("ran")
    for seed, name in enumerate(["a.png", "b.png", "style.png"]):
        (folder / name).write_bytes(picture_bytes(40, 30, seed))
    columns = {
        "pair_id": ["one", "two", "none"],
        "content": ["a.png", "b.png", "missing.png"],
        "style": ["style.png"] * 3,
        "condition": ["x", "y", "x"],
    }
    pq.write_table(pa.table(columns), folder / "pairs.parquet")
    settings = ["--set", "size=32", "--set", "iterations=3", "--batch", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "stylebatch", "run", "pairs.parquet", "-o", "out", *settings],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1, done.stderr  # one pair fails
    return folder


@pytest.fixture
def out(ran: Path, tmp_path: Path) -> Path:
    """A copy of that output, to be tampered with; its sources stay where they were."""
    shutil.copytree(ran / "out", tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def _threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


class TestOnARealRun:
    def test_verify_finds_it_true_and_makes_the_same_bytes(
        self, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["verify", str(out), "--resynthesize", "2", "--device", "cpu"]) == 0
        told = lines(capsys)
        assert told[0] == "3 of 3 rows in 1 of 1 parts (finished): 2 ok, 1 failed and passed over."
        assert told[1].startswith("Losses of 2 pictures computed anew; those that agree differ by at most ")
        assert sorted(told[2:4]) == ["Made again: one: the same bytes.", "Made again: two: the same bytes."]
        assert told[4] == "The table is true: no problem."

    def test_verify_finds_a_pixel_that_was_changed(
        self, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        image = out / "images" / "000000" / "one.png"
        with Image.open(image) as picture:
            chunks = PngImagePlugin.PngInfo()
            chunks.add_text("stylebatch", str(picture.info["stylebatch"]))
            red, green, blue = picture.getpixel((3, 4))  # type: ignore[misc]
            picture.putpixel((3, 4), (255 - red, green, blue))
            picture.save(image, pnginfo=chunks)
        assert main(["verify", str(out), "--resynthesize", "0"]) == 1
        first, *_, last, _ = lines(capsys)
        assert first.startswith("one: its image is another file: its SHA-256 is ")
        assert last == "The table is NOT true: 1 problems."

    def test_verify_finds_a_loss_that_was_changed(
        self, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        edit_part(
            UriStore(), str(out), 0, lambda rows: rows[1].update(style_loss=1.01 * rows[1]["style_loss"])
        )
        assert main(["verify", str(out), "--resynthesize", "0", "--threads", "1"]) == 1
        first, second, *_ = lines(capsys)
        assert first.startswith("two: style_loss is ")
        assert second.startswith("two: style_loss is ")
        assert second.endswith("as recomputed (0.01 of it)")

    def test_describe_writes_three_files(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["describe", str(out)]) == 0
        folder = out / "description"
        assert lines(capsys) == [
            *(str(folder / name) for name in ("methods.md", "stimuli.tsv", "stimuli.json")),
            "2 stimuli described; 1 failed.",
        ]
        text = (folder / "methods.md").read_text()
        assert "The set has 2 stimuli. 1 pair failed" in text
        assert "Stimuli are 32 x 24 pixels" in text
        rows = list(csv.DictReader(io.StringIO((folder / "stimuli.tsv").read_text()), dialect="excel-tab"))
        assert [(row["pair_id"], row["condition"], row["status"]) for row in rows] == [
            ("one", "x", "ok"),
            ("two", "y", "ok"),
            ("none", "x", "failed"),
        ]
        assert [*json.loads((folder / "stimuli.json").read_text())] == [*rows[0]]

    def test_a_described_output_stays_true_and_can_go_on(
        self, out: Path, ran: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["describe", str(out), "-o", str(ran / "elsewhere")])
        assert (ran / "elsewhere" / "methods.md").exists()
        main(["describe", str(out)])
        assert main(["verify", str(out), "--resynthesize", "0"]) == 0

    def test_similarity_writes_the_table(
        self, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "similarity.tsv"
        assert main(["similarity", str(out), "-o", str(table), "--layers", "conv4_2", "conv1_1"]) == 0
        told = lines(capsys)
        assert told == [
            f"{table}: 20 distances of 2 stimuli",
            "  content: conv1_1, conv4_2",
            "  style: conv1_1, conv4_2",
        ]
        rows = list(csv.DictReader(io.StringIO(table.read_text()), dialect="excel-tab"))
        assert [row["kind"] for row in rows].count("stimulus-stimulus") == 4
        assert {row["a"] for row in rows} == {"one", "two"}


class TestTheCalls:
    def test_of_verify(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        calls: list[tuple[Any, ...]] = []

        def double(store: Any, output: str, options: VerifyOptions, on_problem: Any, on_row: Any) -> Verdict:
            calls.append((output, options))
            on_row(1, 2)
            on_problem(Problem("a", "its image is gone"))
            remade = [Remade("b", False, 0.02, ("a batch of 2",), None), Remade("c", False, 0.03, (), None)]
            return Verdict(9, 3, 1, ok=2, recomputed=2, largest_difference=3e-6, problems=1, remade=remade)

        monkeypatch.setattr(verifying, "verify", double)
        arguments = ["--resynthesize", "5", "--seed", "7", "--device", "cpu", "--threads", "3"]
        assert main(["verify", "s3://bucket/out", *arguments, "--max-pixels", "1000"]) == 1
        assert calls == [
            (
                "s3://bucket/out",
                VerifyOptions(resynthesize=5, seed=7, device="cpu", threads=3, max_pixels=1000),
            )
        ]
        assert lines(capsys)[:-1] == [
            "a: its image is gone",
            "2 of 9 rows in 1 of 3 parts (not finished): 2 ok, 0 failed and passed over.",
            "Losses of 2 pictures computed anew; those that agree differ by at most 3e-06 of a layer's loss.",
            "Made again: b: other bytes (made with a batch of 2), the loss within 0.02 of the table's, as "
            "conventions.md allows.",
            "Made again: c: other bytes, the loss within 0.03 of the table's, as conventions.md allows; the "
            "workers may have had another number of --threads, or processor.",
            "The table is NOT true: 1 problems.",
        ]

    def test_of_similarity(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        calls: list[tuple[Any, ...]] = []

        def double(store: Any, *arguments: Any) -> Comparison:
            calls.append(arguments[:-1])
            return Comparison(1, Layers(("conv4_2",), ("conv1_1",)), 12, 3, ("two networks",))

        monkeypatch.setattr(similarity, "compare", double)
        options = ["--sources-only", "--device", "cpu", "--max-pixels", "1000"]
        assert main(["similarity", "s3://bucket/out", "-o", "s3://bucket/t.parquet", *options]) == 0
        expected = SimilarityOptions(None, to_sources_only=True, device="cpu", max_pixels=1000)
        assert calls == [("s3://bucket/out", "s3://bucket/t.parquet", expected)]
        assert lines(capsys) == [
            "Note: two networks",
            "s3://bucket/t.parquet: 12 distances of 1 stimulus, 3 of them without a distance (see reason)",
            "  content: conv4_2",
            "  style: conv1_1",
        ]

    @pytest.mark.parametrize("command", ["describe", "verify"])
    def test_a_folder_that_is_no_output_is_refused(
        self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([command, str(tmp_path)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("stylebatch: ")
        assert err.rstrip().endswith("ended?" if command == "describe" else "the output of a stylebatch run?")

    @pytest.mark.parametrize("wrong", ["-1", "two", "1.5", ""])
    def test_numbers_are_whole(self, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["verify", "out", f"--resynthesize={wrong}"])
        assert "is not a whole number of 0 or more" in capsys.readouterr().err


class TestDevices:
    def test_without_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert devices.torch_device("auto") == devices.torch_device("cpu") == "cpu"
        with pytest.raises(JobError, match="finds no GPU that it can use"):
            devices.torch_device("gpu")

    def test_with_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert devices.torch_device("auto") == devices.torch_device("gpu") == "cuda"
        assert devices.torch_device("cpu") == "cpu"

    @pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (4, 4), (6, 6), (8, 4), (10, 5), (64, 4)])
    def test_threads_are_those_of_a_worker_here(
        self, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from stylebatch.cluster.plans import Resources, plan_fleet

        monkeypatch.setattr(devices.os, "cpu_count", lambda: cores)
        assert devices.threads_of_a_worker() == threads
        assert plan_fleet(Resources((cores,), 0), None).threads == threads
