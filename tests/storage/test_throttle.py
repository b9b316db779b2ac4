"""Fewer requests at once while the server throttles, more again when it answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from botocore.parsers import ResponseParserError
from s3stub import S3Stub

from stylebatch.errors import StorageError
from stylebatch.storage import Retries, S3Store, s3_client
from stylebatch.storage.throttle import LOWER_INTERVAL, RAISE_INTERVAL, Gate, Limit

# The policy


def test_the_limit_starts_at_its_upper_end_and_stays_there() -> None:
    limit = Limit(32)
    for second in range(10):
        limit.answered(float(second))
    assert limit.value == 32


def test_throttling_halves_the_limit_once_in_an_interval() -> None:
    limit = Limit(32)
    assert [limit.throttled(now=0.1 * refusal, under_way=32) for refusal in range(9)] == [True] + [False] * 8
    assert limit.value == 16
    assert limit.throttled(now=LOWER_INTERVAL, under_way=16) is True
    assert limit.value == 8


def test_the_limit_falls_below_what_was_under_way() -> None:
    limit = Limit(32)
    limit.throttled(now=0.0, under_way=6)
    assert limit.value == 3


def test_the_limit_never_falls_below_one() -> None:
    limit = Limit(32)
    for second in range(20):
        limit.throttled(now=float(second), under_way=1)
    assert limit.value == 1


def test_answers_raise_the_limit_by_one_in_an_interval() -> None:
    limit = Limit(32)
    limit.throttled(now=0.0, under_way=32)
    values = []
    for step in range(80):
        limit.answered(now=step * RAISE_INTERVAL / 4)
        values.append(limit.value)
    assert values[:4] == [16] * 4
    assert values == [min(32, 16 + step // 4) for step in range(80)]


def test_the_limit_is_not_raised_while_the_server_throttles_now_and_then() -> None:
    limit = Limit(32)
    for step in range(100):
        now = step * RAISE_INTERVAL / 2
        limit.throttled(now, under_way=2)
        limit.answered(now + RAISE_INTERVAL / 4)
    assert limit.value == 1


# The gate


def test_a_thread_waits_until_another_leaves() -> None:
    gate = Gate(Limit(1))
    gate.enter()
    waiting = [threading.Thread(target=gate.enter, daemon=True) for _ in range(8)]
    for thread in waiting:
        thread.start()
    for entered in range(1, 9):
        assert sum(thread.is_alive() for thread in waiting) >= 8 - entered + 1
        gate.leave()
    for thread in waiting:
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_a_gate_lowers_its_limit_by_the_most_that_were_under_way() -> None:
    limit = Limit(32)
    now = [0.0]
    gate = Gate(limit, clock=lambda: now[0])
    for _ in range(8):
        gate.enter()
    for _ in range(8):
        gate.leave()
    gate.throttled()
    assert limit.value == 4
    now[0] += RAISE_INTERVAL
    gate.answered()
    assert limit.value == 5


# Requests


class Crowd:
    """Holds the requests that reach a stub until it is told to refuse or to serve some of them."""

    def __init__(self, stub: S3Stub) -> None:
        self.under_way = 0
        self.most = 0
        self._refuses = False
        self._leaving = 0
        self._changed = threading.Condition()
        stub.fault_for = self._answer

    def _answer(self, request: str) -> str | None:
        with self._changed:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._leaving > 0)
            self._leaving -= 1
            self.under_way -= 1
            self._changed.notify_all()
            return "503 SlowDown" if self._refuses else None

    def gathers(self, expected: int) -> bool:
        """Whether so many requests are under way at once before long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.under_way == expected, timeout=30)

    def dismiss(self, count: int, refuse: bool) -> None:
        """Answer so many of them, and note the most that are there from now on."""
        with self._changed:
            self._refuses = refuse
            self._leaving = count
            self.most = 0
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._leaving == 0)

    def disperse(self) -> None:
        """Serve these and all that come."""
        with self._changed:
            self._refuses = False
            self._leaving = 10**9
            self._changed.notify_all()


@contextmanager
def sixteen_readers(store: S3Store, crowd: Crowd) -> Iterator[None]:
    """Threads that read one object after the other until the block ends."""
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            store.get("s3://bucket/key")

    readers = [threading.Thread(target=read, daemon=True) for _ in range(16)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        is_over.set()
        crowd.disperse()
    for reader in readers:
        reader.join(timeout=60)
        assert not reader.is_alive()


def test_fewer_requests_are_under_way_while_the_server_throttles_and_more_again_after(stub: S3Stub) -> None:
    stub.objects["/bucket/key"] = b"x"
    crowd = Crowd(stub)
    now = [0.0]
    store = S3Store(retries=Retries(clock=lambda: now[0], sleep=lambda seconds: None))
    with sixteen_readers(store, crowd):
        before = 16
        assert crowd.gathers(16)
        for expected in (8, 4, 2, 1, 1):
            now[0] += LOWER_INTERVAL
            crowd.dismiss(before, refuse=True)
            assert crowd.gathers(expected)
            assert crowd.most <= expected
            before = expected
        for expected in (2, 3, 4):
            now[0] += RAISE_INTERVAL
            crowd.dismiss(before, refuse=False)
            assert crowd.gathers(expected)
            assert crowd.most <= expected
            before = expected


@pytest.mark.parametrize("fault", ["403 AccessDenied", "reset", "404 NoSuchKey"])
def test_a_failed_request_is_under_way_no_longer(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub, fault: str
) -> None:
    monkeypatch.setattr(s3_client, "MAX_CONNECTIONS", 1)
    store = S3Store(retries=Retries(seconds=0))
    for _ in range(3):
        stub.faults += [fault]
        with pytest.raises(StorageError):
            store.get("s3://bucket/key")
    store.put("s3://bucket/key", b"x")


def test_a_request_whose_answer_makes_no_sense_is_under_way_no_longer(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub
) -> None:
    monkeypatch.setattr(s3_client, "MAX_CONNECTIONS", 1)
    store = S3Store(retries=Retries(seconds=0))

    def fail(**_event: object) -> None:
        raise ResponseParserError("no XML")

    store.client.meta.events.register("before-parse.s3.GetObject", fail)
    for _ in range(3):
        with pytest.raises(StorageError, match="no XML"):
            store.get("s3://bucket/key")
    store.put("s3://bucket/key", b"x")
