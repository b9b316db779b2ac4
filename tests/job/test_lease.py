"""One driver on one output: the rules of the lease, with plain values."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from inmemory import MemoryStore
from simulated import FaultyStore

from stylebatch.errors import LeaseError, NotFoundError, StorageUnavailableError
from stylebatch.job import lease as lease_module
from stylebatch.job.lease import LEASE_SECONDS, Holder, Lease, Machine, decode_holder
from stylebatch.layout import Layout

LAYOUT = Layout("s3://bucket/out")
URI = LAYOUT.lease


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    """Its clock and the drivers' go alike, but show other times."""
    store = MemoryStore()
    store.clock = lambda: clock() + 5e6
    return store


@pytest.fixture
def take(store: MemoryStore, clock: Clock) -> Callable[..., Lease]:
    """``take(host, has_died=...)``: a lease that is renewed only by hand."""

    def take(
        host: str = "alpha", has_died: Callable[[str], bool] = lambda mark: False, through: object = None
    ) -> Lease:
        return Lease.take(through or store, LAYOUT, Machine(host, f"mark of {host}", clock, has_died, None))

    return take


Take = Callable[..., Lease]


def test_the_first_driver_gets_it_and_says_who_it_is(take: Take, store: MemoryStore) -> None:
    lease = take("alpha")
    assert lease.is_held
    lease.check()
    found = json.loads(store.objects[URI])
    assert found.keys() == {"holder", "host", "process", "since", "process_mark", "renewals"}
    assert (found["host"], found["process_mark"], found["renewals"]) == ("alpha", "mark of alpha", 0)
    assert found["since"].endswith("+00:00")


def test_the_second_is_told_who_holds_it_since_when_and_what_to_do(
    take: Take, clock: Clock, store: MemoryStore
) -> None:
    first = take("alpha").holder
    clock.now = 12.0
    before = dict(store.objects)
    with pytest.raises(LeaseError) as raised:
        take("beta")
    message = str(raised.value)
    for part in (
        "s3://bucket/out is in use by another driver",
        f"process {first.process} on alpha, since {first.since} (seen 12 s ago)",
        "wait until that one has ended, stop it, or give another --output",
        "run again in 48 s",
    ):
        assert part in message
    assert store.objects == before


@pytest.mark.parametrize("silent", [LEASE_SECONDS, LEASE_SECONDS + 0.001, 1e6])
def test_an_expired_lease_is_taken_over(take: Take, clock: Clock, silent: float) -> None:
    first = take("alpha")
    clock.now = silent
    second = take("beta")
    second.check()
    with pytest.raises(LeaseError, match=r"s3://bucket/out was taken over by process \d+ on beta, since 20"):
        first.check()
    assert not first.is_held


@pytest.mark.parametrize("beats", [1, 4, 40])
def test_a_renewed_lease_does_not_expire(take: Take, clock: Clock, beats: int) -> None:
    lease = take("alpha")
    for _ in range(beats):
        clock.now += LEASE_SECONDS / 4
        lease.renew()
    clock.now += LEASE_SECONDS - 11
    lease.check()
    with pytest.raises(LeaseError, match=r"on alpha, since .* \(seen 49 s ago\)"):
        take("beta")


def test_a_dead_process_of_this_machine_is_not_waited_for(take: Take) -> None:
    first = take("alpha")
    second = take("beta", has_died=lambda mark: mark == "mark of alpha")
    second.check()
    first.renew()
    with pytest.raises(LeaseError, match="taken over by process"):
        first.check()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b'{"holder": "x"}',
        b"[" * 100_000,
        json.dumps({**vars(Holder("x", "h", 1, "now", "mark")), "process": "1"}).encode(),
        json.dumps({**vars(Holder("x", "h", 1, "now", "mark")), "renewals": True}).encode(),
    ],
)
def test_a_damaged_lease_is_somebodys_until_it_expires(
    take: Take, store: MemoryStore, clock: Clock, data: bytes
) -> None:
    store.put(URI, data)
    clock.now = 30.5
    with pytest.raises(LeaseError, match=r"may be in use: .*lease\.json is damaged .* Run again in 30 s"):
        take("beta", has_died=lambda mark: True)
    clock.now = LEASE_SECONDS
    take("beta").check()


