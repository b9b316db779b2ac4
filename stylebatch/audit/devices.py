"""Where pairs are made again: on the device and with the threads that a worker would have here."""

import os

import torch

from stylebatch.errors import JobError

THREADS_OF_A_WORKER = 4
"""Where there are so many cores; as :mod:`stylebatch.cluster.plans` divides a machine."""


def torch_device(wanted: str) -> str:
    """The torch device of ``auto``, ``cpu`` or ``gpu``.

    Raises:
        JobError: A GPU is wanted and there is none.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "gpu" and not has_gpu:
        raise JobError(
            f"torch {torch.__version__} finds no GPU that it can use; check the driver with nvidia-smi, or "
            "use --device cpu"
        )
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


def threads_of_a_worker() -> int:
    """The torch threads that a job gives each worker of a machine like this one, if nobody says otherwise."""
    cores = os.cpu_count() or 1
    return cores // max(1, cores // THREADS_OF_A_WORKER)
