"""A cluster of any size under a simulated clock, run by the real policy.

What is real is the policy of :mod:`stylebatch.cluster`: what runs next, what is tried again, what is given
up, what runs twice. What is simulated: the clock, how long a pair takes (log-normal), workers that die,
machines that leave and join, the time that a worker needs to start and to fetch images, and the driver,
which looks after the pairs that have ended one at a time.

Idle is a worker that is up and does not compute, whatever the reason: nothing to do, a batch that the driver
has not given it yet, images that are not there yet. Images of a batch that waits behind another one come
meanwhile.
"""

import heapq
import itertools
import math
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stylebatch.cluster.schedule import (
    STYLES_HELD,
    Backlog,
    Candidate,
    after_loss,
    is_poison,
    look_ahead_depth,
    may_have_another,
    moved,
    retried,
)
from stylebatch.cluster.stragglers import Durations, HeldBatch, worth_a_second_run
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.work import Task

RECIPE = Recipe()
TICK = 0.5
"""Seconds between two looks of the driver at its workers when nothing ends."""


@dataclass(frozen=True)
class Plan:
    """What is simulated."""

    workers: int = 1000
    """At the start."""
    pairs: int = 60_000
    """Rows of the manifest."""
    styles: int = 50
    """Style images, in random order."""
    largest_batch: int = 1
    """Pairs in a batch, all of one shape."""
    median_seconds: float = 5.0
    """Of synthesizing a pair."""
    spread: float = 0.3
    """Standard deviation of the logarithm of that; 0.3: one pair in 40 takes longer than 1.8 medians."""
    fetch_seconds: float = 0.25
    """From a worker's being given a batch to its images being there."""
    driver_seconds: float = 0.001
    """That the driver needs for each pair that has ended."""
    deaths: float = 0.01
    """Share of batches over which the worker's process dies."""
    failures: float = 0.002
    """Share of pairs that fail and are tried again."""
    leaving_every: float = 10.0
    """Seconds, on average, between two machines that leave, and between two that join."""
    start_seconds: float = 20.0
    """From a worker's place to its being ready."""
    runs_slowest_twice: bool = True
    """Whether idle workers, when nothing waits any more, run what others are late with."""
    seed: int = 0


@dataclass
class SimulatedWorker:
    """A worker, and how it spends its time."""

    number: int
    ready_at: float
    batches: deque[list[Candidate]] = field(default_factory=deque)
    """The running one first."""
    fetched_at: deque[float] = field(default_factory=deque)
    """When the images of each are there."""
    known: int = 0
    """Batches that the driver takes it to have: also those that have ended, until it has seen to them."""
    busy: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it computed."""
    gone_at: float = math.inf
    styles: "OrderedDict[str, None]" = field(default_factory=OrderedDict)
    """Whose targets it has, those used last at the end."""

    def busy_until(self, stop: float) -> float:
        """Seconds of computing before a moment."""
        return sum(max(0.0, min(end, stop) - start) for start, end in self.busy)

    def up_until(self, stop: float) -> float:
        """Seconds of being ready before a moment."""
        return max(0.0, min(self.gone_at, stop) - self.ready_at)


@dataclass(frozen=True)
class Report:
    """What came out."""

    pairs: int
    """That have ended, each once."""
    idle_share: float
    """Of all workers' time, from being ready to the beginning of the tail."""
    tail_medians: float
    """From the first moment at which a worker finds nothing that waits, to the last end, in medians."""
    given_up: int
    """Pairs that were given up: none should be, for nobody is to blame here."""
    attempts: int
    """Batches times their pairs, with those that were lost or run twice."""
    hits: int
    """Style targets that the worker had."""
    misses: int
    """That it had to measure."""
    policy_seconds: float
    """Of this machine's time, in the policy's code, for each pair."""
    driver_share: float
    """Of the simulated time during which the driver had something to do, before the tail."""
    seconds: float
    """Simulated."""


@dataclass(frozen=True)
class HeldKey:
    """What a held batch is known by."""

    candidates: tuple[Candidate, ...]
    """Its pairs."""


