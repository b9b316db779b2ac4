"""The loss of a batch of images and its gradient: one pass forward, one back, by equations (2) and (6).

Written out instead of left to automatic differentiation, which keeps every response and adds gradients into
new tensors: here a response that no loss looks at is kept as one byte a value (where its ReLU let it pass),
everything is let go as soon as it was used, and gradients add up in place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stylebatch.recipe import LAYERS
from stylebatch.synthesis.convolutions import Convolution
from stylebatch.synthesis.layers import layer_inputs, layer_sides
from stylebatch.synthesis.losses import LossTerms, Objective
from stylebatch.synthesis.poolings import POOLINGS
from stylebatch.synthesis.strips import FirstBlock
from stylebatch.synthesis.tiling import STRIP_LAYERS, takes_strips
from stylebatch.synthesis.vgg import VGG19, check_image_size
from stylebatch.synthesis.workspace import Workspace

PIECE_VALUES = 2**18
"""Gradients that are gated at a time: a megabyte of them."""


@dataclass(frozen=True)
class _Step:
    """A layer, on the way back."""

    layer: str
    """Its name."""
    response: Tensor | None
    """Where a loss looks at it."""
    back: Callable[[Tensor], Tensor]
    """From the gradient by its responses, which may be overwritten, to that by the responses below."""


class LossGradient:
    """The loss and its gradient for images of one shape.

    Args:
        network: The VGG-19; its device is where the work is done.
        layers: The layers that losses look at, at least one.
        pooling: ``average`` or ``max``.
        shape: ``(B, 3, H, W)`` of the images; smaller batches may come too.

    Raises:
        SynthesisError: The images are too small for the deepest layer.
    """

    def __init__(self, network: VGG19, layers: set[str], pooling: str, shape: tuple[int, ...]) -> None:
        batch, _, height, width = shape
        deepest = max(LAYERS.index(layer) for layer in layers)
        check_image_size(height, width, LAYERS[deepest])
        self._network = network
        self._pool = POOLINGS[pooling]
        self._wanted = layers
        self._workspace = Workspace()
        self._first = FirstBlock(network, pooling, self._workspace) if takes_strips(layers) else None
        self._layers = LAYERS[len(STRIP_LAYERS) if self._first else 0 : deepest + 1]
        self._convolutions: dict[str, Convolution] = {}
        for layer in self._layers:
            if not layer.startswith("pool"):
                inputs = (batch, layer_inputs(layer), *layer_sides(height, width, layer))
                place = layer if layer in layers else ""
                self._convolutions[layer] = network.convolution(layer, inputs, self._workspace, place)

    @torch.no_grad()
    def __call__(self, images: Tensor, objective: Objective) -> tuple[LossTerms, Tensor]:
        """Evaluate a batch.

        Args:
            images: ``(B, 3, H, W)`` RGB, 0..255 (values outside are allowed).
            objective: What they are compared with, at the layers that were announced.

        Returns:
            The losses, and the gradient of each by its image, ``(B, 3, H, W)``, channels-last in memory.
        """
        steps, top = self._forward(images)
        content: dict[str, Tensor] = {}
        style: dict[str, Tensor] = {}
        gradient = torch.zeros_like(top)
        del top
        while steps:
            step = steps.pop()
            if step.response is not None:
                if step.layer in objective.content_targets:
                    content[step.layer] = objective.add_content(step.layer, step.response, gradient)
                if step.layer in objective.style_targets:
                    style[step.layer] = objective.add_style(step.layer, step.response, gradient)
            gradient = step.back(gradient)
        first = self._first
        gradient = first.back(gradient, objective, content, style) if first else gradient.clone()
        tv = objective.add_total_variation(images, gradient)
        return LossTerms(_shallow_first(content), _shallow_first(style), tv), gradient

    @torch.no_grad()
    def losses(self, images: Tensor, objective: Objective) -> LossTerms:
        """The losses alone, by one pass forward in the memory of the others; arguments as for a call."""
        steps, _ = self._forward(images)
        responses = ((step.layer, step.response) for step in steps if step.response is not None)
        terms = objective.terms(images, responses)
        if self._first is None:
            return terms
        content, style = self._first.losses(objective)
        return LossTerms(content | {**terms.content}, style | {**terms.style}, terms.tv)

    def _forward(self, images: Tensor) -> tuple[list[_Step], Tensor]:
        """The steps that lead back, and the deepest response."""
        steps, current = [], self._network.centred(images)
        if self._first:
            current = self._first.respond(current)
        for layer in self._layers:
            if layer.startswith("pool"):
                current, back = self._pool(current, self._workspace)
            else:
                current, back = self._respond(layer, current)
            steps.append(_Step(layer, current if layer in self._wanted else None, back))
        return steps, current

    def _respond(self, layer: str, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """A convolution's response after its ReLU, and the way back through both."""
        own = self._convolutions[layer]
        response = self._network.respond(layer, inputs, own)
        passed = response if layer in self._wanted else response > 0
        return response, lambda gradient: own.adjoint(_gated(gradient, passed))


def _gated(gradient: Tensor, passed: Tensor) -> Tensor:
    """The gradient, changed in place, where the ReLU let a response pass (``passed > 0``), else 0.

    Done in pieces: the intermediate values stay in the processor's cache, and take no memory to speak of.
    """
    values_a_row = gradient.numel() // gradient.shape[2]
    rows = max(1, PIECE_VALUES // values_a_row)
    for first in range(0, gradient.shape[2], rows):
        piece = slice(first, first + rows)
        gradient[:, :, piece].mul_(passed[:, :, piece] > 0)
    return gradient


def _shallow_first(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {layer: losses[layer] for layer in reversed(losses)}
