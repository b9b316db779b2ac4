"""The workers: actors made, watched, replaced, and let go."""

import time
from collections.abc import Collection, Iterator
from typing import Any, Generic

import ray
from ray.exceptions import ActorUnavailableError, RayError

from stylebatch.cluster.connecting import leaving_machines, live_nodes, one_line
from stylebatch.cluster.departures import TIME_UNTOLD, Step, next_step
from stylebatch.cluster.members import GivenType, Member
from stylebatch.cluster.plans import FleetPlan
from stylebatch.cluster.scaling import after_giving_up, wanted_places
from stylebatch.cluster.worker import Worker
from stylebatch.errors import ClusterError, StylebatchError
from stylebatch.work import Activity

PATIENCE = "10000"
"""How often a thread of torch looks for work (GNU OpenMP) before it sleeps: about half a millisecond.

With the default of 300,000, threads that share their cores with other programs wait at each operation for one
that is not running, and an evaluation takes many times as long."""
CALLS_AT_ONCE = 4
"""Two batches, a question about its activity, and its preparation or the wish for a checkpoint."""
MOST_START_FAILURES = 3
"""Workers in a row that may fail to become ready in one place."""
NODE_DIED = "its node has died"
"""What Ray says of a worker that went down with its machine before it was ready: nobody's fault."""
ASKS_PER_SECOND = 200
"""Questions to all workers about their activity; each takes some of the driver's time."""
LOOK_EVERY = 1.0
"""Seconds between two questions which machines are about to leave."""


