"""What kind of workers a run has, and how many: from the resources of a cluster and what the user wants."""

from dataclasses import dataclass

from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.scaling import LEAST_GPUS, MOST_GPUS, WorkerLimits
from stylebatch.errors import ClusterError

THREADS_PER_WORKER = 4
"""Cores of a CPU worker, where there are so many."""


@dataclass(frozen=True)
class Resources:
    """What Ray has."""

    cores: tuple[int, ...]
    """Processor cores of each machine."""
    gpus: int
    """GPUs of all."""

    @property
    def cpus(self) -> int:
        """Processor cores of all machines."""
        return sum(self.cores)

    def most_threads(self, workers: int) -> int:
        """The most threads that so many workers can have each; 0 if there is no place for all.

        A worker is on one machine, so machines whose cores it does not use up are no help to the others.
        """
        fits = (
            threads for threads in range(max(self.cores, default=0), 0, -1) if self._fit(threads) >= workers
        )
        return next(fits, 0)

    def _fit(self, threads: int) -> int:
        return sum(cores // threads for cores in self.cores)


@dataclass(frozen=True)
class FleetPlan:
    """How many workers there are, and of what kind."""

    limits: WorkerLimits
    """Actors."""
    threads: int
    """Torch threads of each, and the cores that Ray reserves for it."""
    gpus: float
    """What Ray reserves for each; 0 for workers that compute on the processor."""

    @property
    def is_gpu(self) -> bool:
        """Whether each has a GPU, or a part of one."""
        return self.gpus > 0


def plan_fleet(
    resources: Resources,
    workers: int | WorkerLimits | None,
    device: str = "auto",
    gpus_per_worker: float = 1.0,
    can_grow: bool = False,
) -> FleetPlan:
    """One worker for each GPU; without GPUs, one for every :data:`THREADS_PER_WORKER` cores of a machine.

    Args:
        resources: What Ray has.
        workers: How many the user wants, or from how many to how many; None decides.
        device: ``gpu``, ``cpu``, or ``auto``: GPUs if Ray has any now. A cluster that starts its machines on
            demand has none before there is work: ``gpu`` and ``cpu`` ask for them.
        gpus_per_worker: GPUs of each worker, where GPUs do the work; below 1, workers share one.
        can_grow: Whether machines may join. Where the user gives no number, there is no upper limit then.

    Raises:
        ClusterError: There are fewer cores or GPUs than workers, and nobody has asked for more.
    """
    if not LEAST_GPUS <= gpus_per_worker <= MOST_GPUS:
        raise ClusterError(
            f"gpus_per_worker is {gpus_per_worker}; it must be from {LEAST_GPUS} to {MOST_GPUS:g}: a worker "
            "computes on one GPU, or shares it with others"
        )
    if device == "gpu" or (device == "auto" and resources.gpus):
        return _gpu_plan(resources, workers, device == "gpu", gpus_per_worker, can_grow)
    return _cpu_plan(resources, workers, device == "cpu" and can_grow, can_grow)


def plan_run(resources: Resources, options: RunOptions) -> FleetPlan:
    """:func:`plan_fleet` as the options say; machines may join a cluster that was there before the run.

    Raises:
        ClusterError: There are fewer cores or GPUs than workers, and nobody has asked for more.
    """
    can_grow = options.address is not None
    return plan_fleet(resources, options.workers, options.device, options.gpus_per_worker, can_grow)


def _gpu_plan(
    resources: Resources,
    workers: int | WorkerLimits | None,
    is_on_demand: bool,
    gpus_per_worker: float,
    can_grow: bool,
) -> FleetPlan:
    room = resources.gpus * workers_per_gpu(gpus_per_worker)
    limits = _limits(workers, max(1, room), None if can_grow else room)
    if not is_on_demand and limits.least > room:
        each = "a GPU" if gpus_per_worker == 1 else f"{gpus_per_worker:g} of a GPU"
        raise ClusterError(
            f"{limits.least} workers need {each} each, but Ray has {resources.gpus}; give fewer --workers, "
            "--device cpu, or --device gpu if the cluster starts its GPU machines on demand"
        )
    now = max(limits.least, limits.cap(room))
    return FleetPlan(limits, max(1, min(THREADS_PER_WORKER, resources.most_threads(now))), gpus_per_worker)


def workers_per_gpu(gpus_per_worker: float) -> int:
    """How many workers fit one GPU, by what is reserved for each."""
    return int(1 / gpus_per_worker + 1e-9)


def _cpu_plan(
    resources: Resources, workers: int | WorkerLimits | None, is_on_demand: bool, can_grow: bool
) -> FleetPlan:
    usual = sum(max(1, cores // THREADS_PER_WORKER) for cores in resources.cores if cores) or 1
    limits = _limits(workers, usual, None if can_grow else resources.cpus)
    if not is_on_demand and limits.least > resources.cpus:
        raise ClusterError(
            f"--workers {limits.least} needs as many processor cores, but Ray has {resources.cpus}; give "
            "fewer, or --device gpu if the cluster starts its GPU machines on demand (--device cpu: its CPU "
            "machines)"
        )
    return FleetPlan(limits, _cpu_threads(resources, limits), 0)


def _cpu_threads(resources: Resources, limits: WorkerLimits) -> int:
    """All cores, where all workers have a place now; a usual share of a machine's where some are to come."""
    least = resources.most_threads(limits.least)
    if limits.most is None:
        return max(1, least)
    return resources.most_threads(limits.most) or max(1, min(THREADS_PER_WORKER, least))


def _limits(workers: int | WorkerLimits | None, usual: int, room: int | None) -> WorkerLimits:
    """What the user wants, the usual number by default; bounded by the room that there is, if it is."""
    if isinstance(workers, int):
        return WorkerLimits(workers, workers)
    limits = workers or WorkerLimits(usual, None)
    if room is None:
        return limits
    return WorkerLimits(limits.least, max(limits.least, limits.cap(usual if workers is None else room)))
