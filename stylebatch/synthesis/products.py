"""A few matrix products at once, by the faster of torch's two libraries.

On x86 processors torch multiplies matrices with MKL, which leaves half of an AMD processor's vector units
idle; its convolutions go through oneDNN, which does not. A convolution of 1 x 1 in groups is a matrix product
for each group.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

CAPABILITIES = ("AVX2", "AVX512")
"""Of a processor, as torch calls them, for which oneDNN's grouped convolutions are known to be fast."""
_GEOMETRY: tuple[list[int], list[int], list[int]] = ([0, 0], [1, 1], [1, 1])
"""Padding, stride and dilation of a convolution that looks at one position."""


class Products(Protocol):
    """``inputs[:, g] @ matrices[g].T`` for each g."""

    def __call__(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(T, G, N)`` from contiguous ``(T, G, C)``, plus the bias ``(G, N)``."""
        ...


class BatchedProducts:
    """By :func:`torch.bmm`.

    Args:
        matrices: ``(G, N, C)``.
    """

    def __init__(self, matrices: Tensor) -> None:
        self._matrices = matrices.transpose(1, 2)

    def __call__(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(T, G, N)`` from contiguous ``(T, G, C)``, plus the bias ``(G, N)``."""
        products = torch.bmm(inputs.transpose(0, 1), self._matrices).transpose(0, 1)
        return products if bias is None else products.add_(bias)


class GroupedProducts:
    """By oneDNN.

    Args:
        matrices: ``(G, N, C)``, contiguous, in float32.
        rows: T, for which the matrices are laid out anew once: with another, oneDNN would fall back to code
            that is a hundred times as slow. None: any, and they are laid out anew each time.
    """

    def __init__(self, matrices: Tensor, rows: int | None) -> None:
        self._groups, filters, channels = matrices.shape
        self._weight = matrices.view(self._groups * filters, channels, 1, 1)
        if rows is not None:
            shape = [1, self._groups * channels, rows, 1]
            self._weight = _pack(self._weight.to_mkldnn(), *_GEOMETRY, self._groups, shape)

    def __call__(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """``(T, G, N)`` from contiguous ``(T, G, C)``, plus the bias ``(G, N)``."""
        rows = len(inputs)
        image = inputs.view(1, rows, 1, -1).permute(0, 3, 1, 2)
        flat = None if bias is None else bias.flatten()
        made: Tensor = _convolve(image, self._weight, flat, *_GEOMETRY, self._groups, "none", [], "")
        return made.permute(0, 2, 3, 1).view(rows, self._groups, -1)


def products_with(matrices: Tensor, rows: int | None = None) -> Products:
    """The faster of the two.

    Args:
        matrices: ``(G, N, C)``, contiguous.
        rows: T, where the products will be used again and again: they hold a copy of the matrices. None where
            they are used before the matrices change.
    """
    if _suits_grouping(matrices):
        return GroupedProducts(matrices, rows)
    return BatchedProducts(matrices if rows is None else matrices.clone())


def _suits_grouping(matrices: Tensor) -> bool:
    return (
        matrices.dtype == torch.float32
        and bool(torch.backends.mkldnn.enabled)
        and _pack is not None
        and _convolve is not None
        and torch.backends.cpu.get_cpu_capability() in CAPABILITIES
    )


# Operators without a public name: None in a build of torch that lacks them.
_pack: Any = getattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", None)
_convolve: Any = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
