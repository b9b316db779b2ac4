"""Jobs that run to their end through kills of driver, workers and nodes, and through faults of the storage.

A trial starts ``stylebatch run`` against a cluster and an S3 server behind a fault-injecting proxy, kills at
random moments, starts the same command again after each death of the driver, and judges the finished outputs.
"""

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from faultchecks import Row, computation_problems, output_problems, part_rows
from faultcluster import NODES, KillableCluster, running_cluster
from faultjobs import Bucket, Driver, aws_environment, content_key, new_bucket, store_inputs
from faultproxy import FaultProxy, running_proxy
from faulttraffic import Fault
from s3server import S3Server

BATCHES = (1, 4)
"""The largest batch of the jobs, in turn."""
LOOK_EVERY = 0.05
"""Seconds between two looks at the driver."""
GRACE = 0.5
"""Seconds after a kill in which what was handed out just before is still being fetched."""
STUCK_SECONDS = 120
"""Without a new image or the driver's end, a job counts as stuck."""
BLIND_SHARE = 0.25
"""Of the kills: whatever goes on. The others wait until work has begun again, so that they hit it."""
MOST_SURPRISES = 10
"""Ends of drivers that nobody killed, after which a trial is given up."""


class Target(StrEnum):
    """What can be killed."""

    DRIVER = "driver"
    WORKER = "worker"
    NODE = "node"


@dataclass(frozen=True)
class Plan:
    """What a trial does."""

    seed: int
    """Of moments and targets of the kills, and of the proxy's faults."""
    kills: int
    """Jobs follow one another until there were so many."""
    minutes: float
    """No job starts after this."""
    pairs: int = 60
    """Of each job."""
    iterations: int = 12
    """Evaluations of each pair."""
    gap: tuple[float, float] = (0.0, 4.0)
    """The least and the most seconds from where a kill's time counts to the kill; see :class:`_Moments`."""
    fault_share: float = 0.1
    """Of all S3 requests."""
    unit_size: int = 12
    """Rows of each part."""

    @property
    def pair_ids(self) -> list[str]:
        """In order of row."""
        return [f"pair-{number:03d}" for number in range(self.pairs)]


