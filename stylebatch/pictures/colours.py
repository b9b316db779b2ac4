"""Pixels of any mode and colour space to 8-bit RGB in sRGB."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from stylebatch.errors import PictureError

GREY_MODES = ("1", "L", "LA", "La")

WHITE_LEVELS = {"I": 65535, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535, "F": 1}
"""The value of white in modes of more than 8 bits. Black is 0. ``Image.convert`` would clip at 255."""

BAND_PIXELS = 1 << 20
"""Pixels that are converted at once."""

PROFILED_MODES = {"1": "L", "L": "L", "CMYK": "CMYK"}
"""The mode in which a profile is applied to pixels of a mode; RGB for all others."""


def to_srgb(picture: Image.Image, source: str) -> Image.Image:
    """The picture as 8-bit RGB in sRGB, transparency over white.

    A large picture is converted a band of rows at a time: whatever its mode, no more than the picture, the
    result and one band are in memory.

    Args:
        picture: Of any mode, decoded, with its profile in ``info["icc_profile"]``.
        source: The picture's URI, which names it in errors.

    Raises:
        PictureError: Values of more than 8 bits are outside their mode's range.
    """
    if picture.mode in WHITE_LEVELS:
        _check_levels(picture, source)
    transforms: dict[str, ImageCms.ImageCmsTransform | None] = {}
    if picture.height <= _band_rows(picture):
        return _convert(picture, transforms)
    result = Image.new("RGB", picture.size)
    for top, band in _bands(picture):
        result.paste(_convert(band, transforms), (0, top))
    return result


def over_white(rgb: Image.Image, opacity: Image.Image | None) -> Image.Image:
    """The RGB picture over a white ground; ``opacity`` is its alpha channel (mode L), None is opaque."""
    if opacity is None:
        return rgb
    ground = Image.new("RGB", rgb.size, "white")
    ground.paste(rgb, mask=opacity)
    return ground


def _band_rows(picture: Image.Image) -> int:
    return max(1, BAND_PIXELS // max(1, picture.width))


def _bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Bands of whole rows, each after the number of its first row."""
    rows = _band_rows(picture)
    for top in range(0, picture.height, rows):
        bottom = min(top + rows, picture.height)
        yield top, picture.crop((0, top, picture.width, bottom))


def _check_levels(picture: Image.Image, source: str) -> None:
    """Refuse values that a mode of more than 8 bits does not define."""
    white = WHITE_LEVELS[picture.mode]
    extremes = [(values.min(), values.max()) for _, band in _bands(picture) for values in [np.asarray(band)]]
    low, high = np.min([low for low, _ in extremes]), np.max([high for _, high in extremes])
    if not (low >= 0 and high <= white):  # also true of NaN
        raise PictureError(
            f"{source} holds values from {low:g} to {high:g}; in a picture of mode {picture.mode} 0 is black "
            f"and {white} is white: scale it to that range, or convert it to 8 bits"
        )


def _convert(picture: Image.Image, transforms: dict[str, ImageCms.ImageCmsTransform | None]) -> Image.Image:
    """A picture, or a band of one, in sRGB; what its profile comes to is kept in ``transforms`` by mode."""
    colours, opacity = _separate(_to_eight_bits(picture))
    rgb = _apply_profile(colours, picture.info.get("icc_profile"), transforms)
    result = over_white(rgb or colours.convert("RGB"), opacity)
    result.info = {}  # Pillow would write the old profile and orientation into any file made of this picture
    return result


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits, 32 bits or floating point as mode L (LA if one value is transparent)."""
    if picture.mode not in WHITE_LEVELS:
        return picture
    values = np.asarray(picture)
    levels = np.rint(values * np.float32(255 / WHITE_LEVELS[picture.mode])).astype(np.uint8)
    grey = Image.fromarray(levels)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _separate(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours, and the opacity (mode L) if the picture has any transparency."""
    if not picture.has_transparency_data:
        return picture, None
    is_grey = picture.mode in GREY_MODES
    both = picture.convert("LA" if is_grey else "RGBA")
    return both.convert("L" if is_grey else "RGB"), both.getchannel("A")


def _apply_profile(
    colours: Image.Image, profile: Any, transforms: dict[str, ImageCms.ImageCmsTransform | None]
) -> Image.Image | None:
    """The colours in sRGB, or None if there is no profile, or one of another kind than the pixels."""
    if not isinstance(profile, bytes) or not profile or colours.mode == "LAB":
        return None
    mode = PROFILED_MODES.get(colours.mode, "RGB")
    try:
        if mode not in transforms:
            transforms[mode] = None
            transforms[mode] = _transform(mode, profile)
        transform = transforms[mode]
        return None if transform is None else ImageCms.applyTransform(colours.convert(mode), transform)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def _transform(mode: str, profile: bytes) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.PERCEPTUAL,
    )
