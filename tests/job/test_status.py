"""How a run stands, told by its output alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from bulletins import BULLETIN
from inmemory import MemoryStore
from simulated import JobMaker, finished, run

from stylebatch.errors import JobError
from stylebatch.job import Job, Lease, open_output
from stylebatch.job.bulletin import Telling
from stylebatch.job.identity import RESTARTING, encode_identity
from stylebatch.job.lease import Holder, Machine
from stylebatch.job.status import State, Status, read_status

BY_PARTS = "only published units are counted"


@dataclass
class Desk:
    """An output of five rows in units of two, the storage's clock, and a machine that asks."""

    job: Job
    store: MemoryStore
    now: float = 1000.0
    dead_marks: frozenset[str] = frozenset()

    @property
    def machine(self) -> Machine:
        return Machine("elsewhere", "mark", lambda: self.now, lambda mark: mark in self.dead_marks, None)

    def take(self) -> Lease:
        """A driver begins."""
        return Lease.take(self.store, self.job.layout, replace(self.machine, process_mark="driver's mark"))

    def tell(self, holder: Holder, **changes: Any) -> None:
        """It writes how far it is."""
        bulletin = replace(BULLETIN, holder=holder.holder, rows=5, ok=2, failed=1, **changes)
        self.store.put(self.job.layout.progress, bulletin.encode())

    def status(self) -> Status:
        before = dict(self.store.objects)
        found = read_status(self.store, self.job.output, self.machine)
        assert self.store.objects == before
        json.dumps(found.to_dict())
        return found


@pytest.fixture
def desk(make_job: JobMaker, store: MemoryStore) -> Desk:
    job = make_job(rows=5, unit_size=2)
    desk = Desk(job, store)
    store.clock = lambda: desk.now
    store.put(job.layout.job, encode_identity(job.identity()))
    return desk


def test_of_a_run_that_goes_on(desk: Desk) -> None:
    lease = desk.take()
    desk.now += 3
    desk.tell(lease.holder)
    desk.now += 4
    found = desk.status()
    assert (found.state, found.reason) == (State.RUNNING, "")
    assert (found.rows, found.ended, found.ok, found.failed) == (5, 3, 2, 1)
    assert (found.heartbeat_seconds, found.told_seconds) == (7, 4)
    assert (found.pairs_per_hour, found.seconds_left) == (100.5, 27000 - 4)
    assert found.driver is not None
    assert (found.driver.host, found.driver.process) == ("elsewhere", lease.holder.process)
    assert (found.workers, found.stages, found.listed) == (3, BULLETIN.stages, BULLETIN.listed)
    assert (found.failures, found.notices) == (BULLETIN.failures, BULLETIN.notices)
    assert found.remarks == ()


def test_the_time_left_is_never_negative(desk: Desk) -> None:
    desk.tell(desk.take().holder, seconds_left=2.0)
    desk.now += 5
    assert desk.status().seconds_left == 0


@pytest.mark.parametrize(("silent", "state"), [(59.0, State.RUNNING), (60.0, State.DEAD), (1e6, State.DEAD)])
def test_a_driver_that_does_not_renew_its_lease_is_dead(desk: Desk, silent: float, state: State) -> None:
    desk.tell(desk.take().holder)
    desk.now += silent
    found = desk.status()
    assert found.state == state
    assert found.ended == 3
    if state == State.DEAD:
        assert found.reason.startswith(f"its driver has not renewed its lease for {silent:.0f} s")
        assert (found.pairs_per_hour, found.seconds_left, found.workers, found.listed) == (None, None, 0, ())


def test_a_dead_process_of_this_machine_is_known_at_once(desk: Desk) -> None:
    desk.tell(desk.take().holder)
    desk.dead_marks = frozenset({"driver's mark"})
    found = desk.status()
    assert found.state == State.DEAD
    assert found.reason == "its driver, a process of this machine, has ended without a word"


