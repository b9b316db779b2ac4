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

from stylebatch.synthesis.bands import WHOLE, Bands
from stylebatch.synthesis.optimizers import (
    StopReason,
    copied,
    finite_rows,
    keep_rows,
    restore_row,
    row_state,
)
from stylebatch.synthesis.vectors import KeptVectors

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

_PROPOSED = ("_trials",)
"""What every evaluation makes anew."""


class LBFGS:
    """Minimises B images at once; see :class:`stylebatch.synthesis.optimizers.Optimizer`.

    Args:
        start: ``(B, n)`` pixel values in grey levels.
        history: Curvature pairs kept per image.
        bands: Parts of the images along which the curvature may differ.
        limits: The least and the largest value that a pixel has in any image that is proposed. Steps are
            projected onto that range, and pixels that the gradient presses against it stay where they are
            (two-metric projection: Bertsekas 1982). None: any value.
    """

    def __init__(
        self,
        start: Tensor,
        history: int,
        bands: Bands = WHOLE,
        limits: tuple[float, float] | None = None,
    ) -> None:
        batch = len(start)
        self._limits = limits
        self.points = start.clone() if limits is None else start.clamp(*limits)
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
        if self._limits is not None:
            self._trials = self._trials.clamp(*self._limits)
        return self._trials

    def observe(self, losses: Tensor, gradients: Tensor) -> None:
        """Accept, shorten or give up each image's step."""
        finite = finite_rows(losses, gradients)
        needed = self.losses + SUFFICIENT_DECREASE * self._promised() * self._units
        accepted = finite & (losses <= needed) & (losses < self.losses)
        rejected = finite & ~accepted
        self._steps[rejected] *= BACKTRACK
        self._backtracks[rejected] += 1
        if bool(accepted.any()):
            self._accept(accepted, losses, gradients)
        self._restart(rejected & (self._backtracks > MOST_BACKTRACKS), StopReason.NO_DESCENT)
        self._restart(~finite, StopReason.NOT_FINITE)

    def _promised(self) -> Tensor:
        """What the slope promises of the steps that were tried, ``(B,)``."""
        if self._limits is None:
            return self._steps * self._slopes
        return _dot(self._trials - self.points, self._gradients).clamp(max=0)

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
        gradients = self._free(self._gradients)
        directions = self._free(self._pairs.newton_directions(gradients))
        slopes = _dot(directions, gradients)
        is_descent = (self._pairs.counts > 0) & (slopes < 0)
        if not bool(is_descent[rows].all()):
            directions = torch.where(is_descent[:, None], directions, -gradients)
            slopes = _dot(directions, gradients)
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

    def _free(self, vectors: Tensor) -> Tensor:
        """Vectors ``(B, n)`` without the pixels that the gradient presses against a limit."""
        if self._limits is None:
            return vectors
        low, high = self._limits
        is_pressed = (self.points <= low) & (self._gradients > 0)
        is_pressed |= (self.points >= high) & (self._gradients < 0)
        return vectors.masked_fill(is_pressed, 0.0)

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
        batch = len(start)
        self.counts = torch.zeros(batch, dtype=torch.long, device=start.device)
        self._bands = bands
        self._newest = self.counts - 1
        self._history = history
        self._point_changes = KeptVectors(start, history)
        self._gradient_changes = KeptVectors(start, history)
        # s_i . y_j of the pairs in slots i and j, where j is not older than i: no loop wants another.
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
        """Put a pair in its slot, and in the table those of its inner products that will be wanted."""
        filled = int(self.counts[row])
        self._point_changes.put(row, slot, point_change)
        self._gradient_changes.put(row, slot, gradient_change)
        self._products[row, :filled, slot] = self._point_changes.products(
            row, filled, gradient_change
        ).double()

    def newton_directions(self, gradients: Tensor) -> Tensor:
        """``-H g`` of each image, ``(B, n)``.

        The loops are triangular systems: with ``R_ij = s_i.y_j``, pairs ordered from new to old, the first
        one solves ``R a = S g``, the second one ``R^T c = diag(R) a - Y H_0 q`` with ``q = g - Y^T a``; the
        direction is ``-(H_0 q + S^T c)``.
        """
        points, changes = self._point_changes, self._gradient_changes
        order, products = self._by_age()
        along = self._products_of(points, gradients).gather(1, order)
        shares = _solved(products, along)
        guesses = self._guessed(gradients - self._sums_of(changes, self._by_slot(order, shares)))
        along = self._products_of(changes, guesses).gather(1, order)
        curvatures = products.diagonal(dim1=1, dim2=2)
        back = _solved(products.mT, curvatures * shares - along, upper=True)
        return -guesses - self._sums_of(points, self._by_slot(order, back))

    def _by_age(self) -> tuple[Tensor, Tensor]:
        """The slots from new to old, ``(B, k)``, and R in that order, ``(B, k, k)``; 1 where no pair is."""
        ages = torch.arange(int(self.counts.max()), device=self.counts.device)
        order = (self._newest[:, None] - ages) % self._history
        every = torch.arange(len(order), device=order.device)[:, None, None]
        products = self._products[every, order[:, :, None], order[:, None, :]].tril()
        is_there = ages < self.counts[:, None]
        both = is_there[:, :, None] & is_there[:, None, :]
        return order, torch.where(both, products, torch.eye(len(ages)).to(products))

    def _by_slot(self, order: Tensor, values: Tensor) -> Tensor:
        """Values by age as values by slot, ``(B, history)``."""
        return torch.zeros_like(self._products[:, 0]).scatter(1, order, values)

    def _products_of(self, kept: KeptVectors, vectors: Tensor) -> Tensor:
        """The inner products of what is kept with one vector of each image, ``(B, history)``, float64."""
        found = torch.zeros_like(self._products[:, 0])
        for row, filled in enumerate(self.counts.tolist()):
            found[row, :filled] = kept.products(row, filled, vectors[row])
        return found

    def _sums_of(self, kept: KeptVectors, shares: Tensor) -> Tensor:
        """The sum of each image's kept vectors, each times its share, ``(B, history)``: ``(B, n)``."""
        filled = self.counts.tolist()
        return torch.stack([kept.sum(row, share[: filled[row]]) for row, share in enumerate(shares)])

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

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        keep_rows(self, rows)
        self._point_changes.keep(rows)
        self._gradient_changes.keep(rows)

    def state(self, row: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of the pairs of one row, without the slots that are not filled yet."""
        filled = int(self.counts[row])
        return {
            "counts": copied(self.counts[row]),
            "newest": copied(self._newest[row]),
            "products": copied(self._products[row, :filled, :filled]),
            "curvatures": copied(self._curvatures[row, :filled]),
            "squares": copied(self._squares[row, :filled]),
            **self._point_changes.state("point_changes", row, filled),
            **self._gradient_changes.state("gradient_changes", row, filled),
        }

    def restore(self, row: int, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` took, in a row that holds no pairs."""
        filled = len(state["products"])
        self.counts[row] = state["counts"]
        self._newest[row] = state["newest"]
        self._products[row, :filled, :filled] = state["products"]
        self._curvatures[row, :filled] = state["curvatures"]
        self._squares[row, :filled] = state["squares"]
        self._point_changes.restore("point_changes", row, state)
        self._gradient_changes.restore("gradient_changes", row, state)


def _solved(matrices: Tensor, sides: Tensor, upper: bool = False) -> Tensor:
    """The solutions ``(B, k)`` of triangular systems with matrices ``(B, k, k)``."""
    solutions: Tensor = torch.linalg.solve_triangular(matrices, sides[:, :, None], upper=upper)
    return solutions[:, :, 0]


def _updated(old: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """``new`` in the rows of a mask, ``old`` elsewhere; no copy where the mask holds all rows."""
    return new if bool(rows.all()) else torch.where(rows[:, None], new, old)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """The inner product of each row, ``(B,)``."""
    return (left * right).sum(dim=1)
