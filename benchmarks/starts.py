"""What a start in the style's colours is worth: published losses from there over those from the content."""

import sys
import tempfile
from pathlib import Path

import torch
from common import GATYS, PAIRS, geometric_mean, problem_of, stored
from independent_loss import IndependentLoss, read_pixels
from peers import THREADS

from stylebatch.pair.networks import load_network
from stylebatch.storage import UriStore
from stylebatch.synthesis.synthesize import synthesize

SIDE = 96
EVALUATIONS = (25, 200)


def published_loss(folder: Path, names: tuple[str, str], start: str, evaluations: int) -> float:
    """Of one pair, by the independent function."""
    content, style = (read_pixels(stored(folder, name, SIDE)) for name in names)
    recipe = GATYS.replace({"start": start, "iterations": evaluations})
    problem = problem_of(content, style, recipe)
    (solution,) = synthesize(load_network(recipe, UriStore()), [problem])
    return IndependentLoss(content, style)(solution.image[None])


def main() -> int:
    """Print the table."""
    torch.set_num_threads(THREADS)
    print("| evaluations | from the content in the style's colours / from the content |")
    print("|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for evaluations in EVALUATIONS:
            shares = []
            for names in PAIRS:
                starts = ("recoloured", "content")
                ours, plain = (published_loss(Path(folder), names, start, evaluations) for start in starts)
                shares.append(ours / plain)
            each = ", ".join(f"{share:.2f}" for share in shares)
            print(f"| {evaluations} | {geometric_mean(shares):.2f} ({each}) |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
