"""The network's poolings over 2 x 2 positions, and the way back through them.

Each takes responses ``(B, N, H, W)`` and returns them pooled, with a function from the gradient by the pooled
responses to that by the responses. Odd sides lose their last row or column, which gets no gradient.
"""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional

from stylebatch.synthesis.workspace import Workspace

Back = Callable[[Tensor], Tensor]
"""From the gradient by what came out to that by what went in."""


def average_pool(responses: Tensor, workspace: Workspace) -> tuple[Tensor, Back]:
    """The mean of each square."""
    batch, channels, height, width = responses.shape

    def back(gradient: Tensor) -> Tensor:
        spread = workspace.flow(gradient, batch, height, width, channels)
        spread[:, height // 2 * 2 :] = 0
        spread[:, :, width // 2 * 2 :] = 0
        even = spread[:, : height // 2 * 2, : width // 2 * 2]
        squares = even.view(batch, height // 2, 2, width // 2, 2, channels)
        shares = gradient.div_(4).permute(0, 2, 3, 1)
        squares.copy_(shares[:, :, None, :, None])
        return spread.permute(0, 3, 1, 2)

    return functional.avg_pool2d(responses, 2), back


def max_pool(responses: Tensor, workspace: Workspace) -> tuple[Tensor, Back]:
    """The largest value of each square."""
    size = responses.shape[2:]
    pooled, places = functional.max_pool2d(responses, 2, return_indices=True)
    return pooled, lambda gradient: functional.max_unpool2d(gradient, places, [2, 2], output_size=list(size))


POOLINGS: Mapping[str, Callable[[Tensor, Workspace], tuple[Tensor, Back]]] = {
    "average": average_pool,
    "max": max_pool,
}
"""By the recipe's name."""
