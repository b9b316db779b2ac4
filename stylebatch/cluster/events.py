"""What happens in a run, as values: for the event log, and for everyone else who counts."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import ClassVar

from stylebatch.cluster.progress import WorkerProgress
from stylebatch.cluster.schedule import Candidate
from stylebatch.layout import Row
from stylebatch.work import Outcome, Spent, Task


@dataclass(frozen=True)
class Event:
    """Something that has happened."""

    name: ClassVar[str]
    """What, in the past tense."""


@dataclass(frozen=True)
class RunStarted(Event):
    """A driver has taken an output."""

    name: ClassVar[str] = "run_started"
    output: str
    """Canonical URI."""
    manifest: str | None
    """Canonical URI; None where features are measured."""
    rows: int
    """Pairs of the manifest, or images."""
    ended: int
    """Of these, in units that an earlier run has published."""
    holder: str
    """Of the lease: names this run."""
    stylebatch_version: str
    """Of the driver."""


@dataclass(frozen=True)
class WorkerReady(Event):
    """A worker has loaded its weights."""

    name: ClassVar[str] = "worker_ready"
    host: str
    """Host name."""
    process: int
    """Process id."""
    device: str
    """``cpu`` or ``cuda``."""


@dataclass(frozen=True)
class WorkerLost(Event):
    """A worker died, hung, or went with its machine; its pairs wait for another."""

    name: ClassVar[str] = "worker_lost"
    host: str
    """Host name."""
    process: int
    """Process id."""
    reason: str
    """As Ray has it, or how long it made no progress, or that its machine leaves."""
    pair_ids: tuple[str, ...]
    """What it had."""


@dataclass(frozen=True)
class WorkerGone(Event):
    """A worker is no longer one of the run's: it was lost, or is not needed any more."""

    name: ClassVar[str] = "worker_gone"
    host: str
    """Host name."""
    process: int
    """Process id."""


@dataclass(frozen=True)
class BatchDispatched(Event):
    """A worker was given pairs."""

    name: ClassVar[str] = "batch_dispatched"
    host: str
    """Host name of the worker."""
    process: int
    """Its process id."""
    device: str
    """``cpu`` or ``cuda``."""
    pair_ids: tuple[str, ...]
    """What it was given."""


@dataclass(frozen=True)
class BatchEnded(Event):
    """A worker is done with what it was given; some of it may be tried again."""

    name: ClassVar[str] = "batch_ended"
    pair_ids: tuple[str, ...]
    """What it had."""
    spent: Spent
    """What the worker has spent since it last ended one."""


@dataclass(frozen=True)
class PairEnded(Event):
    """A pair has a picture, or has failed for good."""

    name: ClassVar[str] = "pair_ended"
    pair_id: str
    """The pair."""
    row: int
    """Its row in the manifest."""
    unit: int
    """The unit of that row."""
    status: str
    """``ok`` or ``failed``."""
    attempts: int
    """How many it took."""
    seconds: float | None
    """Of synthesis; None if it failed."""
    evaluations: int
    """At all sizes."""
    target_hits: int
    """Targets that its worker had at hand."""
    target_misses: int
    """Targets that were computed for it."""
    error_type: str | None
    """None if it is ok."""
    error: str | None
    """Likewise."""


@dataclass(frozen=True)
class PartPublished(Event):
    """All rows of a unit have ended, and its part is stored."""

    name: ClassVar[str] = "part_published"
    unit: int
    """The unit."""
    uri: str
    """Of the part."""


@dataclass(frozen=True)
class Notice(Event):
    """Something that the user was told."""

    name: ClassVar[str] = "notice"
    text: str
    """The words."""


@dataclass(frozen=True)
class RunEnded(Event):
    """Every row has ended."""

    name: ClassVar[str] = "run_ended"
    ok: int
    """Pairs with a picture."""
    failed: int
    """Pairs without."""


@dataclass(frozen=True)
class RunStopped(Event):
    """The run has ended part-way."""

    name: ClassVar[str] = "run_stopped"
    reason: str
    """Why."""
    ok: int
    """Pairs with a picture."""
    failed: int
    """Pairs without."""


Place = tuple[str, int]
"""Host name and process id of a worker."""
Tell = Callable[[Event], None]
"""Takes note of an event. Called by several threads."""


def nobody(event: Event) -> None:
    """Nobody takes note."""


def batch_dispatched(worker: WorkerProgress, batch: Sequence[Candidate]) -> BatchDispatched:
    """The event of a worker that was given pairs."""
    return BatchDispatched(worker.host, worker.process, worker.device, _pair_ids(batch))


def worker_lost(worker: WorkerProgress, lost: Sequence[Candidate], reason: str) -> WorkerLost:
    """The event of a worker that was lost with its pairs."""
    return WorkerLost(worker.host, worker.process, reason, _pair_ids(lost))


def _pair_ids(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    return tuple(candidate.task.pair.pair_id for candidate in candidates)


def pair_ended(task: Task, row: Row) -> PairEnded:
    """The event of a result row."""
    return PairEnded(
        pair_id=task.pair.pair_id,
        row=task.pair.row,
        unit=task.unit,
        status=row["status"],
        attempts=row.get("attempts") or task.attempt,
        seconds=row.get("seconds"),
        evaluations=(row.get("evaluations") or 0) + sum(row.get("smaller_evaluations") or ()),
        target_hits=row.get("target_hits") or 0,
        target_misses=row.get("target_misses") or 0,
        error_type=row.get("error_type"),
        error=row.get("error"),
    )


def batch_ended(outcomes: Sequence[Outcome]) -> BatchEnded:
    """The event of a batch that came back."""
    spent = next((outcome.spent for outcome in outcomes if outcome.spent), Spent())
    return BatchEnded(tuple(outcome.task.pair.pair_id for outcome in outcomes), spent)


def worker_changes(known: Collection[Place], workers: Sequence[WorkerProgress]) -> Iterator[Event]:
    """The workers that have become ready since a look, and those that are no longer there.

    Args:
        known: Host and process of each worker that was ready.
        workers: All there are now.
    """
    ready = {(one.host, one.process): one.device for one in workers if one.host}
    yield from (WorkerGone(*place) for place in known if place not in ready)
    yield from (WorkerReady(*place, device) for place, device in ready.items() if place not in known)


def event_line(event: Event, now: datetime) -> str:
    """An event as one line of JSON, without the line's end."""
    time = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": time, "event": event.name, **asdict(event)}, separators=(",", ":"))
