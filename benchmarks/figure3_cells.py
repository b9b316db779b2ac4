"""No stall on the 20 cells of the paper's Figure 3.

The figure's grid over ``coffee`` (content) and ``hubble_deep_field`` (style), both from scikit-image's wheel:
five growing sets of style layers times α/β from 1e-5 to 1e-2, from white noise, 200 evaluations at 64 pixels.
Along α/β the content has a growing say, so its loss must fall and the style's unweighted loss (β divided out)
must rise, each within 10 % from a cell to the next. An optimiser that stalls breaks that order: with
the field's usual unchecked L-BFGS, style losses end up to a hundred times their neighbours'.

    python benchmarks/figure3_cells.py

prints a table of the cells and exits with 1 if any two neighbours are out of order (about four minutes on two
cores; needs the extra ``demo``).
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from photographs import photograph
from torch import Tensor

from stylebatch.recipe import PAPER_STYLE_LAYERS, Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.problems import Problem, Solution, white_noise
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.targets import Targets, content_targets, style_targets
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import read_weights

RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)
"""α/β, the columns of Figure 3."""
STYLE_SETS = tuple(PAPER_STYLE_LAYERS[:count] for count in range(1, 6))
"""The rows of Figure 3: conv1_1; conv1_1 and conv2_1; and so on."""
SLACK = 0.1
"""How far two neighbours may be out of order."""


def synthesize_row(
    network: VGG19, content: Tensor, style: Tensor, layers: Sequence[str], evaluations: int
) -> list[Solution]:
    """The cells of one set of style layers, from small to large α/β, as one batch."""
    recipes = [
        Recipe(style_weight=1 / ratio, style_layers=tuple(layers), iterations=evaluations) for ratio in RATIOS
    ]
    shared = recipes[0]
    targets = Targets(
        content_targets(network, content, shared.content_layers, shared.pooling),
        style_targets(network, style, shared.style_layers, shared.pooling),
    )
    height, width = content.shape[-2:]
    start = white_noise(height, width, shared.seed)
    return synthesize(network, [Problem(recipe, targets, start) for recipe in recipes])


def style_distance(solution: Solution, ratio: float) -> float:
    """The style loss without β, comparable along α/β."""
    return solution.style_loss * ratio


def violations(row: Sequence[Solution]) -> Iterator[str]:
    """Where a row of cells does not trade content for style along α/β."""
    for left, right in zip(range(len(row) - 1), range(1, len(row)), strict=True):
        where = f"from α/β {RATIOS[left]:g} to {RATIOS[right]:g}"
        if row[right].content_loss > (1 + SLACK) * row[left].content_loss:
            yield f"{where} the content loss rises: {row[left].content_loss:g}, {row[right].content_loss:g}"
        before, after = style_distance(row[left], RATIOS[left]), style_distance(row[right], RATIOS[right])
        if after < (1 - SLACK) * before:
            yield f"{where} the style loss falls: {before:g}, {after:g}"


def main() -> int:
    """Check every cell, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--evaluations", type=int, default=200, help="per cell (default: 200)")
    parser.add_argument("--size", type=int, default=64, help="longer side in pixels (default: 64)")
    arguments = parser.parse_args()
    network = VGG19(read_weights(bundled_weights()))
    content, style = (photograph(name, arguments.size) for name in ("coffee", "hubble_deep_field"))
    found = []
    print(f"{'style layers':16} {'α/β':>6} {'content loss':>13} {'style loss/β':>13} {'evals':>6}  ended by")
    for layers in STYLE_SETS:
        started = time.monotonic()
        row = synthesize_row(network, content, style, layers, arguments.evaluations)
        name = layers[0] if len(layers) == 1 else f"{layers[0]}..{layers[-1]}"
        for ratio, cell in zip(RATIOS, row, strict=True):
            print(
                f"{name:16} {ratio:6g} {cell.content_loss:13.5g} {style_distance(cell, ratio):13.5g} "
                f"{cell.evaluations:6d}  {cell.stop_reason}"
            )
        print(f"{'':16} {time.monotonic() - started:.0f} s", flush=True)
        found += [f"{name}: {violation}" for violation in violations(row)]
    print("\n".join(found) or "every neighbour is in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
