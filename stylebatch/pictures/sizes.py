"""How large a picture becomes, and making it that large."""

import math

from PIL import Image

from stylebatch.errors import PictureError
from stylebatch.recipe import Recipe

SMALLEST_SIDE = 64
"""Of a picture that is made smaller first; smaller ones lose faces and other details for good."""


def output_size(recipe: Recipe, width: int, height: int) -> tuple[int, int]:
    """The size of the result for a content picture of this size.

    Args:
        recipe: Its ``size``, ``shorter_side`` or ``pixels`` is the rule.
        width: Of the upright content picture, in pixels, at least 1.
        height: Likewise.

    Returns:
        (width, height) in whole pixels, at least 1; the aspect ratio is kept up to that rounding.
    """
    if recipe.shorter_side is not None:
        return _scaled(width, height, recipe.shorter_side / min(width, height))
    if recipe.pixels is not None:
        return _scaled(width, height, math.sqrt(recipe.pixels / (width * height)))
    if recipe.size is None:  # a Recipe always has one of the three
        return width, height
    return _scaled(width, height, recipe.size / max(width, height))


def style_output_size(recipe: Recipe, width: int, height: int) -> tuple[int, int]:
    """The size that a style image of this size is used at.

    Args:
        recipe: ``style_size`` is the longer side; without it the style follows the rule of the result.
        width: Of the upright style image, in pixels, at least 1.
        height: Likewise.

    Returns:
        (width, height) in whole pixels, at least 1.
    """
    if recipe.style_size is None:
        return output_size(recipe, width, height)
    return _scaled(width, height, recipe.style_size / max(width, height))


def halved_sizes(width: int, height: int, scales: int) -> list[tuple[int, int]]:
    """A size and its halves, the largest first.

    Args:
        width: In pixels.
        height: Likewise.
        scales: How many there should be; halves with a side under 64 pixels are left out.

    Returns:
        (width, height), and as many halves of it as were asked for and are large enough.
    """
    halves = (_scaled(width, height, 0.5**times) for times in range(1, scales))
    return [(width, height), *(size for size in halves if min(size) >= SMALLEST_SIDE)]


def resize(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture at another size, antialiased (Lanczos, on the sRGB values); itself if it has that size.

    Args:
        picture: An RGB picture.
        size: (width, height) in pixels.
    """
    if picture.size == size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS)


def cropped(picture: Image.Image, box: tuple[int, ...]) -> Image.Image:
    """A part of the picture.

    Args:
        picture: Upright.
        box: Left, top, width and height in its pixels.

    Raises:
        PictureError: The box is not inside the picture.
    """
    left, top, right, bottom = crop_corners(box, *picture.size)
    return picture.crop((left, top, right, bottom))


def crop_corners(box: tuple[int, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a box of left, top, width and height.

    Raises:
        PictureError: It is not inside a picture of this width and height.
    """
    left, top, across, down = box
    if left + across > width or top + down > height:
        raise PictureError(
            f"the crop {left}, {top}, {across} x {down} is not inside a picture of {width} x {height} pixels"
        )
    return left, top, left + across, top + down


def _scaled(width: int, height: int, factor: float) -> tuple[int, int]:
    return max(1, round(width * factor)), max(1, round(height * factor))
