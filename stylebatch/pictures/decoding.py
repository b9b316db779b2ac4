"""Files to pixels: whatever Pillow reads becomes an upright RGB picture in sRGB, or a PictureError."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from stylebatch.errors import PictureError
from stylebatch.pictures.colours import to_srgb

DEFAULT_MAX_PIXELS = 200_000_000
"""The most pixels (width times height) that a file may have, unless the caller says otherwise."""

REFUSED_FORMATS = frozenset({"EPS"})
"""Pillow hands these to another program (Ghostscript), which would run what a stranger wrote."""

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

    Args:
        data: The whole file.
        source: The file's URI, which names it in errors.
        max_pixels: The most pixels to decode; the header's size is compared before anything is decoded.

    Raises:
        PictureError: The bytes are empty, cut off, damaged, too many pixels, or no picture.
    """
    _raise_pillow_limit(max_pixels)
    with _plain_errors(source):
        picture = open_header(data, source)
        _check_size(picture.size, source, max_pixels)
        picture.load()
        _check_size(picture.size, source, max_pixels)  # an icon file's header may say less than it holds
        return to_srgb(_upright(picture), source)


def header_size(data: bytes, source: str) -> tuple[int, int]:
    """The size of the upright picture, from the first bytes of its file, without decoding it.

    64 KB are enough for nearly all JPEG, PNG, GIF and BMP files. WebP and AVIF need the whole file, and
    TIFF up to wherever its directory lies; a caller that meets a PictureError tries again with all bytes.

    Args:
        data: The beginning of the file, or all of it.
        source: The file's URI, which names it in errors.

    Returns:
        (width, height) in pixels.

    Raises:
        PictureError: These bytes do not hold a header that Pillow reads.
    """
    picture = open_header(data, source)
    width, height = picture.size
    # Pillow has turned a TIFF's size when it opens the file
    is_turned = picture.format != "TIFF" and _orientation(picture) >= 5
    return (height, width) if is_turned else (width, height)


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
    with _plain_errors(source):
        return to_srgb(_upright(picture), source)


def open_header(data: bytes, source: str) -> ImageFile.ImageFile:
    """The picture with its header read and, but for icons, nothing decoded.

    Raises:
        PictureError: The bytes are empty, or their header is no picture's or damaged.
    """
    with _plain_errors(source):
        return _open(data, source)


def _open(data: bytes, source: str) -> ImageFile.ImageFile:
    """``Image.open``, without its verdict on the size: ours has the numbers, and warns nobody."""
    if not data:
        raise PictureError(f"{source} is empty (0 bytes)")
    Image.preinit()
    Image.init()
    likely = [name for name in Image.ID if name not in REFUSED_FORMATS and _starts_like(name, data)]
    for name in likely:
        factory = Image.OPEN[name][0]
        try:
            return factory(BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # Image.open: try the next format
            continue
    known = [name for name in likely if Image.OPEN[name][1]]
    if known:
        raise PictureError(f"{source} starts like a {known[0]} file, but its header is damaged or cut off")
    raise PictureError(f"{source} is not a picture in a format that Pillow reads")


def _starts_like(name: str, data: bytes) -> bool:
    accept = Image.OPEN[name][1]
    try:
        verdict = accept(data[:16]) if accept else True
    except (SyntaxError, IndexError, TypeError, struct.error):
        return False
    return bool(verdict) and not isinstance(verdict, str)  # a text says why Pillow cannot read the format


def _check_size(size: tuple[int, int], source: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PictureError(
            f"{source} is {width} x {height} pixels; at most {max_pixels} pixels are decoded "
            "(raise the limit with --max-pixels)"
        )


def _raise_pillow_limit(max_pixels: int) -> None:
    """Let Pillow's own limit be no lower than ours.

    Pillow's is one for the whole process, and also guards what no header tells (a frame of a GIF, a
    picture inside an icon): it is kept, and only ever raised, so threads cannot take it from each other.
    """
    with _pillow_limit_lock:
        if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
            Image.MAX_IMAGE_PIXELS = max_pixels


_raise_pillow_limit(DEFAULT_MAX_PIXELS)


def _upright(picture: Image.Image) -> Image.Image:
    orientation = _orientation(picture)
    return picture.transpose(TRANSPOSITIONS[orientation]) if orientation in TRANSPOSITIONS else picture


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation from 1 to 8; 1 if there is none, or none that can be read."""
    try:
        # not picture.getexif(): a PNG without EXIF would be decoded to look for it
        value = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises nearly anything, and costs nobody the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextmanager
def _plain_errors(source: str) -> Iterator[None]:
    """Turn whatever Pillow's parsers raise into a PictureError of one plain sentence."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"{source} {_plain_reason(error)}") from error


def _plain_reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        reason = str(error).partition(",")[0]
        return f"holds a picture that is too large to decode ({reason}); raise the limit with --max-pixels"
    if isinstance(error, MemoryError):
        return "needs more memory to decode than there is"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "ends too early: the file is truncated"
    return f"cannot be decoded: the file is damaged or cut off (Pillow says: {str(error)[:200]})"
