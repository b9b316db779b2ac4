"""The workers: Ray started or joined, actors made, watched and replaced."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import ray
from ray.exceptions import ActorUnavailableError, RayError

from stylebatch.cluster.progress import WorkerProgress
from stylebatch.cluster.worker import Worker, WorkerInfo
from stylebatch.errors import ClusterError, StylebatchError
from stylebatch.work import Activity

THREADS_PER_WORKER = 4
"""Cores of a CPU worker, where there are so many."""
PATIENCE = "10000"
"""How often a thread of torch looks for work (GNU OpenMP) before it sleeps: about half a millisecond.

With the default of 300,000, threads that share their cores with other programs wait at each operation for one
that is not running, and an evaluation takes many times as long."""
CALLS_AT_ONCE = 4
"""Two batches, a question about its activity, and its preparation."""
MOST_START_FAILURES = 3
"""Workers in a row that may fail to become ready in one place."""
NODE_DIED = "its node has died"
"""What Ray says of a worker that went down with its machine before it was ready: nobody's fault."""
OBJECT_STORE_BYTES = 100 * 2**20
"""For an embedded Ray: nothing large travels through it."""


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
            # Ray would start workers of its own choice, which ours, with an environment of theirs, never use.
            os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
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
        machines = [node["Resources"] for node in _live_nodes()]
        cores = tuple(int(machine.get("CPU", 0)) for machine in machines)
        yield Resources(cores, sum(int(machine.get("GPU", 0)) for machine in machines))
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
    """One worker for each GPU; without GPUs, one for every :data:`THREADS_PER_WORKER` cores of a machine.

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
        threads = min(THREADS_PER_WORKER, resources.most_threads(count))
        return FleetPlan(count, max(1, threads), is_gpu=True)
    count = workers or sum(max(1, cores // THREADS_PER_WORKER) for cores in resources.cores if cores) or 1
    if count > resources.cpus:
        raise ClusterError(
            f"--workers {count} needs as many processor cores, but Ray has {resources.cpus}; give fewer, or "
            "--device gpu if the cluster starts its GPU machines on demand"
        )
    return FleetPlan(count, resources.most_threads(count), is_gpu=False)


class Given(Protocol):
    """What a worker is given, as the driver keeps it; the worker sees the task alone."""

    @property
    def task(self) -> Any:
        """What is to be done."""
        ...


GivenType = TypeVar("GivenType", bound=Given)
"""Candidates where pairs are made, parts where features are measured."""


@dataclass
class Member(Generic[GivenType]):
    """A worker as the driver sees it."""

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
    activity: Activity = field(default_factory=lambda: Activity("starting"))
    """As it said last."""
    asking: Any = None
    """The reference to its next :class:`Activity`."""
    moved: float | None = None
    """When it last did something new, by the driver's clock; None before Ray has found a place for it."""

    @property
    def candidates(self) -> list[GivenType]:
        """All pairs that it has."""
        return [candidate for batch in self.batches.values() for candidate in batch]

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
            self.moved = now
        self.batches[self.handle.run.remote([candidate.task for candidate in batch])] = batch

    def has_stalled(self, now: float, timeout: float) -> bool:
        """Whether it has something to do and has not moved for so many seconds."""
        is_busy = bool(self.batches) or self.info is None
        return is_busy and self.moved is not None and now - self.moved > timeout


