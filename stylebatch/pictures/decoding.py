"""Files to pixels: what Pillow reads becomes an upright RGB picture in sRGB, or a PictureError."""

import threading

import numpy as np
from PIL import Image

from stylebatch.errors import PictureError
from stylebatch.pictures.colours import to_srgb
from stylebatch.pictures.headers import (
    DEFAULT_MAX_PIXELS,
    check_header,
    check_pixels,
    check_size,
    open_header,
    orientation,
    plain_errors,
)

TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation; from 5 on, width and height change places."""

_pillow_limit_lock = threading.Lock()


def decode(data: bytes, source: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Decode a picture file to upright 8-bit RGB in sRGB.

    Transparency is laid over white; of an animation, the first frame is taken. An embedded colour profile
    is converted to sRGB (perceptual intent); one that is broken, or of another kind than the pixels, is
    ignored. 16-bit and 32-bit integer grey is read as 0 (black) to 65535 (white), floating-point grey as
    0 to 1; values outside are refused, not clipped.

    Memory: about 9 bytes a pixel, besides the file.

    Args:
        data: The whole file.
        source: The file's URI, which names it in errors.
        max_pixels: The most pixels to decode; the header's size is compared before anything is decoded.

    Raises:
        PictureError: The bytes are empty, cut off, damaged, too many pixels, or no picture.
    """
    _raise_pillow_limit(max_pixels)
    picture = open_header(data, source)
    with plain_errors(source):
        check_header(picture, data, source, max_pixels)
        picture.load()
        check_size(picture.size, source, max_pixels)
        turn = TRANSPOSITIONS.get(orientation(picture))
        rgb = to_srgb(picture, source)
        del picture  # not to be held while it is turned
        return rgb if turn is None else rgb.transpose(turn)


def from_array(array: np.ndarray) -> Image.Image:
    """An RGB picture from an array of 8-bit values; a fourth channel is opacity, laid over white.

    Args:
        array: uint8, (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, 0..255, in sRGB.

    Raises:
        PictureError: The array has another shape or type. Floating-point values are not guessed at.
    """
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not is_picture or array.size == 0:
        raise PictureError(
            f"an array of shape {array.shape} and type {array.dtype} is not a picture; convert it to uint8 "
            "values from 0 to 255, with shape (height, width), (height, width, 3) or (height, width, 4)"
        )
    return to_srgb(Image.fromarray(array), "array")


def from_pillow(picture: Image.Image) -> Image.Image:
    """The same for an image that is open already: upright 8-bit RGB in sRGB, as by :func:`decode`.

    Raises:
        PictureError: The image has no pixels, or values that its mode does not define.
    """
    source = "the picture"
    with plain_errors(source):
        check_pixels(picture, source)
        turn = TRANSPOSITIONS.get(orientation(picture))
        rgb = to_srgb(picture, source)
        return rgb if turn is None else rgb.transpose(turn)


def _raise_pillow_limit(max_pixels: int) -> None:
    """Let Pillow's own limit be no lower than ours.

    Pillow's is one for the whole process, and also guards what no header tells (a frame of a GIF): it is
    kept, and only ever raised, so threads cannot take it from each other.
    """
    with _pillow_limit_lock:
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels


_raise_pillow_limit(DEFAULT_MAX_PIXELS)
