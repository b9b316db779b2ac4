"""What to run next, when to try again, when to give up. Pure policy: no Ray, no clock, no storage."""

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from stylebatch.work import Outcome, Task

BATCHES_PER_WORKER = 2
"""One running and one waiting, so that images are fetched while others are synthesized."""
DEPTH_PER_WORKER = 32
"""Pairs that wait for each worker, so that some can share a forward pass or a style."""
DEPTH_OF_MANY = 4096
"""Pairs that wait for all workers of a large cluster: so many are enough to choose from."""
LEAST_DEPTH_PER_WORKER = 4
"""What waits for each worker in any case."""
STYLES_HELD = 16
"""Styles that a worker is taken to hold: those it was given last."""
MOST_PASSED_OVER = 32
"""A pair that has been passed over so often for the sake of held styles goes next."""
MOST_RETRIES = 2
"""Further tries at a pair whose failure may go away by itself."""
MOST_DEATHS = 3
"""Workers that may die over a pair that they had alone."""
MOST_LOSSES = 10
"""Workers that may be lost while they have a pair, for whatever reason."""


@dataclass(frozen=True)
class Candidate:
    """A pair that is ready to be dispatched."""

    task: Task
    """The pair."""
    group: Hashable
    """Candidates with equal groups can share a forward pass."""
    largest_batch: int
    """The most of them in one."""
    is_suspect: bool = False
    """Whether a worker died while it had the pair: from then on the pair has a worker to itself."""
    retries: int = 0
    """How often it was tried again because its failure might go away by itself."""
    deaths: int = 0
    """Workers that died while they had nothing but this pair."""
    losses: int = 0
    """Workers that were lost while they had the pair, whatever else they had and whatever happened."""
    passed_over: int = 0
    """How often a younger pair was preferred."""

    @property
    def styles(self) -> tuple[str, ...]:
        """What makes a worker a good choice: the style images that it has targets of."""
        return self.task.pair.styles

    @property
    def is_repeated(self) -> bool:
        """Whether an attempt at it has come to nothing in this run, so that it begins anew."""
        return self.is_suspect or self.retries > 0 or self.losses > 0


Key = tuple[str, Hashable]
"""Names a line of waiting candidates."""
ORDINARY: Key = ("ordinary", None)
SUSPECTS: Key = ("suspects", None)


class Backlog:
    """The look-ahead: pairs that wait for a worker, oldest first, and the styles each worker holds.

    A candidate stands in several lines at once, by age, group and style. The first of a line is always one
    that waits; others that have gone meanwhile are dropped when they come to the front. So no call takes
    longer because more candidates wait.
    """

    def __init__(self) -> None:
        self._arrivals = 0
        self._waiting: dict[int, Candidate] = {}
        self._lines: dict[Key, deque[int]] = {}
        self._overdue: set[int] = set()
        self._kept_free: dict[Hashable, None] = {}
        self._held: dict[Hashable, deque[str]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, candidate: Candidate) -> None:
        """Let a pair wait."""
        number = self._arrivals
        self._arrivals += 1
        self._put(number, candidate)
        for key in _keys(candidate):
            self._lines.setdefault(key, deque()).append(number)

    def take(self, worker: Hashable, workers: int, is_idle: bool) -> list[Candidate]:
        """The batch that a worker should run next; empty if there is none for it.

        The oldest pair goes first, unless the worker holds the style of a younger one and the oldest has not
        been passed over too often. Pairs of the same group join it, those of held styles first, up to an even
        share of all that waits, so that no worker is left without work. A suspect goes to an idle worker,
        alone.

        Args:
            worker: Who asks.
            workers: How many there are.
            is_idle: Whether it has no other batch.
        """
        oldest = self._oldest((ORDINARY, SUSPECTS) if is_idle else (ORDINARY,))
        if oldest is None or not (is_idle or self._may_be_busy(worker)):
            return []
        self._kept_free.pop(worker, None)
        held = self._held.setdefault(worker, deque(maxlen=STYLES_HELD))
        numbers = self._batch(self._anchor(oldest, held), math.ceil(len(self) / workers), held)
        batch = self._remove(numbers, oldest)
        _remember(held, batch)
        return batch

    def forget(self, worker: Hashable) -> None:
        """The worker is gone."""
        self._held.pop(worker, None)
        self._kept_free.pop(worker, None)

    def _may_be_busy(self, worker: Hashable) -> bool:
        """Whether a busy worker may have more: one is kept free for each suspect that has waited too long."""
        if worker not in self._kept_free and len(self._kept_free) < len(self._overdue):
            self._kept_free[worker] = None
        return worker not in self._kept_free

    def _oldest(self, keys: tuple[Key, ...]) -> int | None:
        """The first of some lines; None if all are empty."""
        return min((self._lines[key][0] for key in keys if key in self._lines), default=None)

    def _anchor(self, oldest: int, held: deque[str]) -> int:
        """The pair around which a batch is made."""
        if self._waiting[oldest].passed_over >= MOST_PASSED_OVER:
            return oldest
        preferred = self._oldest(tuple(("style", style) for style in held))
        return oldest if preferred is None else preferred

    def _batch(self, anchor: int, share: int, held: deque[str]) -> list[int]:
        """A pair and others of its group, no more than fit together and than this share of all."""
        candidate = self._waiting[anchor]
        most = min(candidate.largest_batch, share)
        if candidate.is_suspect or most == 1:
            return [anchor]
        styles = dict.fromkeys((*candidate.styles, *held))
        preferred = heapq.merge(*(self._line(_alike(candidate, style)) for style in styles))
        others = self._line(("group", candidate.group))
        return [*islice(_distinct(chain([anchor], preferred, others)), most)]

    def _line(self, key: Key) -> Iterator[int]:
        """Those who wait in a line, in order."""
        return (number for number in self._lines.get(key, ()) if number in self._waiting)

    def _put(self, number: int, candidate: Candidate) -> None:
        self._waiting[number] = candidate
        if candidate.is_suspect and candidate.passed_over >= MOST_PASSED_OVER:
            self._overdue.add(number)

    def _remove(self, numbers: list[int], oldest: int) -> list[Candidate]:
        """Take a batch out; the oldest of all, and of those that were eligible, note being passed over."""
        first_of_all = self._oldest((ORDINARY, SUSPECTS))
        assert first_of_all is not None, "a batch was found"
        for number in {first_of_all, oldest}.difference(numbers):
            candidate = self._waiting[number]
            self._put(number, replace(candidate, passed_over=candidate.passed_over + 1))
        batch = [self._waiting.pop(number) for number in numbers]
        self._overdue.difference_update(numbers)
        while len(self._kept_free) > len(self._overdue):
            self._kept_free.popitem()
        for key in {key for candidate in batch for key in _keys(candidate)}:
            self._move_up(key)
        return batch

    def _move_up(self, key: Key) -> None:
        """Drop those from the front of a line that have gone, and the line if nobody is left."""
        line = self._lines[key]
        while line and line[0] not in self._waiting:
            line.popleft()
        if not line:
            del self._lines[key]


