"""From the solver's image to the pixels of the published file: appearance, then the file's own precision."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stylebatch.pair.loading import LoadedPair, SizedSource
from stylebatch.pictures.appearance import (
    Appearance,
    Pixels,
    adjusted,
    measured,
    mixed_values,
    radial_amplitudes,
    sorted_values,
)
from stylebatch.pictures.encoding import as_published
from stylebatch.recipe import Recipe
from stylebatch.synthesis.bounds import outside_fraction
from stylebatch.synthesis.problems import Published
from stylebatch.synthesis.targets import style_shares

WHITE = 255.0


def finish(image: Tensor, loaded: LoadedPair) -> Published:
    """What is published of an image: with the appearance that the recipe asks for, clipped and quantised.

    Args:
        image: The solver's, ``(3, H, W)``, on the CPU.
        loaded: The pair, with the images that its appearance comes from.

    Returns:
        The pixels of the file, how much of them had to be clipped, and what they have of what was asked.
    """
    wanted = wanted_appearance(loaded, image.shape[1], image.shape[2])
    if wanted.asks_for_something:
        image = _as_image(adjusted(_as_pixels(image), wanted))
    pixels = as_published(image, loaded.recipe.format, loaded.recipe.quality)
    to_encode = image if loaded.recipe.format == "jpeg" else pixels
    return Published(pixels, to_encode, outside_fraction(image), measured(_as_pixels(pixels), wanted))


def measured_appearance(pixels: Tensor, loaded: LoadedPair) -> Mapping[str, float]:
    """What a published picture has of the appearance that its pair asks for.

    Args:
        pixels: Of the file, ``(3, H, W)``, 0..255.
        loaded: The pair, with the images that its appearance comes from.
    """
    return measured(_as_pixels(pixels), wanted_appearance(loaded, pixels.shape[1], pixels.shape[2]))


def wanted_appearance(loaded: LoadedPair, height: int, width: int) -> Appearance:
    """What a pair's recipe asks of the appearance of its picture.

    Several style images count by their shares, as in the style itself.

    Args:
        loaded: The pair.
        height: Of the picture, in pixels.
        width: Likewise.
    """
    recipe = loaded.recipe
    histogram = spectrum = None
    if references := loaded.references.get("histogram"):
        each = [sorted_values(_as_pixels(one.pixels), recipe.light) for one in references]
        histogram = mixed_values(each, _shares(recipe, recipe.histogram, references))
    if references := loaded.references.get("spectrum"):
        covering = [_as_pixels(_covering(one.pixels, height, width)) for one in references]
        shares = _shares(recipe, recipe.spectrum, references)
        spectrum = np.average([radial_amplitudes(one, recipe.light) for one in covering], 0, shares)
    return Appearance(recipe.light, recipe.mean_luminance, recipe.rms_contrast, histogram, spectrum)


def _shares(recipe: Recipe, name: str | None, references: tuple[SizedSource, ...]) -> list[float]:
    return style_shares(len(references), recipe.style_blend if name == "style" else None)


def _covering(pixels: Tensor, height: int, width: int) -> Tensor:
    """The middle of an image ``(3, h, w)`` that has the shape ``(3, H, W)`` of a picture, resized to it."""
    own_height, own_width = pixels.shape[1:]
    scale = min(own_height / height, own_width / width)
    down, across = max(1, round(scale * height)), max(1, round(scale * width))
    top, left = (own_height - down) // 2, (own_width - across) // 2
    part = pixels[:, top : top + down, left : left + across]
    if (down, across) == (height, width):
        return part
    return functional.interpolate(part[None], (height, width), mode="bicubic", antialias=True)[0]


def _as_pixels(image: Tensor) -> Pixels:
    return image.permute(1, 2, 0).to(torch.float64).numpy() / WHITE


def _as_image(pixels: Pixels) -> Tensor:
    return torch.from_numpy(WHITE * pixels).permute(2, 0, 1).to(torch.float32).contiguous()
