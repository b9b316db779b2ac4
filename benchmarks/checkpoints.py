"""What a checkpoint of one picture costs: bytes, how long the synthesis waits, how long it takes to encode.

    python benchmarks/checkpoints.py

prints a table. The history is full, so a checkpoint is as large as it gets; what the picture looks like does
not matter, so the work is the cheapest there is. Under a minute on two cores.
"""

import statistics
import time

from photographs import photograph

from stylebatch.pair.checkpoints import Checkpoint, encode_checkpoint
from stylebatch.pair.networks import load_network
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.problems import Problem, white_noise
from stylebatch.synthesis.state import TakeStates
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.targets import Targets, content_targets

SIZES = (256, 512)
LAYER = "conv1_1"
TAKEN = 8
"""Checkpoints that are measured at each size, after the history has filled up."""


def measure(side: int) -> str:
    """A row of the table: a square picture of this side."""
    recipe = Recipe(content_layers=(LAYER,), size=side)
    pairs = recipe.most_pairs(side, side)
    recipe = recipe.replace({"iterations": pairs + 2 + TAKEN})
    network = load_network(recipe, UriStore(), "cpu")
    targets = Targets(content_targets(network, photograph("astronaut", side), [LAYER], recipe.pooling), {})
    waits, encodings, sizes = [], [], []

    def offer(take_states: TakeStates) -> None:
        started = time.perf_counter()
        (state,) = take_states()
        taken = time.perf_counter()
        if state.evaluations > pairs + 1:
            data = encode_checkpoint(Checkpoint({}, state, 0.0))
            encodings.append(time.perf_counter() - taken)
            waits.append(taken - started)
            sizes.append(len(data))

    synthesize(network, [Problem(recipe, targets, white_noise(side, side, 0))], offer=offer)
    return (
        f"| {side} x {side} | {max(sizes) / 1e6:.1f} MB | {max(sizes) / side**2:.0f} | {spread(waits)} "
        f"| {spread(encodings)} |"
    )


def spread(seconds: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    print("| picture | bytes | bytes a pixel | the synthesis waits | encoding, beside it |")
    print("|---|---|---|---|---|")
    for side in SIZES:
        print(measure(side), flush=True)
