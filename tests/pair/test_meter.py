"""What a worker spends is added up, and handed over once."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from inmemory import MemoryStore, picture_bytes

from stylebatch.errors import NotFoundError
from stylebatch.layout import Layout
from stylebatch.pair.batch import BatchRunner
from stylebatch.pair.meter import Meter, MeteredStore
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.work import Spent, Task


class Clock:
    """Half a second passes between two looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def test_everything_is_handed_over_once() -> None:
    meter = Meter(Clock())
    for _ in range(3):
        with meter.timed("fetch_seconds"):
            pass
    meter.add("bytes_read", 7)
    assert meter.take() == Spent(fetch_seconds=1.5, bytes_read=7)
    assert meter.take() == Spent()


def test_what_fails_has_taken_its_time() -> None:
    meter = Meter(Clock())
    with pytest.raises(NotFoundError), meter.timed("publish_seconds"):
        raise NotFoundError("nothing is there")
    assert meter.take() == Spent(publish_seconds=0.5)


def test_threads_lose_nothing() -> None:
    meter = Meter()

    def add() -> None:
        for _ in range(2000):
            meter.add("bytes_written", 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.take().bytes_written == 8000


def test_bytes_that_were_stored_or_read_are_counted() -> None:
    meter, inner = Meter(), MemoryStore()
    store = MeteredStore(inner, meter)
    store.put("/a", b"12345")
    assert store.put_if_absent("/b", b"123")
    assert not store.put_if_absent("/b", b"another")
    assert store.put_if_version("/b", b"1234", store.version("/b"))
    assert store.put_if_version("/b", b"another", "no version") is None
    assert meter.take() == Spent(bytes_written=12)
    assert (store.get("/a"), store.get_range("/a", 1, 2)) == (b"12345", b"23")
    with pytest.raises(NotFoundError):
        store.get("/c")
    assert meter.take() == Spent(bytes_read=7)


def test_everything_else_is_the_store_s_own() -> None:
    meter, inner = Meter(), MemoryStore({"/a": b"1", "/f/b": b"22"})
    store = MeteredStore(inner, meter)
    assert store.size("/f/b") == 2
    assert store.version("/a") == inner.version("/a")
    assert store.age("/a") > 0
    assert store.has_conditional_puts("/f")
    assert [stored.uri for stored in store.list("/f")] == ["/f/b"]
    store.delete("/a")
    store.sweep("/f", 1.0)
    assert ("delete", "/a") in inner.operations
    assert ("sweep", "/f") in inner.operations
    store.unconditional().put("/d", b"4444")
    assert meter.take() == Spent(bytes_written=4)


@pytest.fixture
def spent_on() -> Callable[[Sequence[str]], Spent]:
    """``spent_on(contents)``: what a new runner spends on pairs of these contents with one style."""

    def spend(contents: Sequence[str]) -> Spent:
        store = MemoryStore({"/c.png": picture_bytes(40, 30, 1), "/s.png": picture_bytes(32, 32, 2)})
        recipe = Recipe(size=32, iterations=2)
        pairs = [Pair(f"p{row}", row, one, ("/s.png",), recipe) for row, one in enumerate(contents)]
        with ThreadPoolExecutor(1) as compute:
            runner = BatchRunner(store, Layout("/out"), "cpu", compute, checkpoint_seconds=None)
            runner.run([Task(pair, unit=0) for pair in pairs])
        spent = runner.meter.take()
        read = sum(length for _, length in store.read)
        stored = sum(len(data) for uri, data in store.objects.items() if uri.startswith("/out"))
        assert (spent.bytes_read, spent.bytes_written) == (read, stored)
        return spent

    return spend


def test_a_batch_says_what_each_stage_took(spent_on: Callable[[Sequence[str]], Spent]) -> None:
    spent = spent_on(["/c.png"])
    assert min(spent.fetch_seconds, spent.synthesize_seconds, spent.publish_seconds) > 0
    assert min(spent.bytes_read, spent.bytes_written) > 500


def test_a_pair_without_its_image_takes_time_to_fetch_alone(
    spent_on: Callable[[Sequence[str]], Spent],
) -> None:
    spent = spent_on(["/missing.png"])
    assert spent.fetch_seconds > 0
    assert (spent.synthesize_seconds, spent.publish_seconds, spent.bytes_written) == (0, 0, 0)
