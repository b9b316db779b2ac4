"""progress.json: composed at most every ten seconds, written beside the loop by who holds the lease."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from bulletins import BULLETIN
from inmemory import MemoryStore

from stylebatch.cluster.events import Notice, RunEnded, RunStopped
from stylebatch.cluster.heartbeat import SECONDS_TO_STOP, WRITE_SECONDS, Heartbeat, compose
from stylebatch.cluster.progress import Progress, WorkerProgress
from stylebatch.errors import StorageFullError
from stylebatch.job import Lease, Tally
from stylebatch.job.bulletin import MOST_BYTES, MOST_KINDS, MOST_WORKERS, Bulletin, Telling, decode_bulletin
from stylebatch.job.lease import Machine
from stylebatch.layout import Layout
from stylebatch.work import Activity

LAYOUT = Layout("s3://bucket/out")
URI = LAYOUT.progress
BUSY = Activity("synthesizing", ("a", "b", "c", "d", "e"), 120, 500)
PROGRESS = Progress(1000, 240, 10, 50, 1800.0, (WorkerProgress("spot-3", 4711, "cuda", BUSY),))
NOW = datetime(2025, 11, 28, 12, 0, 0, 999, tzinfo=UTC)


class Desk:
    """A lease, the heartbeat of its holder, and a clock that is set by hand."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.now = 0.0
        self.tally = Tally(ok=240, failed=10)
        self.lease = Lease.take(store, LAYOUT, replace(Machine.here(), beat_seconds=None))
        self.beat = Heartbeat(store, URI, self.lease, self.tally, lambda: self.now)

    def observe(self, progress: Progress = PROGRESS) -> list[str]:
        return self.beat.observe(progress)

    def end(self) -> None:
        self.beat.tell(RunEnded(240, 10))

    @property
    def told(self) -> Bulletin:
        found = decode_bulletin(self.store.objects[URI])
        assert isinstance(found, Bulletin)
        return found

    @property
    def writes(self) -> list[str]:
        return [method for method, uri in self.store.operations if uri == URI and method.startswith("put")]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def desk(store: MemoryStore) -> Iterator[Desk]:
    desk = Desk(store)
    yield desk
    desk.end()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_is_told_of_a_run() -> None:
    tally = Tally(ok=1, failed=0)
    tally.count({"status": "failed", "error_type": "E", "pair_id": "p", "error": "no\nway"}, is_new=True)
    holder = Machine("alpha", "mark").new_holder()
    told = compose(PROGRESS, tally, holder, ["one", "two"], NOW)
    assert (told.holder, told.host, told.process, told.since) == (
        holder.holder,
        "alpha",
        holder.process,
        holder.since,
    )
    assert (told.telling, told.reason, told.written) == (Telling.RUNNING, "", "2025-11-28T12:00:00+00:00")
    assert (told.rows, told.ok, told.failed, told.new) == (1000, 1, 1, 50)
    assert (told.pairs_per_hour, told.seconds_left) == (PROGRESS.pairs_per_hour, PROGRESS.seconds_left)
    assert [(kind.error_type, kind.examples) for kind in told.failures] == [("E", ("p: no way",))]
    assert (told.workers, told.stages, told.notices) == (1, {"synthesizing": 1}, ("one", "two"))
    (note,) = told.listed
    assert (note.host, note.process, note.device) == ("spot-3", 4711, "cuda")
    assert (note.pairs, note.pair_ids, note.evaluations, note.iterations) == (5, ("a", "b", "c"), 120, 500)


def test_it_stays_small_whatever_the_run() -> None:
    tally = Tally()
    for number in range(1000):
        row = {
            "status": "failed",
            "error_type": f"E{number % 100}",
            "pair_id": "p" * 128,
            "error": "é" * 9999,
        }
        tally.count(row, is_new=True)
    ids = tuple("i" * 128 for _ in range(64))
    workers = (WorkerProgress("h" * 64, 1, "cuda", Activity("synthesizing", ids, 1, 2)),) * 2000
    told = compose(
        replace(PROGRESS, workers=workers), tally, Machine("h", "").new_holder(), ["é" * 999] * 5, NOW
    )
    assert (told.workers, len(told.listed), len(told.failures)) == (2000, MOST_WORKERS, MOST_KINDS)
    assert len(told.encode()) < MOST_BYTES / 2
    assert decode_bulletin(told.encode()) == told


def test_it_is_written_at_the_start_then_every_ten_seconds_and_at_the_end(desk: Desk) -> None:
    desk.observe(replace(PROGRESS, new=0))
    until(lambda: URI in desk.store.objects)
    assert (desk.told.new, desk.told.telling) == (0, Telling.RUNNING)
    for number in range(1, 100):
        desk.now = number * WRITE_SECONDS / 100
        desk.observe(replace(PROGRESS, new=number))
    assert desk.writes == ["put_if_absent"]
    desk.now = WRITE_SECONDS
    desk.observe(replace(PROGRESS, new=100))
    until(lambda: desk.told.new == 100)
    desk.observe(replace(PROGRESS, new=101))
    desk.end()
    assert (desk.told.new, desk.told.telling, desk.told.reason) == (101, Telling.FINISHED, "")
    assert desk.writes == ["put_if_absent", "put_if_version", "put_if_version"]


