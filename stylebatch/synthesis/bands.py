"""Images in parts that are orthogonal to one another: brightness and colour, from fine to coarse.

The loss curves differently along them (grey styles resist colour, fine textures resist smooth changes), so
L-BFGS's first guess of the inverse Hessian has a factor for each (:mod:`stylebatch.synthesis.lbfgs`).
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stylebatch.synthesis.problems import as_images, as_rows

BLOCKS = (1, 2, 4, 8)
"""Sides of the squares of pixels whose means tell the scales apart."""


class Bands(Protocol):
    """A way to split vectors into K orthogonal parts that add up to them."""

    count: int
    """K."""

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """The inner products of the parts of vectors ``(B, n)``: ``(B, K)``."""
        ...

    def scaled(self, vectors: Tensor, factors: Tensor) -> Tensor:
        """Vectors ``(B, n)`` with each part multiplied by its factor, ``(B, K)``."""
        ...


class Whole:
    """One part: the vector itself."""

    count = 1

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """The inner products, ``(B, 1)``."""
        return (left * right).sum(dim=1, keepdim=True)

    def scaled(self, vectors: Tensor, factors: Tensor) -> Tensor:
        """Vectors ``(B, n)`` times ``(B, 1)``."""
        return vectors * factors


WHOLE = Whole()


class ImageBands:
    """Brightness and colour of an image, each as what a mean over blocks keeps of what a finer one keeps.

    A mean over the blocks of a partition is an orthogonal projection, and so is the mean over the three
    channels; the partitions are nested, so the differences of successive means are orthogonal. The first
    half of the parts is the brightness from fine to coarse, the second half the colour.

    Args:
        shape: ``(3, H, W)``; vectors hold such an image in channels-last order.
    """

    count = 2 * len(BLOCKS)

    def __init__(self, shape: torch.Size) -> None:
        self._shape = shape

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """The inner products of the parts of images ``(B, n)``: ``(B, 8)``."""
        grey, whole = [], []
        pairs = zip(self._means(left), self._means(right), strict=True)
        for block, (one, other) in zip(BLOCKS, pairs, strict=True):
            pixels = self._pixels(block, like=left)
            whole.append((one * other).sum(1).mul_(pixels).sum(dim=(1, 2)))
            grey.append(3 * (one.mean(1) * other.mean(1)).mul_(pixels).sum(dim=(1, 2)))
        colour = [both - part for both, part in zip(whole, grey, strict=True)]
        return torch.stack([*_differences(grey), *_differences(colour)], dim=1)

    def scaled(self, vectors: Tensor, factors: Tensor) -> Tensor:
        """Images ``(B, n)`` with each part multiplied by its factor, ``(B, 8)``."""
        batch, levels = len(vectors), len(BLOCKS)
        grey, colour = factors[:, :levels], factors[:, levels:]
        grey_steps, colour_steps = (
            torch.diff(part, dim=1, prepend=part.new_zeros(batch, 1)) for part in (grey - colour, colour)
        )
        found = torch.zeros_like(as_images(vectors, self._shape))
        height, width = self._shape[1:]
        for level, means in enumerate(self._means(vectors)):
            by_image = (-1, 1, 1, 1)
            part = means * colour_steps[:, level].view(by_image)
            part += means.mean(1, keepdim=True) * grey_steps[:, level].view(by_image)
            if level:
                part = functional.interpolate(part, scale_factor=float(BLOCKS[level]))
            found += part[:, :, :height, :width]
        return as_rows(found)

    def _means(self, vectors: Tensor) -> Iterator[Tensor]:
        """The means over the blocks of each size; blocks at the edges may be smaller."""
        images = as_images(vectors, self._shape)
        for block in BLOCKS:
            yield images if block == 1 else functional.avg_pool2d(images, block, ceil_mode=True)

    def _pixels(self, block: int, like: Tensor) -> Tensor:
        """How many pixels each block holds, ``(rows, columns)``."""
        rows, columns = (
            torch.tensor([min(block, side - first) for first in range(0, side, block)]).to(like)
            for side in self._shape[1:]
        )
        return rows[:, None] * columns


def _differences(products: list[Tensor]) -> list[Tensor]:
    """Of what each mean keeps and the coarser one does not; the coarsest mean comes last."""
    return [*(fine - coarse for fine, coarse in pairwise(products)), products[-1]]
