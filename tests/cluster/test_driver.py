"""Faults of workers and the end of runs, on a real Ray with real weights."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from faultstore import FaultStore, Misbehaviour, Trap, tries
from inmemory import picture_bytes

from stylebatch.cluster import jobs
from stylebatch.cluster.driver import run_job
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Progress
from stylebatch.cluster.schedule import BATCHES_PER_WORKER
from stylebatch.errors import ClusterError, JobError, JobStoppedError, LeaseError, WeightsError
from stylebatch.job import Job
from stylebatch.job.lease import Machine
from stylebatch.manifest import write_manifest
from stylebatch.recipe import Recipe
from stylebatch.results import read_results
from stylebatch.storage import UriStore
from stylebatch.synthesis.families import bundled_weights
from stylebatch.work import Activity

PAIRS = 4
BAD = "c2.png"
MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster with two cores, and a GPU that is only a number."""
    from ray.cluster_utils import Cluster

    import stylebatch.cluster  # noqa: F401 - before Ray is imported

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False}
    )
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """``make_job(recipe fields...)``: four pairs of small pictures in a folder, in units of two."""

    def make(**fields: Any) -> Job:
        for number in range(PAIRS):
            (tmp_path / f"c{number}.png").write_bytes(picture_bytes(40, 30, number))
        (tmp_path / "s.png").write_bytes(picture_bytes(32, 32, 9))
        contents = [f"c{number}.png" for number in range(PAIRS)]
        table = pa.table({"pair_id": contents, "content": contents, "style": ["s.png"] * PAIRS})
        store = UriStore()
        write_manifest(store, f"{tmp_path}/pairs.parquet", table)
        recipe = Recipe(**{"size": 32, "iterations": 3} | fields)
        return jobs.make_job(store, f"{tmp_path}/pairs.parquet", f"{tmp_path}/out", recipe, unit_size=2)

    return make


def on(address: str, **options: Any) -> RunOptions:
    """One worker on that cluster."""
    return RunOptions(**{"workers": 1, "device": "cpu", "address": address} | options)


