"""Equations (1) to (7), and the conventions that scale them.

Every published variant of the loss is ``sum_l c_l sum (F - P)^2 + sum_l s_l sum (G/M - A/M_a)^2``, with F the
responses to the picture, P those to the content, G and A the Gram matrices of picture and style, M and M_a
their numbers of positions. A convention gives the factors c_l and s_l.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stylebatch.recipe import Recipe
from stylebatch.synthesis.layers import layer_channels, layer_positions


def _positions_by_filters(responses: Tensor) -> Tensor:
    """``(B, N, H, W)`` as ``(B, M, N)``: no copy when the responses are channels-last."""
    return responses.permute(0, 2, 3, 1).flatten(1, 2)


def gram_matrix(responses: Tensor) -> Tensor:
    """The Gram matrix of each image, divided by its number of positions M.

    Args:
        responses: F of one layer, ``(B, N, H, W)``.

    Returns:
        ``sum_k F_ik F_jk / M``, ``(B, N, N)`` (equation 3).
    """
    return gram_sums(responses) / responses.shape[2:].numel()


def gram_sums(responses: Tensor) -> Tensor:
    """The same undivided, of all positions or of some: ``sum_k F_ik F_jk``."""
    flat = _positions_by_filters(responses)
    return flat.transpose(1, 2) @ flat


def add_style_gradients(responses: Tensor, factors: Tensor, gradients: Tensor) -> None:
    """Add a layer's :meth:`Objective.style_factors` times its responses, at all positions or at some.

    Args:
        responses: F, ``(B, N, H, W)``, channels-last in memory.
        factors: ``(B, N, N)``.
        gradients: Of the shape and memory format of the responses; changed in place.
    """
    _positions_by_filters(gradients).baddbmm_(_positions_by_filters(responses), factors)


@dataclass(frozen=True)
class Scales:
    """The factors of one picture's loss, by layer name."""

    content: Mapping[str, float]
    """c_l, before ``sum (F - P)^2``."""
    style: Mapping[str, float]
    """s_l, before ``sum (G/M - A/M_a)^2``."""
    tv: float
    """Before half the sum of squared differences of neighbouring pixels."""


def loss_scales(recipe: Recipe, height: int, width: int) -> Scales:
    """The factors c_l and s_l of a recipe for a picture of this size in pixels."""
    content = {layer: _content_scale(recipe, layer, height, width) for layer in recipe.content_layers}
    shares = style_layer_weights(recipe)
    style = {layer: _style_scale(recipe, layer, share) for layer, share in shares.items()}
    return Scales(content, style, recipe.tv_weight)


def style_layer_weights(recipe: Recipe) -> dict[str, float]:
    """w_l of equation (5). The paper gives each active layer 1/their number; the two codes give each 1."""
    layers = recipe.style_layers
    if recipe.style_layer_weights is not None:
        return dict(zip(layers, recipe.style_layer_weights, strict=True))
    return dict.fromkeys(layers, 1 / len(layers) if recipe.convention == "paper" else 1.0)


def _content_scale(recipe: Recipe, layer: str, height: int, width: int) -> float:
    """α/2 of equations (1) and (7); the two codes take the mean over the N M responses instead.

    ``reference_size`` quotes α and β at that longer side: the content's sum over positions grows with the
    picture's area, the style's mean does not, so the sum is brought back to the reference's area.
    """
    if recipe.convention == "paper":
        areas = 1.0 if recipe.reference_size is None else (recipe.reference_size / max(height, width)) ** 2
        return recipe.content_weight / 2 * areas
    return recipe.content_weight / (layer_channels(layer) * layer_positions(height, width, layer))


def _style_scale(recipe: Recipe, layer: str, layer_weight: float) -> float:
    """β w_l / (4 N²) of equations (4), (5) and (7); the two codes' mean over N² entries, again over N²."""
    filters = layer_channels(layer)
    divisor = 4 * filters**2 if recipe.convention == "paper" else filters**4
    return recipe.style_weight * layer_weight / divisor


@dataclass(frozen=True)
class LossTerms:
    """The parts of each image's loss; every tensor is ``(B,)``."""

    content: Mapping[str, Tensor]
    """α times the content loss of each layer."""
    style: Mapping[str, Tensor]
    """β w_l times the style loss of each layer."""
    tv: Tensor
    """The total variation term."""

    @property
    def total(self) -> Tensor:
        """Equation (7), with the total variation term."""
        return self.content_loss + self.style_loss + self.tv

    @property
    def content_loss(self) -> Tensor:
        """The sum over content layers."""
        return sum(self.content.values(), torch.zeros_like(self.tv))

    @property
    def style_loss(self) -> Tensor:
        """The sum over style layers."""
        return sum(self.style.values(), torch.zeros_like(self.tv))


