"""What a file says of its picture before a pixel is decoded, and what that must not say."""

import itertools
import re
import struct
import tokenize
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from stylebatch.errors import PictureError
from stylebatch.quoting import reason

DEFAULT_MAX_PIXELS = 200_000_000
"""The most pixels (width times height) that a file may have, unless the caller says otherwise."""
MAX_SIDE = 1 << 20
"""Pixels of a side. Every row costs a decoder memory and time, however short it is."""
MAX_TILE_PIXELS = 1 << 24
"""Pixels of a TIFF's tile, which is decoded whole, unless the picture itself has more."""
MAX_JPEG_SCANS = 100
"""Scans of a progressive JPEG; each passes over all pixels. The limit is libtiff's; encoders write 10."""
MAX_JPEG_SEGMENTS = 20_000
"""Segments of a JPEG: tables, scans, metadata."""

FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "JPEG2000", "PPM", "PSD"),
    *("TGA", "SGI", "PCX", "QOI", "DDS"),
)
"""The formats that are read, by Pillow's names. Each holds its own pixels and says their size first.

Left out are formats that another program would run (EPS), that hold a file of any other format (IPTC, with
EPS in it), that refer to other libraries (WMF, HDF5), and whose header does not bind what follows (icons).
"""

_WRONG_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
"""What Pillow's plugins raise for a file of another format; ``Image.open`` then tries the next one."""

NPY_MARK = b"\x93NUMPY"
"""How a ``.npy`` file begins."""
NPY_ERRORS = (
    *(ValueError, TypeError, EOFError, OSError, MemoryError, OverflowError),
    *(SyntaxError, tokenize.TokenError),
)
"""What numpy raises for a damaged one; the last two come from reading its header as Python does."""

TILE_TAGS = (322, 323)
"""TileWidth and TileLength (TIFF 6.0, section 15)."""
START_OF_SCAN, END_OF_IMAGE, WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)
"""JPEG markers (ITU-T T.81, table B.1)."""
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Any marker but stuffed zeros and restarts, which are inside a scan."""


def open_header(data: bytes, source: str) -> ImageFile.ImageFile:
    """The picture with its header read and nothing decoded.

    Args:
        data: The file, or its beginning.
        source: The file's URI, which names it in errors.

    Raises:
        PictureError: The bytes are empty, or their header is no picture's or damaged.
    """
    with plain_errors(source):
        picture = _open(data, source)
        check_pixels(picture, source)
        return picture


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
        PictureError: These bytes do not hold a header that Pillow reads, nor that of a published array.
    """
    if data.startswith(NPY_MARK):
        return _npy_size(data, source)
    picture = open_header(data, source)
    width, height = picture.size
    # Pillow has turned a TIFF's size when it opens the file
    is_turned = picture.format != "TIFF" and orientation(picture) >= 5
    return (height, width) if is_turned else (width, height)


def _npy_size(data: bytes, source: str) -> tuple[int, int]:
    """The same of a published array, (height, width, 3), of which no value is read."""
    file = BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    except NPY_ERRORS as error:
        raise PictureError(f"{source} is no array of numbers, or is damaged") from error
    if version != (1, 0) or len(shape) != 3 or shape[2] != 3 or min(shape) < 1:
        raise PictureError(
            f"{source} holds an array of shape {shape}; a published one has (height, width, 3)"
        )
    return int(shape[1]), int(shape[0])


def check_header(picture: ImageFile.ImageFile, data: bytes, source: str, max_pixels: int) -> None:
    """Raise PictureError for a file that would cost more to decode than its picture is worth."""
    check_size(picture.size, source, max_pixels)
    if picture.format == "TIFF":
        _check_tiles(picture, source)
    elif picture.format in ("JPEG", "MPO"):
        _check_scans(data, source)


def check_pixels(picture: Image.Image, source: str) -> None:
    """Raise PictureError for a picture without a single pixel."""
    if min(picture.size) < 1:
        width, height = picture.size
        raise PictureError(f"{source} is {width} x {height} pixels; a picture has at least one")


