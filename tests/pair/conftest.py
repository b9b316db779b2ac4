"""The bundled network, a store with pictures, and pairs of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from inmemory import MemoryStore, picture_bytes

from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.problems import Solution
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import Weights, read_weights


class CountingNetwork(VGG19):
    """Counts forward passes."""

    calls = 0

    def centred(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().centred(images)


@pytest.fixture(scope="session")
def weights() -> Weights:
    return read_weights(bundled_weights())


@pytest.fixture(scope="session")
def session_network(weights: Weights) -> CountingNetwork:
    return CountingNetwork(weights)


@pytest.fixture
def network(session_network: CountingNetwork) -> CountingNetwork:
    """The real VGG-19, whose ``calls`` start from 0."""
    session_network.calls = 0
    return session_network


@pytest.fixture
def store() -> MemoryStore:
    """``c.png`` and ``d.png`` 64 x 48, ``tall.png`` 48 x 64, ``s.png`` 40 x 40 and ``t.png`` 80 x 40."""
    sizes = {"c": (64, 48), "d": (64, 48), "tall": (48, 64), "s": (40, 40), "t": (80, 40)}
    return MemoryStore(
        {f"/in/{name}.png": picture_bytes(*size, seed) for seed, (name, size) in enumerate(sizes.items())}
    )


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    """``make_pair(content="c", *styles, pair_id="p0", row=0, **recipe)``: names of pictures in the store."""

    def make(
        content: str | None = "c", *styles: str, pair_id: str = "p0", row: int = 0, **recipe: Any
    ) -> Pair:
        settings = {"size": 48, "iterations": 2, "start": "content" if content else "noise", **recipe}
        uris = tuple(f"/in/{style}.png" for style in styles)
        return Pair(pair_id, row, content and f"/in/{content}.png", uris, Recipe(**settings))

    return make


@pytest.fixture
def solution() -> Solution:
    """A picture that nobody had to compute."""
    image = torch.arange(3 * 20 * 32, dtype=torch.float32).view(3, 20, 32).remainder(256)
    layers = {"content_conv4_2": 2.0, "style_conv1_1": 1.0}
    return Solution(
        image=image,
        to_encode=image,
        loss=3.0,
        content_loss=2.0,
        style_loss=1.0,
        layer_losses=layers,
        solver_loss=2.9,
        loss_curve=(9.0, 4.0, 2.9),
        layer_residuals={"content_conv4_2": 0.2, "style_conv1_1": 0.1},
        loss_change=2.1,
        clipped_fraction=0.125,
        adjusted_clipped_fraction=0.0625,
        achieved={"mean_luminance": 0.5},
        evaluations=3,
        smaller_evaluations=(),
        stop_reason=StopReason.ITERATIONS,
    )
