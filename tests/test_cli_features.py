"""The command ``features``: the exact library call, and a run for real."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from inmemory import picture_bytes

from stylebatch.cli import main
from stylebatch.cluster import features as features_module
from stylebatch.cluster.feature_output import images_tally
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.errors import JobStoppedError
from stylebatch.job import Tally
from stylebatch.pair.feature_request import FeatureRequest, FeatureSettings
from stylebatch.storage import UriStore
from stylebatch.synthesis.families import BUNDLED_SHA256


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: ``photos/a.png``, ``photos/b.jpg``, ``c.png``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(picture_bytes(40, 30, 1))
    (tmp_path / "photos" / "b.jpg").write_bytes(picture_bytes(30, 40, 2, "JPEG"))
    (tmp_path / "c.png").write_bytes(picture_bytes(32, 32, 3))
    return tmp_path


class Library:
    """Stands for :func:`run_features`: notes the call, and ends as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[FeatureRequest, Any, RunOptions]] = []
        self.tally = Tally(ok=3)
        self.error: BaseException | None = None

    def __call__(
        self, request: FeatureRequest, store: Any, options: RunOptions, observe: Observer, watchers: list[Any]
    ) -> Tally:
        self.calls.append((request, store, options))
        observe(Progress(3, 1, 0, 1, 1.0, (), ("a worker is replaced",)))
        observe(Progress(3, 2, 0, 2, 1.0, ()))
        if self.error:
            raise self.error
        return self.tally


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    double = Library()
    monkeypatch.setattr(features_module, "run_features", double)
    return double


def test_the_library_gets_what_the_user_asked_for(
    folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    measures = ["--layers", "conv2_1, conv1_1", "--content-layers", "conv4_2", "--size", "64", "--grid", "2"]
    measures += ["--pooling", "max", "--project", "100", "--project-seed", "7"]
    workers = ["--workers", "3", "--address", "auto", "--device", "gpu", "--batch", "4"]
    workers += ["--max-pixels", "1000", "--stall-timeout", "90", "--grace", "2.5"]
    images = ["photos", "c.png", "photos/a.png"]
    assert main(["features", *images, "-o", "f.parquet", *measures, *workers]) == 0
    ((request, store, options),) = library.calls
    assert isinstance(store, UriStore)
    assert request.settings == FeatureSettings(
        layers=("conv1_1", "conv2_1"),
        content_layers=("conv4_2",),
        size=64,
        grid=2,
        pooling="max",
        project=100,
        project_seed=7,
    )
    assert request.images == (f"{folder}/photos/a.png", f"{folder}/photos/b.jpg", f"{folder}/c.png")
    assert (request.output, request.weights_sha256) == (f"{folder}/f.parquet", BUNDLED_SHA256)
    assert options == RunOptions(
        workers=3,
        address="auto",
        device="gpu",
        largest_batch=4,
        max_pixels=1000,
        stall_timeout=90,
        grace=2.5,
    )
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "3 images, 8.992 kB of features each",  # 4 * (4 * 512 + 2 * 100)
        "1/3 done, 0 failed, 3600 images/h, 2 s left | ",  # the next line is due in five seconds
        "f.parquet: 3 of 3 images measured, 0 failed",
    ]
    assert err == "stylebatch: a worker is replaced\n"


def test_the_defaults(folder: Path, library: Library) -> None:
    assert main(["features", "photos", "-o", "s3://bucket/features"]) == 0
    ((request, _, options),) = library.calls
    assert request.settings == FeatureSettings()
    assert options == RunOptions()
    assert (request.output, request.is_one_file) == ("s3://bucket/features", False)


def test_content_layers_are_the_others_unless_told(folder: Path, library: Library) -> None:
    assert main(["features", "photos", "-o", "out", "--layers", "conv3_1"]) == 0
    settings = library.calls[0][0].settings
    assert settings.layers == settings.content_layers == ("conv3_1",)


def test_failed_images_are_no_success(
    folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    library.tally = images_tally(6, [(f"/{name}.png", "it is empty") for name in "abcde"], is_new=True)
    assert main(["features", "photos", "-o", "out"]) == 1
    assert capsys.readouterr().out.splitlines()[-5:] == [
        "out: 1 of 6 images measured, 5 failed",
        "  /a.png: it is empty",
        "  /b.png: it is empty",
        "  /c.png: it is empty",
        "  ... and 2 more (column error)",
    ]


@pytest.mark.parametrize(
    ("error", "code"), [(JobStoppedError("stopped by SIGTERM"), 3), (KeyboardInterrupt(), 3)]
)
def test_a_run_that_is_stopped_says_how_to_go_on(
    folder: Path,
    library: Library,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
) -> None:
    library.error = error
    assert main(["features", "photos", "-o", "out"]) == code
    assert capsys.readouterr().err.rstrip().endswith("features photos -o out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "there are no pictures here"),
        (["photos", "--layers", "conv9_9"], "features: layers is ('conv9_9',); it must be a list of"),
        (["photos", "--grid", "0"], "grid is 0; it must be a whole number from 1 to 32"),
        (["photos", "--weights", "gone.pth"], "gone.pth"),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path, library: Library, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["features", *arguments, "-o", "out"]) == 2
    assert message in capsys.readouterr().err
    assert not library.calls


def test_for_real(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "photos" / "bad.png").write_text("no picture")
    command = [
        "features",
        "photos",
        "-o",
        "f.parquet",
        "--layers",
        "conv1_1",
        "--size",
        "32",
        "--workers",
        "1",
        "--log-json",
        "events.jsonl",
    ]
    assert main(command) == 1
    assert "f.parquet: 2 of 3 images measured, 1 failed" in capsys.readouterr().out
    check_events(folder)
    assert main(["status", "f.parquet"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/f.parquet: finished",
        "3 of 3 images ended, 2 ok, 1 failed",
        f"  1 more failed: {folder}/f.parquet says why (error)",
    ]
    table = pq.read_table("f.parquet")
    assert table["image"].to_pylist() == [f"{folder}/photos/{name}" for name in ("a.png", "b.jpg", "bad.png")]
    assert table["width"].to_pylist() == [32, 24, None]
    assert [len(value) for value in table["gram_conv1_1"].to_pylist()[:2]] == [2080, 2080]
    assert table["error"].to_pylist()[:2] == [None, None]


def check_events(folder: Path) -> None:
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("run_started", "run_ended")
    assert (events[0]["output"], events[0]["manifest"]) == (f"{folder}/f.parquet", None)
    assert (events[0]["rows"], events[-1]["ok"], events[-1]["failed"]) == (3, 2, 1)
    images = [f"{folder}/photos/{name}" for name in ("a.png", "b.jpg", "bad.png")]
    batches = [event for event in events if event["event"] in ("batch_dispatched", "batch_ended")]
    assert [event["pair_ids"] for event in batches] == [images, images]
    assert batches[1]["spent"]["synthesize_seconds"] > 0
    assert batches[1]["spent"]["bytes_written"] > 0
    ended = [event for event in events if event["event"] == "pair_ended"]
    assert [(event["pair_id"], event["row"], event["status"]) for event in ended] == [
        (images[0], 0, "ok"),
        (images[1], 1, "ok"),
        (images[2], 2, "failed"),
    ]
    assert ended[2]["error_type"] == "NotMeasured"
    assert names.count("part_published") == names.count("worker_ready") == 1
