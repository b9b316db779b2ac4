"""The network's poolings over 2 x 2 positions, and the way back through them.

Each takes responses ``(B, N, H, W)`` and returns them pooled, with a function from the gradient by the pooled
responses to that by the responses. Odd sides lose their last row or column, which gets no gradient.
"""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

Back = Callable[[Tensor], Tensor]
"""From the gradient by what came out to that by what went in."""


def average_pool(responses: Tensor) -> tuple[Tensor, Back]:
    """The mean of each square."""
    height, width = responses.shape[2:]

    def back(gradient: Tensor) -> Tensor:
        spread = functional.interpolate(gradient.div_(4), scale_factor=2, mode="nearest")
        return functional.pad(spread, (0, width % 2, 0, height % 2))

    return functional.avg_pool2d(responses, 2), back


def max_pool(responses: Tensor) -> tuple[Tensor, Back]:
    """The largest value of each square."""
    size = responses.shape[2:]
    pooled, places = functional.max_pool2d(responses, 2, return_indices=True)
    return pooled, lambda gradient: functional.max_unpool2d(gradient, places, [2, 2], output_size=list(size))


POOLINGS: Mapping[str, Callable[[Tensor], tuple[Tensor, Back]]] = {"average": average_pool, "max": max_pool}
"""By the recipe's name."""
