"""A real driver and a real Ray with many workers that only wait: seats in a few processes."""

import asyncio
import math
import random
from collections.abc import Sequence
from typing import Any

import ray
from scale_jobs import ok_row

from stylebatch.cluster import driver
from stylebatch.cluster.fleet import Fleet
from stylebatch.cluster.members import Member
from stylebatch.cluster.plans import FleetPlan
from stylebatch.cluster.scaling import WorkerLimits
from stylebatch.cluster.schedule import Candidate
from stylebatch.cluster.worker import WorkerInfo
from stylebatch.work import Activity, Outcome, Task

PROCESSES = 2


class Bench:
    """A process with many seats, each of which takes its time over one pair after the other."""

    def __init__(self, output: str, seconds: float, spread: float) -> None:
        self._output, self._seconds, self._spread = output, seconds, spread
        self._turns: dict[int, asyncio.Lock] = {}

    async def prepare(self) -> WorkerInfo:
        """Where it is."""
        return WorkerInfo("here", 0, "cpu", ray.get_runtime_context().get_node_id())

    async def run(self, seat: int, tasks: Sequence[Task]) -> list[Outcome]:
        """Wait as long as synthesis would take, and report the pairs."""
        async with self._turns.setdefault(seat, asyncio.Lock()):
            for _ in tasks:
                await asyncio.sleep(self._seconds * random.lognormvariate(0, self._spread))
        return [Outcome(task, dict(ok_row(task.pair, self._output))) for task in tasks]

    async def activity(self) -> Activity:
        """Something."""
        return Activity("synthesizing", ("pair",), 1, 500, random.getrandbits(30))

    async def checkpoint_soon(self) -> None:
        """There is nothing to store."""


class _Method:
    def __init__(self, call: Any, *bound: object) -> None:
        self._call, self._bound = call, bound

    def remote(self, *arguments: object) -> Any:
        return self._call.remote(*self._bound, *arguments)


class Seat:
    """Passes for the handle of a worker."""

    def __init__(self, bench: Any, number: int) -> None:
        self.run = _Method(bench.run, number)
        self.prepare = _Method(bench.prepare)
        self.activity = _Method(bench.activity)
        self.checkpoint_soon = _Method(bench.checkpoint_soon)


class Crowd(Fleet[Candidate]):
    """A fleet of seats."""

    def __init__(self, seats: int, output: str, seconds: float, spread: float) -> None:
        actor: Any = ray.remote(Bench).options(num_cpus=0, max_concurrency=4 * seats)
        self._benches = [actor.remote(output, seconds, spread) for _ in range(PROCESSES)]
        self._seats = 0
        super().__init__(FleetPlan(WorkerLimits(seats, seats), 1, 0.0), None, 3600.0)

    def _start(self, start_failures: int = 0) -> Member[Candidate]:
        seat = Seat(self._benches[self._seats % PROCESSES], self._seats)
        self._seats += 1
        return Member(seat, seat.prepare.remote(), start_failures)

    def release(self, member: Member[Candidate]) -> None:
        """Do without a seat."""
        member.batches.clear()
        self.members.remove(member)


def mean_seconds(seconds: float, spread: float) -> float:
    """What a pair takes on average, whose median is that of a log-normal distribution."""
    return seconds * math.exp(spread**2 / 2)


def seat_workers(seats: int, output: str, seconds: float, spread: float) -> None:
    """Let the driver start such a fleet from now on."""
    driver._make_fleet = lambda *_: Crowd(seats, output, seconds, spread)
