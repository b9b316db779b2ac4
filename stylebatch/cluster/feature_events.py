"""What happens while features are measured, as the events of a run: an image is a pair, a part a unit."""

from collections.abc import Iterator, Sequence

from stylebatch.cluster.events import (
    BatchDispatched,
    BatchEnded,
    Event,
    PairEnded,
    PartPublished,
    WorkerLost,
)
from stylebatch.cluster.feature_output import NOT_MEASURED
from stylebatch.cluster.feature_worker import PartOutcome, PartTask
from stylebatch.cluster.progress import WorkerProgress


def part_dispatched(worker: WorkerProgress, task: PartTask) -> BatchDispatched:
    """The event of a worker that was given a part."""
    return BatchDispatched(worker.host, worker.process, worker.device, task.images)


def worker_lost(worker: WorkerProgress, lost: Sequence[PartTask], reason: str) -> WorkerLost:
    """The event of a worker that was lost with its parts."""
    images = tuple(image for task in lost for image in task.images)
    return WorkerLost(worker.host, worker.process, reason, images)


def part_ended(task: PartTask, outcome: PartOutcome, attempts: int) -> Iterator[Event]:
    """The events of a part that is stored."""
    yield BatchEnded(task.images, outcome.spent)
    errors = dict(outcome.failures)
    for row, image in enumerate(task.images, start=task.first_row):
        error = errors.get(image)
        yield PairEnded(
            pair_id=image,
            row=row,
            unit=task.number,
            status="ok" if error is None else "failed",
            attempts=attempts,
            seconds=None,
            evaluations=0,
            target_hits=0,
            target_misses=0,
            error_type=None if error is None else NOT_MEASURED,
            error=error,
        )
    yield PartPublished(task.number, task.uri)
