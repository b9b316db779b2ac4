"""The content image in the style's colours: a start from which the optimiser has less to change.

The linear map of RGB that gives an image another mean and covariance of its colours, and of all such maps the
one that changes the colours least (Pitié & Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping
for example-based colour transfer").
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stylebatch.synthesis.targets import style_shares

SPREAD = 1.0
"""Added to every variance, in squared grey levels, so that an image of one colour has a covariance to map."""
PIECE_PIXELS = 2**18
"""Pixels that are looked at together, in float64."""


def recoloured(content: Tensor, styles: Sequence[Tensor], shares: Sequence[float] | None = None) -> Tensor:
    """The content with the mean and the covariance of its styles' colours, clipped to 0..255.

    Args:
        content: ``(3, H, W)``, 0..255.
        styles: At least one, ``(3, H, W)`` each, 0..255, of any sizes.
        shares: One number >= 0 for each style, its part of the colours; None is equal shares.

    Returns:
        ``(3, H, W)``, 0..255.

    Raises:
        SynthesisError: There is not one share for each style image.
    """
    mean, covariance = _moments(content)
    wanted_mean, wanted_covariance = _mixed(styles, style_shares(len(styles), shares))
    root = _root(covariance)
    inverse = torch.linalg.inv(root)
    matrix = (inverse @ _root(root @ wanted_covariance @ root) @ inverse).to(content)
    found = matrix @ (content.flatten(1) - mean.to(content)) + wanted_mean.to(content)
    clipped: Tensor = found.clamp(0, 255)
    return clipped.view_as(content)


def _mixed(styles: Sequence[Tensor], shares: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mean ``(3, 1)`` and covariance ``(3, 3)`` of the colours of all styles together."""
    each = [(share, *_moments(style)) for share, style in zip(shares, styles, strict=True)]
    mean = torch.stack([share * own for share, own, _ in each]).sum(0)
    covariances = [share * (covariance + (own - mean) @ (own - mean).T) for share, own, covariance in each]
    return mean, torch.stack(covariances).sum(0)


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(3, 1)`` and covariance ``(3, 3)`` of an image's colours, in float64."""
    colours = image.flatten(1)
    mean = colours.mean(1, keepdim=True, dtype=torch.float64)
    covariance = SPREAD * torch.eye(3).to(mean)
    for piece in torch.split(colours, PIECE_PIXELS, dim=1):
        changes = piece - mean
        covariance += changes @ changes.T / colours.shape[1]
    return mean, covariance


def _root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
    return root
