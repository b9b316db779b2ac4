"""By how much the paper's loss falls on the demo's pairs: 96 pixels, from the content, 300 evaluations.

    python benchmarks/loss_fall.py

prints a row for each pair, and exits with 1 if a loss fell less than 5 times from the first evaluation to the
last. About two minutes; needs the extra ``demo``.
"""

import sys

from demo_pairs import NAMES, solve

from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import read_weights

LEAST = 5


def main() -> int:
    """Print the table; 1 if a loss fell too little."""
    network = VGG19(read_weights(bundled_weights()))
    falls = []
    print("| pair | first loss | last loss | fell |\n|---|---|---|---|")
    for names in NAMES:
        solution = solve(network, names, 96, Recipe(start="content", iterations=300))
        first, last = solution.loss_curve[0], solution.loss_curve[-1]
        falls.append(first / last)
        print(f"| {', '.join(names)} | {first:.3g} | {last:.3g} | {falls[-1]:.1f} times |", flush=True)
    return int(min(falls) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