def test_of_a_run_that_was_stopped(desk: Desk) -> None:
    lease = desk.take()
    desk.tell(lease.holder, telling=Telling.STOPPED, reason="stopped by SIGTERM: 3 of 5 pairs have ended")
    for _ in range(2):  # before and after the lease is given up
        found = desk.status()
        assert (found.state, found.reason) == (State.STOPPED, "stopped by SIGTERM: 3 of 5 pairs have ended")
        assert (found.ended, found.workers) == (3, 0)
        assert found.driver is not None
        lease.release()
    assert found.driver.host == "head"  # as the bulletin has it
    assert found.heartbeat_seconds == found.told_seconds == 0


def test_the_next_driver_has_told_nothing_yet(desk: Desk) -> None:
    first = desk.take()
    desk.tell(first.holder, telling=Telling.STOPPED, reason="stopped by Ctrl-C")
    first.release()
    desk.take()
    found = desk.status()
    assert (found.state, found.reason, found.ended) == (State.RUNNING, "", 3)
    assert (found.workers, found.pairs_per_hour) == (0, None)
    assert found.remarks == (
        "the driver that works now has told nothing yet; the one before it told the counts",
    )


def test_a_driver_that_lives_but_tells_nothing_has_trouble(desk: Desk) -> None:
    lease = desk.take()
    desk.tell(lease.holder)
    desk.now += 50
    lease.renew()
    desk.now += 50
    found = desk.status()
    assert found.state == State.RUNNING
    (remark,) = found.remarks
    assert remark.startswith("the driver is alive, but progress.json is 100 s old")


def test_who_ended_without_a_reason(desk: Desk) -> None:
    lease = desk.take()
    desk.tell(lease.holder)
    lease.release()
    found = desk.status()
    assert (found.state, found.ended) == (State.STOPPED, 3)
    assert found.reason == "no driver works on it, and the last one has not told why it ended"


