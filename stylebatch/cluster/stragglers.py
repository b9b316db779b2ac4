"""The tail of a run: pairs that are run a second time while workers have nothing else to do. Pure policy.

Storage lets only the first of two runs commit a pair, so a second run can cost time and nothing else. No Ray,
no clock of its own.
"""

import statistics
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

RUNS_OF_A_PAIR = 2
"""At a time, at most."""
SLOW = 1.5
"""Median durations after which a batch counts as slow."""
EARLY = 0.5
"""Median durations: a worker that is at a batch for no longer has so much before it that what waits behind
that batch ends sooner elsewhere."""
LEAST_SECONDS = 2.0
"""A second run that could save less is not begun."""
FEWEST_SAMPLES = 3
"""Batches that must have ended before there is a median."""
SAMPLES = 501
"""The median is that of so many that ended last."""


class Durations:
    """How long batches take, by those that ended last."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=SAMPLES)

    def add(self, seconds: float) -> None:
        """A batch has ended, which took its worker so many seconds."""
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


def worth_a_second_run(batches: Iterable[HeldBatch], median: float | None) -> list[Hashable]:
    """The batches that idle workers should run as well, the most urgent first.

    Args:
        batches: That may be run a second time: none that was, none with a pair that may kill its worker.
        median: Seconds that a batch takes; None if that is not known.

    Returns:
        Their keys.
    """
    worth = [batch for batch in batches if batch.is_leaving or _is_late(batch, median)]
    worth.sort(key=lambda batch: (not batch.is_leaving, not batch.is_waiting, -batch.seconds))
    return [batch.key for batch in worth]


def _is_late(batch: HeldBatch, median: float | None) -> bool:
    """Whether another worker would probably end it sooner, by enough to be worth it."""
    if median is None:
        return False
    is_slow = batch.seconds >= max(SLOW * median, LEAST_SECONDS)
    if not batch.is_waiting:
        return is_slow
    return is_slow or (batch.seconds <= EARLY * median and (1 - EARLY) * median >= LEAST_SECONDS)


class SecondRuns:
    """Which pairs run twice, and which of the two runs decides.

    The first picture does. A failure decides only if no other run of the pair is under way, so neither a
    worker that dies over a second run nor an error that only its machine has is charged to the pair.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, int] = {}
        self._has_picture: set[int] = set()

    def __len__(self) -> int:
        """The pairs that have, or have had, a second run."""
        return len(self._under_way)

    def begin(self, row: int) -> None:
        """A pair that one worker has is given to another one as well."""
        self._under_way[row] = RUNS_OF_A_PAIR

    def was_begun(self, row: int) -> bool:
        """Whether the pair has, or has had, a second run."""
        return row in self._under_way

    def is_won(self, row: int) -> bool:
        """Whether one of the pair's two runs has made its picture, so that the other is of no use."""
        return row in self._has_picture

    def decides(self, row: int, has_picture: bool) -> bool:
        """A run of a pair comes back, or is lost: whether what becomes of the pair is decided by that.

        Args:
            row: The pair's row.
            has_picture: Whether the pair has its picture now, from this run or another.
        """
        if row not in self._under_way:
            return True
        others = max(0, self._under_way[row] - 1)
        self._under_way[row] = others
        if row in self._has_picture:
            return False
        if has_picture:
            self._has_picture.add(row)
        return has_picture or not others
