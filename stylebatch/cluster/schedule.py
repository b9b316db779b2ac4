"""What to run next, when to try again, when to give up. Pure policy: no Ray, no clock, no storage."""

import math
from collections import deque
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, replace

from stylebatch.work import Outcome, Task

BATCHES_PER_WORKER = 2
"""One running and one waiting, so that images are fetched while others are synthesized."""
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


class Backlog:
    """The look-ahead: pairs that wait for a worker, oldest first, and the styles each worker holds."""

    def __init__(self) -> None:
        self._waiting: list[Candidate] = []
        self._held: dict[Hashable, deque[str]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, candidate: Candidate) -> None:
        """Let a pair wait."""
        self._waiting.append(candidate)

    def take(self, worker: Hashable, workers: int, is_idle: bool) -> list[Candidate]:
        """The batch that a worker should run next; empty if there is none for it.

        The oldest pair goes first, unless the worker holds the style of a younger one and the oldest has not
        been passed over too often. Pairs of the same group join it, up to an even share of all that waits,
        so that no worker is left without work. A suspect goes to an idle worker, alone.

        Args:
            worker: Who asks.
            workers: How many there are.
            is_idle: Whether it has no other batch.
        """
        eligible = [one for one in self._waiting if is_idle or not one.is_suspect]
        if not eligible or (not is_idle and self._has_overdue_suspect()):
            return []
        held = self._held.setdefault(worker, deque(maxlen=STYLES_HELD))
        anchor = _anchor(eligible, held)
        share = math.ceil(len(self._waiting) / workers)
        most = 1 if anchor.is_suspect else min(anchor.largest_batch, share)
        batch = [anchor, *(one for one in eligible if _can_join(one, anchor))][:most]
        self._remove(batch, eligible[0])
        _remember(held, batch)
        return batch

    def forget(self, worker: Hashable) -> None:
        """The worker is gone."""
        self._held.pop(worker, None)

    def _has_overdue_suspect(self) -> bool:
        """Whether a suspect has waited so long that no busy worker gets more, until one of them is idle."""
        return any(one.is_suspect and one.passed_over >= MOST_PASSED_OVER for one in self._waiting)

    def _remove(self, batch: list[Candidate], oldest: Candidate) -> None:
        """Take a batch out; the oldest of all, and of those that were eligible, note being passed over."""
        taken = {id(candidate) for candidate in batch}
        passed_over = {id(self._waiting[0]), id(oldest)}
        self._waiting = [
            replace(one, passed_over=one.passed_over + 1) if id(one) in passed_over else one
            for one in self._waiting
            if id(one) not in taken
        ]


def _anchor(eligible: list[Candidate], held: Collection[str]) -> Candidate:
    oldest = eligible[0]
    if oldest.passed_over >= MOST_PASSED_OVER:
        return oldest
    return next((one for one in eligible if not one.is_suspect and set(one.styles) & set(held)), oldest)


def _can_join(one: Candidate, anchor: Candidate) -> bool:
    return one is not anchor and one.group == anchor.group and not one.is_suspect


def _remember(held: deque[str], batch: list[Candidate]) -> None:
    for style in (style for candidate in batch for style in candidate.styles):
        if style in held:
            held.remove(style)
        held.append(style)


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


def _again(candidate: Candidate) -> Candidate:
    task = replace(candidate.task, attempt=candidate.task.attempt + 1, has_checkpoint=True)
    return replace(candidate, task=task, passed_over=0)
