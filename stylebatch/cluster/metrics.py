"""What a run tells Prometheus, through the metrics that Ray exports on every node.

Ray puts ``ray_`` before each name and ``_total`` behind those of counters. The driver counts for all: there
are as many series for a thousand workers as for one, and they outlive workers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util import metrics

from stylebatch.cluster.events import BatchEnded, Event, PairEnded
from stylebatch.cluster.progress import Progress
from stylebatch.work import Spent

GAUGE_SECONDS = 1.0
"""Between two settings of the gauges."""


@dataclass(frozen=True)
class Measure:
    """A metric as Ray is told of it."""

    name: str
    """With its unit, as Prometheus wants it; without ``_total``."""
    description: str
    """For people."""
    labels: tuple[str, ...] = ()
    """Besides ``output``."""
    is_counter: bool = True
    """Whether it only grows; else it is a gauge."""

    @property
    def exported_name(self) -> str:
        """As it is scraped."""
        return f"ray_{self.name}_total" if self.is_counter else f"ray_{self.name}"


PAIRS = Measure("stylebatch_pairs", "Pairs that have ended in this run", ("status",))
EVALUATIONS = Measure("stylebatch_evaluations", "Evaluations of the loss and its gradient, of ended pairs")
STAGE_SECONDS = Measure("stylebatch_stage_seconds", "Seconds that workers spent, by stage", ("stage",))
TARGETS = Measure("stylebatch_targets", "Targets that ended pairs wanted, from the cache or not", ("result",))
READ_BYTES = Measure("stylebatch_read_bytes", "Bytes that workers read from the storage")
WRITTEN_BYTES = Measure("stylebatch_written_bytes", "Bytes that workers wrote to the storage")
WORKERS = Measure("stylebatch_workers", "Workers, ready or starting", ("state",), is_counter=False)
PAIRS_LEFT = Measure("stylebatch_pairs_left", "Pairs of the manifest that have not ended", is_counter=False)

MEASURES = (PAIRS, EVALUATIONS, STAGE_SECONDS, TARGETS, READ_BYTES, WRITTEN_BYTES, WORKERS, PAIRS_LEFT)
"""All of them."""
STAGES: Mapping[str, str] = {
    "fetch": "fetch_seconds",
    "synthesize": "synthesize_seconds",
    "publish": "publish_seconds",
}
"""Values of the label ``stage``, each with the field of :class:`~stylebatch.work.Spent` that is counted."""

Record = Callable[[Measure, float, Mapping[str, str]], None]
"""Adds to a counter, or sets a gauge."""


class RayMetrics:
    """The metrics of this process, made when they are first used; without a Ray, nothing is noted."""

    def __init__(self) -> None:
        self._made: dict[Measure, Any] = {}

    def __call__(self, measure: Measure, value: float, labels: Mapping[str, str]) -> None:
        """Add to a counter, or set a gauge."""
        if not ray.is_initialized():
            return
        metric = self._made.get(measure) or self._make(measure)
        if not measure.is_counter:
            metric.set(value, tags=dict(labels))
        elif value > 0:
            metric.inc(value, tags=dict(labels))

    def _make(self, measure: Measure) -> Any:
        kind = metrics.Counter if measure.is_counter else metrics.Gauge
        keys = ("output", *measure.labels)
        self._made[measure] = kind(measure.name, description=measure.description, tag_keys=keys)
        return self._made[measure]


class Metrics:
    """Counts what happens in a run.

    Args:
        output: Canonical folder URI; a label of everything.
        record: Where the numbers go.
        clock: Seconds from some moment on.
    """

    def __init__(
        self, output: str, record: Record | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._output = output
        self._record = record or RayMetrics()
        self._clock = clock
        self._due = -float("inf")

    def observe(self, progress: Progress) -> list[str]:
        """Set the gauges, if it is time, and at the end."""
        left = progress.total - progress.ok - progress.failed
        if self._clock() >= self._due or not left:
            self._due = self._clock() + GAUGE_SECONDS
            ready = sum(bool(worker.host) for worker in progress.workers)
            self._note(WORKERS, ready, state="ready")
            self._note(WORKERS, len(progress.workers) - ready, state="starting")
            self._note(PAIRS_LEFT, left)
        return []

    def tell(self, event: Event) -> None:
        """Count an event."""
        if isinstance(event, PairEnded):
            self._note(PAIRS, 1, status=event.status)
            self._note(EVALUATIONS, event.evaluations)
            self._note(TARGETS, event.target_hits, result="hit")
            self._note(TARGETS, event.target_misses, result="miss")
        elif isinstance(event, BatchEnded):
            self._count(event.spent)

    def _count(self, spent: Spent) -> None:
        for stage, field in STAGES.items():
            self._note(STAGE_SECONDS, getattr(spent, field), stage=stage)
        self._note(READ_BYTES, spent.bytes_read)
        self._note(WRITTEN_BYTES, spent.bytes_written)

    def _note(self, measure: Measure, value: float, **labels: str) -> None:
        self._record(measure, value, {"output": self._output, **labels})
