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

    @property
    def pairs_per_hour(self) -> float | None:
        """The rate of this run; None before its first picture."""
        return 3600 * self.new / self.seconds if self.new and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None before the first picture."""
        rate = self.pairs_per_hour
        return 3600 * (self.total - self.ok - self.failed) / rate if rate else None


Observer = Callable[[Progress], None]
"""Called by the driver about twice a second."""
