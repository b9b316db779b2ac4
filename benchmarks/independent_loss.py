"""The loss that judges every program alike: written plainly, apart from the product's own.

One convention for all, that of the authors' later code (docs/conventions.md, ``gatys-code``), with average
pooling: ``mean (F - P)^2`` at conv4_2 and ``1e3 / N^2 * mean (G/M - A/M_a)^2`` at the five style layers.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.weights import read_weights

CONTENT_LAYER = "conv4_2"
STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
STYLE_WEIGHT = 1e3
MEAN_BGR = (103.939, 116.779, 123.68)
CONVOLUTIONS = (2, 2, 4, 4, 1)
"""Of each block, as far as a loss looks."""


def read_pixels(file: Path) -> Tensor:
    """A picture file as ``(1, 3, H, W)``, RGB, 0..255."""
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float()


class IndependentLoss:
    """The loss of any picture against one content and one style."""

    def __init__(self, content: Tensor, style: Tensor) -> None:
        filters = read_weights(bundled_weights()).filters
        self._filters = filters
        self._content = self._responses(content)[CONTENT_LAYER]
        self._grams = self._gram_matrices(self._responses(style))

    @torch.no_grad()
    def __call__(self, picture: Tensor) -> float:
        """The loss of ``(1, 3, H, W)``, RGB, as an 8-bit file would hold it: clipped and rounded."""
        responses = self._responses(picture.round().clamp(0, 255))
        loss = (responses[CONTENT_LAYER] - self._content).square().mean()
        for layer, gram in self._gram_matrices(responses).items():
            loss += STYLE_WEIGHT / len(gram) ** 2 * (gram - self._grams[layer]).square().mean()
        return float(loss)

    def of_file(self, file: Path) -> float:
        """The loss of a picture file."""
        return self(read_pixels(file))

    @torch.no_grad()
    def _responses(self, picture: Tensor) -> dict[str, Tensor]:
        current = picture[:, [2, 1, 0]] - torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
        found = {}
        for block, convolutions in enumerate(CONVOLUTIONS, start=1):
            for number in range(1, convolutions + 1):
                layer = f"conv{block}_{number}"
                weight, bias = self._filters[layer]
                current = functional.conv2d(current, weight, bias, padding=1).relu()
                if layer in (CONTENT_LAYER, *STYLE_LAYERS):
                    found[layer] = current
            current = functional.avg_pool2d(current, 2)
        return found

    def _gram_matrices(self, responses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        flat = {layer: responses[layer][0].flatten(1) for layer in STYLE_LAYERS}
        return {layer: F @ F.T / F.shape[1] for layer, F in flat.items()}
