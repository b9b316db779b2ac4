"""When checkpoints are stored and removed: by a clock and a store that the test holds in its hands."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from inmemory import MemoryStore

from stylebatch.errors import (
    NotFoundError,
    StorageFullError,
    StorageUnavailableError,
)
from stylebatch.layout import Layout
from stylebatch.pair import making
from stylebatch.pair.batch import BatchRunner
from stylebatch.pair.checkpointing import MOST_SHARE, BatchWatch, CheckpointKeeper, PairUnderWay
from stylebatch.pair.checkpoints import decode_checkpoint
from stylebatch.pair.loading import Loader
from stylebatch.pairs import Pair
from stylebatch.synthesis.state import ImageState
from stylebatch.work import Outcome, Task

PairMaker = Callable[..., Pair]
LAYOUT = Layout("/out")
URI = "/out/checkpoints/000000/p0.ckpt"
IMAGE = "/out/images/000000/p0.png"


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowStore(MemoryStore):
    """Storing a checkpoint takes a while by the clock, or as long as the test wants."""

    def __init__(self, objects: dict[str, bytes], clock: Clock) -> None:
        super().__init__(objects)
        self.seconds = 0.0
        self.is_open = threading.Event()
        self.is_open.set()
        self._the_clock = clock

    def put(self, uri: str, data: bytes) -> None:
        if uri.endswith(".ckpt"):
            assert self.is_open.wait(60)
            self._the_clock.now += self.seconds
        super().put(uri, data)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow_store(store: MemoryStore, clock: Clock) -> SlowStore:
    return SlowStore(store.objects, clock)


class Batch:
    """A batch in work whose evaluations the test does one by one."""

    def __init__(
        self, store: SlowStore, clock: Clock, network: Any, pairs: list[Pair], seconds: float | None = 60
    ) -> None:
        self.store = store
        self.clock = clock
        self.keeper = CheckpointKeeper(store, LAYOUT, seconds, clock)
        self.watch = BatchWatch(self.keeper, network)
        self.pairs = [PairUnderWay(Task(pair, 0), Loader(store, 0).load(pair), False) for pair in pairs]
        self.watch.begin(self.pairs)
        self.evaluations = 0

    def states(self) -> list[ImageState]:
        return [ImageState(self.evaluations, (), None, {"points": torch.zeros(3)}) for _ in self.pairs]

    def evaluate(self, seconds: float = 0.0, is_stored: bool = True) -> None:
        self.evaluations += 1
        self.clock.now += seconds
        self.watch.offer(self.states)
        if is_stored:
            self.watch.wait()

    def stored(self, pair_id: str = "p0") -> int | None:
        """The evaluations at which the stored checkpoint was taken."""
        uri = LAYOUT.checkpoint(0, pair_id)
        found = decode_checkpoint(self.store.objects[uri]) if uri in self.store.objects else None
        return found and found.state.evaluations


@pytest.fixture
def make_batch(
    slow_store: SlowStore, clock: Clock, network: Any, make_pair: PairMaker
) -> Callable[..., Batch]:
    def make(count: int = 1, seconds: float | None = 60) -> Batch:
        pairs = [make_pair("c", "s", pair_id=f"p{row}", row=row) for row in range(count)]
        return Batch(slow_store, clock, network, pairs, seconds)

    return make


class TestTimer:
    def test_short_pairs_store_nothing(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch()
        for _ in range(5):
            batch.evaluate(seconds=11.9)
        assert batch.stored() is None
        assert not batch.pairs[0].may_have_checkpoint

    def test_then_one_whenever_the_time_is_over(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch()
        stored = []
        for _ in range(8):
            batch.evaluate(seconds=25)
            stored.append(batch.stored())
        assert stored == [None, None, 3, 3, 3, 6, 6, 6]
        assert batch.pairs[0].may_have_checkpoint

    def test_every_pair_of_a_batch_has_its_own(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch(count=3)
        batch.evaluate(seconds=61)
        assert [batch.stored(f"p{row}") for row in range(3)] == [1, 1, 1]
        found = decode_checkpoint(batch.store.objects[URI])
        assert found is not None
        assert found.seconds == pytest.approx(61 / 3)

    def test_none_is_taken_while_one_is_being_stored(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch()
        batch.store.is_open.clear()
        for _ in range(4):
            batch.evaluate(seconds=61, is_stored=False)
        batch.store.is_open.set()
        batch.watch.wait()
        assert batch.stored() == 1
        batch.evaluate(seconds=5e3)
        assert batch.stored() == 5

    def test_slow_storage_stretches_the_interval(self, make_batch: Callable[..., Batch]) -> None:
        """Twelve seconds for each checkpoint are to be one twentieth of the time."""
        batch = make_batch()
        batch.store.seconds = 12.0
        taken_at = []
        for _ in range(1200):
            before = batch.stored()
            batch.evaluate(seconds=1)
            if batch.stored() != before:
                taken_at.append(batch.clock.now - 12)
        gaps = [after - before for before, after in itertools.pairwise(taken_at)]
        assert len(gaps) >= 4
        assert set(gaps) == {12 / MOST_SHARE}

    def test_one_may_be_asked_for(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch()
        batch.evaluate()
        batch.keeper.is_wanted_soon.set()
        batch.evaluate()
        batch.evaluate()
        assert batch.stored() == 2

    def test_one_that_is_asked_for_while_another_is_stored_is_taken_after_it(
        self, make_batch: Callable[..., Batch]
    ) -> None:
        batch = make_batch()
        batch.store.is_open.clear()
        batch.evaluate(seconds=61, is_stored=False)
        batch.keeper.is_wanted_soon.set()
        batch.evaluate(is_stored=False)
        batch.store.is_open.set()
        batch.watch.wait()
        batch.evaluate()
        assert batch.stored() == 3

    def test_none_at_all(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch(seconds=None)
        batch.keeper.is_wanted_soon.set()
        batch.evaluate(seconds=1e6)
        assert batch.stored() is None

    def test_what_is_not_being_stored_at_the_end_will_not_be(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch(count=3)
        batch.store.is_open.clear()
        batch.evaluate(seconds=61, is_stored=False)
        batch.watch.end()
        batch.store.is_open.set()
        batch.watch.wait()
        assert batch.stored("p0") in (None, 1)  # the first may have been on its way
        assert [batch.stored(f"p{row}") for row in (1, 2)] == [None, None]


class TestTrouble:
    def test_a_checkpoint_that_cannot_be_stored_is_said_once(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch()
        batch.store.errors["put", URI] = StorageUnavailableError("no answer")
        for _ in range(3):
            batch.evaluate(seconds=61)
        assert batch.pairs[0].notices == [f"the checkpoint {URI} could not be stored: no answer"]
        assert batch.pairs[0].may_have_checkpoint  # the answer alone may have been lost
        del batch.store.errors["put", URI]
        batch.evaluate(seconds=61)
        assert batch.stored() == 4

    def test_without_memory_for_a_copy_none_is_taken(
        self, make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batch = make_batch(count=2)
        monkeypatch.setattr("stylebatch.pair.checkpointing.host_bytes", lambda: 1000)
        batch.evaluate(seconds=61)
        assert batch.stored() is None
        assert "no checkpoint of 2 pictures could be taken: that takes" in batch.pairs[0].notices[0]

    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: x")]
    )
    def test_running_out_of_memory_for_a_copy_is_no_failure(
        self, make_batch: Callable[..., Batch], error: Exception
    ) -> None:
        batch = make_batch()

        def fail() -> list[ImageState]:
            raise error

        batch.clock.now += 61
        batch.watch.offer(fail)
        assert batch.pairs[0].notices == ["no checkpoint of 1 pictures could be taken: out of memory"]

    def test_other_errors_are_not_hidden(self, make_batch: Callable[..., Batch]) -> None:
        batch = make_batch()

        def fail() -> list[ImageState]:
            raise RuntimeError("a bug")

        batch.clock.now += 61
        with pytest.raises(RuntimeError, match="a bug"):
            batch.watch.offer(fail)


@pytest.fixture
def runner(slow_store: SlowStore, network: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchRunner]:
    """Takes a checkpoint whenever it can."""
    monkeypatch.setattr(making, "load_network", lambda *_: network)
    with ThreadPoolExecutor(1) as compute:
        yield BatchRunner(slow_store, LAYOUT, "cpu", compute, checkpoint_seconds=0, clock=lambda: 0.0)


def only(outcomes: list[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


class TestEndOfAPair:
    @pytest.fixture
    def task(self, make_pair: PairMaker) -> Task:
        return Task(make_pair("c", "s", iterations=4), 0)

    def test_its_checkpoint_goes_when_it_is_committed(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task
    ) -> None:
        outcome = only(runner.run([task]))
        assert (outcome.row or {})["status"] == "ok"
        assert URI in slow_store.calls("put")
        assert URI not in slow_store.objects
        writes = slow_store.calls("put", "put_if_absent", "delete")
        assert writes.index(IMAGE) < writes.index(URI, writes.index(IMAGE)) == len(writes) - 1

    def test_no_checkpoint_comes_after_the_one_that_was_removed(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task
    ) -> None:
        """The last one takes until long after the image is committed."""
        slow_store.is_open.clear()
        with ThreadPoolExecutor(1) as caller:
            running = caller.submit(runner.run, [task])
            while IMAGE not in slow_store.objects:
                assert not running.done()
                time.sleep(0.01)
            slow_store.is_open.set()
            outcome = only(running.result())
        assert (outcome.row or {})["status"] == "ok"
        assert slow_store.calls("put").count(URI) == 1
        assert URI not in slow_store.objects

    def test_also_when_another_attempt_had_committed_it(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task
    ) -> None:
        slow_store.objects[IMAGE] = b"the winner's"
        assert only(runner.run([task])).row is None
        assert URI in slow_store.calls("put")
        assert URI not in slow_store.objects

    def test_also_when_it_fails_for_good(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task
    ) -> None:
        slow_store.objects[URI] = b"from an earlier attempt"
        gone = replace(task.pair, content="/in/gone.png")
        outcome = only(runner.run([replace(task, pair=gone, has_checkpoint=True)]))
        assert (outcome.row or {})["error_type"] == "NotFoundError"
        assert URI not in slow_store.objects

    @pytest.mark.parametrize(
        ("method", "uri", "error"),
        [
            ("get_range", "/in/c.png", StorageUnavailableError("no answer")),
            ("put_if_absent", IMAGE, StorageUnavailableError("no answer")),
            ("put_if_absent", IMAGE, StorageFullError("no room")),
        ],
    )
    def test_it_stays_for_another_attempt(
        self,
        runner: BatchRunner,
        slow_store: SlowStore,
        task: Task,
        method: str,
        uri: str,
        error: Exception,
    ) -> None:
        slow_store.objects[URI] = b"from an earlier attempt"
        slow_store.errors[method, uri] = error
        outcome = only(runner.run([replace(task, has_checkpoint=True)]))
        assert (outcome.row or {})["status"] == "failed"
        assert URI in slow_store.objects

    def test_one_that_cannot_be_removed_is_said(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task
    ) -> None:
        slow_store.errors["delete", URI] = StorageUnavailableError("no answer")
        outcome = only(runner.run([task]))
        assert (outcome.row or {})["status"] == "ok"
        assert outcome.notices == (
            f"the checkpoint {URI} of a pair that has ended could not be removed: no answer",
        )

    def test_one_that_cannot_be_stored_costs_the_pair_nothing(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task
    ) -> None:
        slow_store.errors["put", URI] = StorageFullError("no room")
        outcome = only(runner.run([task]))
        assert (outcome.row or {})["status"] == "ok"
        assert outcome.notices == (f"the checkpoint {URI} could not be stored: no room",)

    def test_an_ordinary_first_attempt_costs_no_request(
        self, runner: BatchRunner, slow_store: SlowStore, make_pair: PairMaker
    ) -> None:
        runner.run([Task(make_pair("c", "s", iterations=1), 0)])
        assert not [uri for _, uri in slow_store.operations if "checkpoints" in uri]
        assert slow_store.calls("size", "version", "age", "list", "delete") == []


class TestAnotherAttempt:
    """At a pair whose first attempt ended nobody knows how."""

    @pytest.fixture
    def task(self, make_pair: PairMaker) -> Task:
        return Task(make_pair("c", "s"), 0, attempt=2)

    def test_a_pair_that_is_committed_is_not_computed_again(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task, network: Any
    ) -> None:
        slow_store.objects |= {IMAGE: b"the first attempt's", URI: b"its checkpoint"}
        outcome = only(runner.run([task]))
        assert outcome == Outcome(task, row=None)
        assert network.calls == 0
        assert slow_store.calls("get", "get_range") == []
        assert URI not in slow_store.objects

    @pytest.mark.parametrize("error", [NotFoundError("nothing"), StorageUnavailableError("no answer")])
    def test_where_nobody_can_tell_it_is(
        self, runner: BatchRunner, slow_store: SlowStore, task: Task, error: Exception
    ) -> None:
        slow_store.errors["size", IMAGE] = error
        outcome = only(runner.run([task]))
        assert (outcome.row or {})["status"] == "ok"
        assert (outcome.row or {})["attempts"] == 2


def test_checkpoint_soon_reaches_the_batch_in_work(
    slow_store: SlowStore, network: Any, make_pair: PairMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "load_network", lambda *_: network)
    with ThreadPoolExecutor(1) as compute:
        runner = BatchRunner(slow_store, LAYOUT, "cpu", compute)
        runner.run([Task(make_pair("c", "s", iterations=4), 0)])
        assert URI not in slow_store.calls("put")
        runner.checkpoint_soon()
        runner.run([Task(make_pair("d", "s", iterations=4), 0)])
    assert slow_store.calls("put").count(URI) == 1
