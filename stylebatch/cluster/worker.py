"""The actor: one network, one storage client, caches. It calls :mod:`stylebatch.pair` and knows no policy."""

import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import ray

from stylebatch.errors import ClusterError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe
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
    checkpoint_seconds: float
    """Seconds of synthesis between two checkpoints."""


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs."""

    host: str
    """Host name."""
    process: int
    """Process id."""
    device: str
    """``cpu`` or ``cuda``."""
    machine: str
    """Ray's id of the node."""


class Worker:
    """Runs batches one after the other, fetching and publishing images while another batch computes."""

    def __init__(self, settings: WorkerSettings) -> None:
        import torch

        from stylebatch.pair.batch import BatchRunner, Limits

        compute = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(settings.threads,))
        self._device = "cuda" if settings.is_gpu else "cpu"
        self._recipe = settings.recipe
        self._runner = BatchRunner(
            settings.store,
            settings.layout,
            self._device,
            compute,
            Limits(max_pixels=settings.max_pixels),
            checkpoint_seconds=settings.checkpoint_seconds,
        )

    def prepare(self) -> WorkerInfo:
        """Load the weights of the job's recipe.

        Raises:
            WeightsError: They are missing or wrong.
            ClusterError: Ray gave it a GPU that torch cannot use.
        """
        info = located(self._device)
        self._runner.network(self._recipe)
        return info

    def run(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Work on a batch; see :meth:`stylebatch.pair.batch.BatchRunner.run`.

        The last outcome says what the worker has spent since the batch before.
        """
        *others, last = self._runner.run(tasks)
        return [*others, replace(last, spent=self._runner.meter.take())]

    def checkpoint_soon(self) -> None:
        """Store where the running batch stands, at its next evaluation."""
        self._runner.checkpoint_soon()

    def activity(self) -> Activity:
        """What it is doing."""
        return self._runner.activity


def located(device: str) -> WorkerInfo:
    """Where this process of a worker runs.

    Raises:
        ClusterError: Ray gave it a GPU that torch cannot use.
    """
    host = socket.gethostname()
    _check_device(device, host)
    machine: str = ray.get_runtime_context().get_node_id()
    return WorkerInfo(host, os.getpid(), device, machine)


def _check_device(device: str, host: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ClusterError(
            f"{host}: Ray gave this worker a GPU, but torch {torch.__version__} finds none that it can use; "
            "check the driver with nvidia-smi, install a torch for it, or use --device cpu"
        )