def test_what_a_newer_program_adds_to_a_lease_is_no_damage() -> None:
    holder = Holder("x", "h", 1, "now", "mark", 3)
    assert decode_holder(json.dumps({**vars(holder), "cluster": "c"}).encode()) == holder
    assert decode_holder(holder.encode()) == holder


def test_a_paused_holder_that_lost_stops_before_it_changes_anything(
    take: Take, store: MemoryStore, clock: Clock
) -> None:
    first = take("alpha")
    clock.now = LEASE_SECONDS
    take("beta")
    before = dict(store.objects)
    assert not first.is_held
    with pytest.raises(LeaseError, match="was taken over by process"):
        first.check()
    assert store.objects == before


def test_a_paused_holder_that_nobody_followed_goes_on(take: Take, clock: Clock) -> None:
    """A swap that succeeds proves that nobody has had the lease meanwhile."""
    lease = take("alpha")
    clock.now = 3600.0
    assert not lease.is_held
    lease.check()
    assert lease.is_held


def test_a_check_in_time_costs_no_request(take: Take, store: MemoryStore, clock: Clock) -> None:
    lease = take("alpha")
    store.operations.clear()
    clock.now = LEASE_SECONDS - 11
    lease.check()
    assert store.operations == []


def test_a_holder_that_cannot_reach_the_storage_stops_in_time(
    take: Take, store: MemoryStore, clock: Clock
) -> None:
    lease = take("alpha")
    store.errors["put_if_version", URI] = StorageUnavailableError("no answer")
    for _ in range(3):
        clock.now += 15
        with pytest.raises(StorageUnavailableError):
            lease.renew()
    lease.check()
    clock.now = LEASE_SECONDS - 9
    with pytest.raises(
        LeaseError, match=r"has not been renewed for 51 s and cannot be renewed now.*no answer"
    ):
        lease.check()
    store.errors.clear()
    lease.check()  # nobody had it


def test_a_renewal_counts_from_its_start(take: Take, store: MemoryStore, clock: Clock) -> None:
    lease = take("alpha")
    put = store.put_if_version

    def slow(uri: str, data: bytes, version: str) -> str | None:
        stored = put(uri, data, version)
        clock.now += 55
        return stored

    store.put_if_version = slow  # type: ignore[method-assign]
    lease.renew()
    assert not lease.is_held


def test_a_lease_that_was_removed_by_hand_is_lost(take: Take, store: MemoryStore) -> None:
    lease = take("alpha")
    store.delete(URI)
    lease.renew()
    with pytest.raises(LeaseError, match=r"lease\.json was removed"):
        lease.check()
    assert URI not in store.objects


@pytest.mark.parametrize("kind", ["fails", "loses the answer"])
def test_a_renewal_whose_answer_is_lost_is_made_again(
    take: Take, store: MemoryStore, clock: Clock, kind: str
) -> None:
    clean = FaultyStore(store)
    take("alpha", through=clean).release()
    faulty = FaultyStore(store, clean.calls - 2, kind)  # the last two are those of release
    lease = take("alpha", through=faulty)
    clock.now = 15
    with pytest.raises(StorageUnavailableError):
        lease.renew()
    clock.now = 30
    lease.renew()
    clock.now = 75
    lease.check()
    assert lease.is_held
    assert json.loads(store.objects[URI])["renewals"] == 2


def test_a_swap_that_arrived_though_the_store_said_no_is_recognised(
    take: Take, store: MemoryStore, clock: Clock
) -> None:
    lease = take("alpha")
    put = store.put_if_version

    def deaf(uri: str, data: bytes, version: str) -> str | None:
        put(uri, data, version)
        return None

    store.put_if_version = deaf  # type: ignore[method-assign]
    clock.now = 40
    lease.renew()
    clock.now = 89
    assert lease.is_held
    clock.now = 40 + LEASE_SECONDS
    take("beta").check()


