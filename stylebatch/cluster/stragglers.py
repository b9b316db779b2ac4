"""The tail of a run: pairs that are run a second time while workers have nothing else to do. Pure policy.

Storage lets only the first of two runs commit a pair, so a second run can cost time and nothing else. No Ray,
no clock of its own.
"""

import statistics
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from stylebatch.cluster.schedule import Candidate, known_by_both, may_lose

RUNS_OF_A_PAIR = 2
"""At a time, at most."""
SLOW = 1.5
"""Median durations after which a batch counts as slow."""
EARLY = 0.5
"""Median durations: a worker that is at a batch for no longer has so much before it that what waits behind
that batch ends sooner elsewhere."""
YOUNG = 0.5
"""Median durations after which a batch that is not slow may be run a second time, if that can be spared."""
SPARED = 0.01
"""Second runs that can be spared on batches that are not slow, for each batch that has ended."""
LEAST_SECONDS = 2.0
"""A second run that could save less is not begun."""
FEWEST_SAMPLES = 3
"""Batches that must have ended before there is a median."""
SAMPLES = 501
"""The median is that of so many that ended last."""


class Durations:
    """How long batches take, by those that ended last."""

    def __init__(self) -> None:
        self.ended = 0
        """Batches, all of them."""
        self._seconds: deque[float] = deque(maxlen=SAMPLES)

    def add(self, seconds: float) -> None:
        """A batch has ended, which took its worker so many seconds."""
        self.ended += 1
        self._seconds.append(seconds)

    @property
    def median(self) -> float | None:
        """In seconds; None while too few are known."""
        return statistics.median(self._seconds) if len(self._seconds) >= FEWEST_SAMPLES else None


@dataclass(frozen=True)
class HeldBatch:
    """A batch that a worker has, when nothing else is left to be given to anybody."""

    key: Hashable
    """What the caller knows it by."""
    seconds: float
    """Since its worker began with the batch that it is working on, which is this one or one before it."""
    is_waiting: bool
    """Whether the worker has another batch before it."""
    is_leaving: bool = False
    """Whether the worker's machine is about to leave."""
    is_repeated: bool = False
    """Whether an attempt at it came to nothing, so that it begins anew when others are about to end."""


def worth_a_second_run(batches: Iterable[HeldBatch], median: float | None) -> list[Hashable]:
    """The batches that would probably end sooner with an idle worker, the most urgent first.

    Args:
        batches: That may be run a second time.
        median: Seconds that a batch takes; None if that is not known.

    Returns:
        Their keys.
    """
    late = [batch for batch in batches if _is_late(batch, median)]
    late.sort(key=lambda batch: (not batch.is_leaving, not batch.is_waiting, -batch.seconds))
    return [batch.key for batch in late]


def may_end_last(batches: Iterable[HeldBatch], median: float | None) -> list[Hashable]:
    """Batches that are not late and may end last, as far as anybody can know, the most likely first.

    A pair that was lost or has failed begins anew; what waits behind something else has yet to begin; of the
    others, that which was begun last is the last to end, unless it is late.

    Args:
        batches: That may be run a second time.
        median: Seconds that a batch takes; None if that is not known.

    Returns:
        Their keys; :func:`spared_runs` says how many of them may be run twice.
    """
    if median is None or median < LEAST_SECONDS:
        return []
    last = [batch for batch in batches if not _is_late(batch, median) and _is_young(batch, median)]
    last.sort(key=lambda batch: (not batch.is_repeated, not batch.is_waiting, batch.seconds))
    return [batch.key for batch in last]


def spared_runs(ended: int, begun: int) -> int:
    """Second runs that may be begun of batches that are not late.

    However large the cluster and however long its pairs, they cost a small share of the work that has been
    done: they are none in a small job, and in a long one all of the last pairs.

    Args:
        ended: Batches, in this run of the job.
        begun: Second runs, for whatever reason.
    """
    return max(0, int(SPARED * ended) - begun)


