"""A worker as the driver sees it."""

import math
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from stylebatch.cluster.progress import WorkerProgress
from stylebatch.cluster.worker import WorkerInfo
from stylebatch.work import Activity


class Given(Protocol):
    """What a worker is given, as the driver keeps it; the worker sees the task alone."""

    @property
    def task(self) -> Any:
        """What is to be done."""
        ...


GivenType = TypeVar("GivenType", bound=Given)
"""Candidates where pairs are made, parts where features are measured."""


@dataclass(eq=False)
class Member(Generic[GivenType]):
    """A worker, what it was given and what it does."""

    handle: Any
    """The Ray actor."""
    preparing: Any
    """The reference to its :class:`WorkerInfo`."""
    start_failures: int = 0
    """Workers before it in its place that did not become ready, in a row."""
    info: WorkerInfo | None = None
    """None until it is ready."""
    batches: dict[Any, list[GivenType]] = field(default_factory=dict)
    """What it was given, by the reference to the outcomes; the one that is running comes first."""
    given: dict[Any, float] = field(default_factory=dict)
    """When it was given each of them, by the driver's clock."""
    began: float = 0.0
    """When the batch that is running came first, by the driver's clock."""
    activity: Activity = field(default_factory=lambda: Activity("starting"))
    """As it said last."""
    asking: Any = None
    """The reference to its next :class:`Activity`."""
    asked: float = -math.inf
    """When it was asked for that, by the driver's clock."""
    moved: float | None = None
    """When it last did something new, by the driver's clock; None before Ray has found a place for it."""
    leaves: float | None = None
    """When its machine is to leave the cluster, by the driver's clock; None if nothing is known of that."""
    checkpoints: int = 0
    """That it was asked for because its machine leaves."""

    @property
    def is_placed(self) -> bool:
        """Whether Ray has found a machine for it."""
        return self.moved is not None

    @property
    def takes_work(self) -> bool:
        """Whether it is ready, on a machine that stays."""
        return self.info is not None and self.leaves is None

    @property
    def candidates(self) -> list[GivenType]:
        """All pairs that it has."""
        return [candidate for batch in self.batches.values() for candidate in batch]

    @property
    def place(self) -> tuple[str, int]:
        """Host name and process id; empty and 0 while it starts."""
        return (self.info.host, self.info.process) if self.info else ("", 0)

    @property
    def progress(self) -> WorkerProgress:
        """For those who watch."""
        info = self.info or WorkerInfo("", 0, "", "")
        return WorkerProgress(info.host, info.process, info.device, self.activity)

    def note(self, activity: Activity, now: float) -> None:
        """Learn what it is doing."""
        if activity != self.activity or self.moved is None:
            self.moved = now
        self.activity = activity

    def give(self, batch: list[GivenType], now: float) -> None:
        """Hand it a batch."""
        if not self.batches:
            self.moved = self.began = now
        reference = self.handle.run.remote([candidate.task for candidate in batch])
        self.batches[reference], self.given[reference] = batch, now

    def take_back(self, reference: Any, now: float) -> tuple[list[GivenType], float]:
        """A batch has come back.

        Returns:
            The batch, and how many seconds it took the worker, at most: one that has overtaken the batch
            before it, which may hang, counts from when it was given.
        """
        given = self.given.pop(reference)
        if reference != next(iter(self.batches)):
            return self.batches.pop(reference), now - given
        seconds, self.began = now - self.began, now
        return self.batches.pop(reference), seconds

    def has_stalled(self, now: float, timeout: float) -> bool:
        """Whether it has something to do and has not moved for so many seconds."""
        is_busy = bool(self.batches) or self.info is None
        return is_busy and self.moved is not None and now - self.moved > timeout
