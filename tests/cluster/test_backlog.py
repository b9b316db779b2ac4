"""The indexed backlog does what a plain list would do, whatever is asked of it, and no slower for more."""

import math
import time
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylebatch.cluster.schedule import (
    DEPTH_OF_MANY,
    DEPTH_PER_WORKER,
    MOST_PASSED_OVER,
    STYLES_HELD,
    Backlog,
    Candidate,
    look_ahead_depth,
    may_have_another,
)
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.work import Task

RECIPE = Recipe()


class PlainBacklog:
    """The policy, word for word: a list, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Candidate] = []
        self.held: dict[str, deque[str]] = {}
        self.kept_free: list[str] = []

    def add(self, candidate: Candidate) -> None:
        self.waiting.append(candidate)

    def forget(self, worker: str) -> None:
        self.held.pop(worker, None)
        self.keep_free(worker, False)

    def overdue(self) -> int:
        return sum(one.is_suspect and one.passed_over >= MOST_PASSED_OVER for one in self.waiting)

    def keep_free(self, worker: str, is_kept: bool) -> None:
        self.kept_free = [one for one in self.kept_free if one != worker] + [worker] * is_kept

    def take(self, worker: str, workers: int, is_idle: bool) -> list[Candidate]:
        eligible = [one for one in self.waiting if is_idle or not one.is_suspect]
        if not eligible:
            return []
        if not is_idle and worker not in self.kept_free and len(self.kept_free) < self.overdue():
            self.keep_free(worker, True)
        if not is_idle and worker in self.kept_free:
            return []
        self.keep_free(worker, False)
        held = self.held.setdefault(worker, deque(maxlen=STYLES_HELD))
        oldest = anchor = eligible[0]
        preferred = [one for one in eligible if not one.is_suspect and set(one.styles) & set(held)]
        if oldest.passed_over < MOST_PASSED_OVER and preferred:
            anchor = preferred[0]
        most = min(anchor.largest_batch, math.ceil(len(self.waiting) / workers))
        batch = [anchor]
        if not anchor.is_suspect:
            alike = [one for one in eligible if one.group == anchor.group and not one.is_suspect]
            wanted = {*held, *anchor.styles}
            alike.sort(key=lambda one: (one is not anchor, not wanted.intersection(one.styles)))  # stable
            batch = alike[:most]
        passed_over = [one for one in (self.waiting[0], oldest) if not any(one is taken for taken in batch)]
        self.waiting = [
            replace(one, passed_over=one.passed_over + 1)
            if any(one is other for other in passed_over)
            else one
            for one in self.waiting
            if not any(one is taken for taken in batch)
        ]
        self.kept_free = self.kept_free[: self.overdue()]
        for style in (style for candidate in batch for style in candidate.styles):
            if style in held:
                held.remove(style)
            held.append(style)
        return batch


def candidate(number: int, styles: tuple[str, ...], **changes: Any) -> Candidate:
    return Candidate(Task(Pair(f"p{number}", number, "/c.png", styles, RECIPE), 0), **changes)


arrivals = st.fixed_dictionaries(
    {
        "styles": st.lists(st.sampled_from("abcdefgh"), max_size=3).map(tuple),
        "group": st.sampled_from("xyz"),
        "largest_batch": st.sampled_from([1, 1, 2, 5]),
        "is_suspect": st.sampled_from([False] * 7 + [True]),
        "passed_over": st.sampled_from([0, 0, 0, 1, MOST_PASSED_OVER - 1, MOST_PASSED_OVER]),
    }
)
takes = st.tuples(st.sampled_from("uvw"), st.integers(1, 4), st.booleans())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(arrivals, takes, takes, st.sampled_from("uvw")), max_size=150))
def test_it_does_what_a_list_would_do(steps: list[Any]) -> None:
    ours, plain = Backlog(), PlainBacklog()
    for number, step in enumerate(steps):
        if isinstance(step, dict):
            one = candidate(number, **step)
            ours.add(one)
            plain.add(one)
        elif isinstance(step, tuple):
            assert ours.take(*step) == plain.take(*step)
        else:
            ours.forget(step)
            plain.forget(step)
        assert len(ours) == len(plain.waiting)
        assert bool(ours) is bool(plain.waiting)


@pytest.mark.parametrize("largest_batch", [1, 4])
def test_a_take_from_many_takes_no_longer(largest_batch: int) -> None:
    """With a list, each take looked at everything that waits: 100,000 of them took an hour."""
    backlog, styles, waiting = Backlog(), [f"s{i}" for i in range(50)], 20_000
    for number in range(waiting):
        backlog.add(candidate(number, (styles[number * 7 % 50],), group="g", largest_batch=largest_batch))
    started = time.process_time()
    for number in range(10_000):
        backlog.take(f"w{number % 100}", 100, is_idle=False)
        backlog.add(candidate(waiting + number, (styles[number % 50],), group="g", largest_batch=1))
    assert time.process_time() - started < 5


def test_what_has_gone_takes_no_room() -> None:
    """However long a run is: the lines hold little more than what waits."""
    backlog = Backlog()
    for number in range(20_000):
        backlog.add(candidate(number, (f"s{number % 300}",), group=number % 7, largest_batch=3))
        if len(backlog) > 64:
            backlog.take(f"w{number % 4}", 4, is_idle=False)
    while backlog.take("w0", 1, is_idle=True):
        pass
    assert backlog._lines == {}


@pytest.mark.parametrize(
    ("workers", "depth"),
    [
        (1, DEPTH_PER_WORKER),
        (4, 4 * DEPTH_PER_WORKER),
        (128, DEPTH_OF_MANY),
        (1000, DEPTH_OF_MANY),
        (5000, 20_000),
    ],
)
def test_the_look_ahead_of_many_workers_is_no_deeper_than_there_is_use_for(workers: int, depth: int) -> None:
    assert look_ahead_depth(workers) == depth


@pytest.mark.parametrize(
    ("has_suspect", "is_exhausted", "waiting", "expected"),
    [
        (False, False, 0, True),
        (True, False, 100, False),
        (False, True, 4, True),
        (False, True, 3, False),
        (True, True, 100, False),
    ],
)
def test_a_busy_worker_gets_a_second_batch_unless_others_will_need_it(
    has_suspect: bool, is_exhausted: bool, waiting: int, expected: bool
) -> None:
    assert may_have_another(has_suspect, is_exhausted, waiting, workers=4) is expected