class Cluster:
    """The simulation: events in order of time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._dice = random.Random(plan.seed)
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._backlog = Backlog()
        self._stream = self._candidates()
        self._is_exhausted = False
        self._workers: dict[int, SimulatedWorker] = {}
        self._all: list[SimulatedWorker] = []
        self._free_at = 0.0
        self._driver_busy: list[tuple[float, float]] = []
        self._ended: set[int] = set()
        self._given_up = 0
        self._attempts = 0
        self._hits = self._misses = 0
        self._tail_from: float | None = None
        self._last_end = 0.0
        self._twice: set[int] = set()
        self._durations = Durations()
        self._looks_again = 0.0
        self._policy_ns = 0

    def run(self) -> Report:
        """Everything, until each pair has ended."""
        for _ in range(self._plan.workers):
            self._start_worker(0.0, delay=self._plan.start_seconds * self._dice.random())
        self._at(self._soon(), self._leave)
        self._at(self._soon(), self._join)
        while len(self._ended) < self._plan.pairs:
            now, _, happens = heapq.heappop(self._events)
            happens(now)
        return self._report()

    def _candidates(self) -> Iterator[Candidate]:
        for row in range(self._plan.pairs):
            pair = Pair(
                f"p{row}", row, f"/c{row}.png", (f"/s{self._dice.randrange(self._plan.styles)}.png",), RECIPE
            )
            group = "all" if self._plan.largest_batch > 1 else row
            yield Candidate(Task(pair, row // 256), group, self._plan.largest_batch)

    def _at(self, moment: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), happens))

    def _soon(self) -> float:
        return self._dice.expovariate(1 / self._plan.leaving_every)

    # What workers do

    def _start_worker(self, now: float, delay: float) -> None:
        worker = SimulatedWorker(len(self._all), now + delay)
        self._all.append(worker)

        def ready(moment: float) -> None:
            self._workers[worker.number] = worker
            self._after_driver(moment, 0, self._dispatch)

        self._at(worker.ready_at, ready)

    def _begin(self, worker: SimulatedWorker, now: float) -> None:
        """Compute the batch that is first in line."""
        batch = worker.batches[0]
        start = max(now, worker.fetched_at[0])
        seconds = self._plan.median_seconds * math.exp(self._dice.gauss(0, self._plan.spread)) * len(batch)
        self._attempts += len(batch)
        self._use_styles(worker, batch)
        dies = self._dice.random() < self._plan.deaths
        end = start + seconds * (self._dice.random() if dies else 1.0)
        worker.busy.append((start, end))

        def ends(moment: float) -> None:
            if worker.number in self._workers and worker.batches and worker.batches[0] is batch:
                (self._die if dies else self._end)(worker, moment)

        self._at(end, ends)

    def _use_styles(self, worker: SimulatedWorker, batch: list[Candidate]) -> None:
        for style in (style for candidate in batch for style in candidate.styles):
            if style in worker.styles:
                self._hits += 1
            else:
                self._misses += 1
            worker.styles[style] = None
            worker.styles.move_to_end(style)
            if len(worker.styles) > STYLES_HELD:
                worker.styles.popitem(last=False)

    def _end(self, worker: SimulatedWorker, now: float) -> None:
        batch, seconds = worker.batches.popleft(), now - worker.busy[-1][0]
        worker.fetched_at.popleft()
        if worker.batches:
            self._begin(worker, now)
        for candidate in batch:
            self._last_end = now if candidate.task.pair.row not in self._ended else self._last_end

        def settle(moment: float) -> None:
            worker.known -= 1
            self._durations.add(seconds)
            for candidate in batch:
                self._settle(candidate)
            self._dispatch(moment)

        self._after_driver(now, len(batch), settle)

    def _die(self, worker: SimulatedWorker, now: float) -> None:
        self._lose(worker, now, has_died=True)
        self._start_worker(now, self._plan.start_seconds)

    def _leave(self, now: float) -> None:
        self._at(now + self._soon(), self._leave)
        if len(self._workers) > 1:
            self._lose(self._workers[self._dice.choice([*self._workers])], now, has_died=False)

    def _join(self, now: float) -> None:
        self._at(now + self._soon(), self._join)
        self._start_worker(now, self._plan.start_seconds)

    def _lose(self, worker: SimulatedWorker, now: float, has_died: bool) -> None:
        del self._workers[worker.number]
        worker.gone_at = now
        if worker.busy and worker.busy[-1][1] > now:
            worker.busy[-1] = (min(now, worker.busy[-1][0]), now)
        lost = [candidate for batch in worker.batches for candidate in batch]

        def settle(moment: float) -> None:
            self._timed(self._backlog.forget, worker.number)
            for candidate in after_loss(lost, has_died):
                self._lost_again(candidate)
            self._dispatch(moment)

        self._after_driver(now, len(lost), settle)

    # What the driver does

    def _after_driver(self, now: float, pairs: int, then: Callable[[float], None]) -> None:
        """Let the driver look after something, when it has done with what came before."""
        start = max(now, self._free_at)
        self._free_at = start + pairs * self._plan.driver_seconds
        self._driver_busy.append((start, self._free_at))
        self._at(self._free_at, then)

    def _settle(self, candidate: Candidate) -> None:
        if candidate.task.pair.row in self._ended:
            return
        if candidate.retries < 2 and self._dice.random() < self._plan.failures:
            self._timed(self._backlog.add, retried(candidate))
        else:
            self._ended.add(candidate.task.pair.row)

    def _lost_again(self, candidate: Candidate) -> None:
        row = candidate.task.pair.row
        if row in self._ended or row in self._twice:
            self._twice.discard(row)  # the other attempt goes on
        elif is_poison(candidate):
            self._given_up += 1
            self._ended.add(row)
        else:
            self._timed(self._backlog.add, candidate)

    def _refill(self) -> None:
        room = look_ahead_depth(len(self._workers)) - len(self._backlog)
        taken = [*itertools.islice(self._stream, max(0, room))]
        self._is_exhausted = len(taken) < room or self._is_exhausted
        for candidate in taken:
            self._timed(self._backlog.add, candidate)

    def _dispatch(self, now: float) -> None:
        """As the driver does it: first those that have nothing, then those that have one batch."""
        self._refill()
        idle = [worker for worker in self._workers.values() if not worker.known]
        left = [worker for worker in idle if not self._give(worker, now)]
        if left and self._is_exhausted and not self._backlog:
            self._end_early(left, now)
        for worker in [worker for worker in self._workers.values() if worker.known == 1]:
            if self._may_have_another(worker):
                self._give(worker, now)

    def _may_have_another(self, worker: SimulatedWorker) -> bool:
        has_suspect = any(candidate.is_suspect for batch in worker.batches for candidate in batch)
        return may_have_another(has_suspect, self._is_exhausted, len(self._backlog), len(self._workers))

    def _give(self, worker: SimulatedWorker, now: float) -> bool:
        batch = self._timed(self._backlog.take, worker.number, len(self._workers), not worker.known)
        if batch:
            self._hand(worker, batch, now)
        return bool(batch)

    def _hand(self, worker: SimulatedWorker, batch: list[Candidate], now: float) -> None:
        worker.known += 1
        worker.batches.append(batch)
        worker.fetched_at.append(now + self._plan.fetch_seconds)
        if len(worker.batches) == 1:
            self._begin(worker, now)

    def _end_early(self, idle: list[SimulatedWorker], now: float) -> None:
        """Nothing waits any more for some idle workers: they run what others are late with a second time."""
        self._tail_from = self._tail_from or now
        if not self._plan.runs_slowest_twice:
            return
        late = worth_a_second_run(self._held(now), self._durations.median)
        for batch, worker in zip(late, idle, strict=False):
            assert isinstance(batch, HeldKey)
            self._twice.update(candidate.task.pair.row for candidate in batch.candidates)
            self._hand(worker, [moved(candidate) for candidate in batch.candidates], now)
        if now >= self._looks_again:
            self._looks_again = now + TICK
            self._at(self._looks_again, self._dispatch)

    def _held(self, now: float) -> Iterator[HeldBatch]:
        """The batches that may be run a second time."""
        for worker in self._workers.values():
            for position, batch in enumerate(worker.batches):
                if not any(one.is_suspect or one.task.pair.row in self._twice for one in batch):
                    yield HeldBatch(HeldKey(tuple(batch)), now - worker.busy[-1][0], position > 0)

    def _timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call the policy, and note how long it takes on this machine."""
        started = time.thread_time_ns()
        result = call(*arguments)
        self._policy_ns += time.thread_time_ns() - started
        return result

    def _report(self) -> Report:
        stop = self._tail_from or self._last_end
        up = sum(worker.up_until(stop) for worker in self._all)
        busy = sum(worker.busy_until(min(stop, worker.gone_at)) for worker in self._all)
        return Report(
            pairs=len(self._ended),
            idle_share=1 - busy / up,
            tail_medians=(self._last_end - stop) / self._plan.median_seconds,
            given_up=self._given_up,
            attempts=self._attempts,
            hits=self._hits,
            misses=self._misses,
            policy_seconds=self._policy_ns / 1e9 / self._plan.pairs,
            driver_share=sum(max(0.0, min(end, stop) - start) for start, end in self._driver_busy) / stop,
            seconds=self._last_end,
        )
