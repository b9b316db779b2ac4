"""Features of a few images on a real Ray with real weights: bad images, dead workers, going on."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from faultstore import FaultStore, Misbehaviour, Trap, tries
from inmemory import picture_bytes

from stylebatch.cluster.feature_output import NOT_MEASURED
from stylebatch.cluster.feature_status import find_features
from stylebatch.cluster.features import make_request, run_features
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Progress
from stylebatch.errors import JobError, JobStoppedError, WeightsError
from stylebatch.job.status import State, read_status
from stylebatch.pair.feature_request import FeatureRequest, FeatureSettings
from stylebatch.pair.features import FeatureMeasurer
from stylebatch.storage import UriStore
from stylebatch.synthesis.families import BUNDLED_SHA256

NAMES = ("c0.png", "c1.png", "c2.png")
SETTINGS = FeatureSettings(layers=("conv1_1", "conv2_1"), content_layers=("conv2_1",), size=32, project=16)
NOWHERE = RunOptions(address="127.0.0.1:1")
"""Where no Ray is: what does not need it must not ask."""
MakeRequest = Callable[..., FeatureRequest]


@pytest.fixture(scope="module")
def on_cluster() -> Iterator[RunOptions]:
    """One worker on a Ray cluster with one core."""
    from ray.cluster_utils import Cluster

    import stylebatch.cluster  # noqa: F401 - before Ray is imported

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield RunOptions(workers=1, device="cpu", address=cluster.address)
    cluster.shutdown()


@pytest.fixture
def make(tmp_path: Path) -> MakeRequest:
    """``make(output="f.parquet", **settings)``: three small pictures, each a part of its own."""

    def make_one(output: str = "f.parquet", **settings: Any) -> FeatureRequest:
        for seed, name in enumerate(NAMES):
            if not (tmp_path / name).exists():
                (tmp_path / name).write_bytes(picture_bytes(40, 30, seed))
        images = [f"{tmp_path}/{name}" for name in NAMES]
        wanted = dataclasses.replace(SETTINGS, **settings)
        request = make_request(UriStore(), images, f"{tmp_path}/{output}", wanted)
        return dataclasses.replace(request, images_per_part=1)

    return make_one


def rows_of(output: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output).to_pylist()
    assert [Path(row["image"]).name for row in rows] == list(NAMES)
    return rows


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and path.name not in NAMES}


def test_three_images_of_which_one_is_broken(
    on_cluster: RunOptions, make: MakeRequest, tmp_path: Path
) -> None:
    (tmp_path / NAMES[1]).write_bytes(picture_bytes(400, 300)[:700])
    request, seen = make(), []
    assert (request.weights_sha256, request.weights_family) == (BUNDLED_SHA256, "caffe")

    tally = run_features(request, UriStore(), on_cluster, seen.append)

    assert (tally.ok, tally.failed, tally.skipped) == (2, 1, 0)
    (example,) = tally.error_examples[NOT_MEASURED]
    image, error = f"{tmp_path}/{NAMES[1]}", example.partition(": ")[2]
    assert example == f"{image}: {error}"
    assert "truncated" in error
    assert (seen[-1].ok, seen[-1].failed, seen[-1].total) == (2, 1, 3)
    assert files(tmp_path) == {"f.parquet"}
    rows = rows_of(request.output)
    assert rows[1] == dict.fromkeys(rows[1]) | {"image": image, "error": error}
    assert rows[0]["error"] is None
    expected = FeatureMeasurer(SETTINGS, UriStore()).rows([request.images[0], request.images[2]])
    for found, wanted in zip((rows[0], rows[2]), expected, strict=True):
        assert (found["width"], found["height"], found["sha256"]) == (32, 24, wanted["sha256"])
        for column in SETTINGS.lengths:
            assert np.allclose(found[column], wanted[column], rtol=1e-4), column

    again = run_features(request, UriStore(), NOWHERE)  # it is there already
    assert again == dataclasses.replace(tally, skipped=3)
    with pytest.raises(JobError, match="size is 32 there and 64 here"):
        run_features(make(size=64), UriStore(), NOWHERE)


def test_an_image_that_kills_workers_stops_the_run_which_can_go_on(
    on_cluster: RunOptions, make: MakeRequest, tmp_path: Path
) -> None:
    request, notices = make("folder"), []
    trap = Trap(NAMES[1], Misbehaviour.EXIT, f"{tmp_path}/tries")

    def note(progress: Progress) -> None:
        notices.extend(progress.notices)

    with pytest.raises(
        JobStoppedError,
        match=rf"^part 1 \(1 images, .*{NAMES[1]} to .*\) could not be measured in 3 attempts",
    ):
        run_features(request, FaultStore(trap), on_cluster, note)

    assert len(set(tries(trap))) == len(tries(trap)) == 3
    assert len([notice for notice in notices if "is replaced" in notice]) >= 2
    folder = tmp_path / "folder"
    parts = {"part-000000.parquet", "part-000002.parquet"}
    assert files(folder) == {"_request.json", "_progress.json", *parts}
    before = {name: (folder / name).stat().st_mtime_ns for name in parts}
    stopped = read_status(UriStore(), str(folder), finders=(find_features,))
    assert (stopped.state, stopped.ended, stopped.rows) == (State.STOPPED, 2, 3)
    assert stopped.reason.startswith("part 1 (1 images,")

    with pytest.raises(JobError, match=r"layers is \['conv1_1', 'conv2_1'\] there and \['conv1_1'\] here"):
        run_features(make("folder", layers=("conv1_1",)), UriStore(), NOWHERE)
    tally = run_features(request, UriStore(), on_cluster)

    assert (tally.ok, tally.failed, tally.skipped) == (3, 0, 2)
    assert {name: (folder / name).stat().st_mtime_ns for name in parts} == before
    assert all(row["error"] is None for row in rows_of(str(folder)))
    assert run_features(request, UriStore(), NOWHERE).ok == 3
    finished = read_status(UriStore(), str(folder), finders=(find_features,))
    assert (finished.state, finished.ok, finished.failed) == (State.FINISHED, 3, 0)


def test_a_part_is_tried_again(on_cluster: RunOptions, make: MakeRequest, tmp_path: Path) -> None:
    request = make()
    trap = Trap(NAMES[2], Misbehaviour.ERROR, f"{tmp_path}/tries", times=2)
    tally = run_features(request, FaultStore(trap), on_cluster)
    assert (tally.ok, tally.failed) == (3, 0)
    assert len(tries(trap)) == 3
    assert len(set(tries(trap))) == 1  # the worker goes on
    rows_of(request.output)


def test_a_run_that_is_ended_goes_on(on_cluster: RunOptions, make: MakeRequest, tmp_path: Path) -> None:
    request = make()
    trap = Trap(NAMES[1], Misbehaviour.STALL, f"{tmp_path}/tries")

    def end(progress: Progress) -> None:
        if tries(trap) and not ended:
            ended.append(True)
            os.kill(os.getpid(), signal.SIGTERM)

    ended: list[bool] = []
    with pytest.raises(JobStoppedError, match=r"^stopped by SIGTERM: 1 of 3 images have ended"):
        run_features(request, FaultStore(trap), dataclasses.replace(on_cluster, grace=0.5), end)
    tally = run_features(request, UriStore(), on_cluster)
    assert (tally.ok, tally.skipped) == (3, 1)


def test_weights_of_no_known_family_are_refused(make: MakeRequest, tmp_path: Path) -> None:
    weights = tmp_path / "vgg.bin"
    weights.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="state what input they want"):
        make(weights=str(weights))
    assert make(weights=str(weights), weights_family="torchvision").weights_family == "torchvision"
