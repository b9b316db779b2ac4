"""What an optimiser over a batch of images is, and Adam.

An optimiser is asked for trial images and told their losses and gradients, one evaluation at a time. Each
image has its own state: nothing that happens to one changes another.
"""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor


class StopReason(StrEnum):
    """Why the synthesis of an image ended."""

    ITERATIONS = "iterations"
    """The budget of evaluations is spent."""
    CONVERGED = "converged"
    """The loss fell by less than the tolerance, or its gradient is zero."""
    MATCHED = "matched"
    """No layer's residual is larger than the recipe's tolerance of it."""
    NO_DESCENT = "no_descent"
    """No step along the gradient lowers the loss, not even after a restart with a smaller step."""
    NOT_FINITE = "not_finite"
    """The loss or its gradient was not finite, again after a restart with a smaller step."""


class Optimizer(Protocol):
    """Minimises the loss of B images at once, each as a row of n pixel values."""

    points: Tensor
    """``(B, n)``: the best image of each row so far."""
    losses: Tensor
    """``(B,)``: the loss of :attr:`points`."""
    stopped: list[StopReason | None]
    """Per row, why it cannot go on; None while it can."""

    def propose(self) -> Tensor:
        """The images to evaluate next, ``(B, n)``."""
        ...

    def observe(self, losses: Tensor, gradients: Tensor) -> None:
        """Learn the losses ``(B,)`` and gradients ``(B, n)`` of the images proposed last."""
        ...

    def revise(self, losses: Tensor, gradients: Tensor) -> None:
        """Add to the losses ``(B,)`` and gradients ``(B, n)`` at :attr:`points`: the objective changed."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these (indices)."""
        ...

    def state(self, row: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of all that one row's further way depends on."""
        ...

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Go on with a row where another optimiser of the same settings took this :meth:`state`."""
        ...


def finite_rows(losses: Tensor, gradients: Tensor) -> Tensor:
    """``(B,)`` bool: which images have a finite loss and gradient."""
    return torch.isfinite(losses) & torch.isfinite(gradients).all(dim=1)


def keep_rows(holder: object, rows: Tensor) -> None:
    """Reduce every tensor that an object holds to these rows (indices) of its first dimension."""
    for name, value in vars(holder).items():
        if isinstance(value, Tensor):
            setattr(holder, name, value[rows])


def row_state(holder: object, row: int, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Copies, on the CPU, of one row of every tensor that an object holds, by the attributes' names."""
    return {
        name.removeprefix("_"): copied(value[row])
        for name, value in vars(holder).items()
        if isinstance(value, Tensor) and name not in without
    }


def restore_row(holder: object, row: int, state: Mapping[str, Tensor], without: Collection[str] = ()) -> None:
    """Put back what :func:`row_state` took, in the precision in which it was taken."""
    for name, value in vars(holder).items():
        if isinstance(value, Tensor) and name not in without:
            taken = state[name.removeprefix("_")]
            restored = value.to(taken.dtype)
            restored[row] = taken
            setattr(holder, name, restored)


def copied(values: Tensor) -> Tensor:
    """A copy on the CPU that shares no memory with the original."""
    return values.to("cpu", copy=True)


class Adam:
    """Adam (Kingma & Ba 2015) with its usual constants; a row that turns non-finite restarts once, slower."""

    decay = (0.9, 0.999)
    epsilon = 1e-8
    safer = 0.1
    """Factor on the learning rate after a loss that is not finite."""

    def __init__(
        self, start: Tensor, learning_rate: float, limits: tuple[float, float] | None = None
    ) -> None:
        self._limits = limits
        start = start if limits is None else start.clamp(*limits)
        self.points = start.clone()
        self.losses = torch.full_like(start[:, 0], torch.inf)
        self.stopped: list[StopReason | None] = [None] * len(start)
        self._trial = start.clone()
        self._rates = torch.full_like(self.losses, learning_rate)
        self._restarted = torch.zeros_like(self.losses, dtype=torch.bool)
        self._mean = torch.zeros_like(start)
        self._square = torch.zeros_like(start)
        self._steps = torch.zeros_like(self.losses)

    def propose(self) -> Tensor:
        """The images to evaluate next, ``(B, n)``."""
        return self._trial

    def observe(self, losses: Tensor, gradients: Tensor) -> None:
        """Take one step from the images proposed last."""
        finite = finite_rows(losses, gradients)
        better = finite & (losses < self.losses)
        self.points[better] = self._trial[better]
        self.losses[better] = losses[better]
        self._restart(~finite)
        self._step(finite, torch.where(finite[:, None], gradients, 0.0))

    def revise(self, losses: Tensor, gradients: Tensor) -> None:
        """Add to the losses of the best images; Adam looks at no old gradient."""
        self.losses = self.losses + losses

    def _step(self, rows: Tensor, gradients: Tensor) -> None:
        """One update of the rows whose loss was finite; the others evaluate their last good image again."""
        first, second = self.decay
        self._steps += rows
        self._mean.mul_(first).add_(gradients, alpha=1 - first)
        self._square.mul_(second).addcmul_(gradients, gradients, value=1 - second)
        mean_share = (1 - first**self._steps).clamp(min=1 - first)[:, None]
        square_share = (1 - second**self._steps).clamp(min=1 - second)[:, None]
        change = (self._mean / mean_share) / ((self._square / square_share).sqrt() + self.epsilon)
        stepped = self._trial - self._rates[:, None] * change
        stepped = stepped if self._limits is None else stepped.clamp(*self._limits)
        self._trial = torch.where(rows[:, None], stepped, self._trial)

    def _restart(self, rows: Tensor) -> None:
        for row in rows.nonzero().flatten().tolist():
            if self._restarted[row] or not torch.isfinite(self.losses[row]):
                self.stopped[row] = StopReason.NOT_FINITE
            self._restarted[row] = True
            self._rates[row] *= self.safer
            self._trial[row] = self.points[row]
            self._mean[row], self._square[row], self._steps[row] = 0, 0, 0

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these (indices)."""
        self.stopped = [self.stopped[row] for row in rows.tolist()]
        keep_rows(self, rows)

    def state(self, row: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of all that one row's further way depends on."""
        return row_state(self, row)

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Go on with a row where another Adam took this state."""
        restore_row(self, row, state)
