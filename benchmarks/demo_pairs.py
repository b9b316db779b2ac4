"""The demo's pairs, one image at a time: what the benchmarks beside this file synthesize."""

from pathlib import PurePath

from photographs import photograph

from stylebatch.design.demo import DEMO_PAIRS
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import Problem, Solution, white_noise
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.targets import Targets, content_targets, style_targets
from stylebatch.synthesis.vgg import VGG19

NAMES = tuple((PurePath(pair.content).stem, PurePath(pair.style).stem) for pair in DEMO_PAIRS)
"""Content and style of each pair, as :func:`photographs.photograph` knows them."""


def solve(network: VGG19, names: tuple[str, str], longer_side: int, recipe: Recipe) -> Solution:
    """One picture of this longer side in pixels, from the content or from white noise, as the recipe says."""
    content, style = (photograph(name, longer_side) for name in names)
    targets = Targets(
        content_targets(network, content, recipe.content_layers, recipe.pooling),
        style_targets(network, style, recipe.style_layers, recipe.pooling),
    )
    _, height, width = content.shape
    start = content if recipe.start == "content" else white_noise(height, width, recipe.seed)
    return synthesize(network, [Problem(recipe, targets, start)])[0]