@pytest.mark.parametrize("kind", ["fails", "loses the answer"])
def test_a_take_that_fails_leaves_nothing(take: Take, store: MemoryStore, kind: str) -> None:
    clean = FaultyStore(store)
    take("alpha", through=clean).release()
    for number in range(clean.calls - 2):
        faulty = FaultyStore(store, number, kind)
        if kind == "fails" or number == 0:
            with pytest.raises(StorageUnavailableError):
                take("alpha", through=faulty)
        assert URI not in store.objects
        take("beta").release()


def test_release_leaves_nothing(take: Take, store: MemoryStore) -> None:
    lease = take("alpha")
    lease.renew()
    lease.release()
    assert URI not in store.objects
    assert not lease.is_held
    with pytest.raises(LeaseError, match="has been given up"):
        lease.check()
    lease.release()
    second = take("beta")
    lease.release()
    second.renew()
    second.check()


def test_release_does_not_take_what_another_has(take: Take, store: MemoryStore, clock: Clock) -> None:
    first = take("alpha")
    clock.now = LEASE_SECONDS
    second = take("beta")
    first.release()
    second.renew()
    second.check()
    assert json.loads(store.objects[URI])["host"] == "beta"


@pytest.mark.parametrize("method", ["put_if_version", "delete"])
def test_release_does_not_fail_with_the_storage(take: Take, store: MemoryStore, method: str) -> None:
    lease = take("alpha")
    store.errors[method, URI] = StorageUnavailableError("no answer")
    lease.release()
    assert URI in store.objects


def test_a_lease_that_is_given_up_while_it_is_looked_at_is_taken(take: Take, store: MemoryStore) -> None:
    first = take("alpha")
    version = store.version

    def gone(uri: str) -> str:
        store.version = version  # type: ignore[method-assign]
        first.release()
        raise NotFoundError(uri)

    store.version = gone  # type: ignore[method-assign]
    take("beta").check()


@pytest.mark.parametrize("moment", ["version", "get", "age"])
def test_of_two_that_find_it_expired_the_later_swap_fails(
    take: Take, store: MemoryStore, clock: Clock, moment: str
) -> None:
    """Another driver takes over at any moment between this one's looks."""
    take("alpha")
    clock.now = LEASE_SECONDS
    look, rivals = getattr(store, moment), []

    def interrupted(uri: str) -> object:
        setattr(store, moment, look)
        seen = look(uri)
        rivals.append(take("rival"))
        return seen

    setattr(store, moment, interrupted)
    with pytest.raises(LeaseError, match="on rival"):
        take("beta")
    rivals[0].renew()
    rivals[0].check()


def test_a_lease_that_changes_hands_all_the_time_is_given_up_on(take: Take, store: MemoryStore) -> None:
    take("alpha")
    store.put_if_version = lambda *arguments: None  # type: ignore[method-assign]
    with pytest.raises(LeaseError, match="changes hands all the time"):
        take("beta", has_died=lambda mark: True)


def test_a_thread_renews_it_until_it_is_released(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    lease = Lease.take(store, LAYOUT, replace(Machine.here(), beat_seconds=0.01))
    store.errors["put_if_version", URI] = StorageUnavailableError("no answer")
    wait_until(lambda: len(store.calls("put_if_version")) >= 2)
    assert lease.holder.renewals >= 1
    store.errors.clear()
    wait_until(lambda: json.loads(store.objects[URI])["renewals"] >= 5)
    lease.release()
    assert URI not in store.objects
    assert set(threading.enumerate()) <= before


def test_the_thread_ends_when_the_lease_is_lost(store: MemoryStore) -> None:
    before = set(threading.enumerate())
    lease = Lease.take(store, LAYOUT, replace(Machine.here(), beat_seconds=0.01))
    store.put(URI, Holder("another", "beta", 1, "today", "").encode())
    wait_until(lambda: not lease.is_held)
    wait_until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(LeaseError, match="taken over by process 1 on beta, since today"):
        lease.check()


def test_the_numbers_go_together() -> None:
    assert lease_module.BEAT_SECONDS * 4 == LEASE_SECONDS
    assert lease_module.BEAT_SECONDS * 3 < LEASE_SECONDS - lease_module.MARGIN_SECONDS
    assert Machine.here().beat_seconds == lease_module.BEAT_SECONDS


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)
