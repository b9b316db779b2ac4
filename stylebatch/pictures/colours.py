"""Pixels of any mode and colour space to 8-bit RGB in sRGB."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from stylebatch.errors import PictureError

GREY_MODES = ("1", "L", "LA", "La")

WHITE_LEVELS = {"I": 65535, "I;16": 65535, "I;16B": 65535, "I;16L": 65535, "I;16N": 65535, "F": 1}
"""The value of white in modes of more than 8 bits. Black is 0. ``Image.convert`` would clip at 255."""

PROFILED_MODES = {"1": "L", "L": "L", "CMYK": "CMYK"}
"""The mode in which a profile is applied to pixels of a mode; RGB for all others."""


def to_srgb(picture: Image.Image, source: str) -> Image.Image:
    """The picture as 8-bit RGB in sRGB, transparency over white.

    Args:
        picture: Of any mode, decoded, with its profile in ``info["icc_profile"]``.
        source: The picture's URI, which names it in errors.

    Raises:
        PictureError: Values of more than 8 bits are outside their mode's range.
    """
    profile = picture.info.get("icc_profile")
    colours, opacity = _separate(_to_eight_bits(picture, source))
    rgb = _apply_profile(colours, profile) if profile and colours.mode != "LAB" else None
    result = over_white(rgb or colours.convert("RGB"), opacity)
    result.info = {}  # Pillow would write the old profile and orientation into any file made of this picture
    return result


def over_white(rgb: Image.Image, opacity: Image.Image | None) -> Image.Image:
    """The RGB picture over a white ground; ``opacity`` is its alpha channel (mode L), None is opaque."""
    if opacity is None:
        return rgb
    ground = Image.new("RGB", rgb.size, "white")
    ground.paste(rgb, mask=opacity)
    return ground


def _to_eight_bits(picture: Image.Image, source: str) -> Image.Image:
    """Grey of 16 bits, 32 bits or floating point as mode L (LA if one value is transparent)."""
    if picture.mode not in WHITE_LEVELS:
        return picture
    white = WHITE_LEVELS[picture.mode]
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # also true of NaN
        raise PictureError(
            f"{source} holds values from {low:g} to {high:g}; in a picture of mode {picture.mode} 0 is black "
            f"and {white} is white: scale it to that range, or convert it to 8 bits"
        )
    grey = Image.fromarray(np.rint(values * np.float32(255 / white)).astype(np.uint8))
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


def _apply_profile(colours: Image.Image, profile: bytes) -> Image.Image | None:
    """The colours in sRGB, or None if the profile is broken or of another kind than the pixels."""
    try:
        return ImageCms.profileToProfile(
            colours.convert(PROFILED_MODES.get(colours.mode, "RGB")),
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.PERCEPTUAL,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
