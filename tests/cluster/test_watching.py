"""Everyone who watches a run is told of it, on a real Ray too."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from inmemory import MemoryStore, make_manifest, picture_bytes

from stylebatch.cluster import jobs
from stylebatch.cluster.driver import run_job
from stylebatch.cluster.event_log import event_log
from stylebatch.cluster.events import Event, Notice, RunEnded, RunStarted, RunStopped
from stylebatch.cluster.metrics import MEASURES
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Progress
from stylebatch.cluster.watching import watched_job, watching
from stylebatch.errors import JobStoppedError, LeaseError, StorageFullError
from stylebatch.job import Job, OpenedOutput, open_output
from stylebatch.job.status import State, Status, read_status
from stylebatch.manifest import write_manifest
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore

PAIRS = 4
OPTIONS = RunOptions()


class Witness:
    """Notes what it is told, and says once of itself what it is given."""

    def __init__(self, *complaints: str) -> None:
        self.events: list[Event] = []
        self.notices: list[str] = []
        self._complaints = list(complaints)

    def observe(self, progress: Progress) -> list[str]:
        self.notices += progress.notices
        complaints, self._complaints = self._complaints, []
        return complaints

    def tell(self, event: Event) -> None:
        self.events.append(event)


@pytest.fixture
def opened() -> Iterator[tuple[Job, OpenedOutput]]:
    """An output of two rows, of which one has ended."""
    store = MemoryStore()
    manifest = make_manifest(store, {"pair_id": ["p0", "p1"], "content": ["/c.png"] * 2})
    job = Job(manifest, Recipe(size=48, iterations=3), "s3://bucket/out", "a" * 64, unit_size=1)
    opened = open_output(job, store)
    opened.tally.ok = 1
    yield job, opened
    opened.lease.release()


def status_of(job: Job, opened: OpenedOutput) -> Status:
    return read_status(opened.store, job.output)


def test_a_run_begins_and_ends(opened: tuple[Job, OpenedOutput]) -> None:
    job, output = opened
    witness = Witness()
    with watching(watched_job(job, output), OPTIONS, lambda progress: None, [witness]) as watchers:
        watchers.tell(Notice("half way"))
        output.tally.ok = 2
    started, notice, ended = witness.events
    assert isinstance(started, RunStarted)
    assert (started.rows, started.ended, started.holder) == (2, 1, output.lease.holder.holder)
    assert (notice, ended) == (Notice("half way"), RunEnded(2, 0))
    assert status_of(job, output).ended == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (JobStoppedError("stopped by SIGTERM: 1 of 2"), "stopped by SIGTERM: 1 of 2"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_a_run_that_stops_says_why(
    opened: tuple[Job, OpenedOutput], error: BaseException, reason: str
) -> None:
    job, output = opened
    witness = Witness()
    with (
        pytest.raises(type(error)),
        watching(watched_job(job, output), OPTIONS, lambda progress: None, [witness]),
    ):
        raise error
    assert witness.events[-1] == RunStopped(reason, 1, 0)
    found = status_of(job, output)
    assert (found.state, found.reason, found.ended) == (State.STOPPED, reason, 1)


def test_who_lost_the_lease_leaves_what_the_next_one_told(opened: tuple[Job, OpenedOutput]) -> None:
    job, output = opened
    store: Any = output.store

    def be_robbed() -> None:
        with watching(watched_job(job, output), OPTIONS, lambda progress: None, []):
            store.delete(job.layout.lease)
            output.lease.renew()
            store.put(job.layout.progress, b"the next driver's")
            output.lease.check()

    with pytest.raises(LeaseError):
        be_robbed()
    assert store.objects[job.layout.progress] == b"the next driver's"


def test_what_a_watcher_says_of_itself_reaches_the_user_and_the_others(
    opened: tuple[Job, OpenedOutput],
) -> None:
    job, output = opened
    witness, seen = Witness(), list[str]()
    watchers = [witness, Witness("the log is full")]
    with watching(
        watched_job(job, output), OPTIONS, lambda progress: seen.extend(progress.notices), watchers
    ) as told:
        for notices in (("first",), ("second",), ()):
            told.observe(Progress(2, 1, 0, 0, 0.0, (), notices))
    assert seen == witness.notices == ["first", "the log is full", "second"]


def test_what_is_said_at_the_very_end_reaches_the_user(opened: tuple[Job, OpenedOutput]) -> None:
    job, output = opened
    store: Any = output.store
    for method in ("put_if_absent", "put_if_version"):
        store.errors[method, job.layout.progress] = StorageFullError("no room is left")
    seen: list[str] = []
    with watching(watched_job(job, output), OPTIONS, lambda progress: seen.extend(progress.notices), []):
        pass
    assert len(seen) == 1
    assert seen[0].startswith("progress.json cannot be written")


def test_metrics_are_counted_in_a_cluster_and_elsewhere_on_request() -> None:
    assert not OPTIONS.has_metrics
    assert replace(OPTIONS, address="auto").has_metrics
    assert replace(OPTIONS, metrics=True).has_metrics
    assert not replace(OPTIONS, address="auto", metrics=False).has_metrics


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster that exports its metrics every second."""
    from ray.cluster_utils import Cluster

    import stylebatch.cluster  # noqa: F401 - before Ray is imported

    settings = {"metrics_report_interval_ms": 1000}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "_system_config": settings},
    )
    yield cluster
    cluster.shutdown()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Four pairs of which one has no image, in units of two."""
    contents = [f"c{number}.png" for number in range(PAIRS)]
    for number, name in enumerate(contents[:-1]):
        (tmp_path / name).write_bytes(picture_bytes(40, 30, number))
    (tmp_path / "s.png").write_bytes(picture_bytes(32, 32, 9))
    table = pa.table({"pair_id": contents, "content": contents, "style": ["s.png"] * PAIRS})
    store = UriStore()
    write_manifest(store, f"{tmp_path}/pairs.parquet", table)
    recipe = Recipe(size=32, iterations=3)
    return jobs.make_job(store, f"{tmp_path}/pairs.parquet", f"{tmp_path}/out", recipe, unit_size=2)


def scraped(cluster: Any) -> dict[str, float]:
    """The metrics of this project at the endpoint of the head, by name and labels."""
    node = cluster.head_node
    url = f"http://{node.node_ip_address}:{node.metrics_export_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    found = [line.rpartition(" ") for line in text.splitlines() if line.startswith("ray_stylebatch")]
    return {name: float(value) for name, _, value in found}


def total(metrics: dict[str, float], *parts: str) -> float:
    return sum(value for name, value in metrics.items() if all(part in name for part in parts))


def metrics_of_all_pairs(cluster: Any) -> dict[str, float]:
    """What is scraped once every pair is counted, or after twenty seconds."""
    deadline = time.monotonic() + 20
    while total(found := scraped(cluster), "pairs_total") < PAIRS and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def test_a_run_on_a_real_ray_is_told_everywhere(cluster: Any, job: Job, tmp_path: Path) -> None:
    options = RunOptions(workers=1, device="cpu", address=cluster.address, largest_batch=1)
    looks: list[Status] = []
    path = tmp_path / "events.jsonl"

    def look(progress: Progress) -> None:
        looks.append(read_status(UriStore(), job.output))

    with FileIO(path, "a") as file, event_log(file) as log:
        tally = run_job(job, UriStore(), options, look, [log])

    assert (tally.ok, tally.failed) == (3, 1)
    check_status(job, looks)
    check_events(job, [json.loads(line) for line in path.read_text().splitlines()])
    check_metrics(job, metrics_of_all_pairs(cluster))


def check_status(job: Job, looks: list[Status]) -> None:
    assert {look.state for look in looks} == {State.RUNNING}
    assert looks[0].rows == PAIRS
    found = read_status(UriStore(), job.output)
    assert (found.state, found.ok, found.failed) == (State.FINISHED, 3, 1)
    assert [(kind.error_type, kind.count) for kind in found.failures] == [("NotFoundError", 1)]


def check_events(job: Job, events: list[dict[str, Any]]) -> None:
    names = [event["event"] for event in events]
    assert (names[0], names[-1]) == ("run_started", "run_ended")
    assert events[0]["output"] == job.output
    assert (events[-1]["ok"], events[-1]["failed"]) == (3, 1)
    assert names.count("worker_ready") == 1
    assert names.count("part_published") == 2
    batches = [event["pair_ids"] for event in events if event["event"] == "batch_dispatched"]
    assert sorted(batches) == [[f"c{number}.png"] for number in range(PAIRS)]
    assert names.count("batch_dispatched") == names.count("batch_ended") == PAIRS
    ended = {event["pair_id"]: event for event in events if event["event"] == "pair_ended"}
    assert [ended[f"c{number}.png"]["status"] for number in range(PAIRS)] == ["ok", "ok", "ok", "failed"]
    assert (ended["c0.png"]["evaluations"], ended["c3.png"]["error_type"]) == (3, "NotFoundError")
    assert ended["c0.png"]["seconds"] > 0


def check_metrics(job: Job, metrics: dict[str, float]) -> None:
    label = f'output="{job.output}"'
    assert all(label in name for name in metrics)
    assert {name.partition("{")[0] for name in metrics} == {measure.exported_name for measure in MEASURES}
    assert total(metrics, "pairs_total", 'status="ok"') == 3
    assert total(metrics, "pairs_total", 'status="failed"') == 1
    assert total(metrics, "evaluations_total") == 9
    assert total(metrics, "pairs_left") == 0
    assert total(metrics, "targets_total") > 0
    for stage in ("fetch", "synthesize", "publish"):
        assert total(metrics, "stage_seconds_total", f'stage="{stage}"') > 0
    stored = sum(len(UriStore().get(found.uri)) for found in UriStore().list(job.layout.all_images))
    assert total(metrics, "written_bytes_total") > stored
    assert total(metrics, "read_bytes_total") > 1000
