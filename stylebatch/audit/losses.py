"""The losses of a published picture, computed anew, and whether they agree with those of the table."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylebatch.pair.loading import LoadedPair
from stylebatch.pair.targets import TargetCache
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.losses import LossTerms, Objective
from stylebatch.synthesis.problems import batch_objective
from stylebatch.synthesis.vgg import VGG19


@dataclass(frozen=True)
class Tolerance:
    """How far two computations of the same loss may be apart.

    A layer's loss L is the square of a distance. Rounding moves the distance by a small part of what it is a
    difference of, so a small loss is uncertain by more than a fixed fraction of itself: what agrees is either
    the loss, or its residual, the root of L over T, with T the loss of a picture that the network does not
    respond to.
    """

    relative: float
    """Of the loss."""
    residual: float
    """Of the residual."""

    def uncertainty(self, loss: float, scale: float) -> float:
        """By how much a layer's loss may be off.

        Args:
            loss: L.
            scale: T.
        """
        root, shift = math.sqrt(max(loss, 0.0)), self.residual * math.sqrt(scale)
        return max(self.relative * loss, 2 * root * shift + shift**2)


SAME_DEVICE = Tolerance(relative=1e-3, residual=1e-5)
"""On one kind of device: other threads, batches and processors; docs/describing.md has what was measured."""
OTHER_DEVICE = Tolerance(relative=1e-2, residual=1e-3)
"""Between a CPU and a GPU, whose convolutions may keep 10 bits of the mantissa (TF32). An estimate."""


@dataclass(frozen=True)
class Losses:
    """The losses of one picture."""

    terms: Mapping[str, float]
    """By layer, as ``layer_losses`` has them."""
    scales: Mapping[str, float]
    """T of each: the loss of a picture that the network does not respond to."""
    tv: float
    """The total variation term."""

    @property
    def residuals(self) -> dict[str, float]:
        """The root of L over T, by layer; where T is 0 there is none."""
        return {
            key: math.sqrt(loss / self.scales[key]) for key, loss in self.terms.items() if self.scales[key]
        }

    def total(self, *terms: str) -> float:
        """The sum of the losses whose names begin with one of these."""
        return math.fsum(loss for key, loss in self.terms.items() if key.startswith(terms))

    def uncertainty(self, tolerance: Tolerance, *terms: str) -> float:
        """By how much that sum may be off."""
        return math.fsum(
            tolerance.uncertainty(loss, self.scales[key])
            for key, loss in self.terms.items()
            if key.startswith(terms)
        )


def measured_losses(network: VGG19, targets: TargetCache, loaded: LoadedPair, pixels: Tensor) -> Losses:
    """The losses of a picture.

    Args:
        network: That of the pair's recipe.
        targets: Where targets are kept.
        loaded: The pair's sources, at the picture's own size alone.
        pixels: Of the published picture, ``(3, H, W)``, 0..255.

    Raises:
        SynthesisError: The sources do not fit the recipe.
        MemoryExceededError: They are too large to be measured here.
    """
    objective = batch_objective([targets.problem(network, loaded)], network.device)
    images = pixels[None].to(network.device)
    pass_forward = LossGradient(network, objective.layers, loaded.recipe.pooling, tuple(images.shape))
    terms = pass_forward.losses(images, objective)
    return Losses(_by_name(terms), _scales(objective), float(terms.tv[0]))


def _by_name(terms: LossTerms) -> dict[str, float]:
    content = {f"content_{layer}": float(losses[0]) for layer, losses in terms.content.items()}
    return content | {f"style_{layer}": float(losses[0]) for layer, losses in terms.style.items()}


def _scales(objective: Objective) -> dict[str, float]:
    parts = (
        ("content", objective.content_scales, objective.content_targets),
        ("style", objective.style_scales, objective.style_targets),
    )
    return {
        f"{term}_{layer}": float(scales[layer][0]) * float(target.to(torch.float64).square().sum())
        for term, scales, targets in parts
        for layer, target in targets.items()
    }


def disagreements(row: Mapping[str, Any], found: Losses, tolerance: Tolerance) -> Iterator[str]:
    """What a result row says otherwise of its losses: one clause each."""
    wholes = {"content_loss": ("content_",), "style_loss": ("style_",)}
    for name, terms in wholes.items():
        yield from _compared(name, row[name], found.total(*terms), found.uncertainty(tolerance, *terms))
    both = ("content_", "style_")
    uncertainty = found.uncertainty(tolerance, *both) + tolerance.relative * found.tv
    yield from _compared("loss", row["loss"], found.total(*both) + found.tv, uncertainty)
    told = row["layer_losses"] or {}
    for key in dict.fromkeys([*told, *found.terms]):
        loss, scale = found.terms.get(key), found.scales.get(key, 0.0)
        yield from _compared(key, told.get(key), loss, tolerance.uncertainty(loss or 0.0, scale))
    residuals = found.residuals
    for key, residual in (row.get("layer_residuals") or {}).items():
        slack = max(tolerance.residual, tolerance.relative * residuals.get(key, 0.0))
        yield from _compared(f"residual of {key}", residual, residuals.get(key), slack)


def _compared(name: str, told: float | None, found: float | None, uncertainty: float) -> Iterator[str]:
    """A clause if the two differ by more; a loss that is not finite is null in the table."""
    found = found if found is not None and math.isfinite(found) else None
    if told is None and found is None:
        return
    if told is None or found is None or not abs(told - found) <= uncertainty:
        yield f"{name} is {_said(told)} in the table and {_said(found)} as recomputed{_apart(told, found)}"


def _said(loss: float | None) -> str:
    return "missing" if loss is None else f"{loss:.7g}"


def _apart(told: float | None, found: float | None) -> str:
    return f" ({abs(told - found) / abs(found):.2g} of it)" if told is not None and found else ""


def largest_difference(row: Mapping[str, Any], found: Losses) -> float:
    """The largest relative difference of a layer's loss from the table's; 0 where nothing can be compared."""
    told = row["layer_losses"] or {}
    pairs = ((told.get(key), loss) for key, loss in found.terms.items())
    differences = (abs(one - other) / other for one, other in pairs if one is not None and other > 0)
    return max(differences, default=0.0)