class TestFinished:
    def test_success_has_the_last_word(self, desk: Desk) -> None:
        lease = desk.take()
        desk.tell(lease.holder)
        desk.store.put(desk.job.layout.success, b'{"rows": 5, "ok": 4, "failed": 1}')
        for _ in range(2):
            found = desk.status()
            assert (found.state, found.reason) == (State.FINISHED, "")
            assert (found.rows, found.ended, found.ok, found.failed) == (5, 5, 4, 1)
            assert (found.workers, found.remarks) == (0, ())
            lease.release()

    def test_of_a_version_that_told_nothing(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        found = read_status(finished(job, store), job.output)
        assert (found.state, found.ok, found.failed, found.remarks) == (State.FINISHED, 4, 1, ())

    def test_a_damaged_success_is_still_one(self, desk: Desk) -> None:
        desk.tell(desk.take().holder)
        desk.store.put(desk.job.layout.success, b"{")
        found = desk.status()
        assert (found.state, found.ended) == (State.FINISHED, 3)

    def test_whose_success_was_removed(self, desk: Desk) -> None:
        lease = desk.take()
        desk.tell(lease.holder, telling=Telling.FINISHED)
        lease.release()
        found = desk.status()
        assert (found.state, found.reason) == (
            State.STOPPED,
            "it had finished, but _SUCCESS is not there any more",
        )


class TestWithoutBulletin:
    def test_published_units_are_counted(self, desk: Desk) -> None:
        lease = desk.take()
        for unit in (0, 2):  # of two rows and of one
            desk.store.put(desk.job.layout.part(unit), b"a part")
        desk.store.put(desk.job.layout.results + "/notes.txt", b"mine")
        found = desk.status()
        assert (found.state, found.rows, found.ended) == (State.RUNNING, 5, 3)
        assert (found.ok, found.failed, found.told_seconds) == (None, None, None)
        (remark,) = found.remarks
        assert remark.startswith("there is no progress.json: the driver has only just begun, or is older; ")
        assert remark.endswith(BY_PARTS)
        lease.release()
        found = desk.status()
        assert (found.state, found.driver, found.heartbeat_seconds) == (State.STOPPED, None, None)

    @pytest.mark.parametrize(
        ("data", "remark"),
        [
            (b"{", "progress.json is damaged, or somebody else's"),
            (
                b'{"format_version": 9, "holder": "x"}',
                "progress.json is of format 9, and this program reads 1",
            ),
        ],
    )
    def test_one_that_cannot_be_read(self, desk: Desk, data: bytes, remark: str) -> None:
        desk.take()
        desk.store.put(desk.job.layout.progress, data)
        found = desk.status()
        assert (found.state, found.ended, found.ok) == (State.RUNNING, 0, None)
        assert found.remarks[0].startswith(remark)
        assert BY_PARTS in found.remarks[0]
        desk.store.put(desk.job.layout.success, b'{"rows": 5, "ok": 5, "failed": 0}')
        assert BY_PARTS not in desk.status().remarks[0]

    def test_a_damaged_lease_is_in_use_until_it_expires(self, desk: Desk) -> None:
        desk.store.put(desk.job.layout.lease, b"{")
        assert (desk.status().state, desk.status().driver) == (State.RUNNING, None)
        desk.now += 60
        assert desk.status().state == State.DEAD


def test_of_a_job_that_is_being_set_up(desk: Desk) -> None:
    desk.store.delete(desk.job.layout.job)
    desk.take()
    found = desk.status()
    assert (found.state, found.rows, found.ended) == (State.RUNNING, None, 0)


def test_of_a_restart(desk: Desk) -> None:
    desk.store.put(desk.job.layout.job, encode_identity(RESTARTING))
    desk.store.put(desk.job.layout.success, b'{"rows": 5, "ok": 5, "failed": 0}')  # it goes next
    found = desk.status()
    assert (found.state, found.reason) == (
        State.STOPPED,
        "a restart of it was interrupted; run again with --restart",
    )
    desk.store.delete(desk.job.layout.success)
    desk.take()
    found = desk.status()
    assert (found.state, found.rows) == (State.RUNNING, None)


def test_a_driver_that_begins_while_one_looks_is_seen(desk: Desk) -> None:
    began: list[Lease] = []

    class Meanwhile:
        """A driver begins after its lease was looked for."""

        def age(self, uri: str) -> float:
            if uri == desk.job.layout.progress and not began:
                began.append(desk.take())
                desk.tell(began[0].holder)
            return desk.store.age(uri)

        def __getattr__(self, name: str) -> Any:
            return getattr(desk.store, name)

    store: Any = Meanwhile()
    found = read_status(store, desk.job.output, desk.machine)
    assert began
    assert (found.state, found.workers) == (State.RUNNING, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda desk: desk.store.delete(desk.job.layout.job),
            "is not the output of a run: it holds no job.json",
        ),
        (lambda desk: desk.store.put(desk.job.layout.job, b"{"), "is damaged: it is not JSON"),
        (
            lambda desk: desk.store.put(desk.job.layout.job, b'{"format_version": 1}'),
            "was written by format 1; this program reads and writes 2",
        ),
    ],
)
def test_what_is_no_run_is_refused(desk: Desk, make: Callable[[Desk], None], message: str) -> None:
    make(desk)
    with pytest.raises(JobError, match=message):
        read_status(desk.store, desk.job.output)


@pytest.mark.parametrize("told", [True, False])
def test_what_it_costs(make_job: JobMaker, store: MemoryStore, told: bool) -> None:
    """Requests do not depend on how many units there are, unless nothing else tells how many have ended."""
    job = make_job(rows=40, unit_size=2)
    run(job, store)
    lease = open_output(job, store).lease
    store.delete(job.layout.success)
    if told:
        store.put(job.layout.progress, replace(BULLETIN, holder=lease.holder.holder).encode())
    store.operations.clear()
    read_status(store, job.output)
    lease.release()
    looks = [method for method, uri in store.operations[: 7 if told else 6]]
    assert looks == (
        ["get", "version", "get", "age", "age", "get_range", "get_range"]
        if told
        else ["get", "version", "get", "age", "age", "get_range"]
    )
    assert store.calls("list") == ([] if told else [job.layout.results])


def test_a_restart_deletes_what_was_told(make_job: JobMaker, store: MemoryStore) -> None:
    job = make_job()
    left = finished(job, store)
    left.put(job.layout.progress, BULLETIN.encode())
    open_output(job, left, restart=True).lease.release()
    assert job.layout.progress not in left.objects
