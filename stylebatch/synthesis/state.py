"""Where the synthesis of one image stands between two evaluations, so that it can go on somewhere else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from stylebatch.synthesis.optimizers import StopReason


@dataclass(frozen=True)
class ImageState:
    """All that the further way of one image depends on, besides its problem.

    There is no random generator in it: chance has its only part in the start image, which the recipe's seed
    decides. Images that stand at the same size and number of evaluations can go on in one batch, whatever
    batches they come from; in the batch that they come from, in the same order, they go on to the same bytes.
    """

    evaluations: int
    """That its batch had used at this size; more than its own where it stopped before others did."""
    loss_curve: tuple[float, ...]
    """As in :class:`stylebatch.synthesis.problems.Solution`, so far."""
    stop_reason: StopReason | None
    """Why it stopped; None while it is being worked on."""
    tensors: Mapping[str, Tensor]
    """By name, on the CPU: ``points``, the best image so far; and what else its optimiser remembers of it."""
    smaller_evaluations: tuple[int, ...] = ()
    """Those used at each smaller size that is done, the smallest first."""


TakeStates = Callable[[], list[ImageState]]
"""Copies where every image of a batch stands."""
OfferStates = Callable[[TakeStates], None]
"""Called between two evaluations; may call its argument before it returns, not later."""
