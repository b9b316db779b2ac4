"""What a run tells those who watch it: plain values, many times a minute."""

from collections.abc import Callable
from dataclasses import dataclass

from stylebatch.work import Activity


@dataclass(frozen=True)
class WorkerProgress:
    """One worker."""

    host: str
    """Host name; empty while it starts."""
    process: int
    """Process id; 0 while it starts."""
    device: str
    """``cpu`` or ``cuda``; empty while it starts."""
    activity: Activity
    """What it is doing."""


@dataclass(frozen=True)
class Progress:
    """The state of a run."""

    total: int
    """Rows of the manifest."""
    ok: int
    """Pairs with a picture, from this run or an earlier one."""
    failed: int
    """Pairs without."""
    new: int
    """Pictures of this run."""
    seconds: float
    """Since the first worker was ready; 0 before."""
    workers: tuple[WorkerProgress, ...]
    """All workers."""
    notices: tuple[str, ...] = ()
    """What happened since the last time that the user should know."""

    @property
    def pairs_per_hour(self) -> float | None:
        """The rate of this run, by the evaluations done; None before the first."""
        done = self.new + self._under_way
        return 3600 * done / self.seconds if done and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None before the first evaluation."""
        rate = self.pairs_per_hour
        left = self.total - self.ok - self.failed - self._under_way
        return 3600 * max(0.0, left) / rate if rate else None

    @property
    def _under_way(self) -> float:
        """Pairs' worth of evaluations in batches that are being synthesized."""
        activities = [worker.activity for worker in self.workers]
        return sum(
            len(one.pair_ids) * one.evaluations / one.iterations for one in activities if one.iterations
        )


Observer = Callable[[Progress], None]
"""Called by the driver about twice a second."""
