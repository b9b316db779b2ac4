"""What a picture is compared with: responses of its content, Gram matrices of its styles."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylebatch.errors import SynthesisError
from stylebatch.synthesis.losses import gram_matrix
from stylebatch.synthesis.vgg import VGG19


@dataclass(frozen=True)
class Targets:
    """The targets of one picture. A part without layers is a part without influence."""

    content: Mapping[str, Tensor]
    """P of each content layer, ``(N, H_l, W_l)``; empty for a texture."""
    style: Mapping[str, Tensor]
    """A/M_a of each style layer, ``(N, N)``; empty for a content reconstruction."""


@torch.no_grad()
def content_targets(
    network: VGG19, content: Tensor, layers: Iterable[str], pooling: str
) -> dict[str, Tensor]:
    """P of equation (1): the responses to a content image ``(3, H, W)``, 0..255, at the output's size."""
    responses = network.responses(content[None].to(network.device), layers, pooling)
    return {layer: response[0] for layer, response in responses.items()}


@torch.no_grad()
def style_targets(network: VGG19, style: Tensor, layers: Iterable[str], pooling: str) -> dict[str, Tensor]:
    """A/M_a of equation (4): Gram matrices of a style image ``(3, H, W)``, 0..255, of any size."""
    grams = {}
    for layer, response in network.each_response(style[None].to(network.device), layers, pooling):
        grams[layer] = gram_matrix(response)[0]
        del response  # before the next one is made
    return grams


def blend_styles(
    styles: Sequence[Mapping[str, Tensor]], shares: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """The Gram matrices of several style images as one target: their mean, weighted by shares.

    Args:
        styles: Per image, ``(N, N)`` by layer; all with the same layers.
        shares: One number >= 0 for each image, scaled to sum to 1; None is equal shares.

    Raises:
        SynthesisError: There is not one share for each style image.
    """
    shares = style_shares(len(styles), shares)
    return {
        layer: sum(
            (share * style[layer] for share, style in zip(shares, styles, strict=True)),
            start=torch.zeros_like(gram),
        )
        for layer, gram in (styles[0] if styles else {}).items()
    }


def style_shares(styles: int, shares: Sequence[float] | None) -> list[float]:
    """Shares of so many style images, scaled to sum to 1; None is equal shares.

    Raises:
        SynthesisError: There is not one share for each style image.
    """
    shares = [1.0] * styles if shares is None else shares
    if len(shares) != styles:
        raise SynthesisError(
            f"style_blend has {len(shares)} numbers for {styles} style images; give one for each"
        )
    total = sum(shares)
    return [share / total for share in shares]
