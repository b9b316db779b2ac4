"""The network's convolutions, forward and back, by whichever algorithm is faster at a size."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from stylebatch.synthesis.tiling import keeps_winograd_filters, pays_winograd
from stylebatch.synthesis.winograd import Winograd, Workspace


class Convolution(Protocol):
    """A 3 x 3 convolution with zero padding 1."""

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """``(B, N, H, W)`` from ``(B, C, H, W)``, plus the bias ``(N,)``."""
        ...

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients by the results ``(B, N, H, W)`` to those by the inputs ``(B, C, H, W)``."""
        ...


class Direct:
    """The convolution as torch computes it.

    Args:
        weight: ``(N, C, 3, 3)``, channels-last in memory.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """``(B, N, H, W)`` from ``(B, C, H, W)``, plus the bias ``(N,)``."""
        return functional.conv2d(inputs, self._weight, bias, padding=1)

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients by the results ``(B, N, H, W)`` to those by the inputs ``(B, C, H, W)``."""
        batch, _, height, width = gradients.shape
        shape = (batch, self._weight.shape[1], height, width)
        result: Tensor = conv2d_input(shape, self._weight, gradients, padding=1)  # type: ignore[no-untyped-call]
        return result


def convolution(
    weight: Tensor, shape: Sequence[int], workspace: Workspace, is_used_once: bool
) -> Convolution:
    """The faster algorithm for inputs of this size; the choice depends on a picture's size, not on the batch.

    Args:
        weight: ``(N, C, 3, 3)``, channels-last in memory.
        shape: ``(B, C, H, W)`` of the inputs.
        workspace: For the convolutions of one thread.
        is_used_once: Whether nothing is worth keeping for a second time.
    """
    batch, channels, height, width = shape
    filters = len(weight)
    if weight.device.type != "cpu" or not pays_winograd(channels, filters, height, width):
        return Direct(weight)  # a GPU's library has algorithms of its own to choose from
    keeps_filters = not is_used_once and keeps_winograd_filters(height, width, batch)
    return Winograd(weight, keeps_filters, workspace)