@dataclass
class Report:
    """What happened in a trial."""

    kills: Counter[Target] = field(default_factory=Counter)
    """By what was killed."""
    jobs: int = 0
    """Disturbed ones, all run to their end."""
    pairs: int = 0
    """Of all of them."""
    lost: int = 0
    """Pairs without an ``ok`` row."""
    recomputed: int = 0
    """Computations beyond the first of each pair."""
    in_flight: int = 0
    """Pairs that were begun and not committed when something was killed, summed over the kills."""
    faults: Counter[Fault] = field(default_factory=Counter)
    """By kind."""
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method and what they were about."""
    seconds: float = 0.0
    """Of the disturbed jobs."""
    problems: list[str] = field(default_factory=list)
    """Every claim that does not hold."""


class Trial:
    """One trial. Use :func:`run_trial`."""

    def __init__(
        self, plan: Plan, bucket: Bucket, proxy: FaultProxy, cluster: KillableCluster, folder: Path
    ) -> None:
        self.report = Report()
        self._plan = plan
        self._bucket = bucket
        self._proxy = proxy
        self._cluster = cluster
        self._folder = folder
        self._manifest = store_inputs(bucket, plan.pair_ids)
        self._choice = random.Random(plan.seed)
        self._targets = self._shuffled_targets()
        self._target = next(self._targets)
        self._moments = _Moments(plan.gap, self._choice)
        self._surprises = 0

    def run(self, say: Callable[[str], None]) -> None:
        """The undisturbed run, then disturbed jobs until there were enough kills or the time is up."""
        reference = self._undisturbed_rows()
        say(f"undisturbed run: {len(reference)} pairs")
        traffic_before, started = self._proxy.traffic.requests, time.monotonic()
        self._proxy.share = self._plan.fault_share
        while self._kills < self._plan.kills and not self._is_out_of_time(started):
            self._disturbed_job(reference)
            say(f"job {self.report.jobs}: {self._kills} kills, {len(self.report.problems)} problems")
        self.report.seconds = time.monotonic() - started
        self.report.requests = self._proxy.traffic.requests - traffic_before
        self.report.faults = self._proxy.traffic.faults
        self.report.problems += self._unmet_claims()

    @property
    def _kills(self) -> int:
        return self.report.kills.total()

    def _is_out_of_time(self, started: float) -> bool:
        return time.monotonic() - started > 60 * self._plan.minutes

    def _driver(self, output: str, batch: int) -> Driver:
        settings = {"size": 32, "iterations": self._plan.iterations}
        options = {
            "output": f"s3://{self._bucket.name}/{output}",
            "address": self._cluster.address,
            "workers": NODES,
            "batch": batch,
            "unit-size": self._plan.unit_size,
        }
        command = [self._manifest, *(f"--{name}={value}" for name, value in options.items())]
        command += [f"--set={name}={value}" for name, value in settings.items()]
        return Driver(command, self._folder / f"{output}.log")

    def _undisturbed_rows(self) -> Mapping[str, Row]:
        """The rows of a run that nothing disturbs and in which every pair runs alone, by pair id."""
        self._proxy.share = 0
        driver = self._driver("undisturbed", batch=1)
        self._to_the_end(driver, "undisturbed", may_kill=False)
        objects = self._bucket.objects("undisturbed")
        self.report.problems += output_problems(objects, self._plan.pair_ids)
        return {row["pair_id"]: row for row in part_rows(objects)}

    def _disturbed_job(self, reference: Mapping[str, Row]) -> None:
        output = f"out-{self.report.jobs}"
        driver = self._driver(output, BATCHES[self.report.jobs % len(BATCHES)])
        begun = self._to_the_end(driver, output, may_kill=True)
        objects = self._bucket.objects(output)
        problems = output_problems(objects, self._plan.pair_ids, reference)
        self.report.problems += [f"{output}: {problem}" for problem in problems]
        self._account(output, begun)
        finished = {row["pair_id"] for row in part_rows(objects) if row["status"] == "ok"}
        self.report.lost += len({*self._plan.pair_ids} - finished)
        self.report.pairs += self._plan.pairs
        self.report.jobs += 1

    def _to_the_end(self, driver: Driver, output: str, may_kill: bool) -> Counter[str]:
        """Run a job until it has ended well; how often each pair was in flight at a kill."""
        in_flight: Counter[str] = Counter()
        watch = _Watch()
        self._proxy.traffic.forget_fetched()
        self._moments.plan_next()
        driver.start()
        try:
            while (code := driver.code) != 0:
                if code is not None:
                    self._note_surprise(driver, f"{output}: the driver ended with exit code {code}")
                elif watch.is_stuck(len(self._proxy.traffic.committed(output)), driver.starts):
                    self._note_surprise(driver, f"{output}: nothing happened for {STUCK_SECONDS} s")
                elif may_kill and self._kills < self._plan.kills and self._is_due():
                    in_flight.update(self._strike(driver, output))
                time.sleep(LOOK_EVERY)
        finally:
            driver.kill()
        return in_flight

    def _strike(self, driver: Driver, output: str) -> set[str]:
        """Kill what is next; the pairs that were in flight: begun since the kill before, not committed."""
        in_flight: set[str] = set()
        committed = self._proxy.traffic.committed(output)
        if self._kill(driver):
            self.report.kills[self._target] += 1
            self._target = next(self._targets)
            time.sleep(GRACE)
            in_flight = self._begun() - committed
            self._proxy.traffic.forget_fetched()
        self._moments.plan_next()
        return in_flight

    def _kill(self, driver: Driver) -> bool:
        """Kill the next target; False if there is none at the moment."""
        if self._target is Target.WORKER:
            return self._cluster.kill_worker(self._choice)
        if self._target is Target.NODE:
            self._cluster.kill_node(self._choice)
        else:
            driver.kill()
            driver.start()
        return True

    def _is_due(self) -> bool:
        return self._moments.is_due(has_work_begun=bool(self._begun()))

    def _begun(self) -> set[str]:
        """The pairs that a worker has begun since the last kill."""
        fetched = self._proxy.traffic.fetched
        return {pair_id for pair_id in self._plan.pair_ids if content_key(pair_id) in fetched}

    def _shuffled_targets(self) -> Iterator[Target]:
        """All kinds equally often, in random order."""
        rounds = (self._choice.sample([*Target], len(Target)) for _ in itertools.count())
        return itertools.chain.from_iterable(rounds)

    def _note_surprise(self, driver: Driver, what: str) -> None:
        """Something that should not happen; the job goes on, so that one trial shows all there is to see."""
        driver.kill()
        self.report.problems.append(f"{what}; it printed:\n{driver.last_words}")
        self._surprises += 1
        if self._surprises > MOST_SURPRISES:
            raise RuntimeError("\n\n".join(["too many surprises", *self.report.problems]))
        driver.start()

    def _account(self, output: str, in_flight: Counter[str]) -> None:
        """Compare how often each pair was computed with how often it can have been lost to a kill."""
        computations = self._proxy.traffic.computations(output)
        problems = computation_problems(computations, in_flight)
        self.report.problems += [f"{output}: {problem}" for problem in problems]
        self.report.recomputed += sum(count - 1 for count in computations.values())
        self.report.in_flight += in_flight.total()

    def _unmet_claims(self) -> Iterator[str]:
        if self._kills < self._plan.kills:
            yield f"only {self._kills} of {self._plan.kills} kills in {self._plan.minutes:g} minutes"
        if self.report.lost:
            yield f"{self.report.lost} pairs were lost"
        if not self.report.in_flight:
            yield "no kill hit a pair in flight"
        if self.report.faults.total() >= ENOUGH_FAULTS:
            yield from (f"nothing met the fault {fault}" for fault in Fault if not self.report.faults[fault])


ENOUGH_FAULTS = 50
"""Of all kinds together: fewer than one run in 10,000 of so many lacks one kind by accident."""


class _Moments:
    """When to kill: at random; mostly while pairs are in flight, however long a driver needs to start."""

    def __init__(self, gap: tuple[float, float], choice: random.Random) -> None:
        self._gap = gap
        self._choice = choice
        self.plan_next()

    def plan_next(self) -> None:
        """Choose the time of the next kill, from now or from when work has begun."""
        self._since = time.monotonic()
        self._delay = self._choice.uniform(*self._gap)
        self._is_blind = self._choice.random() < BLIND_SHARE

    def is_due(self, has_work_begun: bool) -> bool:
        """Whether the time has come."""
        if not has_work_begun and not self._is_blind:
            self._since = time.monotonic()
        return time.monotonic() - self._since >= self._delay


class _Watch:
    """Notices that a job stands still."""

    def __init__(self) -> None:
        self._state: tuple[int, ...] = ()
        self._since = time.monotonic()

    def is_stuck(self, *state: int) -> bool:
        """Whether the state has been this one for too long."""
        if state != self._state:
            self._state, self._since = state, time.monotonic()
        return time.monotonic() - self._since > STUCK_SECONDS


def run_trial(
    plan: Plan, server: S3Server, folder: Path, say: Callable[[str], None] = lambda line: None
) -> Report:
    """Start a proxy and a cluster, run a trial, and report; drivers' output is kept in the folder."""
    with _surroundings(plan, server) as (bucket, proxy, cluster):
        trial = Trial(plan, bucket, proxy, cluster, folder)
        trial.run(say)
        return trial.report


@contextmanager
def _surroundings(plan: Plan, server: S3Server) -> Iterator[tuple[Bucket, FaultProxy, KillableCluster]]:
    with (
        new_bucket(server, f"trial-{plan.seed}") as bucket,
        running_proxy(server.endpoint, 0, plan.seed) as proxy,
        aws_environment(server, proxy.endpoint),
        running_cluster() as cluster,
    ):
        yield bucket, proxy, cluster