def _is_late(batch: HeldBatch, median: float | None) -> bool:
    """Whether another worker would probably end it sooner, by enough to be worth it."""
    if batch.is_leaving or median is None:
        return batch.is_leaving
    is_slow = batch.seconds >= max(SLOW * median, LEAST_SECONDS)
    if not batch.is_waiting:
        return is_slow
    return is_slow or (batch.seconds <= EARLY * median and (1 - EARLY) * median >= LEAST_SECONDS)


def _is_young(batch: HeldBatch, median: float) -> bool:
    """Whether it has been under way for long enough that workers are idle to spare, or has yet to begin."""
    return batch.is_repeated or batch.is_waiting or batch.seconds >= YOUNG * median


class SecondRuns:
    """Which pairs run twice, and which of the two runs decides.

    The first picture does. A failure or a lost worker decides only if no other run of the pair is under way,
    so a worker that dies over one run, or an error that only its machine has, does not matter where the other
    run makes the picture. Where that comes to nothing too, the pair is charged with both.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, int] = {}
        self._has_picture: set[int] = set()
        self._has_failed: set[int] = set()
        self._charged: dict[int, Candidate] = {}

    def __len__(self) -> int:
        """The pairs that have, or have had, a second run."""
        return len(self._under_way)

    def may_begin(self, batch: Sequence[Candidate]) -> bool:
        """Whether a batch that one worker has may be given to another one as well.

        It may not where a pair of it has two workers already, or has come back from one of them; where it
        would then have more workers than it may still lose; and where suspects would be together.
        """
        known = [self.known(candidate) for candidate in batch]
        is_apart = len(known) == 1 or not any(candidate.is_suspect for candidate in known)
        return is_apart and all(self._may_have_two(candidate) for candidate in known)

    def _may_have_two(self, candidate: Candidate) -> bool:
        row = candidate.task.pair.row
        is_open = row not in self._has_picture and row not in self._has_failed
        can_run = self._under_way.get(row, 1) < RUNS_OF_A_PAIR
        return is_open and can_run and may_lose(candidate, RUNS_OF_A_PAIR)

    def begin(self, row: int) -> None:
        """A pair that one worker has is given to another one as well."""
        self._under_way[row] = RUNS_OF_A_PAIR

    def is_won(self, row: int) -> bool:
        """Whether one of the pair's two runs has made its picture, so that the other is of no use."""
        return row in self._has_picture

    def known(self, candidate: Candidate) -> Candidate:
        """A pair as one of its runs has it, with what the other has cost."""
        other = self._charged.get(candidate.task.pair.row)
        return candidate if other is None else known_by_both(candidate, other)

    def decides(self, row: int, has_picture: bool) -> bool:
        """A run of a pair comes back, with its picture or for good: whether that decides what becomes of it.

        Args:
            row: The pair's row.
            has_picture: Whether the pair has its picture now, from this run or another.
        """
        is_decided = self._ends(row, has_picture)
        if not (is_decided or has_picture):
            self._has_failed.add(row)
        return is_decided

    def needs_another(self, candidate: Candidate) -> bool:
        """A run of a pair was lost, or has met what may go away: whether the pair needs another attempt.

        Args:
            candidate: The pair for that attempt, charged with what has happened. If another run of it is
                under way, that goes on instead, and is charged with it if it comes to nothing as well.
        """
        row = candidate.task.pair.row
        is_decided = self._ends(row, has_picture=False)
        if not is_decided:
            self._charged[row] = candidate
        return is_decided

    def _ends(self, row: int, has_picture: bool) -> bool:
        if row not in self._under_way:
            return True
        others = max(0, self._under_way[row] - 1)
        self._under_way[row] = others
        if row in self._has_picture:
            return False
        if has_picture:
            self._has_picture.add(row)
        if not others:
            self._has_failed.discard(row)  # another attempt begins anew
        return has_picture or not others
