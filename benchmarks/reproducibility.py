"""What the number of threads and the batch change in a picture; the table in docs/conventions.md.

    python benchmarks/reproducibility.py

Eight pictures of 48 pixels, 40 evaluations each from noise: run twice alike, with two threads instead of one,
in a batch of eight instead of alone, and from a start moved by a ten-thousandth of a grey level.
"""

import statistics
from collections.abc import Callable

import torch
from common import problem_of
from photographs import photograph

from stylebatch.pair.networks import load_network
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.problems import Problem, Solution
from stylebatch.synthesis.synthesize import synthesize

SIDE, EVALUATIONS = 48, 40
CONTENTS = ("astronaut", "coffee", "chelsea", "rocket")
STYLES = ("ihc", "gravel")
NUDGE = 1e-4
"""Grey levels."""


def main() -> None:
    """Print the table."""
    recipe = Recipe(size=SIDE, iterations=EVALUATIONS)
    network = load_network(recipe, UriStore())
    problems = [problem(content, style, recipe) for content in CONTENTS for style in STYLES]

    def alone(threads: int = 1, nudge: float = 0.0) -> list[Solution]:
        torch.set_num_threads(threads)
        return [
            synthesize(network, [Problem(one.recipe, one.targets, one.start + nudge)])[0] for one in problems
        ]

    def together() -> list[Solution]:
        torch.set_num_threads(1)
        return synthesize(network, problems)

    usual = alone()
    others: dict[str, Callable[[], list[Solution]]] = {
        "the same again": alone,
        "two threads": lambda: alone(threads=2),
        "a batch of eight": together,
        "a start moved by 1e-4 grey levels": lambda: alone(nudge=NUDGE),
    }
    print("| against one thread, alone | loss, median (most) | pixels, mean difference | equal bytes |")
    print("|---|---|---|---|")
    for name, solve in others.items():
        print(f"| {name} | {comparison(usual, solve())} |")


def problem(content: str, style: str, recipe: Recipe) -> Problem:
    """A pair of square crops."""
    first, second = (photograph(name, 2 * SIDE)[None, :, :SIDE, :SIDE] for name in (content, style))
    return problem_of(first, second, recipe)


def comparison(usual: list[Solution], other: list[Solution]) -> str:
    """How far losses and pixels of the same pairs are apart."""
    both = list(zip(usual, other, strict=True))
    losses = [abs(two.loss / one.loss - 1) for one, two in both]
    pixels = [float((two.image - one.image).abs().mean()) for one, two in both]
    equal = sum(torch.equal(one.image, two.image) for one, two in both)
    return (
        f"{100 * statistics.median(losses):.2f} % ({100 * max(losses):.1f} %) | "
        f"{min(pixels):.1f} to {max(pixels):.1f} grey levels | {equal} of {len(both)}"
    )


if __name__ == "__main__":
    main()