@dataclass(frozen=True)
class Objective:
    """The loss of a batch of images, each against its own targets with its own factors."""

    content_targets: Mapping[str, Tensor]
    """P by layer, ``(B, N, H, W)``."""
    style_targets: Mapping[str, Tensor]
    """A/M_a by layer, ``(B, N, N)``."""
    content_scales: Mapping[str, Tensor]
    """c_l by layer, ``(B,)``."""
    style_scales: Mapping[str, Tensor]
    """s_l by layer, ``(B,)``."""
    tv_scales: Tensor
    """``(B,)``."""

    def residuals(self, terms: LossTerms) -> dict[str, Tensor]:
        """How far each layer is from its target: a distance, over the target's own size.

        ``|F - P| / |P|`` of content layers, ``|G/M - A/M_a| / |A/M_a|`` of style layers, in Frobenius norms:
        0 where the target is met, 1 where all of it is missing. They do not depend on convention or weights.

        Args:
            terms: The losses of the same images.

        Returns:
            ``(B,)`` by ``content_`` or ``style_`` and the layer's name; not finite where the layer has no
            weight, or its target is zero.
        """
        content = {
            f"content_{layer}": _relative(losses, self.content_scales[layer], self.content_targets[layer])
            for layer, losses in terms.content.items()
        }
        return content | {
            f"style_{layer}": _relative(losses, self.style_scales[layer], self.style_targets[layer])
            for layer, losses in terms.style.items()
        }

    @property
    def layers(self) -> set[str]:
        """The layers whose responses :meth:`terms` needs."""
        return {*self.content_targets, *self.style_targets}

    def terms(self, images: Tensor, responses: Iterable[tuple[str, Tensor]]) -> LossTerms:
        """The loss of each image.

        Args:
            images: ``(B, 3, H, W)``, 0..255.
            responses: F of every layer in :attr:`layers`, by name.
        """
        content, style = {}, {}
        for layer, response in responses:
            if layer in self.content_targets:
                content[layer] = self.content_losses(layer, response)
            if layer in self.style_targets:
                style[layer] = self.style_losses(layer, gram_matrix(response))
        return LossTerms(content, style, self._total_variation(images))

    def content_losses(self, layer: str, responses: Tensor, rows: slice = slice(None)) -> Tensor:
        """α times a layer's content losses, ``(B,)``, of some of its rows: F is ``(B, N, rows, W)``."""
        return self.content_scales[layer] * _squares(responses - self.content_targets[layer][:, :, rows])

    def style_losses(self, layer: str, grams: Tensor) -> Tensor:
        """β w_l times a layer's style losses, ``(B,)``, by its G/M, ``(B, N, N)``."""
        return self.style_scales[layer] * _squares(grams - self.style_targets[layer])

    def add_content(
        self, layer: str, responses: Tensor, gradients: Tensor, rows: slice = slice(None)
    ) -> Tensor:
        """Add the gradients ``2 c_l (F - P)`` of a layer's content losses (equation 2); return the losses.

        Where F is 0 equation (2) has 0: the way back through the ReLU sees to that.

        Args:
            layer: Its name.
            responses: F, ``(B, N, H, W)``.
            gradients: Of the same shape and memory format; changed in place.
            rows: Which of the layer's these are.
        """
        scales, differences = self.content_scales[layer], responses - self.content_targets[layer][:, :, rows]
        gradients.addcmul_(differences, 2 * _by_image(scales, differences))
        return scales * _squares(differences)

    def add_style(self, layer: str, responses: Tensor, gradients: Tensor) -> Tensor:
        """Add the gradients ``4 s_l/M F (G/M - A/M_a)`` of style losses (equation 6); return the losses.

        Args:
            layer: Its name.
            responses: F, ``(B, N, H, W)``, channels-last in memory.
            gradients: Of the same shape and memory format; changed in place.
        """
        positions = responses.shape[2:].numel()
        losses, factors = self.style_factors(layer, gram_matrix(responses), positions)
        add_style_gradients(responses, factors, gradients)
        return losses

    def style_factors(self, layer: str, grams: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        """A layer's style losses ``(B,)``, and ``4 s_l/M (G/M - A/M_a)``, ``(B, N, N)``.

        Args:
            layer: Its name.
            grams: G/M, ``(B, N, N)``.
            positions: M.
        """
        scales, differences = self.style_scales[layer], grams - self.style_targets[layer]
        return scales * _squares(differences), differences * _by_image(4 / positions * scales, differences)

    def add_total_variation(self, images: Tensor, gradients: Tensor) -> Tensor:
        """Add the gradients of the total variation terms, in place; return the terms."""
        if bool(self.tv_scales.any()):
            down, right = _neighbour_differences(images)
            scales = _by_image(self.tv_scales, images)
            gradients[:, :, 1:, :] += scales * down
            gradients[:, :, :-1, :] -= scales * down
            gradients[:, :, :, 1:] += scales * right
            gradients[:, :, :, :-1] -= scales * right
        return self._total_variation(images)

    def _total_variation(self, images: Tensor) -> Tensor:
        if not bool(self.tv_scales.any()):
            return torch.zeros_like(self.tv_scales)
        down, right = _neighbour_differences(images)
        return self.tv_scales * (_squares(down) + _squares(right)) / 2

    def rows(self, kept: Tensor) -> "Objective":
        """The objective of some of the images, by index."""
        content_targets, style_targets, content_scales, style_scales = (
            {layer: tensor[kept] for layer, tensor in part.items()}
            for part in (self.content_targets, self.style_targets, self.content_scales, self.style_scales)
        )
        return Objective(content_targets, style_targets, content_scales, style_scales, self.tv_scales[kept])


def _relative(losses: Tensor, scales: Tensor, targets: Tensor) -> Tensor:
    """The distances that ``scales`` times their squares make losses of, over the targets' norms, ``(B,)``."""
    return (losses.double() / scales.double() / _squares(targets).double()).sqrt()


def _squares(values: Tensor) -> Tensor:
    """The sum of squares of each image, ``(B,)``."""
    return values.square().sum(tuple(range(1, values.dim())))


def _neighbour_differences(images: Tensor) -> tuple[Tensor, Tensor]:
    """Of each pixel and the one above it, and of each and the one at its left."""
    return images[:, :, 1:, :] - images[:, :, :-1, :], images[:, :, :, 1:] - images[:, :, :, :-1]


def _by_image(factors: Tensor, values: Tensor) -> Tensor:
    """``(B,)`` in a shape that multiplies each image's values."""
    return factors.view(-1, *[1] * (values.dim() - 1))
