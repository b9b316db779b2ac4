"""What is to be synthesized: problems, their solutions, and the tensors that a batch of them needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylebatch.errors import SynthesisError
from stylebatch.recipe import Recipe
from stylebatch.synthesis.layers import layer_positions
from stylebatch.synthesis.losses import Objective, Scales, loss_scales
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.targets import Targets


@dataclass(frozen=True)
class Problem:
    """One picture to make. Problems of one batch agree on shapes, layers and shared settings."""

    recipe: Recipe
    """Every number that decides the picture."""
    targets: Targets
    """What it is compared with."""
    start: Tensor
    """The start image ``(3, H, W)``, RGB, 0..255, on the CPU."""
    smaller: "Problem | None" = None
    """The same picture at a smaller size, which is made first; None: nothing is."""
    balance_size: tuple[int, int] | None = None
    """(height, width) at which content and style are weighed against each other. None: the start image's."""

    @property
    def sizes(self) -> "tuple[Problem, ...]":
        """The problem at every size at which there is work, the smallest first, itself last."""
        return (*(self.smaller.sizes if self.smaller and self.recipe.iterations else ()), self)


@dataclass(frozen=True)
class Published:
    """What the published file keeps of the solver's image."""

    pixels: Tensor
    """What a reader of the file gets: float32 ``(3, H, W)``, RGB, 0..255, on the CPU."""
    to_encode: Tensor
    """What the file is made of, which differs from that where the format loses more than precision."""
    clipped_fraction: float
    """The share of values that were outside 0..255 and had to be clipped."""
    achieved: Mapping[str, float]
    """What it has of what the recipe asks of its appearance."""


Publish = Callable[[Tensor, int], Published]
"""From the solver's image ``(3, H, W)`` on the CPU, and which of the problems it solves."""


@dataclass(frozen=True)
class Solution:
    """A picture, its losses and how it was reached. Losses are those of the published picture."""

    image: Tensor
    """The published pixel values, float32 ``(3, H, W)``, RGB, 0..255, on the CPU."""
    to_encode: Tensor
    """What the published file is made of; for JPEG not yet what a reader of it gets."""
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
    layer_residuals: Mapping[str, float]
    """How far each layer is from its target, over the target's size, by the same names; layers with a
    weight and a target that is not zero."""
    loss_change: float
    """The fall of the loss over the last 20 evaluations (or as many as there were), over the last loss; not
    a number after a single evaluation or none."""
    clipped_fraction: float
    """The share of the solver's pixel values outside 0..255."""
    adjusted_clipped_fraction: float
    """The share that was still, or again, outside after its appearance was adjusted."""
    achieved: Mapping[str, float]
    """What the published picture has of what the recipe asks of its appearance."""
    evaluations: int
    """Forward and backward passes used, at the picture's own size."""
    smaller_evaluations: tuple[int, ...]
    """Those used at each smaller size before, the smallest first."""
    stop_reason: StopReason
    """Why it ended."""


def white_noise(height: int, width: int, seed: int) -> Tensor:
    """Uniform white noise ``(3, H, W)``, 0..255, the same on every device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return 255 * torch.rand(3, height, width, generator=generator)


def check_alike(problems: Sequence[Problem]) -> None:
    """Raise SynthesisError if problems cannot share a batch, or have nothing to be compared with."""
    if not problems:
        raise SynthesisError("there is nothing to synthesize: the batch is empty")
    if len({tuple(_kind(size) for size in problem.sizes) for problem in problems}) > 1:
        raise SynthesisError(
            "these pictures cannot share a batch: they differ in shape, layers or settings; "
            "synthesize them one by one"
        )
    if not problems[0].targets.content and not problems[0].targets.style:
        raise SynthesisError("a picture needs content targets, style targets or both")


def _kind(problem: Problem) -> tuple[Any, ...]:
    return (
        tuple(problem.start.shape),
        tuple(problem.targets.content),
        tuple(problem.targets.style),
        problem.recipe.shared_settings,
    )


def batch_objective(problems: Sequence[Problem], device: torch.device) -> Objective:
    """The loss of problems of one shape, each with its own targets and scales."""
    scales = [_scales(problem) for problem in problems]
    content, style = problems[0].targets.content, problems[0].targets.style
    return Objective(
        {
            layer: _stack((problem.targets.content[layer] for problem in problems), device)
            for layer in content
        },
        {layer: _stack((problem.targets.style[layer] for problem in problems), device) for layer in style},
        {layer: torch.tensor([scale.content[layer] for scale in scales], device=device) for layer in content},
        {layer: torch.tensor([scale.style[layer] for scale in scales], device=device) for layer in style},
        torch.tensor([scale.tv for scale in scales], device=device),
    )


def _scales(problem: Problem) -> Scales:
    """The factors of a problem's loss, with the balance of content and style that its picture has at last.

    Every convention's content loss grows with the number of positions at a given c_l, the style loss does
    not; so c_l is that of the balance's size, times the ratio of positions.
    """
    height, width = problem.start.shape[-2:]
    if problem.balance_size is None:
        return loss_scales(problem.recipe, height, width)
    scales = loss_scales(problem.recipe, *problem.balance_size)
    content = {
        layer: factor * layer_positions(*problem.balance_size, layer) / layer_positions(height, width, layer)
        for layer, factor in scales.content.items()
    }
    return Scales(content, scales.style, scales.tv)


def _stack(targets: Iterable[Tensor], device: torch.device) -> Tensor:
    stacked = torch.stack([target.to(device) for target in targets])
    return stacked.contiguous(memory_format=torch.channels_last) if stacked.dim() == 4 else stacked


def as_rows(images: Tensor) -> Tensor:
    """``(B, 3, H, W)`` as ``(B, n)`` in channels-last order."""
    return images.permute(0, 2, 3, 1).flatten(1)


def as_images(rows: Tensor, shape: torch.Size) -> Tensor:
    """``(B, n)`` in channels-last order as ``(B, 3, H, W)``."""
    channels, height, width = shape
    return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)
