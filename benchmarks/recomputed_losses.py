"""How far a picture's losses move when they are computed in another way: what ``verify`` has to allow.

Five pictures of scikit-image's photographs, at 96 or so many pixels, 60 evaluations; each is measured anew
with two torch threads, in a batch of four, with direct convolutions in place of Winograd's, and by torch's
own kernels in place of oneDNN's.

    python benchmarks/recomputed_losses.py [SIZE]

prints the largest difference of a layer's loss (relative) and of a residual for each, and exits with 1 if one
is outside the tolerance. About two minutes; needs the extra ``demo``.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from skimage import data
from torch import Tensor

from stylebatch import Recipe, stylize
from stylebatch.audit.losses import SAME_DEVICE, Losses, measured_losses
from stylebatch.pair.loading import LoadedPair, Source, size_sources
from stylebatch.pair.targets import TargetCache
from stylebatch.pictures import from_array
from stylebatch.synthesis import convolutions
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.problems import batch_objective
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import read_weights

CASES: tuple[tuple[str | None, str | None, dict[str, Any]], ...] = (
    ("chelsea", "gravel", {"start": "content", "style_weight": 1e4}),
    ("astronaut", "coffee", {"seed": 1}),
    ("rocket", "retina", {"start": "recoloured"}),
    (None, "brick", {}),
    ("coffee", None, {"content_layers": ["conv2_1"]}),
)


@contextmanager
def two_threads() -> Iterator[None]:
    """As a worker with two cores."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@contextmanager
def no_winograd() -> Iterator[None]:
    """As if direct convolutions were always the faster ones."""
    with patch.object(convolutions, "pays_winograd", lambda *_: False):
        yield


@contextmanager
def no_onednn() -> Iterator[None]:
    """As on a processor that oneDNN does not know."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def alone(network: VGG19, loaded: LoadedPair, image: Tensor) -> Losses:
    """The losses as ``verify`` computes them."""
    return measured_losses(network, TargetCache(0), loaded, image)


def in_a_batch(network: VGG19, loaded: LoadedPair, image: Tensor) -> Losses:
    """The same of the third picture of four."""
    objective = batch_objective([TargetCache(0).problem(network, loaded)] * 4, network.device)
    images = torch.stack([255 - image, image.flip(2), image, image.flip(1)])
    evaluate = LossGradient(network, objective.layers, loaded.recipe.pooling, tuple(images.shape))
    terms = evaluate.losses(images, objective)
    parts = {"content": terms.content, "style": terms.style}
    losses = {f"{term}_{layer}": float(part[layer][2]) for term, part in parts.items() for layer in part}
    return Losses(losses, alone(network, loaded, image).scales, 0.0)


def within(context: Any) -> Callable[[VGG19, LoadedPair, Tensor], Losses]:
    """The losses as ``verify`` computes them under other circumstances."""

    def measure(network: VGG19, loaded: LoadedPair, image: Tensor) -> Losses:
        with context():
            return alone(network, loaded, image)

    return measure


WAYS = {
    "two threads": within(two_threads),
    "a batch of four": in_a_batch,
    "no Winograd": within(no_winograd),
    "no oneDNN": within(no_onednn),
}


def source(name: str) -> Source:
    """A photograph."""
    return Source(from_array(getattr(data, name)()), name)


def main() -> int:
    """Print the table; 1 if a difference is outside the tolerance."""
    torch.set_num_threads(1)
    network = VGG19(read_weights(bundled_weights()))
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    worst = dict.fromkeys(WAYS, (0.0, 0.0))
    for content, style, fields in CASES:
        recipe = Recipe(size=size, iterations=60, **fields)
        first, second = (None if name is None else getattr(data, name)() for name in (content, style))
        image = stylize(first, second, recipe, weights=network).image
        loaded = size_sources(
            recipe, source(content) if content else None, [source(style)] if style else [], {}
        )
        told = alone(network, loaded, image)
        for way, measure in WAYS.items():
            found = measure(network, loaded, image)
            losses = max(abs(found.terms[key] / loss - 1) for key, loss in told.terms.items())
            residuals = max(abs(found.residuals[key] - one) for key, one in told.residuals.items())
            worst[way] = max(losses, worst[way][0]), max(residuals, worst[way][1])
    print("| computed with | largest difference of a loss | of a residual |")
    print("|---|---|---|")
    for way, (losses, residuals) in worst.items():
        print(f"| {way} | {losses:.1e} | {residuals:.1e} |")
    return int(any(residuals > SAME_DEVICE.residual for _, residuals in worst.values()))


if __name__ == "__main__":
    sys.exit(main())
