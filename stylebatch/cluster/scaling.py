"""How many workers a run should have. Pure policy: no Ray, no clock.

A worker that waits for a machine is what an autoscaler sees as demand, so a run asks for machines by making
workers, a few more than have found a place, and gives machines back by letting idle workers go.
"""

from dataclasses import dataclass, replace

from stylebatch.cluster.stragglers import RUNS_OF_A_PAIR

LEAST_GPUS, MOST_GPUS = 0.01, 1.0
"""Of a worker that has any: it computes on one, or shares one with others."""
FEWEST_WAITING = 2
"""Workers that may wait for a place at a time, however few have found one."""
SHARE_WAITING = 0.5
"""The same, as a share of those that have: a large fleet grows as fast, for its size, as a small one."""
MOST_GIVEN_UP = 5
"""Places given up, because workers could not start there, after which a fleet that grows stops growing."""


@dataclass(frozen=True)
class WorkerLimits:
    """How many workers a user wants."""

    least: int
    """As long as there are so many pairs."""
    most: int | None
    """None: as many as the cluster has room for, or makes room for."""

    def __post_init__(self) -> None:
        """Refuse what is no range.

        Raises:
            ValueError: It is none.
        """
        if self.least < 1 or (self.most is not None and self.most < self.least):
            raise ValueError(f"{self.least}:{self.most} workers: write MIN:MAX, with 1 <= MIN <= MAX")

    def cap(self, workers: int) -> int:
        """So many workers, or fewer if that is too many."""
        return workers if self.most is None else min(workers, self.most)


def wanted_places(limits: WorkerLimits, placed: int, pairs_left: int) -> int:
    """How many workers there should be now, those included that wait for a place.

    A fleet grows a few workers ahead of what has found a place, up to one for each pair that is left. It
    shrinks when there is less than half a pair for each worker: the others would not even have a straggler to
    repeat.

    Args:
        limits: What the user wants.
        placed: Workers for which there is a machine, ready or starting.
        pairs_left: Pairs that have not ended, those that are being worked on included.

    Returns:
        1 or more while pairs are left, else 0.
    """
    ahead = placed + max(FEWEST_WAITING, int(SHARE_WAITING * placed))
    sought = min(max(limits.least, ahead), pairs_left)
    kept = min(placed, RUNS_OF_A_PAIR * pairs_left)
    return limits.cap(max(sought, kept))


def after_giving_up(limits: WorkerLimits, places: int, given_up: int, has_been_ready: bool) -> WorkerLimits:
    """The limits after a place was given up, in which several workers in a row could not start.

    A fleet of a fixed size has one worker less from then on. One that grows goes on growing past a broken
    machine; not if no worker has ever started, nor after :data:`MOST_GIVEN_UP` times.

    Args:
        limits: Before.
        places: Workers that there are now, at least 1.
        given_up: How often it has happened, this time included.
        has_been_ready: Whether any worker has started.
    """
    least = min(limits.least, places)
    is_fixed = limits.most == limits.least
    if is_fixed or not has_been_ready or given_up >= MOST_GIVEN_UP:
        return WorkerLimits(least, places)
    return replace(limits, least=least)