def test_the_reason_of_a_stop_is_told(desk: Desk) -> None:
    desk.observe()
    desk.tally.failed += 1
    desk.beat.tell(RunStopped("stopped by SIGTERM", 240, 11))
    assert (desk.told.telling, desk.told.reason) == (Telling.STOPPED, "stopped by SIGTERM")
    assert desk.told.failed == 11


def test_other_events_are_nothing_to_it(desk: Desk) -> None:
    desk.beat.tell(Notice("something"))
    assert desk.writes == []


def test_the_last_notices_are_told(desk: Desk) -> None:
    for number in range(7):
        desk.observe(replace(PROGRESS, notices=(f"notice {number}",)))
    desk.end()
    assert desk.told.notices == tuple(f"notice {number}" for number in range(2, 7))


def test_an_earlier_run_s_is_replaced(desk: Desk) -> None:
    desk.store.put(URI, BULLETIN.encode())
    desk.observe()
    desk.end()
    assert desk.told.holder == desk.lease.holder.holder


def test_so_is_that_of_another_format(desk: Desk) -> None:
    desk.store.put(URI, json.dumps({"format_version": 0, "holder": "x"}).encode())
    desk.observe()
    desk.end()
    assert desk.told.telling == Telling.FINISHED


def test_one_that_was_removed_is_written_anew(desk: Desk) -> None:
    desk.observe()
    until(lambda: URI in desk.store.objects)
    desk.store.delete(URI)
    desk.end()
    assert desk.told.telling == Telling.FINISHED


def test_somebody_else_s_file_stays_and_that_is_said_once(desk: Desk) -> None:
    desk.store.put(URI, b'{"percent": 7}')
    complaints: list[str] = []
    until(lambda: bool(complaints.extend(desk.observe()) or complaints))
    for _ in range(3):
        desk.now += WRITE_SECONDS
        complaints += desk.observe()
        until(desk.beat._waiting.empty)
    desk.end()
    (complaint,) = complaints + desk.observe()
    assert "was not written by stylebatch and stays; move it away" in complaint
    assert desk.store.objects[URI] == b'{"percent": 7}'


def test_storage_that_refuses_is_said_once_and_tried_again(desk: Desk) -> None:
    desk.store.errors["put_if_absent", URI] = StorageFullError("no room is left")
    complaints: list[str] = []
    for _ in range(3):
        complaints += desk.observe()
        until(lambda: len(desk.writes) == desk.now / WRITE_SECONDS + 1)
        desk.now += WRITE_SECONDS
    desk.store.errors.clear()
    complaints += desk.observe()
    until(lambda: URI in desk.store.objects)
    assert complaints == [
        "progress.json cannot be written, so `stylebatch status` knows less; the run goes on: no room is left"
    ]


def test_without_the_lease_nothing_is_written(desk: Desk) -> None:
    desk.store.delete(LAYOUT.lease)
    desk.lease.renew()  # and so it learns that it is lost
    desk.observe()
    desk.beat.tell(RunStopped("taken over", 0, 0))
    assert desk.writes == []


class SlowStore(MemoryStore):
    """Puts of progress.json wait for the gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.arrived = threading.Event()

    def put_if_version(self, uri: str, data: bytes, version: str) -> str | None:
        if uri == URI and threading.current_thread().name == "heartbeat":
            self.arrived.set()
            assert self.gate.wait(30)
        return super().put_if_version(uri, data, version)


@pytest.fixture
def slow() -> Iterator[Desk]:
    store = SlowStore()
    desk = Desk(store)
    yield desk
    store.gate.set()
    desk.end()


def begin_slow_put(slow: Desk) -> SlowStore:
    slow.observe()
    until(lambda: URI in slow.store.objects)
    slow.now += WRITE_SECONDS
    slow.observe()
    store: Any = slow.store
    assert store.arrived.wait(10)
    return store  # type: ignore[no-any-return]


def test_a_slow_storage_stalls_nobody(slow: Desk) -> None:
    store = begin_slow_put(slow)
    started = time.monotonic()
    for _ in range(100):
        slow.now += WRITE_SECONDS
        slow.observe()
    assert time.monotonic() - started < 1
    assert slow.beat._waiting.qsize() == 1  # the next, and no more
    store.gate.set()


def test_the_end_of_a_run_waits_only_so_long(slow: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECONDS_TO_STOP <= 10
    monkeypatch.setattr("stylebatch.cluster.heartbeat.SECONDS_TO_STOP", 0.05)
    begin_slow_put(slow)
    started = time.monotonic()
    slow.beat.tell(RunStopped("stopped by SIGTERM", 0, 0))
    assert time.monotonic() - started < 5


def test_a_put_that_comes_late_does_not_undo_the_next_driver_s(slow: Desk) -> None:
    store = begin_slow_put(slow)
    store.delete(LAYOUT.lease)
    slow.lease.renew()  # lost
    theirs = replace(BULLETIN, holder="the next driver").encode()
    store.put(URI, theirs)
    store.gate.set()
    slow.end()
    assert store.objects[URI] == theirs