def check_size(size: tuple[int, int], source: str, max_pixels: int) -> None:
    """Raise PictureError for a picture that is too large to be decoded."""
    width, height = size
    if width * height > max_pixels:
        raise PictureError(
            f"{source} is {width} x {height} pixels; at most {max_pixels} pixels are decoded "
            "(raise the limit with --max-pixels)"
        )
    if max(size) > MAX_SIDE:
        raise PictureError(f"{source} is {width} x {height} pixels; a side may have at most {MAX_SIDE}")


def orientation(picture: Image.Image) -> int:
    """The EXIF orientation from 1 to 8; 1 if there is none, or none that can be read."""
    try:
        # not picture.getexif(): a PNG without EXIF would be decoded to look for it
        value = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises nearly anything, and costs nobody the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextmanager
def plain_errors(source: str) -> Iterator[None]:
    """Turn whatever Pillow's parsers raise into a PictureError of one plain sentence."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(f"{source} {_plain_reason(error)}") from error


def _plain_reason(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        size = str(error).partition(",")[0]
        return f"holds a picture that is too large to decode ({size}); raise the limit with --max-pixels"
    if isinstance(error, MemoryError):
        return "needs more memory to decode than there is"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "ends too early: the file is truncated"
    said = reason(error).partition(":")[0]  # behind it Pillow may quote the file, whatever file that is
    return f"cannot be decoded: the file is damaged or cut off (Pillow says: {said})"


def _open(data: bytes, source: str) -> ImageFile.ImageFile:
    """``Image.open``, without its verdict on the size: ours has the numbers, and warns nobody."""
    if not data:
        raise PictureError(f"{source} is empty (0 bytes)")
    Image.init()
    likely = [name for name in FORMATS if name in Image.OPEN and _starts_like(name, data)]
    for name in likely:
        factory = Image.OPEN[name][0]
        try:
            return factory(BytesIO(data), "")
        except _WRONG_FORMAT:
            continue
    known = [name for name in likely if Image.OPEN[name][1]]
    if known:
        raise PictureError(f"{source} starts like a {known[0]} file, but its header is damaged or cut off")
    raise PictureError(f"{source} is not a picture in a format that is read here: {', '.join(FORMATS)}")


def _starts_like(name: str, data: bytes) -> bool:
    accept = Image.OPEN[name][1]
    try:
        verdict = accept(data[:16]) if accept else True
    except _WRONG_FORMAT:
        return False
    return bool(verdict) and not isinstance(verdict, str)  # a text says why Pillow cannot read the format


def _check_tiles(picture: ImageFile.ImageFile, source: str) -> None:
    tags = getattr(picture, "tag_v2", {})
    width, height = (_largest(tags.get(tag, 0)) for tag in TILE_TAGS)
    if width * height > max(MAX_TILE_PIXELS, picture.width * picture.height):
        raise PictureError(
            f"{source} has tiles of {width} x {height} pixels for a picture of {picture.width} x "
            f"{picture.height}; a tile may have at most {MAX_TILE_PIXELS}: save the picture again"
        )


def _largest(value: Any) -> int:
    """A TIFF tag's value, or the largest of several."""
    return max((int(item) for item in value), default=0) if isinstance(value, tuple) else int(value)


def _check_scans(data: bytes, source: str) -> None:
    """Refuse a JPEG whose parts, up to the end of its first picture, are too many."""
    markers = Counter(itertools.islice(_jpeg_markers(data), MAX_JPEG_SEGMENTS))
    scans = markers[START_OF_SCAN]
    if scans > MAX_JPEG_SCANS or markers.total() == MAX_JPEG_SEGMENTS:
        raise PictureError(
            f"{source} is a JPEG of {scans} scans and {markers.total()} segments; at most {MAX_JPEG_SCANS} "
            f"and {MAX_JPEG_SEGMENTS} are decoded, as each takes its time: save the picture again"
        )


def _jpeg_markers(data: bytes) -> Iterator[int]:
    place = 2
    while found := _JPEG_MARKER.search(data, place):
        marker, place = data[found.start() + 1], found.end()
        if marker == END_OF_IMAGE:
            return
        yield marker
        if marker not in WITHOUT_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
