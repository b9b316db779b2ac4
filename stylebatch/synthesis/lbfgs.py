"""L-BFGS over a batch: each image has its own history, step length and stopping state.

The field's usual L-BFGS takes full steps unchecked. This one checks three things (docs/conventions.md says
what each is worth): the first step changes no pixel by more than a few grey levels; a step is accepted only
if the loss falls enough (Armijo's condition), else it is shortened; and a pair of the history is kept only
if the curvature along it is clearly positive. Images share forward passes, never state: while one shortens
its step, the others go on.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stylebatch.synthesis.optimizers import (
    StopReason,
    copied,
    finite_rows,
    keep_rows,
    restore_row,
    row_state,
)

FIRST_STEP = 8.0
"""Largest change of a pixel in the first step, in grey levels."""
SAFER_STEP = 1.0
"""The same after a restart."""
LONGEST_STEP = 60.0
"""Largest change of a pixel in any step, in grey levels."""
BACKTRACK = 0.3
"""Factor on a step that did not lower the loss enough."""
MOST_BACKTRACKS = 10
"""After so many in a row the history is dropped and the search restarts along the gradient, once."""
SUFFICIENT_DECREASE = 1e-4
"""Armijo: the share of the decrease that the slope promises which a step must bring."""
CLEARLY_POSITIVE = 1e-8
"""Least ``y.s / (|y| |s|)`` of a pair that is kept."""

_PROPOSED = ("_trials",)
"""What every evaluation makes anew."""


class LBFGS:
    """Minimises B images at once; see :class:`stylebatch.synthesis.optimizers.Optimizer`.

    Args:
        start: ``(B, n)`` pixel values in grey levels.
        history: Curvature pairs kept per image.
    """

    def __init__(self, start: Tensor, history: int) -> None:
        batch = len(start)
        self.points = start.clone()
        self.losses = torch.full_like(start[:, 0], torch.inf)
        self.stopped: list[StopReason | None] = [None] * batch
        self._trials = self.points
        # Gradients are kept in units of each image's first, so that no product of them leaves float32.
        self._units = torch.ones_like(self.losses)
        self._gradients = torch.zeros_like(start)
        self._directions = torch.zeros_like(start)
        self._steps = torch.zeros_like(self.losses)
        self._slopes = torch.zeros_like(self.losses)
        self._backtracks = torch.zeros_like(self.losses, dtype=torch.long)
        self._restarted = torch.zeros_like(self.losses, dtype=torch.bool)
        self._pairs = CurvaturePairs(start, history)

    def propose(self) -> Tensor:
        """The images to evaluate next, ``(B, n)``."""
        self._trials = torch.addcmul(self.points, self._steps[:, None], self._directions)
        return self._trials

    def observe(self, losses: Tensor, gradients: Tensor) -> None:
        """Accept, shorten or give up each image's step."""
        finite = finite_rows(losses, gradients)
        needed = self.losses + SUFFICIENT_DECREASE * self._steps * self._slopes * self._units
        accepted = finite & (losses <= needed) & (losses < self.losses)
        rejected = finite & ~accepted
        self._steps[rejected] *= BACKTRACK
        self._backtracks[rejected] += 1
        if bool(accepted.any()):
            self._accept(accepted, losses, gradients)
        self._restart(rejected & (self._backtracks > MOST_BACKTRACKS), StopReason.NO_DESCENT)
        self._restart(~finite, StopReason.NOT_FINITE)

    def revise(self, losses: Tensor, gradients: Tensor) -> None:
        """Add to the losses and gradients at the points; directions follow, the history stays."""
        changed = losses != 0
        self.losses = self.losses + losses
        self._gradients = self._gradients + gradients / self._units[:, None]
        self._backtracks[changed] = 0
        self._aim(changed, FIRST_STEP)

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        self.stopped = [self.stopped[row] for row in rows.tolist()]
        keep_rows(self, rows)
        self._pairs.keep(rows)

    def state(self, row: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of all that one row's further way depends on."""
        return row_state(self, row, without=_PROPOSED) | self._pairs.state(row)

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Go on with a row where another L-BFGS with the same length of history took this state."""
        restore_row(self, row, state, without=_PROPOSED)
        self._pairs.restore(row, state)

    def _accept(self, accepted: Tensor, losses: Tensor, gradients: Tensor) -> None:
        is_first = accepted & torch.isinf(self.losses)
        if bool(is_first.any()):
            largest = gradients.abs().amax(dim=1)
            self._units = torch.where(is_first & (largest > 0), largest, self._units)
        gradients = gradients / self._units[:, None]
        moved = accepted & ~is_first
        if bool(moved.any()):
            self._pairs.append(moved, self._trials - self.points, gradients - self._gradients)
        self.points = _updated(self.points, accepted, self._trials)
        self._gradients = _updated(self._gradients, accepted, gradients)
        self.losses = torch.where(accepted, losses, self.losses)
        self._backtracks[accepted] = 0
        self._aim(accepted, FIRST_STEP)

    def _aim(self, rows: Tensor, first_step: float) -> None:
        """Set direction, slope and first trial step of the rows of a mask, by gradient and history."""
        directions = self._pairs.newton_directions(self._gradients)
        slopes = _dot(directions, self._gradients)
        is_descent = (self._pairs.counts > 0) & (slopes < 0)
        if not bool(is_descent[rows].all()):
            directions = torch.where(is_descent[:, None], directions, -self._gradients)
            slopes = _dot(directions, self._gradients)
        largest_change = directions.abs().amax(dim=1)
        steps = torch.where(
            is_descent, (LONGEST_STEP / largest_change).clamp(max=1.0), first_step / largest_change
        )
        self._directions = _updated(self._directions, rows, directions)
        self._slopes = torch.where(rows, slopes, self._slopes)
        self._steps = torch.where(rows, steps, self._steps)
        for row in (rows & (largest_change == 0)).nonzero().flatten().tolist():
            self._steps[row] = 0
            self.stopped[row] = self.stopped[row] or StopReason.CONVERGED

    def _restart(self, rows: Tensor, reason: StopReason) -> None:
        """Go back to the last good image with no history and a smaller step; the second time, stop."""
        for row in rows.nonzero().flatten().tolist():
            if self._restarted[row] or torch.isinf(self.losses[row]):
                self.stopped[row] = reason
        if bool(rows.any()):
            self._restarted |= rows
            self._backtracks[rows] = 0
            self._pairs.clear(rows)
            self._aim(rows, SAFER_STEP)


class CurvaturePairs:
    """The last changes s of each point and y of its gradient, and the directions that follow from them.

    The two-loop recursion runs on coefficients of the basis ``(s..., y..., g)`` with the basis's inner
    products (Chen, Wang & Zhou 2014), so the images' history is read twice per direction, as matrix
    products over the whole batch, instead of four times per pair.
    """

    def __init__(self, start: Tensor, history: int) -> None:
        batch, pixels = start.shape
        self.counts = torch.zeros(batch, dtype=torch.long, device=start.device)
        self._newest = self.counts - 1
        self._history = history
        # The pair in slot k has s in row 2k of the basis and y in row 2k + 1; the gradient comes last.
        self._basis = start.new_zeros(batch, 2 * history, pixels)
        self._products = start.new_zeros(batch, 2 * history + 1, 2 * history + 1, dtype=torch.float64)

    def append(self, rows: Tensor, point_changes: Tensor, gradient_changes: Tensor) -> None:
        """Remember ``(s, y)``, each ``(B, n)``, of the rows of a mask where y.s is clearly positive."""
        curvatures = _dot(point_changes, gradient_changes)
        lengths = _dot(gradient_changes, gradient_changes).sqrt() * _dot(point_changes, point_changes).sqrt()
        kept = (rows & (curvatures > CLEARLY_POSITIVE * lengths)).nonzero().flatten()
        self._newest[kept] = (self._newest[kept] + 1) % self._history
        self.counts[kept] = (self.counts[kept] + 1).clamp(max=self._history)
        for row in kept.tolist():
            self._write(row, int(self._newest[row]), point_changes[row], gradient_changes[row])

    def _write(self, row: int, slot: int, point_change: Tensor, gradient_change: Tensor) -> None:
        """Put a pair in its slot, and its inner products with all others in the table."""
        place = slice(2 * slot, 2 * slot + 2)
        self._basis[row, place] = torch.stack([point_change, gradient_change])
        filled = 2 * int(self.counts[row])
        products = (self._basis[row, :filled] @ self._basis[row, place].T).double()
        self._products[row, :filled, place] = products
        self._products[row, place, :filled] = products.T

    def newton_directions(self, gradients: Tensor) -> Tensor:
        """``-H g`` of each image, ``(B, n)``, by the two-loop recursion (Nocedal & Wright 2006, 7.4)."""
        used = 2 * int(self.counts.max())
        basis = self._basis[:, :used]
        products = torch.stack(
            [vectors @ gradient for vectors, gradient in zip(basis, gradients, strict=True)]
        )
        self._products[:, -1, :used] = products
        self._products[:, :used, -1] = products
        coefficients = self._two_loops().to(gradients.dtype)
        from_history = torch.stack(
            [share @ vectors for share, vectors in zip(coefficients[:, :used], basis, strict=True)]
        )
        return from_history.addcmul_(coefficients[:, -1:], gradients)

    def _two_loops(self) -> Tensor:
        """Coefficients of the direction on the basis and the gradient, ``(B, 2 history + 1)``."""
        every = torch.arange(len(self.counts), device=self.counts.device)
        coefficients = torch.zeros_like(self._products[:, 0])
        coefficients[:, -1] = -1
        shares = []
        ages = range(int(self.counts.max()))
        for age in ages:
            point_change, gradient_change, inverse_curvature = self._pair(age)
            share = inverse_curvature * _dot(coefficients, self._products[every, point_change])
            coefficients[every, gradient_change] -= share
            shares.append(share)
        coefficients *= self._initial_hessian()[:, None]
        for age in reversed(ages):
            point_change, gradient_change, inverse_curvature = self._pair(age)
            back = inverse_curvature * _dot(coefficients, self._products[every, gradient_change])
            coefficients[every, point_change] += shares[age] - back
        return coefficients

    def _pair(self, age: int) -> tuple[Tensor, Tensor, Tensor]:
        """Where each row's s and y of this age stand, and 1/(y.s); 0 where there is no such pair."""
        every = torch.arange(len(self.counts), device=self.counts.device)
        point_change = 2 * ((self._newest - age) % self._history)
        curvature = self._products[every, point_change, point_change + 1]
        return point_change, point_change + 1, torch.where(age < self.counts, 1 / curvature, 0.0)

    def _initial_hessian(self) -> Tensor:
        """The inverse Hessian's scale y.s / y.y of each row's newest pair; 1 where there is none."""
        every = torch.arange(len(self.counts), device=self.counts.device)
        gradient_change = 2 * self._newest.clamp(min=0) + 1
        curvature = self._products[every, gradient_change - 1, gradient_change]
        square = self._products[every, gradient_change, gradient_change]
        return torch.where(self.counts > 0, curvature / square, 1.0)

    def clear(self, rows: Tensor) -> None:
        """Forget the pairs of the rows of a mask."""
        self.counts[rows] = 0
        self._newest[rows] = -1
        self._basis[rows] = 0
        self._products[rows] = 0

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        keep_rows(self, rows)

    def state(self, row: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of the pairs of one row, without the slots that are not filled yet."""
        filled = 2 * int(self.counts[row])
        return {
            "counts": copied(self.counts[row]),
            "newest": copied(self._newest[row]),
            "basis": copied(self._basis[row, :filled]),
            "products": copied(self._products[row, :filled, :filled]),
        }

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` took, in a row that holds no pairs."""
        filled = len(state["basis"])
        self.counts[row] = state["counts"]
        self._newest[row] = state["newest"]
        self._basis[row, :filled] = state["basis"]
        self._products[row, :filled, :filled] = state["products"]


def _updated(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """``new`` in the rows of a mask, ``old`` elsewhere; no copy where the mask holds all rows."""
    return new if bool(rows.all()) else torch.where(rows[:, None], new, old)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each row, ``(B,)``."""
    return (left * right).sum(dim=1)
