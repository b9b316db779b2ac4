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
from torch.nn import functional

from stylebatch.synthesis.bands import WHOLE, Bands
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

BAND_FACTORS = (0.2, 5.0)
"""The least and the largest factor of a band on the first guess of the inverse Hessian."""
TELLING = 1e-4
"""Share of the gradients' changes that a band must have for its curvature to be believed."""

_BY_SLOT = ("point_changes", "gradient_changes", "curvatures", "squares")
_PROPOSED = ("_trials",)
"""What every evaluation makes anew."""


class LBFGS:
    """Minimises B images at once; see :class:`stylebatch.synthesis.optimizers.Optimizer`.

    Args:
        start: ``(B, n)`` pixel values in grey levels.
        history: Curvature pairs kept per image.
        bands: Parts of the images along which the curvature may differ.
    """

    def __init__(self, start: Tensor, history: int, bands: Bands = WHOLE) -> None:
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
        self._pairs = CurvaturePairs(start, history, bands)

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

    The two-loop recursion (Nocedal & Wright 2006, algorithm 7.4) runs on inner products, so each image's
    history is read twice per direction, as matrix products, instead of four times per pair.

    Between the loops stands a first guess of the inverse Hessian. The usual one is ``y.s / y.y`` of the
    newest pair, the same for every direction. Here each band has a factor on that, from all pairs.

    Args:
        start: ``(B, n)``, for its shape and kind.
        history: Pairs kept per image.
        bands: Parts of vectors along which the curvature may differ.
    """

    def __init__(self, start: Tensor, history: int, bands: Bands = WHOLE) -> None:
        batch, pixels = start.shape
        self.counts = torch.zeros(batch, dtype=torch.long, device=start.device)
        self._bands = bands
        self._newest = self.counts - 1
        self._history = history
        self._point_changes = start.new_zeros(batch, history, pixels)
        self._gradient_changes = start.new_zeros(batch, history, pixels)
        # s_i . y_j of the pairs in slots i and j.
        self._products = start.new_zeros(batch, history, history, dtype=torch.float64)
        # s.y and y.y of each pair, band by band, in units of y.y.
        self._curvatures = start.new_zeros(batch, history, bands.count)
        self._squares = start.new_zeros(batch, history, bands.count)

    def append(self, rows: Tensor, point_changes: Tensor, gradient_changes: Tensor) -> None:
        """Remember ``(s, y)``, each ``(B, n)``, of the rows of a mask where y.s is clearly positive."""
        squares = _dot(gradient_changes, gradient_changes)
        lengths = squares.sqrt() * _dot(point_changes, point_changes).sqrt()
        is_curved = _dot(point_changes, gradient_changes) > CLEARLY_POSITIVE * lengths
        kept = (rows & is_curved).nonzero().flatten()
        slots = (self._newest[kept] + 1) % self._history
        self._newest[kept] = slots
        self.counts[kept] = (self.counts[kept] + 1).clamp(max=self._history)
        curvatures = self._bands.products(point_changes, gradient_changes) / squares[:, None]
        self._curvatures[kept, slots] = curvatures[kept]
        in_bands = self._bands.products(gradient_changes, gradient_changes) / squares[:, None]
        self._squares[kept, slots] = in_bands[kept]
        for row, slot in zip(kept.tolist(), slots.tolist(), strict=True):
            self._write(row, slot, point_changes[row], gradient_changes[row])

    def _write(self, row: int, slot: int, point_change: Tensor, gradient_change: Tensor) -> None:
        """Put a pair in its slot, and its inner products with the others in the table."""
        filled = int(self.counts[row])
        points, gradients = self._point_changes[row, :filled], self._gradient_changes[row, :filled]
        points[slot], gradients[slot] = point_change, gradient_change
        self._products[row, :filled, slot] = (points @ gradient_change).double()
        self._products[row, slot, :filled] = (gradients @ point_change).double()

    def newton_directions(self, gradients: Tensor) -> Tensor:
        """``-H g`` of each image, ``(B, n)``."""
        used = int(self.counts.max())
        points, changes = self._point_changes[:, :used], self._gradient_changes[:, :used]
        shares = self._first_loop(_products_of(points, gradients))
        guesses = self._guessed(gradients - _sums_of(changes, shares[:, :used]))
        back = self._second_loop(shares, _products_of(changes, guesses))
        return -guesses - _sums_of(points, back[:, :used])

    def _first_loop(self, products: Tensor) -> Tensor:
        """The shares of each y to be taken out of g, ``(B, history)``, from ``s.g``."""
        products, shares = self._by_slot(products), torch.zeros_like(self._products[:, 0])
        for age in range(int(self.counts.max())):
            every, slot, inverse_curvature = self._pair(age)
            left = products[every, slot] - _dot(self._products[every, slot], shares)
            shares[every, slot] += inverse_curvature * left
        return shares

    def _second_loop(self, shares: Tensor, products: Tensor) -> Tensor:
        """The shares of each s to be added, ``(B, history)``, from those of the y and ``y.(H_0 q)``."""
        products, back = self._by_slot(products), torch.zeros_like(shares)
        for age in reversed(range(int(self.counts.max()))):
            every, slot, inverse_curvature = self._pair(age)
            now = products[every, slot] + _dot(self._products[every, :, slot], back)
            is_there = inverse_curvature != 0
            back[every, slot] += torch.where(is_there, shares[every, slot] - inverse_curvature * now, 0.0)
        return back

    def _by_slot(self, values: Tensor) -> Tensor:
        """A value for each slot that is in use in some row, with zeros for the others."""
        return functional.pad(values, (0, self._history - values.shape[1]))

    def _pair(self, age: int) -> tuple[Tensor, Tensor, Tensor]:
        """Every row, the slot of its pair of this age, and 1/(y.s); 0 where there is no such pair."""
        every = torch.arange(len(self.counts), device=self.counts.device)
        slot = (self._newest - age) % self._history
        curvature = self._products[every, slot, slot]
        return every, slot, torch.where(age < self.counts, 1 / curvature, 0.0)

    def _guessed(self, vectors: Tensor) -> Tensor:
        """The first guess of the inverse Hessian, times vectors ``(B, n)``; these where there is no pair.

        Along the newest y the guess gives the newest curvature, ``y.s``, whatever the bands' factors.
        """
        every = torch.arange(len(self.counts), device=self.counts.device)
        newest = self._newest.clamp(min=0)
        factors = self._band_factors()
        curvature = self._curvatures[every, newest].sum(1)
        scale = curvature / _dot(factors, self._squares[every, newest])
        factors = torch.where(self.counts[:, None] > 0, scale[:, None] * factors, 1.0)
        return self._bands.scaled(vectors, factors.to(vectors.dtype))

    def _band_factors(self) -> Tensor:
        """What ``y.s / y.y`` of all pairs is in each band, over what it is in the whole, ``(B, K)``."""
        curvatures, squares = self._curvatures.sum(1), self._squares.sum(1)
        overall = (curvatures.sum(1) / squares.sum(1))[:, None]
        found = (curvatures / squares / overall).clamp(*BAND_FACTORS)
        return torch.where(squares > TELLING * squares.sum(1, keepdim=True), found, 1.0)

    def clear(self, rows: Tensor) -> None:
        """Forget the pairs of the rows of a mask."""
        self._newest[rows] = -1
        for values in (self.counts, self._products, self._curvatures, self._squares):
            values[rows] = 0
        for values in (self._point_changes, self._gradient_changes):
            values[rows] = 0

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        keep_rows(self, rows)

    def state(self, row: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of the pairs of one row, without the slots that are not filled yet."""
        filled = int(self.counts[row])
        return {
            "counts": copied(self.counts[row]),
            "newest": copied(self._newest[row]),
            "products": copied(self._products[row, :filled, :filled]),
            **{name: copied(getattr(self, f"_{name}")[row, :filled]) for name in _BY_SLOT},
        }

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` took, in a row that holds no pairs."""
        filled = len(state["products"])
        self.counts[row] = state["counts"]
        self._newest[row] = state["newest"]
        self._products[row, :filled, :filled] = state["products"]
        for name in _BY_SLOT:
            getattr(self, f"_{name}")[row, :filled] = state[name]


def _products_of(vectors: Tensor, others: Tensor) -> Tensor:
    """The inner products of vectors ``(B, k, n)`` with one of each row, ``(B, n)``: ``(B, k)``, float64."""
    return torch.stack([many @ one for many, one in zip(vectors, others, strict=True)]).double()


def _sums_of(vectors: Tensor, shares: Tensor) -> Tensor:
    """The sum of vectors ``(B, k, n)``, each times its share, ``(B, k)``: ``(B, n)``."""
    shares = shares.to(vectors.dtype)
    return torch.stack([share @ many for share, many in zip(shares, vectors, strict=True)])


def _updated(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """``new`` in the rows of a mask, ``old`` elsewhere; no copy where the mask holds all rows."""
    return new if bool(rows.all()) else torch.where(rows[:, None], new, old)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each row, ``(B,)``."""
    return (left * right).sum(dim=1)