class Fleet(Generic[GivenType]):
    """Places for workers, more or fewer as there is work; a worker that dies is replaced.

    The actors belong to this process: when it dies, Ray ends them and forgets those that wait for a machine.
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
        self.members: list[Member[GivenType]] = []
        self._limits = plan.limits
        self._given_up = 0
        self._has_been_ready = False
        self._settings = settings
        self._actor = actor
        self._stall_timeout = stall_timeout
        self._leaving: dict[str, float] = {}
        self._next_look = 0.0

    @property
    def size(self) -> int:
        """How many share the work: those that have a place, and those whom the user wants in any case."""
        placed = sum(member.is_placed for member in self.members)
        return max(1, placed, min(self._limits.least, len(self.members)))

    @property
    def shown(self) -> list[Member[GivenType]]:
        """The workers that one who watches should see: not those beyond the least that have no place."""
        placed = [member for member in self.members if member.is_placed]
        waiting = [member for member in self.members if not member.is_placed]
        return placed + waiting[: max(0, self._limits.least - len(placed))]

    def scale(self, pairs_left: int) -> list[Member[GivenType]]:
        """Have as many workers as there is work for; see :func:`~stylebatch.cluster.scaling.wanted_places`.

        Args:
            pairs_left: Pairs, or parts of a collection, that have not ended.

        Returns:
            The workers that were let go.
        """
        staying = [member for member in self.members if member.leaves is None]
        placed = sum(member.is_placed for member in staying)
        missing = wanted_places(self._limits, placed, pairs_left) - len(staying)
        self.members += [self._start() for _ in range(missing)]
        released = _dispensable(staying)[: max(0, -missing)]
        for member in released:
            self.release(member)
        return released

    def _start(self, start_failures: int = 0) -> Member[GivenType]:
        threads = str(self.plan.threads)
        actor: Any = ray.remote(self._actor).options(
            num_cpus=self.plan.threads,
            num_gpus=self.plan.gpus,
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
        """Learn which workers have become ready, what each is doing, and which machines are about to leave.

        Raises:
            StylebatchError: No worker becomes ready; it is what the last one said.
        """
        now = time.monotonic()
        self._hear(now)
        for member in self.members:
            self._ask(member, now)
        self._look_after_starts(now)
        if now >= self._next_look:
            self._next_look = now + LOOK_EVERY
            self._look_for_departures(now)

    def _hear(self, now: float) -> None:
        """Learn what the workers have answered."""
        asked = {member.asking: member for member in self.members if member.asking is not None}
        for reference in _there(asked):
            activity = _answer(reference)
            asked[reference].asking = None
            if activity is not None:
                asked[reference].note(activity, now)

    def _ask(self, member: Member[GivenType], now: float) -> None:
        """Ask a worker for its activity, unless it has just been asked: the more workers, the less often."""
        if member.asking is None and now - member.asked >= len(self.members) / ASKS_PER_SECOND:
            member.asking, member.asked = member.handle.activity.remote(), now

    def _look_after_starts(self, now: float) -> None:
        starting = {member.preparing: member for member in self.members if member.info is None}
        for reference in _there(starting):
            self._after_start(starting.pop(reference))
        for member in starting.values():
            if member.has_stalled(now, self._stall_timeout):
                reason = f"it did not become ready within {self._stall_timeout:g} s"
                self._after_start_failure(member, ClusterError(f"a worker cannot start: {reason}"))

    def _after_start(self, member: Member[GivenType]) -> None:
        try:
            member.info = ray.get(member.preparing)
        except RayError as error:
            if NODE_DIED in str(error):
                self.replace(member, member.start_failures)
            else:
                self._after_start_failure(member, _start_error(error))
        else:
            member.start_failures = 0
            self._has_been_ready = True

    def _after_start_failure(self, member: Member[GivenType], error: StylebatchError) -> None:
        """Try again in the same place, a few times; without any place left, give up."""
        failures = member.start_failures + 1
        if failures < MOST_START_FAILURES:
            self.replace(member, failures)
            return
        if len(self.members) == 1:
            raise error
        self.release(member)
        self._given_up += 1
        places = len(self.members)
        self._limits = after_giving_up(self._limits, places, self._given_up, self._has_been_ready)
        self.notices.append(
            f"{failures} workers in a row could not start, the last: {one_line(error)}; "
            f"the run goes on with one worker less ({places})"
        )

    def replace(self, member: Member[GivenType], start_failures: int = 0) -> None:
        """Start another worker in the place of one that is of no use any more."""
        place = self.members.index(member)
        self.release(member)
        self.members.insert(place, self._start(start_failures))

    def release(self, member: Member[GivenType]) -> None:
        """End a worker, and do without its place; what it had is the caller's business."""
        ray.kill(member.handle)
        member.batches.clear()
        self.members.remove(member)

    def stalled(self) -> list[Member[GivenType]]:
        """The workers that have work and have made no progress for too long."""
        now = time.monotonic()
        return [
            member for member in self.members if member.info and member.has_stalled(now, self._stall_timeout)
        ]

    def _look_for_departures(self, now: float) -> None:
        for machine, seconds_left in leaving_machines().items():
            leaves = now + (TIME_UNTOLD if seconds_left is None else seconds_left)
            self._leaving[machine] = min(leaves, self._leaving.get(machine, leaves))
        for member in self.members:
            if member.info is not None:
                member.leaves = self._leaving.get(member.info.machine)

    def departing(self) -> Iterator[tuple[Member[GivenType], Step]]:
        """What is to be done now with workers of machines that leave; it is taken as done."""
        now = time.monotonic()
        for member in list(self.members):
            if member.leaves is not None:
                step = next_step(member.leaves - now, member.checkpoints, is_idle=not member.batches)
                member.checkpoints += step is Step.CHECKPOINT
                yield member, step

    def ask_for_checkpoint(self, member: Member[GivenType]) -> None:
        """Let a worker store where it stands; nobody waits for it."""
        member.handle.checkpoint_soon.remote()

    def ask_for_checkpoints(self) -> None:
        """Let every worker store where it stands; nobody waits for it."""
        for member in self.members:
            if member.batches:
                self.ask_for_checkpoint(member)

    @property
    def owners(self) -> dict[Any, Member[GivenType]]:
        """Who was given each batch that is under way, by the reference to its outcomes."""
        return {reference: member for member in self.members for reference in member.batches}

    @property
    def running(self) -> list[Any]:
        """Of the batch that each worker is working on; others wait behind it."""
        return [next(iter(member.batches)) for member in self.members if member.batches]


def _dispensable(members: list[Member[GivenType]]) -> list[Member[GivenType]]:
    """Those that have no work, those that are missed least first: without a place, starting, ready."""
    idle = [member for member in members if not member.batches]
    return sorted(idle, key=lambda member: (member.is_placed, member.info is not None))


def has_died(member: Member[Any], error: RayError) -> bool:
    """Whether a worker's process died on a machine that lives on.

    Ray says of a worker that was lost with its machine that it is unavailable, and knows more only later.
    """
    machines = {node["NodeID"] for node in live_nodes()}
    machine = member.info and member.info.machine
    return machine in machines and not isinstance(error, ActorUnavailableError)


def _there(references: Collection[Any]) -> list[Any]:
    """Those whose value, or error, is there."""
    asked = list(references)
    return list(ray.wait(asked, num_returns=len(asked), timeout=0)[0]) if asked else []


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
