"""What is simulated in :mod:`simulated_cluster`, and what comes out."""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from stylebatch.cluster.schedule import Candidate


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
    """Whether idle workers, when nothing waits any more, run a second time what may end last."""
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
    second_runs: int
    """Batches that were begun a second time."""
    twice_share: float
    """Of all computing: by runs that another run of the same batch made useless."""
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
