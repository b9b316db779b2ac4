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
from collections.abc import Callable, Iterator
from typing import Any

from simulation import Plan, Report, SimulatedWorker

from stylebatch.cluster.schedule import (
    MOST_RETRIES,
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
from stylebatch.cluster.stragglers import (
    Durations,
    HeldBatch,
    SecondRuns,
    may_end_last,
    spared_runs,
    worth_a_second_run,
)
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.work import Task

RECIPE = Recipe()
TICK = 0.5
"""Seconds between two looks of the driver at its workers when nothing ends."""


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
        self._second_runs = SecondRuns()
        self._begun = 0
        self._twice_seconds = 0.0
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
            self._twice_seconds += seconds if self._is_won(batch) else 0.0
            for candidate in batch:
                self._settle(candidate)
            if any(self._second_runs.is_won(candidate.task.pair.row) for candidate in batch):
                self._end_losers(moment)
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
        self._remove(worker, now)
        lost = [candidate for batch in worker.batches for candidate in batch]

        def settle(moment: float) -> None:
            self._timed(self._backlog.forget, worker.number)
            for candidate in after_loss([*map(self._second_runs.known, lost)], has_died):
                self._wait(candidate)
            self._dispatch(moment)

        self._after_driver(now, len(lost), settle)

    def _remove(self, worker: SimulatedWorker, now: float) -> None:
        """A worker is gone, whatever it was at."""
        del self._workers[worker.number]
        worker.gone_at = now
        if worker.busy and worker.busy[-1][1] > now:
            worker.busy[-1] = (min(now, worker.busy[-1][0]), now)

    # What the driver does

    def _after_driver(self, now: float, pairs: int, then: Callable[[float], None]) -> None:
        """Let the driver look after something, when it has done with what came before."""
        start = max(now, self._free_at)
        self._free_at = start + pairs * self._plan.driver_seconds
        self._driver_busy.append((start, self._free_at))
        self._at(self._free_at, then)

    def _settle(self, candidate: Candidate) -> None:
        row = candidate.task.pair.row
        if self._second_runs.is_won(row):
            return
        candidate = self._second_runs.known(candidate)
        if candidate.retries < MOST_RETRIES and self._dice.random() < self._plan.failures:
            self._wait(retried(candidate))
        elif self._second_runs.decides(row, has_picture=True):
            self._ended.add(row)

    def _wait(self, candidate: Candidate) -> None:
        """A run has come to nothing: the pair waits for another, is given up, or has another under way."""
        if not self._second_runs.needs_another(candidate):
            return
        if is_poison(candidate):
            self._given_up += 1
            self._ended.add(candidate.task.pair.row)
        else:
            self._timed(self._backlog.add, candidate)

    def _is_won(self, batch: list[Candidate]) -> bool:
        return all(self._second_runs.is_won(candidate.task.pair.row) for candidate in batch)

    def _end_losers(self, now: float) -> None:
        """As the driver does it: a worker whose pairs have their pictures from others is ended."""
        for worker in [*self._workers.values()]:
            if worker.batches and all(map(self._is_won, worker.batches)):
                self._remove(worker, now)
                self._backlog.forget(worker.number)
                start, end = worker.busy[-1]
                self._twice_seconds += end - start

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
        if not self._is_exhausted or len(self._backlog):
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
        """Nothing waits any more for some idle workers: they run a second time what may end last."""
        self._tail_from = self._tail_from or now
        if not self._plan.runs_slowest_twice:
            return
        held, median, workers = [*self._held(now)], self._durations.median, iter(idle)
        for batch, worker in zip(worth_a_second_run(held, median), workers, strict=False):
            self._repeat(batch, worker, now)
        spared = spared_runs(self._durations.ended, self._begun)
        for batch, worker in zip(may_end_last(held, median)[:spared], workers, strict=False):
            self._repeat(batch, worker, now)
        if now >= self._looks_again:
            self._looks_again = now + TICK
            self._at(self._looks_again, self._dispatch)

    def _repeat(self, batch: Any, worker: SimulatedWorker, now: float) -> None:
        again = [moved(self._second_runs.known(candidate)) for candidate in batch]
        for candidate in again:
            self._second_runs.begin(candidate.task.pair.row)
        self._begun += 1
        self._hand(worker, again, now)

    def _held(self, now: float) -> Iterator[HeldBatch]:
        """The batches that may be run a second time."""
        for worker in self._workers.values():
            for position, batch in enumerate(worker.batches):
                if self._second_runs.may_begin(batch):
                    yield HeldBatch(
                        tuple(batch),
                        now - worker.busy[-1][0],
                        is_waiting=position > 0,
                        is_repeated=self._second_runs.known(batch[0]).is_repeated,
                    )

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
            second_runs=self._begun,
            twice_share=self._twice_seconds / sum(worker.busy_until(math.inf) for worker in self._all),
            hits=self._hits,
            misses=self._misses,
            policy_seconds=self._policy_ns / 1e9 / self._plan.pairs,
            driver_share=sum(max(0.0, min(end, stop) - start) for start, end in self._driver_busy) / stop,
            seconds=self._last_end,
        )