def rows_of(job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_results(UriStore(), job.output).to_pylist()
    assert [row["row"] for row in rows] == list(range(PAIRS))
    return rows


def others_are_ok(rows: list[dict[str, Any]]) -> bool:
    return all(row["status"] == "ok" for row in rows if row["pair_id"] != BAD)


def nothing_is_left(job: Job) -> bool:
    """Whether the output holds what a finished job holds, and no more."""
    store, layout = UriStore(), job.layout
    folders = (layout.all_records, layout.all_checkpoints, layout.reopened, layout.lease)
    return not any(list(store.list(folder)) for folder in folders)


class Notices:
    """Collects what a run tells its user."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self, progress: Progress) -> None:
        self.all += progress.notices


def test_a_pair_that_kills_its_worker_becomes_a_failed_row(
    address: str, make_job: MakeJob, tmp_path: Path
) -> None:
    job, notices = make_job(), Notices()
    trap = Trap(BAD, Misbehaviour.EXIT, f"{tmp_path}/tries")

    tally = run_job(job, FaultStore(trap), on(address), notices)

    assert (tally.ok, tally.failed) == (PAIRS - 1, 1)
    rows = rows_of(job)
    assert others_are_ok(rows)
    assert rows[2]["error_type"] == "WorkerDied"
    assert rows[2]["error"].startswith(
        "3 workers died or hung while they worked on this pair alone; the last"
    )
    # At most once with others around it, then three times alone.
    assert len(set(tries(trap))) == len(tries(trap)) == rows[2]["attempts"] in (3, 4)
    assert len([notice for notice in notices.all if "is replaced" in notice]) == len(tries(trap))
    assert nothing_is_left(job)


def test_a_worker_that_hangs_is_replaced(address: str, make_job: MakeJob, tmp_path: Path) -> None:
    job, notices = make_job(), Notices()
    trap = Trap(BAD, Misbehaviour.STALL, f"{tmp_path}/tries", times=1)
    options = on(address, stall_timeout=4.0)

    tally = run_job(job, FaultStore(trap), options, notices)

    assert (tally.ok, tally.failed) == (PAIRS, 0), tally.error_examples
    assert len(set(tries(trap))) == 2
    assert rows_of(job)[2]["attempts"] == 2
    (notice,) = [notice for notice in notices.all if "no progress" in notice]
    assert f"process {tries(trap)[0]}" in notice
    assert "is replaced: no progress for 4 s" in notice


@pytest.mark.parametrize(
    ("misbehaviour", "kind"),
    [(Misbehaviour.ERROR, "RuntimeError"), (Misbehaviour.MEMORY, "MemoryExceededError")],
)
def test_an_exception_costs_its_pair_alone(
    address: str, make_job: MakeJob, tmp_path: Path, misbehaviour: Misbehaviour, kind: str
) -> None:
    job = make_job()
    trap = Trap(BAD, misbehaviour, f"{tmp_path}/tries")

    tally = run_job(job, FaultStore(trap), on(address))

    assert (tally.ok, tally.failed) == (PAIRS - 1, 1), tally.error_examples
    rows = rows_of(job)
    assert others_are_ok(rows)
    assert rows[2]["error_type"] == kind
    assert len(set(tries(trap))) == 1  # the worker goes on


def test_a_job_whose_workers_cannot_start_stops_with_the_reason(
    address: str, make_job: MakeJob, tmp_path: Path
) -> None:
    weights = tmp_path / "vgg.bin"
    weights.write_bytes(bundled_weights().read_bytes())
    job = make_job(weights=str(weights), weights_family="caffe")
    weights.unlink()
    trap = Trap("nothing", Misbehaviour.ERROR, f"{tmp_path}/tries")
    with pytest.raises(WeightsError, match=r"vgg\.bin"):
        run_job(job, FaultStore(trap), on(address))
    assert not list(UriStore().list(job.layout.results))
    assert nothing_is_left(job)


def test_a_gpu_that_torch_cannot_use_is_said(address: str, make_job: MakeJob) -> None:
    with pytest.raises(ClusterError, match=r"Ray gave this worker a GPU, but torch .* finds none"):
        run_job(make_job(), UriStore(), on(address, device="gpu"))


def synthesizing(progress: Progress) -> Activity | None:
    """What the first worker does, once it has come some way."""
    activity = progress.workers[0].activity if progress.workers else Activity()
    return activity if activity.evaluations >= 40 else None


def test_a_run_that_is_ended_goes_on_from_its_checkpoints(address: str, make_job: MakeJob) -> None:
    job = make_job(iterations=600)
    options = on(address, largest_batch=1, grace=1.0)
    seen: list[Activity] = []

    def end(progress: Progress) -> None:
        if not seen and (activity := synthesizing(progress)):
            seen.append(activity)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(JobStoppedError, match=r"^stopped by SIGTERM: 0 of 4 pairs have ended; \d under way"):
        run_job(job, UriStore(), options, end)

    layout = job.layout
    (checkpoint,) = UriStore().list(layout.all_checkpoints)
    assert checkpoint.uri == layout.checkpoint(0, seen[0].pair_ids[0])
    assert not list(UriStore().list(layout.lease))
    first: list[int] = []

    def watch(progress: Progress) -> None:
        activity = progress.workers[0].activity if progress.workers else Activity()
        if activity.pair_ids == seen[0].pair_ids and activity.evaluations:
            first.append(activity.evaluations)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):  # twice: at once
        run_job(job, UriStore(), options, watch)
    assert first[0] > seen[0].evaluations  # it did not begin anew
    assert not list(UriStore().list(layout.lease))


def test_running_batches_may_finish_within_the_grace(address: str, make_job: MakeJob) -> None:
    job = make_job(iterations=150)
    options = on(address, largest_batch=1, grace=60.0)
    ended_before: list[int] = []

    def end(progress: Progress) -> None:
        if not ended_before and synthesizing(progress):
            ended_before.append(progress.ok)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(JobStoppedError, match=r"^stopped by Ctrl-C: [123] of 4 pairs have ended"):
        run_job(job, UriStore(), options, end)
    ended = len(list(UriStore().list(job.layout.all_images)))
    assert ended_before[0] < ended <= ended_before[0] + BATCHES_PER_WORKER
    tally = run_job(job, UriStore(), options)
    assert (tally.ok, tally.failed, tally.skipped) == (PAIRS, 0, ended)
    assert nothing_is_left(job)


def test_a_second_driver_is_sent_away(address: str, make_job: MakeJob) -> None:
    job, refused = make_job(iterations=40), []

    def start_another(progress: Progress) -> None:
        if not refused:
            with pytest.raises(LeaseError, match=rf"is in use by another driver: process {os.getpid()} on"):
                run_job(job, UriStore(), on(address))
            refused.append(True)

    tally = run_job(job, UriStore(), on(address), start_another)
    assert refused
    assert tally.ok == PAIRS


def test_a_driver_that_lost_its_lease_stops(
    address: str, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = replace(Machine.here(), beat_seconds=0.05)
    monkeypatch.setattr(Machine, "here", lambda: impatient)
    job, thief, others = make_job(iterations=10_000), UriStore(), Machine.here().new_holder().encode()

    def take_over(progress: Progress) -> None:
        if thief.get(job.layout.lease) != others:
            thief.put(job.layout.lease, others)

    with pytest.raises(JobError, match="was taken over by process"):
        run_job(job, UriStore(), on(address), take_over)
    assert not list(thief.list(job.layout.results))
    assert thief.get(job.layout.lease) == others  # the loser left it alone
