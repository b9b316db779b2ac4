"""A batch of problems at one size while it is being worked on."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from stylebatch.errors import SynthesisError
from stylebatch.recipe import Recipe
from stylebatch.synthesis.bands import ImageBands
from stylebatch.synthesis.bounds import CHECK_EVERY, HIGH, LOW, SoftBounds, outside_fraction
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.lbfgs import LBFGS
from stylebatch.synthesis.losses import LossTerms
from stylebatch.synthesis.optimizers import Adam, Optimizer, StopReason, copied
from stylebatch.synthesis.problems import (
    Problem,
    Publish,
    Solution,
    as_images,
    as_rows,
    batch_objective,
)
from stylebatch.synthesis.state import ImageState
from stylebatch.synthesis.vgg import VGG19

TOLERANCE_WINDOW = 20
"""Evaluations over which the fall of the loss is compared with the recipe's tolerance."""


class Batch:
    """The problems that are still being worked on, and the results of those that are not.

    Args:
        network: The VGG-19.
        problems: Those of one size, whose smaller sizes are done.
        smaller_evaluations: What each problem took at them, the smallest first.
    """

    def __init__(
        self,
        network: VGG19,
        problems: Sequence[Problem],
        smaller_evaluations: Sequence[tuple[int, ...]],
    ) -> None:
        self.evaluations = 0
        self._smaller_evaluations = list(smaller_evaluations)
        self._network = network
        self._problems = problems
        self._recipe = problems[0].recipe
        self._shape = problems[0].start.shape
        self._objective = batch_objective(problems, network.device)
        start = torch.stack([problem.start for problem in problems]).to(network.device)
        self._loss_gradient = LossGradient(
            network, self._objective.layers, self._recipe.pooling, tuple(start.shape)
        )
        self._optimizer = _optimizer(self._recipe, as_rows(start), self._shape)
        self._bounds = SoftBounds(len(problems), network.device) if self._recipe.bounds == "soft" else None
        self._active = list(range(len(problems)))
        self._curves: list[list[float]] = [[] for _ in problems]
        self._images = as_rows(start).clone()
        self._reasons = [StopReason.ITERATIONS] * len(problems)
        self._last_losses = start.new_full((len(problems),), math.inf)
        self._residuals = self._last_losses.clone()

    @property
    def is_finished(self) -> bool:
        """Whether every image has stopped, or the evaluations are used up."""
        return not self._active or self.evaluations >= self._recipe.iterations

    def states(self) -> list[ImageState]:
        """Copies of where every image stands."""
        rows = {index: row for row, index in enumerate(self._active)}
        return [self._state(index, rows.get(index)) for index in range(len(self._problems))]

    def _state(self, index: int, row: int | None) -> ImageState:
        """Where an image stands that has this row of the optimiser, or none because it has stopped."""
        tensors = {"points": copied(self._images[index])} if row is None else self._optimizer.state(row)
        if row is not None and self._bounds is not None:
            tensors |= self._bounds.state(row)
        return ImageState(
            evaluations=self.evaluations,
            loss_curve=tuple(self._curves[index]),
            stop_reason=self._reasons[index] if row is None else None,
            tensors=tensors,
            smaller_evaluations=self._smaller_evaluations[index],
        )

    def restore(self, states: Iterable[ImageState]) -> None:
        """Go on, before any evaluation, where these states were taken: one for each problem."""
        taken_at, going = [], []
        for index, state in enumerate(states):
            taken_at.append((len(state.smaller_evaluations), state.evaluations))
            if index < len(self._problems) and taken_at[index] == taken_at[0]:
                self._restore(index, state)
            if state.stop_reason is None:
                going.append(index)
        if len(taken_at) != len(self._problems) or len(set(taken_at)) > 1:
            raise SynthesisError(
                f"{len(self._problems)} pictures cannot go on from {len(taken_at)} states, taken after "
                f"{sorted(set(taken_at))} smaller sizes and evaluations; give one for each, after the same"
            )
        _, self.evaluations = taken_at[0]
        self._keep(going)

    def _restore(self, index: int, state: ImageState) -> None:
        self._curves[index] = list(state.loss_curve)
        self._smaller_evaluations[index] = state.smaller_evaluations
        self._images[index] = state.tensors["points"]
        if state.stop_reason is not None:
            self._reasons[index] = state.stop_reason
            return
        self._optimizer.restore(index, state.tensors)
        if self._bounds is not None:
            self._bounds.restore(index, state.tensors)
        self._last_losses[index] = state.loss_curve[-1]

    def evaluate(self) -> None:
        """One forward and backward pass for every image that is still being worked on."""
        self.evaluations += 1
        rows = self._optimizer.propose()
        terms, image_gradients = self._loss_gradient(as_images(rows, self._shape), self._objective)
        costs, gradients = terms.total, as_rows(image_gradients)
        if self._bounds is not None:
            penalty = self._bounds.penalty(rows, gradients)
            costs, gradients = costs + penalty.values, gradients + penalty.gradients
        before = self._optimizer.losses.clone()
        self._optimizer.observe(costs, gradients)
        self._record(self._optimizer.losses < before, terms)
        self._tighten_bounds()
        self._retire()

    def _record(self, improved: Tensor, terms: LossTerms) -> None:
        self._last_losses = torch.where(improved, terms.total, self._last_losses)
        if self._recipe.residual_tolerance > 0:
            self._residuals = torch.where(improved, self._largest_residuals(terms), self._residuals)
        for index, loss in zip(self._active, self._last_losses.tolist(), strict=True):
            self._curves[index].append(loss)

    def _largest_residuals(self, terms: LossTerms) -> Tensor:
        """Of the layers that have one, ``(B,)``."""
        each = torch.stack([*self._objective.residuals(terms).values()])
        return torch.where(torch.isfinite(each), each, 0.0).amax(0).to(self._residuals)

    def _tighten_bounds(self) -> None:
        if self._bounds is None or self.evaluations % CHECK_EVERY:
            return
        added = self._bounds.tighten(self._optimizer.points, self._last_losses)
        if added is not None:
            self._optimizer.revise(added.values, added.gradients)

    def _retire(self) -> None:
        """Take the images that have stopped out of the batch."""
        is_matched = (self._residuals <= self._recipe.residual_tolerance).tolist()
        for row, index in enumerate(self._active):
            if self._optimizer.stopped[row] is None and is_matched[row]:
                self._optimizer.stopped[row] = StopReason.MATCHED
            if self._optimizer.stopped[row] is None and self._has_converged(self._curves[index]):
                self._optimizer.stopped[row] = StopReason.CONVERGED
            self._reasons[index] = self._optimizer.stopped[row] or StopReason.ITERATIONS
        going = [row for row, reason in enumerate(self._optimizer.stopped) if reason is None]
        if len(going) < len(self._active):
            self._keep_images()
            self._keep(going)

    def _keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the optimiser alone."""
        if len(rows) == len(self._active):
            return
        self._active = [self._active[row] for row in rows]
        kept = torch.tensor(rows, dtype=torch.long, device=self._network.device)
        self._optimizer.keep(kept)
        self._objective = self._objective.rows(kept)
        self._last_losses = self._last_losses[kept]
        self._residuals = self._residuals[kept]
        if self._bounds is not None:
            self._bounds.keep(kept)

    def _keep_images(self) -> None:
        """Note the best images so far; the optimiser forgets those that stop."""
        for row, index in enumerate(self._active):
            self._images[index] = self._optimizer.points[row]

    def _has_converged(self, curve: Sequence[float]) -> bool:
        if self._recipe.tolerance == 0 or len(curve) <= TOLERANCE_WINDOW:
            return False
        return loss_change(curve) < self._recipe.tolerance

    @property
    def all_evaluations(self) -> list[tuple[int, ...]]:
        """What each problem took at every size so far, the smallest first."""
        taken = zip(self._smaller_evaluations, self._curves, strict=True)
        return [(*smaller, len(curve)) for smaller, curve in taken]

    def images(self) -> Tensor:
        """The best images so far, ``(B, 3, H, W)``, on the CPU."""
        self._keep_images()
        return as_images(self._images, self._shape).cpu().contiguous()

    def solutions(self, publish: Publish) -> list[Solution]:
        """The results, with the losses of the published pictures."""
        images = self.images()
        del self._optimizer  # its memory is wanted now
        published = [publish(image, number) for number, image in enumerate(images)]
        pixels = torch.stack([each.pixels for each in published])
        objective = batch_objective(self._problems, self._network.device)
        terms = self._loss_gradient.losses(pixels.to(self._network.device), objective)
        residuals = objective.residuals(terms)
        return [
            Solution(
                image=published[i].pixels,
                to_encode=published[i].to_encode,
                loss=float(terms.total[i]),
                content_loss=float(terms.content_loss[i]),
                style_loss=float(terms.style_loss[i]),
                layer_losses=_layer_losses(terms, i),
                solver_loss=self._curves[i][-1] if self._curves[i] else math.nan,
                loss_curve=tuple(self._curves[i]),
                layer_residuals=_finite(residuals, i),
                loss_change=loss_change(self._curves[i]),
                clipped_fraction=outside_fraction(images[i]),
                adjusted_clipped_fraction=published[i].clipped_fraction,
                achieved=published[i].achieved,
                evaluations=len(self._curves[i]),
                smaller_evaluations=self._smaller_evaluations[i],
                stop_reason=self._reasons[i],
            )
            for i in range(len(self._problems))
        ]


def _optimizer(recipe: Recipe, start: Tensor, shape: torch.Size) -> Optimizer:
    limits = (LOW, HIGH) if recipe.bounds == "hard" else None
    if recipe.optimizer == "adam":
        return Adam(start, recipe.learning_rate, limits)
    return LBFGS(start, recipe.most_pairs(*shape[1:]), ImageBands(shape), limits)


def loss_change(curve: Sequence[float]) -> float:
    """The fall of the loss over the last 20 evaluations, or as many as there were, over the last loss.

    Not a number after a single evaluation or none.
    """
    if len(curve) < 2:
        return math.nan
    return (curve[-min(len(curve), 1 + TOLERANCE_WINDOW)] - curve[-1]) / curve[-1] if curve[-1] else 0.0


def _layer_losses(terms: LossTerms, image: int) -> dict[str, float]:
    content = {f"content_{layer}": float(losses[image]) for layer, losses in terms.content.items()}
    return content | {f"style_{layer}": float(losses[image]) for layer, losses in terms.style.items()}


def _finite(values: Mapping[str, Tensor], image: int) -> dict[str, float]:
    """Those of one image that are finite."""
    own = {name: float(each[image]) for name, each in values.items()}
    return {name: value for name, value in own.items() if math.isfinite(value)}
