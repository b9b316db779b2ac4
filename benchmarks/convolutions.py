"""What one convolution takes by each algorithm, and its way back: python benchmarks/convolutions.py [THREADS]

Forward and back together, in milliseconds; medians. ``kept`` is with Winograd's filters kept transformed,
``MKL`` with its products by torch.bmm. Ten seconds on a quiet machine; on a busy one it is worth nothing.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor

from stylebatch.synthesis import winograd
from stylebatch.synthesis.convolutions import Direct
from stylebatch.synthesis.products import BatchedProducts
from stylebatch.synthesis.winograd import Winograd
from stylebatch.synthesis.workspace import Workspace

SHAPES = (
    (64, 128, 192, 256),
    (128, 128, 192, 256),
    (256, 256, 96, 128),
    (512, 512, 48, 64),
    (512, 512, 24, 24),
)
"""Channels, filters, height, width: of conv2_1 to conv4_2 at 512 x 384, and of conv4_2 at 192 x 192."""
ROUNDS = 11


def channels_last(*shape: int) -> Tensor:
    """Random values."""
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last)


@contextmanager
def products_by_mkl() -> Iterator[None]:
    """Within the block, convolutions make their products with torch.bmm."""

    def by_mkl(matrices: Tensor, rows: int | None = None) -> BatchedProducts:
        return BatchedProducts(matrices if rows is None else matrices.clone())

    with patch.object(winograd, "products_with", by_mkl):
        yield


def milliseconds(works: list[Callable[[], object]]) -> list[float]:
    """The median of each, taking turns."""
    taken: list[list[float]] = [[] for _ in works]
    for round_number in range(ROUNDS + 1):
        for work, seconds in zip(works, taken, strict=True):
            started = time.perf_counter()
            work()
            if round_number:
                seconds.append(1000 * (time.perf_counter() - started))
    return [statistics.median(seconds) for seconds in taken]


def row(channels: int, filters: int, height: int, width: int) -> list[float]:
    """Direct; products by MKL, fresh and kept; by oneDNN, fresh and kept."""
    weight, bias = channels_last(filters, channels, 3, 3), torch.zeros(filters)
    inputs, gradients = channels_last(1, channels, height, width), channels_last(1, filters, height, width)

    def both_ways(own: Direct | Winograd) -> None:
        own.convolve(inputs, bias)
        own.adjoint(gradients)

    def by_mkl(own: Winograd) -> None:
        with products_by_mkl():
            both_ways(own)

    own = [Winograd(weight, keeps, Workspace(), "results") for keeps in (False, True, False, True)]
    works: list[Callable[[], object]] = [lambda: both_ways(Direct(weight))]
    works += [lambda: by_mkl(own[0]), lambda: by_mkl(own[1])]
    works += [lambda: both_ways(own[2]), lambda: both_ways(own[3])]
    return milliseconds(works)


@torch.no_grad()
def main() -> int:
    """Print the table."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print("| channels x filters, positions | direct | MKL | MKL, kept | oneDNN | oneDNN, kept |")
    print("|---|---|---|---|---|---|")
    for channels, filters, height, width in SHAPES:
        found = " | ".join(f"{taken:.1f}" for taken in row(channels, filters, height, width))
        print(f"| {channels} x {filters}, {height} x {width} | {found} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
