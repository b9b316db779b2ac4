"""The policy under a simulated clock: small runs of ``benchmarks/simulated_cluster.py``."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from simulated_cluster import Cluster
from simulation import Plan

SMALL = Plan(workers=40, pairs=3000, deaths=0.01, failures=0.01, leaving_every=10.0)
"""About six minutes of 40 workers, of whom 30 die, 37 leave and 37 join."""


@pytest.mark.parametrize("seed", range(3))
def test_workers_are_hardly_idle_and_the_tail_is_short(seed: int) -> None:
    """A pair whose worker dies near the end has to begin anew: hence more than two medians."""
    report = Cluster(replace(SMALL, seed=seed)).run()
    assert (report.pairs, report.given_up) == (SMALL.pairs, 0)
    assert report.attempts > SMALL.pairs  # some were lost
    assert report.idle_share < 0.03
    assert report.tail_medians < 2.5


def test_a_driver_that_is_too_slow_shows() -> None:
    """40 workers at 5 s a pair give it 8 pairs a second."""
    report = Cluster(replace(SMALL, driver_seconds=0.25)).run()
    assert report.idle_share > 0.3
    assert report.driver_share > 0.95


@pytest.mark.parametrize("largest_batch", [1, 16])
def test_styles_are_measured_hardly_more_often_than_they_must(largest_batch: int) -> None:
    plan = Plan(
        workers=4, pairs=2000, styles=50, largest_batch=largest_batch, deaths=0, failures=0, leaving_every=1e9
    )
    report = Cluster(plan).run()
    assert report.hits + report.misses >= plan.pairs
    assert report.hits >= 0.9 * (plan.pairs - plan.styles)
