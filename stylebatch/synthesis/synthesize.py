"""From targets and a start image to a picture, with its losses and the reason why it ended."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylebatch.errors import SynthesisError
from stylebatch.recipe import Recipe
from stylebatch.synthesis.bounds import CHECK_EVERY, SoftBounds
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.lbfgs import LBFGS
from stylebatch.synthesis.losses import LossTerms, Objective, loss_scales
from stylebatch.synthesis.optimizers import Adam, Optimizer, StopReason, copied
from stylebatch.synthesis.state import ImageState, OfferStates, TakeStates
from stylebatch.synthesis.targets import Targets
from stylebatch.synthesis.vgg import VGG19

TOLERANCE_WINDOW = 20
"""Evaluations over which the fall of the loss is compared with the recipe's tolerance."""

Publish = Callable[[Tensor, Recipe], Tensor]
"""The solver's image ``(3, H, W)`` on the CPU -> the pixel values of its published file, 0..255."""


@dataclass(frozen=True)
class Problem:
    """One picture to make. Problems of one batch agree on shape, layers and shared settings."""

    recipe: Recipe
    """Every number that decides the picture."""
    targets: Targets
    """What it is compared with."""
    start: Tensor
    """The start image ``(3, H, W)``, RGB, 0..255, on the CPU."""


@dataclass(frozen=True)
class Solution:
    """A picture, its losses and how it was reached. Losses are those of the published picture."""

    image: Tensor
    """The published pixel values, float32 ``(3, H, W)``, RGB, 0..255, on the CPU."""
    loss: float
    """Equation (7), with the total variation term."""
    content_loss: float
    """α times the content loss, summed over layers."""
    style_loss: float
    """β times the style loss, summed over layers."""
    layer_losses: Mapping[str, float]
    """The parts of both, by ``content_`` or ``style_`` and the layer's name."""
    solver_loss: float
    """The loss of the solver's last image, before it was clipped and quantised."""
    loss_curve: tuple[float, ...]
    """The loss of the best image after each evaluation; the first is the start image's."""
    clipped_fraction: float
    """The share of the solver's pixel values outside 0..255."""
    evaluations: int
    """Forward and backward passes used."""
    stop_reason: StopReason
    """Why it ended."""


