"""The actor that measures features: one network, one storage client. It knows no policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylebatch.cluster.worker import WorkerInfo, located
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.feature_request import FeatureSettings
from stylebatch.pair.feature_table import encode_rows, feature_schema
from stylebatch.pair.meter import Meter
from stylebatch.pair.monitor import Monitor
from stylebatch.work import Activity, Spent


@dataclass(frozen=True)
class PartTask:
    """Images to measure."""

    number: int
    """The part's."""
    uri: str
    """Where it belongs."""
    first_row: int
    """The place of its first image among all."""
    images: tuple[str, ...]
    """Canonical URIs."""


@dataclass(frozen=True)
class PartOutcome:
    """A part that is stored."""

    images: int
    """How many rows it has."""
    failures: tuple[tuple[str, str], ...]
    """The images without features, each with the reason."""
    spent: Spent
    """What the worker has spent since the part before."""


@dataclass(frozen=True)
class FeatureWorkerSettings:
    """What every worker is told."""

    store: ObjectStore
    """Makes its own clients where it arrives."""
    features: FeatureSettings
    """What is measured."""
    identity: Mapping[str, Any]
    """Of the request, for the metadata of parts."""
    threads: int
    """For torch."""
    is_gpu: bool
    """Whether it was given a GPU."""
    max_pixels: int
    """Of an image; a larger one is refused."""
    largest_batch: int | None
    """The most images in one forward pass; None decides by size."""


class FeatureWorker:
    """Measures one part after the other."""

    def __init__(self, settings: FeatureWorkerSettings) -> None:
        self._settings = settings
        self._schema = feature_schema(settings.features, settings.identity)
        self._monitor = Monitor()
        self._meter = Meter()
        self._monitor.begin("loading weights")

    def prepare(self) -> WorkerInfo:
        """Load the weights.

        Raises:
            WeightsError: They are missing or wrong.
            ClusterError: Ray gave it a GPU that torch cannot use.
        """
        from stylebatch.pair.features import FeatureMeasurer

        settings = self._settings
        info = located("cuda" if settings.is_gpu else "cpu")
        self._measurer = FeatureMeasurer(
            settings.features,
            settings.store,
            info.device,
            threads=settings.threads,
            max_pixels=settings.max_pixels,
            most=settings.largest_batch,
            monitor=self._monitor,
            meter=self._meter,
        )
        self._monitor.begin()
        return info

    def run(self, tasks: Sequence[PartTask]) -> list[PartOutcome]:
        """Measure and store parts.

        Raises:
            StorageError: The storage does not answer, refuses the part, or does not know us.
        """
        return [self._run(task) for task in tasks]

    def _run(self, task: PartTask) -> PartOutcome:
        self._monitor.begin("measuring")
        rows = self._measurer.rows(task.images)
        self._put(task.uri, encode_rows(rows, self._schema))
        self._monitor.begin()
        failures = tuple((row["image"], row["error"]) for row in rows if "error" in row)
        return PartOutcome(len(rows), failures, self._meter.take())

    def _put(self, uri: str, data: bytes) -> None:
        with self._meter.timed("publish_seconds"):
            self._settings.store.put(uri, data)
        self._meter.add("bytes_written", len(data))

    def activity(self) -> Activity:
        """What it is doing."""
        return self._monitor.activity
