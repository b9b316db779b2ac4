"""A cluster of any size under a simulated clock, run by the real policy: rows of docs/benchmarks.md.

    python benchmarks/simulate_cluster.py [ROW ...] [--workers N] [--pairs N] [--driver-ms MS]

What is simulated, and what is real, is said in :mod:`simulated_cluster`.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from simulated_cluster import Cluster
from simulation import Plan

SEEDS = 10
"""Simulations from which the row ``idle`` is made: the tail is made by the few pairs that end last."""


def idle_and_tail(plan: Plan) -> str:
    """How workers spend their time, with the pairs that may end last run twice and not."""
    plans = [replace(plan, seed=plan.seed + number) for number in range(SEEDS)]
    once = [Cluster(replace(one, runs_slowest_twice=False)).run().tail_medians for one in plans]
    reports = [Cluster(one).run() for one in plans]
    return (
        f"with {SEEDS} seeds: idle {_spread([100 * report.idle_share for report in reports])} % before the "
        f"tail; tail {_spread([report.tail_medians for report in reports])} medians "
        f"({_spread(once)} if no pair is run twice); "
        f"{_spread([report.second_runs for report in reports])} second runs, "
        f"{_spread([100 * report.twice_share for report in reports])} % of all computing was of no use "
        f"because of them; {plan.pairs} pairs each, {sum(report.given_up for report in reports)} given up; "
        f"the driver was busy {reports[0].driver_share:.0%} of the time"
    )


def _spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def policy_time(plan: Plan) -> str:
    """What the policy's own code takes of the driver."""
    report = Cluster(plan).run()
    return (
        f"{report.policy_seconds * 1e6:.0f} us a pair with {plan.workers} workers, which is "
        f"{report.policy_seconds * plan.workers / plan.median_seconds:.1%} of the driver's time"
    )


def affinity(plan: Plan) -> str:
    """Style targets that are at hand where they are wanted, against the most that there can be.

    However much is known ahead, each style has to be measured once by some worker.
    """
    calm = replace(
        plan, workers=4, pairs=2000, deaths=0.0, failures=0.0, leaving_every=1e9, driver_seconds=0.0
    )
    told = []
    for batch in (1, 16):
        report = Cluster(replace(calm, largest_batch=batch, runs_slowest_twice=False)).run()
        best = calm.pairs - calm.styles
        told.append(f"{report.hits} of {best} in batches of {batch} ({report.hits / best:.1%})")
    return f"{calm.pairs} pairs, {calm.styles} styles, 4 workers: " + "; ".join(told)


ROWS: dict[str, tuple[str, Callable[[Plan], str]]] = {
    "policy": ("the policy's share of the driver's time", policy_time),
    "idle": ("idle time and tail", idle_and_tail),
    "affinity": ("targets at hand, of the most that there can be", affinity),
}
"""What is measured, and how, by the row's name."""


def main() -> None:
    """Print the rows that were asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", default=[*ROWS], metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--pairs", type=int, default=Plan.pairs)
    parser.add_argument("--driver-ms", type=float, default=1000 * Plan.driver_seconds)
    parser.add_argument("--spread", type=float, default=Plan.spread)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    options = parser.parse_args()
    plan = Plan(
        workers=options.workers,
        pairs=options.pairs,
        driver_seconds=options.driver_ms / 1000,
        spread=options.spread,
        seed=options.seed,
    )
    print("| row | what | measured |\n|---|---|---|")
    for name in options.rows:
        what, measure = ROWS[name]
        print(f"| {name} | {what} | {measure(plan)} |", flush=True)


if __name__ == "__main__":
    main()
