"""The network's convolutions, forward and back, by whichever algorithm is faster at a size."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from stylebatch.synthesis.tiling import keeps_winograd_filters, pays_winograd
from stylebatch.synthesis.winograd import Winograd
from stylebatch.synthesis.workspace import LARGE_VALUES, Workspace


class Convolution(Protocol):
    """A 3 x 3 convolution with zero padding 1."""

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """``(B, N, H, W)`` from ``(B, C, H, W)``, plus the bias ``(N,)``."""
        ...

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients by the results ``(B, N, H, W)`` to those by the inputs ``(B, C, H, W)``."""
        ...


class InPieces:
    """The convolution as torch computes it, a few rows at a time, into memory that is used again.

    Args:
        weight: ``(N, C, 3, 3)``, channels-last in memory.
        name: Of a place for the results, as in :meth:`Workspace.place`.
        workspace: Where results and gradients are written.
    """

    def __init__(self, weight: Tensor, name: str, workspace: Workspace) -> None:
        self._direct = Direct(weight)
        self._channels = weight.shape[1]
        self._filters = len(weight)
        self._name = name
        self._workspace = workspace

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """``(B, N, H, W)`` from ``(B, C, H, W)``, plus the bias ``(N,)``."""
        batch, _, height, width = inputs.shape
        results = self._workspace.place(self._name, inputs, batch, height, width, self._filters)
        return _by_rows(inputs, results, lambda piece: self._direct.convolve(piece, bias))

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients by the results ``(B, N, H, W)`` to those by the inputs ``(B, C, H, W)``."""
        batch, _, height, width = gradients.shape
        results = self._workspace.flow(gradients, batch, height, width, self._channels)
        return _by_rows(gradients, results, self._direct.adjoint)


def _by_rows(inputs: Tensor, results: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``work`` makes of ``(B, C, H, W)``, written into ``(B, H, W, N)`` a few rows at a time."""
    height, found = inputs.shape[2], results.permute(0, 3, 1, 2)
    rows = max(1, LARGE_VALUES * height // max(inputs.numel(), results.numel()))
    for first in range(0, height, rows):
        last = min(first + rows, height)
        found[:, :, first:last] = some_rows(inputs, first, last, work)
    return found


def some_rows(inputs: Tensor, first: int, last: int, work: Callable[[Tensor], Tensor]) -> Tensor:
    """The rows ``first`` to ``last`` (without it) of what a convolution makes of ``(B, C, H, W)``.

    It is given a row more at either end, so that these rows see their neighbours.
    """
    above = max(first - 1, 0)
    return work(inputs[:, :, above : last + 1])[:, :, first - above : last - above]


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
    layer: str, weight: Tensor, shape: Sequence[int], workspace: Workspace, place: str | None
) -> Convolution:
    """The faster algorithm for inputs of this size; the choice depends on a picture's size, not on the batch.

    Args:
        layer: Its name.
        weight: ``(N, C, 3, 3)``, channels-last in memory.
        shape: ``(B, C, H, W)`` of the inputs.
        workspace: For the convolutions of one thread.
        place: For its results, as in :meth:`Workspace.place`; None for a convolution that is used once, for
            which nothing is worth keeping.
    """
    batch, _, height, width = shape
    if weight.device.type != "cpu":
        return Direct(weight)  # a GPU's libraries choose among algorithms, and keep memory, themselves
    if pays_winograd(layer, height, width):
        keeps_filters = place is not None and keeps_winograd_filters(layer, height, width, batch)
        return Winograd(weight, keeps_filters, workspace, place)
    if place is not None and batch * len(weight) * height * width > LARGE_VALUES:
        return InPieces(weight, place, workspace)
    return Direct(weight)