def white_noise(height: int, width: int, seed: int) -> Tensor:
    """Uniform white noise ``(3, H, W)``, 0..255, the same on every device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return 255 * torch.rand(3, height, width, generator=generator)


def clip_and_round(image: Tensor, recipe: Recipe) -> Tensor:
    """What an 8-bit file keeps of an image ``(3, H, W)``."""
    return image.round().clamp(0, 255)


def offer_nothing(take_states: TakeStates) -> None:
    """Nobody wants to know where the images of a batch stand."""


def synthesize(
    network: VGG19,
    problems: Sequence[Problem],
    publish: Publish = clip_and_round,
    on_evaluation: Callable[[int], None] = lambda evaluations: None,
    *,
    resume: Iterable[ImageState] = (),
    offer: OfferStates = offer_nothing,
) -> list[Solution]:
    """Minimise equation (7) for a batch of pictures; each gets what it would get alone.

    Args:
        network: The VGG-19; its device is where the work is done.
        problems: At least one. All have the same shape, target layers and ``recipe.shared_settings``.
        publish: What the published file keeps of an image; losses are measured on that.
        on_evaluation: Called with the number of evaluations after each.
        resume: Where each problem stood when its state was taken, in order, all at the same number of
            evaluations; each is let go once it is read. None at all: from the start images.
        offer: Called after each evaluation but the last with a function that takes the states of all images.

    Returns:
        One solution for each problem, in order. A loss that is not finite is no exception: the stop reason
        says so and the image is the last good one.

    Raises:
        SynthesisError: The problems cannot share a batch, or the images are too small for the layers.
    """
    batch = _Batch(network, problems)
    batch.restore(resume)
    while not batch.is_finished:
        batch.evaluate()
        on_evaluation(batch.evaluations)
        if not batch.is_finished:
            offer(batch.states)
    return batch.solutions(publish)


class _Batch:
    """The problems that are still being worked on, and the results of those that are not."""

    def __init__(self, network: VGG19, problems: Sequence[Problem]) -> None:
        _check_alike(problems)
        self.evaluations = 0
        self._network = network
        self._problems = problems
        self._recipe = problems[0].recipe
        self._shape = problems[0].start.shape
        self._objective = batch_objective(problems, network.device)
        start = torch.stack([problem.start for problem in problems]).to(network.device)
        self._loss_gradient = LossGradient(
            network, self._objective.layers, self._recipe.pooling, tuple(start.shape)
        )
        self._optimizer = _optimizer(self._recipe, as_rows(start))
        self._bounds = SoftBounds(len(problems), network.device) if self._recipe.bounds == "soft" else None
        self._active = list(range(len(problems)))
        self._curves: list[list[float]] = [[] for _ in problems]
        self._images = as_rows(start).clone()
        self._reasons = [StopReason.ITERATIONS] * len(problems)
        self._last_losses = start.new_full((len(problems),), math.inf)

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
        curve = tuple(self._curves[index])
        if row is None:
            image = {"points": copied(self._images[index])}
            return ImageState(self.evaluations, curve, self._reasons[index], image)
        tensors = self._optimizer.state(row) | (self._bounds.state(row) if self._bounds else {})
        return ImageState(self.evaluations, curve, None, tensors)

    def restore(self, states: Iterable[ImageState]) -> None:
        """Go on, before any evaluation, where these states were taken; nothing happens if there are none."""
        taken_at, going = [], []
        for index, state in enumerate(states):
            taken_at.append(state.evaluations)
            if index < len(self._problems):
                self._restore(index, state)
            if state.stop_reason is None:
                going.append(index)
        if not taken_at:
            return
        if len(taken_at) != len(self._problems) or len(set(taken_at)) > 1:
            raise SynthesisError(
                f"{len(self._problems)} pictures cannot go on from {len(taken_at)} states, taken after "
                f"{sorted(set(taken_at))} evaluations; give one for each, all after the same number"
            )
        self.evaluations = taken_at[0]
        self._keep(going)

    def _restore(self, index: int, state: ImageState) -> None:
        self._curves[index] = list(state.loss_curve)
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
        self._record(self._optimizer.losses < before, terms.total)
        self._tighten_bounds()
        self._retire()

    def _record(self, improved: Tensor, losses: Tensor) -> None:
        self._last_losses = torch.where(improved, losses, self._last_losses)
        for index, loss in zip(self._active, self._last_losses.tolist(), strict=True):
            self._curves[index].append(loss)

    def _tighten_bounds(self) -> None:
        if self._bounds is None or self.evaluations % CHECK_EVERY:
            return
        added = self._bounds.tighten(self._optimizer.points, self._last_losses)
        if added is not None:
            self._optimizer.revise(added.values, added.gradients)

    def _retire(self) -> None:
        """Take the images that have stopped out of the batch."""
        for row, index in enumerate(self._active):
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
        if self._bounds is not None:
            self._bounds.keep(kept)

    def _keep_images(self) -> None:
        """Note the best images so far; the optimiser forgets those that stop."""
        for row, index in enumerate(self._active):
            self._images[index] = self._optimizer.points[row]

    def _has_converged(self, curve: Sequence[float]) -> bool:
        if self._recipe.tolerance == 0 or len(curve) <= TOLERANCE_WINDOW:
            return False
        return curve[-1 - TOLERANCE_WINDOW] - curve[-1] < self._recipe.tolerance * curve[-1]

    def solutions(self, publish: Publish) -> list[Solution]:
        """The results, with the losses of the published pictures."""
        self._keep_images()
        images = as_images(self._images, self._shape).cpu().contiguous()
        published = [
            publish(image, problem.recipe) for image, problem in zip(images, self._problems, strict=True)
        ]
        del self._loss_gradient  # its memory is wanted now
        terms = self._published_terms(torch.stack(published))
        return [
            Solution(
                image=published[i],
                loss=float(terms.total[i]),
                content_loss=float(terms.content_loss[i]),
                style_loss=float(terms.style_loss[i]),
                layer_losses=_layer_losses(terms, i),
                solver_loss=self._curves[i][-1] if self._curves[i] else math.nan,
                loss_curve=tuple(self._curves[i]),
                clipped_fraction=float(((images[i] < 0) | (images[i] > 255)).float().mean()),
                evaluations=len(self._curves[i]),
                stop_reason=self._reasons[i],
            )
            for i in range(len(self._problems))
        ]

    @torch.no_grad()
    def _published_terms(self, published: Tensor) -> LossTerms:
        objective = batch_objective(self._problems, self._network.device)
        images = published.to(self._network.device)
        responses = self._network.responses(images, objective.layers, self._recipe.pooling)
        return objective.terms(images, responses)


def _check_alike(problems: Sequence[Problem]) -> None:
    if not problems:
        raise SynthesisError("there is nothing to synthesize: the batch is empty")
    kinds = {
        (
            tuple(problem.start.shape),
            tuple(problem.targets.content),
            tuple(problem.targets.style),
            problem.recipe.shared_settings,
        )
        for problem in problems
    }
    if len(kinds) > 1:
        raise SynthesisError(
            "these pictures cannot share a batch: they differ in shape, layers or settings; "
            "synthesize them one by one"
        )
    if not problems[0].targets.content and not problems[0].targets.style:
        raise SynthesisError("a picture needs content targets, style targets or both")


def batch_objective(problems: Sequence[Problem], device: torch.device) -> Objective:
    """The loss of problems of one shape, each with its own targets and scales."""
    height, width = problems[0].start.shape[-2:]
    scales = [loss_scales(problem.recipe, height, width) for problem in problems]
    content, style = problems[0].targets.content, problems[0].targets.style
    return Objective(
        {
            layer: _stack([problem.targets.content[layer] for problem in problems], device)
            for layer in content
        },
        {layer: _stack([problem.targets.style[layer] for problem in problems], device) for layer in style},
        {layer: torch.tensor([scale.content[layer] for scale in scales], device=device) for layer in content},
        {layer: torch.tensor([scale.style[layer] for scale in scales], device=device) for layer in style},
        torch.tensor([scale.tv for scale in scales], device=device),
    )


def _stack(targets: Sequence[Tensor], device: torch.device) -> Tensor:
    stacked = torch.stack([target.to(device) for target in targets])
    return stacked.contiguous(memory_format=torch.channels_last) if stacked.dim() == 4 else stacked


def _optimizer(recipe: Recipe, start: Tensor) -> Optimizer:
    if recipe.optimizer == "adam":
        return Adam(start, recipe.learning_rate)
    return LBFGS(start, min(recipe.history, max(1, recipe.iterations)))


def as_rows(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` as ``(B, n)`` in channels-last order."""
    return images.permute(0, 2, 3, 1).flatten(1)


def as_images(rows: Tensor, shape: torch.Size) -> Tensor:
    """``(B, n)`` in channels-last order as ``(B, 3, H, W)``."""
    channels, height, width = shape
    return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)


def _layer_losses(terms: LossTerms, image: int) -> dict[str, float]:
    content = {f"content_{layer}": float(losses[image]) for layer, losses in terms.content.items()}
    return content | {f"style_{layer}": float(losses[image]) for layer, losses in terms.style.items()}
