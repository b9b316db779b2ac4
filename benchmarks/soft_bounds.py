"""What soft bounds are worth: the published loss with ``bounds: soft`` against ``bounds: clip``.

The demo's pairs, with their style weights, and ``coffee`` with ``hubble_deep_field``, at 64 pixels, 120
evaluations, from the content and from white noise.

    python benchmarks/soft_bounds.py

prints a row for each, and exits with 1 if a published loss with soft bounds is above the one with clipping
(by more than rounding: 0.5 %), or not within 2 % of its solver's loss. About four minutes; needs the extra
``demo``.
"""

import sys

from demo_pairs import NAMES, solve

from stylebatch.design.demo import DEMO_PAIRS
from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import read_weights

SIZE = 64
EVALUATIONS = 120
ROUNDING = 1.005
NEAR = 0.02
CASES = (
    *((*names, pair.style_weight) for names, pair in zip(NAMES, DEMO_PAIRS, strict=True)),
    ("coffee", "hubble_deep_field", 1e3),
)


def main() -> int:
    """Print the table; 1 if a row breaks a promise."""
    network = VGG19(read_weights(bundled_weights()))
    broken = 0
    print("| start | pair | published, soft / clip | soft: published / solver | clip: published / solver |")
    print("|---|---|---|---|---|")
    for start in ("content", "noise"):
        for content, style, style_weight in CASES:
            recipe = Recipe(style_weight=style_weight, start=start, iterations=EVALUATIONS)
            soft, clip = (
                solve(network, (content, style), SIZE, recipe.replace({"bounds": bounds}))
                for bounds in ("soft", "clip")
            )
            near, far = soft.loss / soft.solver_loss, clip.loss / clip.solver_loss
            gain = soft.loss / clip.loss
            broken += gain > ROUNDING or abs(near - 1) > NEAR
            print(f"| {start} | {content}, {style} | {gain:.3f} | {near:.4f} | {far:.2f} |", flush=True)
    print(f"{broken} rows break a promise" if broken else "every row keeps the promises")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
