"""The actor: one network, one storage client, caches. It calls :mod:`stylebatch.pair` and knows no policy."""

import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe
from stylebatch.results import Layout
from stylebatch.work import Activity, Outcome, Task


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of a job is told."""

    store: ObjectStore
    """Makes its own clients where it arrives."""
    layout: Layout
    """The output."""
    recipe: Recipe
    """The job's default; its weights are loaded at the start."""
    threads: int
    """For torch, and so the processor cores that the worker keeps busy."""
    is_gpu: bool
    """Whether it was given a GPU."""
    max_pixels: int
    """Of a source image; a larger one is refused."""


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs."""

    host: str
    """Host name."""
    process: int
    """Process id."""
    device: str
    """``cpu`` or ``cuda``."""


class Worker:
    """Runs batches one after the other, fetching and publishing images while another batch computes."""

    def __init__(self, settings: WorkerSettings) -> None:
        import torch

        from stylebatch.pair.batch import BatchRunner, Limits

        torch.set_num_threads(settings.threads)
        compute = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(settings.threads,))
        self._device = "cuda" if settings.is_gpu else "cpu"
        self._recipe = settings.recipe
        self._runner = BatchRunner(
            settings.store, settings.layout, self._device, compute, Limits(max_pixels=settings.max_pixels)
        )

    def prepare(self) -> WorkerInfo:
        """Load the weights of the job's recipe.

        Raises:
            WeightsError: They are missing or wrong.
        """
        self._runner.network(self._recipe)
        return WorkerInfo(socket.gethostname(), os.getpid(), self._device)

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Work on a batch; see :meth:`stylebatch.pair.batch.BatchRunner.run`."""
        return self._runner.run(tasks)

    def activity(self) -> Activity:
        """What it is doing."""
        return self._runner.activity
