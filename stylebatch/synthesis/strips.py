"""The first block in strips of a few rows, forward and back: its large responses are never whole.

Each of these is twice as large as any deeper one; a strip of it stays in the processor's cache. The Gram
matrix of conv1_1 adds up over the strips, and its responses are computed anew on the way back: that takes one
product in 400 more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from stylebatch.synthesis.convolutions import some_rows
from stylebatch.synthesis.losses import Objective, add_style_gradients, gram_sums
from stylebatch.synthesis.poolings import POOLINGS
from stylebatch.synthesis.tiling import STRIP_LAYERS, STRIP_VALUES
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.workspace import Workspace


@dataclass(frozen=True)
class _Strip:
    """Some rows of the block's responses, on the way back."""

    first: int
    """The first row."""
    last: int
    """The one behind the last."""
    passed: Tensor
    """Where the ReLU of conv1_2 let a response pass, ``(B, 64, rows, W)``, bool."""
    back: Callable[[Tensor], Tensor]
    """The way back through the pooling."""


class FirstBlock:
    """conv1_1, conv1_2 and pool1, with the losses that look at conv1_1.

    Args:
        network: The VGG-19.
        pooling: ``average`` or ``max``.
        workspace: Where the pooled responses are written.
    """

    def __init__(self, network: VGG19, pooling: str, workspace: Workspace) -> None:
        self._weights = [network.get_buffer(f"{layer}_weight") for layer in STRIP_LAYERS[:2]]
        self._biases = [network.get_buffer(f"{layer}_bias") for layer in STRIP_LAYERS[:2]]
        self._pool = POOLINGS[pooling]
        self._workspace = workspace
        self._strip_workspace = Workspace()
        self._images = torch.empty(0)
        self._strips: list[_Strip] = []
        self._gram = torch.empty(0)

    def respond(self, images: Tensor) -> Tensor:
        """The responses of pool1, ``(B, 64, H // 2, W // 2)``, to centred images ``(B, 3, H, W)``."""
        batch, _, height, width = images.shape
        filters = len(self._biases[0])
        self._images, self._strips = images, []
        self._gram = images.new_zeros(batch, filters, filters)
        pooled = self._workspace.flow(images, batch, height // 2, width // 2, filters)
        for first, last in _strips(batch * filters * width, height):
            above, below = max(first - 1, 0), min(last + 1, height)
            inner = self._conv1_1(above, below)
            own = slice(first - above, last - above)
            self._gram += gram_sums(inner[:, :, own])
            response = self._convolve(1, inner)[:, :, own]
            strip, back = self._pool(functional.relu_(response), self._strip_workspace)
            pooled[:, first // 2 : last // 2] = strip.permute(0, 2, 3, 1)
            self._strips.append(_Strip(first, last, response > 0, back))
        return pooled.permute(0, 3, 1, 2)

    def back(
        self, gradients: Tensor, objective: Objective, content: dict[str, Tensor], style: dict[str, Tensor]
    ) -> Tensor:
        """From gradients by pool1's responses, which are overwritten, to those by the images.

        Args:
            gradients: ``(B, 64, H // 2, W // 2)``.
            objective: What conv1_1's responses are compared with, if at all.
            content: Gets their content losses ``(B,)``, by the layer's name.
            style: Gets their style losses.
        """
        layer, height = STRIP_LAYERS[0], self._images.shape[2]
        found = torch.zeros_like(self._images)
        losses = self._gram.new_zeros(len(self._gram))
        factors = None
        if layer in objective.style_targets:
            positions = self._positions
            style[layer], factors = objective.style_factors(layer, self._gram / positions, positions)
        carried: Tensor | int = 0
        for strip in self._strips:
            outer = strip.back(gradients[:, :, strip.first // 2 : strip.last // 2]).mul_(strip.passed)
            # From one row above the strip to one below it; the last two lack what the next strip adds.
            spread = self._adjoint(1, outer)
            spread[:, :, :2] += carried
            carried = spread[:, :, -2:].clone()
            above = strip.first - 1
            first, last = max(above, 0), strip.last - 1 if strip.last < height else height
            inner = spread[:, :, first - above : last - above]
            responses = self._conv1_1(first, last)
            if layer in objective.content_targets:
                losses += objective.add_content(layer, responses, inner, slice(first, last))
            if factors is not None:
                add_style_gradients(responses, factors, inner)
            top, bottom = max(first - 1, 0), min(last + 1, height)
            by_pixels = self._adjoint(0, inner.mul_(responses > 0))
            found[:, :, top:bottom] += by_pixels[:, :, top - first + 1 : bottom - first + 1]
        if layer in objective.content_targets:
            content[layer] = losses
        self._strips.clear()
        return found

    def losses(self, objective: Objective) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The content and the style losses ``(B,)`` of what :meth:`respond` saw last, by layer."""
        layer, content, style = STRIP_LAYERS[0], {}, {}
        if layer in objective.content_targets:
            content[layer] = self._gram.new_zeros(len(self._gram))
            for strip in self._strips:
                responses = self._conv1_1(strip.first, strip.last)
                rows = slice(strip.first, strip.last)
                content[layer] += objective.content_losses(layer, responses, rows)
        if layer in objective.style_targets:
            style[layer] = objective.style_losses(layer, self._gram / self._positions)
        return content, style

    @property
    def _positions(self) -> int:
        """M of conv1_1."""
        return self._images.shape[2:].numel()

    def _conv1_1(self, first: int, last: int) -> Tensor:
        """Some rows of its response after the ReLU, which see the rows next to them."""
        return functional.relu_(some_rows(self._images, first, last, partial(self._convolve, 0)))

    def _convolve(self, number: int, inputs: Tensor) -> Tensor:
        """What one of the two convolutions makes of its inputs, before the ReLU."""
        return functional.conv2d(inputs, self._weights[number], self._biases[number], padding=1)

    def _adjoint(self, number: int, gradients: Tensor) -> Tensor:
        """From gradients by some rows of a convolution's results to those by its inputs, a row more at
        either end."""
        weight = self._weights[number]
        batch, _, rows, width = gradients.shape
        shape = (batch, weight.shape[1], rows + 2, width)
        found: Tensor = conv2d_input(shape, weight, gradients, padding=(0, 1))  # type: ignore[no-untyped-call]
        return found


def _strips(values_a_row: int, height: int) -> Iterator[tuple[int, int]]:
    """First row, and the one behind the last, of each strip: an even number of rows but for the last."""
    rows = max(2, STRIP_VALUES // values_a_row // 2 * 2)
    firsts = range(0, max(height - 1, 1), rows)
    for first in firsts:
        yield first, height if first == firsts[-1] else first + rows
