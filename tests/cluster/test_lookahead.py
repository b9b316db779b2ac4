"""The look-ahead: bounded, and no more reading than batches are worth."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from inmemory import MemoryStore, picture_bytes

from stylebatch.cluster.lookahead import LookAhead
from stylebatch.cluster.schedule import Candidate
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import largest_batch
from stylebatch.work import Task

TaskMaker = Callable[..., Task]


class Stream:
    """Tasks that count how many were pulled."""

    def __init__(self, tasks: list[Task]) -> None:
        self.pulled = 0
        self._tasks = iter(tasks)

    def __iter__(self) -> Iterator[Task]:
        return self

    def __next__(self) -> Task:
        task = next(self._tasks)
        self.pulled += 1
        return task


@pytest.fixture
def store() -> MemoryStore:
    shapes = [(40, 20), (20, 40), (30, 30)]
    return MemoryStore({f"/c{i}.png": picture_bytes(*shapes[i % 3]) for i in range(60)})


def take_all(lookahead: LookAhead, room: int = 8) -> list[Candidate]:
    taken: list[Candidate] = []
    stop = time.monotonic() + 20
    while not lookahead.is_exhausted:
        assert time.monotonic() < stop
        taken += lookahead.take(room, timeout=5)
    lookahead.close()
    return taken


def rows(candidates: list[Candidate]) -> list[int]:
    return [candidate.task.pair.row for candidate in candidates]


def test_every_task_becomes_a_candidate(make_task: TaskMaker, store: MemoryStore) -> None:
    tasks = [make_task(i) for i in range(60)]
    taken = take_all(LookAhead(iter(tasks), store, depth=10, is_gpu=False))
    assert sorted(rows(taken)) == list(range(60))
    assert sorted(taken, key=lambda one: one.task.pair.row)[7].task is tasks[7]


def test_candidates_of_one_shape_and_recipe_share_a_group(make_task: TaskMaker, store: MemoryStore) -> None:
    tasks = [make_task(i) for i in range(6)] + [make_task(6, recipe=Recipe(size=48, iterations=4))]
    groups = {one.task.pair.row: one.group for one in take_all(LookAhead(iter(tasks), store, 10, False))}
    assert groups[0] == groups[3] != groups[1]
    assert groups[1] == groups[4]
    assert len(set(groups.values())) == 4


@pytest.mark.parametrize(("depth", "room", "most"), [(5, 100, 5), (100, 5, 5), (100, 100, 60)])
def test_no_more_tasks_are_pulled_than_are_held(
    make_task: TaskMaker, store: MemoryStore, depth: int, room: int, most: int
) -> None:
    stream = Stream([make_task(i) for i in range(60)])
    lookahead = LookAhead(iter(stream), store, depth=depth, is_gpu=False)
    assert stream.pulled == 0
    taken = len(lookahead.take(room, timeout=5))
    assert 0 < taken <= room
    assert stream.pulled <= most
    for _ in range(5):
        taken += len(lookahead.take(room, timeout=5))
        assert stream.pulled - taken <= most
    lookahead.close()


def test_no_more_candidates_come_than_there_is_room_for(make_task: TaskMaker, store: MemoryStore) -> None:
    lookahead = LookAhead(iter([make_task(i) for i in range(60)]), store, depth=40, is_gpu=False)
    lookahead.take(40, timeout=5)
    assert len(lookahead.take(3, timeout=5)) <= 3
    lookahead.close()


def test_an_image_that_cannot_be_read_goes_alone(make_task: TaskMaker, store: MemoryStore) -> None:
    store.put("/c1.png", b"a shopping list")
    store.put("/c4.png", b"")
    del store.objects["/c7.png"]
    taken = take_all(LookAhead(iter([make_task(i) for i in range(9)]), store, 10, False))
    alone = {one.task.pair.row: one for one in taken if one.largest_batch == 1}
    assert sorted(alone) == [1, 4, 7]
    assert len({one.group for one in alone.values()}) == 3
    assert {one.group for one in alone.values()}.isdisjoint(
        one.group for one in taken if one.task.pair.row not in alone
    )


@pytest.mark.parametrize(
    ("recipe", "most"),
    [
        (Recipe(size=512), None),
        (Recipe(shorter_side=512), None),
        (Recipe(pixels=512 * 384), None),
        (Recipe(size=48), 1),
    ],
)
def test_what_runs_alone_anyway_needs_no_header(
    make_task: TaskMaker, store: MemoryStore, recipe: Recipe, most: int | None
) -> None:
    tasks = [make_task(i, recipe=recipe) for i in range(5)]
    taken = take_all(LookAhead(iter(tasks), store, 10, False, most=most))
    assert rows(taken) == [0, 1, 2, 3, 4]
    assert [one.largest_batch for one in taken] == [1] * 5
    assert store.operations == []


def test_a_header_is_read_once_for_each_image_where_it_matters(
    make_task: TaskMaker, store: MemoryStore
) -> None:
    tasks = [make_task(i, content="/c0.png") for i in range(2)] + [make_task(2, content="/c1.png")]
    lookahead = LookAhead(iter(tasks), store, depth=1, is_gpu=False)
    take_all(lookahead, room=1)
    assert store.calls("get_range") == ["/c0.png", "/c1.png"]
    assert store.calls("get") == []


class TestLargestBatch:
    def largest(self, task: Task, store: MemoryStore, most: int | None) -> int:
        (one,) = take_all(LookAhead(iter([task]), store, 1, False, most))
        return one.largest_batch

    def test_it_is_what_the_machine_gains_from(self, make_task: TaskMaker, store: MemoryStore) -> None:
        assert self.largest(make_task(0), store, None) == largest_batch(24, 48, False)

    @pytest.mark.parametrize("most", [2, 5])
    def test_the_user_may_want_less(self, make_task: TaskMaker, store: MemoryStore, most: int) -> None:
        assert self.largest(make_task(0), store, most) == most

    def test_the_user_cannot_have_more(self, make_task: TaskMaker, store: MemoryStore) -> None:
        assert self.largest(make_task(0), store, 1000) == largest_batch(24, 48, False)


def test_an_empty_stream_is_exhausted_at_the_first_look(store: MemoryStore) -> None:
    lookahead = LookAhead(iter([]), store, 10, False)
    assert lookahead.take(10, timeout=0) == []
    assert lookahead.is_exhausted
    lookahead.close()


def test_an_error_of_the_stream_reaches_the_driver(make_task: TaskMaker, store: MemoryStore) -> None:
    def damaged() -> Iterator[Task]:
        yield make_task(0)
        raise ValueError("the manifest is damaged")

    lookahead = LookAhead(damaged(), store, 10, False)
    with pytest.raises(ValueError, match="the manifest is damaged"):
        lookahead.take(10, timeout=0)
    lookahead.close()


def test_many_that_are_ready_are_taken_at_once_and_in_order(make_task: TaskMaker, store: MemoryStore) -> None:
    """Ten thousand tasks take seconds where each call looks at all that are held."""
    tasks = [make_task(i, recipe=Recipe(size=512)) for i in range(10_000)]
    lookahead = LookAhead(iter(tasks), store, depth=10_000, is_gpu=False)
    started = time.process_time()
    taken = lookahead.take(9000, timeout=5)
    while not lookahead.is_exhausted:
        taken += lookahead.take(3, timeout=5)
    lookahead.close()
    assert rows(taken) == list(range(10_000))
    assert time.process_time() - started < 3


def test_a_header_that_takes_long_holds_up_nobody_else(make_task: TaskMaker, store: MemoryStore) -> None:
    waits = threading.Event()

    class SlowStore(MemoryStore):
        def get_range(self, uri: str, start: int, length: int) -> bytes:
            if uri == "/c0.png":
                waits.wait(20)
            return super().get_range(uri, start, length)

    tasks = [make_task(i) for i in range(9)]
    lookahead = LookAhead(iter(tasks), SlowStore(store.objects), depth=9, is_gpu=False)
    taken: list[Candidate] = []
    while len(taken) < 8:
        taken += lookahead.take(9, timeout=5)
    assert sorted(rows(taken)) == list(range(1, 9))
    assert not lookahead.is_exhausted
    assert lookahead.take(9, timeout=0) == []
    waits.set()
    assert rows(lookahead.take(9, timeout=5)) == [0]
    assert lookahead.is_exhausted
    lookahead.close()
