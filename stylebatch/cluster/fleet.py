"""The workers: Ray started or joined, actors made, watched and replaced."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from stylebatch.cluster.progress import WorkerProgress
from stylebatch.cluster.schedule import Candidate
from stylebatch.cluster.worker import Worker, WorkerInfo, WorkerSettings
from stylebatch.errors import ClusterError
from stylebatch.work import Activity

THREADS_PER_WORKER = 4
"""Cores of a CPU worker, where there are so many."""
CALLS_AT_ONCE = 4
"""Two batches, a question about its activity, and its preparation."""
MOST_START_FAILURES = 3
"""Workers that may die before they are ready."""
OBJECT_STORE_BYTES = 100 * 2**20
"""For an embedded Ray: nothing large travels through it."""


@dataclass(frozen=True)
class Resources:
    """What Ray has."""

    cpus: int
    """Processor cores."""
    gpus: int
    """GPUs."""


@contextmanager
def connected(address: str | None) -> Iterator[Resources]:
    """Start an embedded Ray, or join the cluster at an address, until the block ends.

    Args:
        address: None starts one on this machine; else what ``ray.init`` takes (``auto``, ``host:port``).

    Raises:
        ClusterError: There is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address is None:
            ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        where = (
            f"no Ray cluster at {address} answers (for one that asks for a token, set RAY_AUTH_MODE=token, "
            "with the token in ~/.ray/auth_token)"
            if address
            else "Ray does not start here"
        )
        raise ClusterError(f"{where}: {str(error).splitlines()[0]}") from error
    try:
        found = dict(ray.cluster_resources())  # type: ignore[no-untyped-call]
        yield Resources(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
    finally:
        ray.shutdown()


@dataclass(frozen=True)
class FleetPlan:
    """How many workers there are, and of what kind."""

    workers: int
    """Actors."""
    threads: int
    """Torch threads of each, and the cores that Ray reserves for it."""
    is_gpu: bool
    """Whether each has a GPU."""


def plan_fleet(resources: Resources, workers: int | None, device: str = "auto") -> FleetPlan:
    """One worker for each GPU; without GPUs, as many as have :data:`THREADS_PER_WORKER` cores each.

    Args:
        resources: What Ray has.
        workers: How many the user wants; None decides.
        device: ``gpu``, ``cpu``, or ``auto``: GPUs if Ray has any now. A cluster that starts its GPU machines
            on demand has none before there is work: ``gpu`` asks for them.

    Raises:
        ClusterError: There are fewer cores than workers.
    """
    if device == "gpu" or (device == "auto" and resources.gpus):
        count = workers or max(1, resources.gpus)
        if device == "auto" and count > resources.gpus:
            raise ClusterError(
                f"{count} workers need a GPU each, but Ray has {resources.gpus}; give fewer --workers, "
                "--device cpu, or --device gpu if the cluster starts its GPU machines on demand"
            )
        return FleetPlan(count, max(1, min(THREADS_PER_WORKER, resources.cpus // count)), is_gpu=True)
    count = workers or max(1, resources.cpus // THREADS_PER_WORKER)
    if count > resources.cpus:
        raise ClusterError(
            f"--workers {count} needs as many processor cores, but Ray has {resources.cpus}; give fewer, or "
            "--device gpu if the cluster starts its GPU machines on demand"
        )
    return FleetPlan(count, resources.cpus // count, is_gpu=False)


@dataclass
class Member:
    """A worker as the driver sees it."""

    handle: Any
    """The Ray actor."""
    preparing: Any
    """The reference to its :class:`WorkerInfo`."""
    info: WorkerInfo | None = None
    """None until it is ready."""
    batches: dict[Any, list[Candidate]] = field(default_factory=dict)
    """What it was given, by the reference to the outcomes."""
    activity: Activity = field(default_factory=lambda: Activity("starting"))
    """As it said last."""
    asking: Any = None
    """The reference to its next :class:`Activity`."""

    @property
    def candidates(self) -> list[Candidate]:
        """All pairs that it has."""
        return [candidate for batch in self.batches.values() for candidate in batch]

    @property
    def progress(self) -> WorkerProgress:
        """For those who watch."""
        info = self.info or WorkerInfo("", 0, "")
        return WorkerProgress(info.host, info.process, info.device, self.activity)


class Fleet:
    """A fixed number of workers; one that dies is replaced."""

    def __init__(self, plan: FleetPlan, settings: WorkerSettings) -> None:
        self.plan = plan
        self._settings = settings
        self._start_failures = 0
        self.members = [self._start() for _ in range(plan.workers)]

    def _start(self) -> Member:
        threads = str(self.plan.threads)
        actor: Any = ray.remote(Worker).options(
            num_cpus=self.plan.threads,
            num_gpus=1 if self.plan.is_gpu else 0,
            max_concurrency=CALLS_AT_ONCE,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}},
        )
        handle: Any = actor.remote(self._settings)
        return Member(handle, handle.prepare.remote())

    def poll(self) -> None:
        """Learn which workers have become ready and what each is doing.

        Raises:
            ClusterError: Workers die again and again before they are ready.
            WeightsError: The weights are missing or wrong.
        """
        for index, member in enumerate(self.members):
            if member.info is None:
                self._poll_start(index, member)
            elif member.asking is None:
                member.asking = member.handle.activity.remote()
            elif ray.wait([member.asking], timeout=0)[0]:
                member.activity = _answer(member.asking) or member.activity
                member.asking = None

    def _poll_start(self, index: int, member: Member) -> None:
        if not ray.wait([member.preparing], timeout=0)[0]:
            return
        try:
            member.info = ray.get(member.preparing)
        except RayActorError as error:
            self._start_failures += 1
            if self._start_failures >= MOST_START_FAILURES:
                raise ClusterError(
                    f"{self._start_failures} workers died before they were ready; the last: {error}"
                ) from error
            self.members[index] = self._start()

    def replace(self, member: Member) -> None:
        """Start another worker in the place of one that has died."""
        ray.kill(member.handle)
        self.members[self.members.index(member)] = self._start()

    def owner(self, reference: Any) -> Member:
        """Who was given the batch with this reference."""
        return next(member for member in self.members if reference in member.batches)

    @property
    def references(self) -> list[Any]:
        """Of all batches that are under way."""
        return [reference for member in self.members for reference in member.batches]


def _answer(reference: Any) -> Activity | None:
    """A worker's activity; None if the worker has died, which its batches tell better."""
    try:
        activity: Activity = ray.get(reference)
    except RayError:
        return None
    return activity
