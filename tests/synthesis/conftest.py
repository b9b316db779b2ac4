"""The bundled network, real photographs and problems made of them."""

import copy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.problems import Problem, white_noise
from stylebatch.synthesis.targets import Targets, blend_styles, content_targets, style_targets
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import CONVOLUTIONS, Weights, filter_shapes, read_weights


@pytest.fixture(scope="session")
def bundled() -> Weights:
    """The original VGG-19 of the installed package."""
    return read_weights(bundled_weights())


@pytest.fixture(scope="session")
def network(bundled: Weights) -> VGG19:
    return VGG19(bundled)


@pytest.fixture(scope="session")
def network64(network: VGG19) -> VGG19:
    """The same network in float64, for comparisons to many digits."""
    return copy.deepcopy(network).double()


@pytest.fixture(scope="session")
def random_filters() -> dict[str, tuple[Tensor, Tensor]]:
    """Filters that keep the size of responses about the same through all layers."""
    generator = torch.Generator().manual_seed(5)
    filters = {}
    for layer in CONVOLUTIONS:
        shape = filter_shapes()[layer]
        weight = torch.randn(shape, generator=generator) * (2 / (9 * shape[1])) ** 0.5
        filters[layer] = (weight, 0.1 * torch.randn(shape[0], generator=generator))
    return filters


@pytest.fixture(scope="session")
def photograph() -> Callable[..., Tensor]:
    """``photograph(name, height, width)``: one of scikit-image's, cropped to shape, ``(3, H, W)``, 0..255."""
    package = find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent / "data"

    def read(name: str, height: int, width: int) -> Tensor:
        with Image.open(next(folder.glob(f"{name}.*g"))) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float()

    return read


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    """``make_problem(network, recipe, content, *styles, start=None)``, in the network's own precision."""

    def make(
        network: VGG19, recipe: Recipe, content: Tensor | None, *styles: Tensor, start: Tensor | None = None
    ) -> Problem:
        if start is None:
            start = content if recipe.start == "content" else None
        if start is None:
            start = white_noise(*(content if content is not None else styles[0]).shape[-2:], recipe.seed)
        precision = network.mean.dtype
        measured = [
            style_targets(network, style.to(precision), recipe.style_layers, recipe.pooling)
            for style in styles
        ]
        contents = (
            {}
            if content is None
            else content_targets(network, content.to(precision), recipe.content_layers, recipe.pooling)
        )
        return Problem(
            recipe, Targets(contents, blend_styles(measured, recipe.style_blend)), start.to(precision)
        )

    return make