class Fleet(Generic[GivenType]):
    """A fixed number of places for workers; one that dies is replaced.

    A place is given up after :data:`MOST_START_FAILURES` workers in a row that did not become ready.

    Args:
        plan: How many, and of what kind.
        settings: What each is told as it is made.
        stall_timeout: Seconds without progress after which one counts as lost.
        actor: A class with the methods ``prepare``, ``run`` and ``activity`` of :class:`Worker`.
    """

    def __init__(
        self, plan: FleetPlan, settings: object, stall_timeout: float, actor: type[Any] = Worker
    ) -> None:
        self.plan = plan
        self.notices: list[str] = []
        self._settings = settings
        self._actor = actor
        self._stall_timeout = stall_timeout
        self.members: list[Member[GivenType]] = [self._start() for _ in range(plan.workers)]

    def _start(self, start_failures: int = 0) -> Member[GivenType]:
        threads = str(self.plan.threads)
        actor: Any = ray.remote(self._actor).options(
            num_cpus=self.plan.threads,
            num_gpus=1 if self.plan.is_gpu else 0,
            max_concurrency=CALLS_AT_ONCE,
            runtime_env={
                "env_vars": {
                    "OMP_NUM_THREADS": threads,
                    "MKL_NUM_THREADS": threads,
                    "GOMP_SPINCOUNT": PATIENCE,
                }
            },
        )
        handle: Any = actor.remote(self._settings)
        return Member(handle, handle.prepare.remote(), start_failures)

    def poll(self) -> None:
        """Learn which workers have become ready and what each is doing.

        Raises:
            StylebatchError: No worker becomes ready; it is what the last one said.
        """
        for member in list(self.members):
            self._ask(member)
            if member.info is None:
                self._poll_start(member)

    def _ask(self, member: Member[GivenType]) -> None:
        if member.asking is None:
            member.asking = member.handle.activity.remote()
        elif ray.wait([member.asking], timeout=0)[0]:
            activity = _answer(member.asking)
            member.asking = None
            if activity is not None:
                member.note(activity, time.monotonic())

    def _poll_start(self, member: Member[GivenType]) -> None:
        if ray.wait([member.preparing], timeout=0)[0]:
            try:
                member.info = ray.get(member.preparing)
                member.start_failures = 0
            except RayError as error:
                if NODE_DIED in str(error):
                    self.replace(member, member.start_failures)
                else:
                    self._after_start_failure(member, _start_error(error))
        elif member.has_stalled(time.monotonic(), self._stall_timeout):
            reason = f"it did not become ready within {self._stall_timeout:g} s"
            self._after_start_failure(member, ClusterError(f"a worker cannot start: {reason}"))

    def _after_start_failure(self, member: Member[GivenType], error: StylebatchError) -> None:
        """Try again in the same place, a few times; without any place left, give up."""
        failures = member.start_failures + 1
        if failures < MOST_START_FAILURES:
            self.replace(member, failures)
            return
        if len(self.members) == 1:
            raise error
        ray.kill(member.handle)
        self.members.remove(member)
        self.notices.append(
            f"{failures} workers in a row could not start, the last: {one_line(error)}; "
            f"the run goes on with one worker less ({len(self.members)})"
        )

    def replace(self, member: Member[GivenType], start_failures: int = 0) -> None:
        """Start another worker in the place of one that is of no use any more."""
        ray.kill(member.handle)
        self.members[self.members.index(member)] = self._start(start_failures)

    def stalled(self) -> list[Member[GivenType]]:
        """The workers that have work and have made no progress for too long."""
        now = time.monotonic()
        return [
            member for member in self.members if member.info and member.has_stalled(now, self._stall_timeout)
        ]

    def ask_for_checkpoints(self) -> None:
        """Let every worker store where it stands; nobody waits for it."""
        for member in self.members:
            if member.batches:
                member.handle.checkpoint_soon.remote()

    def owner(self, reference: Any) -> Member[GivenType]:
        """Who was given the batch with this reference."""
        return next(member for member in self.members if reference in member.batches)

    @property
    def references(self) -> list[Any]:
        """Of all batches that are under way."""
        return [reference for member in self.members for reference in member.batches]

    @property
    def running(self) -> list[Any]:
        """Of the batch that each worker is working on; others wait behind it."""
        return [next(iter(member.batches)) for member in self.members if member.batches]


def has_died(member: Member[Any], error: RayError) -> bool:
    """Whether a worker's process died on a machine that lives on.

    Ray says of a worker that was lost with its machine that it is unavailable, and knows more only later.
    """
    machines = {node["NodeID"] for node in _live_nodes()}
    machine = member.info and member.info.machine
    return machine in machines and not isinstance(error, ActorUnavailableError)


def _live_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def one_line(error: object) -> str:
    """The beginning of a message, without line breaks."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _answer(reference: Any) -> Activity | None:
    """A worker's activity; None if the worker has died, which its batches tell better."""
    try:
        activity: Activity = ray.get(reference)
    except RayError:
        return None
    return activity


def _start_error(error: RayError) -> StylebatchError:
    """Why a worker did not become ready: what it said itself, if it could."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, StylebatchError):
        return cause
    return ClusterError(f"a worker cannot start: {one_line(cause or error)}")