def _keys(candidate: Candidate) -> list[Key]:
    """The lines in which a candidate stands. Nobody prefers a suspect or takes it along."""
    if candidate.is_suspect:
        return [SUSPECTS]
    keys: list[Key] = [ORDINARY, ("group", candidate.group)]
    for style in dict.fromkeys(candidate.styles):
        keys += [("style", style), _alike(candidate, style)]
    return keys


def _alike(candidate: Candidate, style: str) -> Key:
    """The line of those of a candidate's group that have a style."""
    return "alike", (candidate.group, style)


def _distinct(numbers: Iterable[int]) -> Iterator[int]:
    """Each number once."""
    seen: set[int] = set()
    for number in numbers:
        if number not in seen:
            seen.add(number)
            yield number


def _remember(held: deque[str], batch: list[Candidate]) -> None:
    for style in (style for candidate in batch for style in candidate.styles):
        if style in held:
            held.remove(style)
        held.append(style)


def look_ahead_depth(workers: int) -> int:
    """How many pairs wait altogether, so that there is a choice, in memory that hardly grows with workers."""
    return min(DEPTH_PER_WORKER * workers, max(DEPTH_OF_MANY, LEAST_DEPTH_PER_WORKER * workers))


def may_have_another(has_suspect: bool, is_exhausted: bool, waiting: int, workers: int) -> bool:
    """Whether a worker that has one batch may have a second one, to fetch its images meanwhile.

    Args:
        has_suspect: Whether one of the worker's pairs is to be alone.
        is_exhausted: Whether every pair has come into the backlog.
        waiting: Pairs in the backlog.
        workers: How many there are; near the end, what waits is for those that will be idle.
    """
    return not has_suspect and (not is_exhausted or waiting >= workers)


def should_retry(candidate: Candidate, outcome: Outcome) -> bool:
    """Whether a pair that failed should be tried again."""
    return outcome.can_retry and candidate.retries < MOST_RETRIES


def retried(candidate: Candidate) -> Candidate:
    """The candidate for another attempt, after a failure that may go away by itself."""
    return replace(_again(candidate), retries=candidate.retries + 1)


def isolated(candidate: Candidate) -> Candidate:
    """The candidate for another attempt, in which it has a worker to itself."""
    return replace(_again(candidate), is_suspect=True)


def moved(candidate: Candidate) -> Candidate:
    """The candidate for another run of the same attempt, by another worker: nothing is wrong with it."""
    return replace(candidate, task=replace(candidate.task, has_checkpoint=True), passed_over=0)


def after_loss(lost: list[Candidate], has_died: bool) -> Iterator[Candidate]:
    """The pairs that a lost worker had, for another attempt.

    Where its process died, one of them may have killed it: all become suspects, and one that it had alone is
    charged with the death. Where it was lost with its machine, nobody is to blame.

    Args:
        lost: All pairs that the worker had.
        has_died: Whether its process died, or hung, on a machine that lives on.
    """
    for candidate in lost:
        again = isolated(candidate) if has_died else _again(candidate)
        deaths = candidate.deaths + (has_died and len(lost) == 1)
        yield replace(again, deaths=deaths, losses=candidate.losses + 1)


def is_poison(candidate: Candidate) -> bool:
    """Whether so many workers were lost over a pair that it is given up."""
    return candidate.deaths >= MOST_DEATHS or candidate.losses >= MOST_LOSSES


def may_lose(candidate: Candidate, workers: int) -> bool:
    """Whether a pair may have so many workers at a time: no more than would give it up if all were lost."""
    return candidate.deaths + workers <= MOST_DEATHS and candidate.losses + workers <= MOST_LOSSES


def known_by_both(candidate: Candidate, other: Candidate) -> Candidate:
    """A pair that two workers had, as the first has it, with all that it is charged with by either.

    What a pair is charged with only grows, so the more that one of them knows is the truth.
    """
    attempt = max(candidate.task.attempt, other.task.attempt)
    return replace(
        candidate,
        task=replace(candidate.task, attempt=attempt),
        is_suspect=candidate.is_suspect or other.is_suspect,
        retries=max(candidate.retries, other.retries),
        deaths=max(candidate.deaths, other.deaths),
        losses=max(candidate.losses, other.losses),
    )


def _again(candidate: Candidate) -> Candidate:
    task = replace(candidate.task, attempt=candidate.task.attempt + 1, has_checkpoint=True)
    return replace(candidate, task=task, passed_over=0)
