"""Pixels to published files, and what a reader of such a file gets."""

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from stylebatch.errors import PictureError
from stylebatch.pictures.decoding import decode
from stylebatch.pictures.headers import (
    NPY_ERRORS,
    NPY_MARK,
    check_size,
    header_size,
    open_header,
    plain_errors,
)
from stylebatch.pictures.provenance import (
    JPEG_LIMIT,
    MARK,
    PNG_KEYWORD,
    PNG_LIMIT,
    TIFF_DESCRIPTION,
    canonical_text,
)
from stylebatch.recipe import FILE_SUFFIXES

TIFF_MARK = b"II*\0"
"""How a TIFF file begins that is published here."""
TIFF_BITS, PUBLISHED_BITS = 258, (16, 16, 16)
"""The tag BitsPerSample (TIFF 6.0, section 8), and what it says in a published file."""
LARGEST_PUBLISHED = 16384**2
"""Pixels of the largest picture that is made."""
FINER = 257
"""Steps of a 16-bit file in one grey level of an 8-bit one."""


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """The pixels of an RGB picture, as float32 (3, H, W), 0..255.

    Raises:
        PictureError: The picture has another mode; :func:`decode` and :func:`from_array` give RGB.
    """
    if picture.mode != "RGB":
        raise PictureError(f"the picture has mode {picture.mode}; convert it to RGB first")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(torch.float32).contiguous()


def to_pillow(pixels: torch.Tensor) -> Image.Image:
    """An RGB picture of pixels (3, H, W): clipped to 0..255, rounded to whole levels, halves to even.

    Raises:
        PictureError: The shape is another, or a value is not finite.
    """
    levels = _clipped(pixels).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def as_published(pixels: torch.Tensor, format: str, quality: int) -> torch.Tensor:
    """The pixel values that a reader of the published file gets.

    Args:
        pixels: (3, H, W), RGB, 0..255 where in range.
        format: ``png``: clipped and rounded; ``jpeg``: that, encoded and decoded; ``tiff``: clipped and
            rounded to whole 257ths, of which 16 bits hold 65536; ``npy``: only clipped.
        quality: Of a JPEG file, 1..100.

    Returns:
        (3, H, W), float32, 0..255, on the CPU.

    Raises:
        PictureError: The shape is another, a value is not finite, or JPEG cannot hold the size.
    """
    if format == "npy":
        return _clipped(pixels)
    if format == "tiff":
        return (_clipped(pixels) * FINER).round() / FINER
    picture = to_pillow(pixels)
    if format == "jpeg":
        picture = Image.open(BytesIO(_jpeg(picture, quality)))
    return to_tensor(picture)


def decode_exactly(data: bytes, source: str, max_pixels: int) -> tuple[Image.Image, torch.Tensor | None]:
    """A picture file, decoded; and if it was published here with more than 8 bits, all that it holds.

    Args:
        data: The whole file.
        source: The file's URI, which names it in errors.
        max_pixels: The most pixels to decode.

    Returns:
        The picture, upright 8-bit RGB in sRGB, and the values (3, H, W), float32, 0..255, of a ``.npy`` or
        16-bit TIFF file that was published here; None for any other.

    Raises:
        PictureError: The file is no picture, damaged, or too large.
    """
    if data.startswith(NPY_MARK):
        check_size(header_size(data, source), source, max_pixels)
        exact = _from_npy(data, source)
        return to_pillow(exact), exact
    picture = decode(data, source, max_pixels)
    return picture, _from_tiff(data, source) if _is_published_tiff(data, source) else None


def _is_published_tiff(data: bytes, source: str) -> bool:
    """Whether a file that can be decoded is a TIFF file as :func:`encode` makes them."""
    if not data.startswith(TIFF_MARK):
        return False
    with plain_errors(source):
        tags = getattr(open_header(data, source), "tag_v2", {})
        says = str(tags.get(TIFF_DESCRIPTION, ""))
        return bool(says.startswith(MARK.decode()) and tags.get(TIFF_BITS) == PUBLISHED_BITS)


def read_published(data: bytes, uri: str) -> torch.Tensor:
    """The pixel values in a published file of any format: what :func:`as_published` said that it would hold.

    Args:
        data: The whole file.
        uri: The file's URI, which names it in errors.

    Returns:
        (3, H, W), float32, 0..255, on the CPU.

    Raises:
        PictureError: It is not a picture, or not one that is published here.
    """
    if data.startswith(NPY_MARK):
        return _from_npy(data, uri)
    if data.startswith(TIFF_MARK):
        return _from_tiff(data, uri)
    return to_tensor(decode(data, uri, LARGEST_PUBLISHED))


def encode(pixels: torch.Tensor, format: str, quality: int, provenance: Mapping[str, Any]) -> bytes:
    """The file to publish. The same arguments give the same bytes.

    PNG carries the provenance as canonical JSON in a text chunk ``stylebatch``, JPEG (4:4:4) in its
    comment, TIFF (16 bits a channel) in its description. A ``.npy`` file is the bare array, (H, W, 3)
    float32, and carries none. All hold sRGB values: PNG says so in its ``sRGB`` chunk, TIFF by an ICC
    profile.

    Args:
        pixels: (3, H, W), RGB, 0..255 where in range.
        format: ``png``, ``jpeg``, ``tiff`` or ``npy``.
        quality: Of a JPEG file, 1..100.
        provenance: What JSON can hold; nothing that changes from run to run.

    Raises:
        PictureError: The shape is another, a value is not finite, the provenance is too long for the
            format, or JPEG cannot hold the size.
    """
    match format:
        case "png":
            return _png(to_pillow(pixels), canonical_text(provenance, PNG_LIMIT, "PNG"))
        case "jpeg":
            comment = MARK + canonical_text(provenance, JPEG_LIMIT, "JPEG").encode("ascii")
            return _with_comment(_jpeg(to_pillow(pixels), quality), comment)
        case "tiff":
            return _tiff(_clipped(pixels), MARK.decode() + canonical_text(provenance, PNG_LIMIT, "TIFF"))
        case "npy":
            return _npy(_clipped(pixels))
    raise PictureError(f"there is no format {format!r}; the formats are {', '.join(FILE_SUFFIXES)}")


def _clipped(pixels: torch.Tensor) -> torch.Tensor:
    if pixels.ndim != 3 or pixels.shape[0] != 3 or pixels.numel() == 0:
        raise PictureError(f"pixels have shape {tuple(pixels.shape)}; a picture has (3, height, width)")
    if not torch.isfinite(pixels).all():
        raise PictureError("the picture has values that are not finite; it cannot be published")
    return pixels.detach().to("cpu", torch.float32).clamp(0, 255)


def _png(picture: Image.Image, text: str) -> bytes:
    chunks = PngInfo()
    chunks.add(b"sRGB", b"\0")  # perceptual intent
    chunks.add_text(PNG_KEYWORD, text)
    file = BytesIO()
    picture.save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    try:
        # no optimize=True: Pillow's buffer for it is too small for noise, and the save would fail
        picture.save(file, "JPEG", quality=quality, subsampling=0)
    except OSError as error:
        raise PictureError(
            f"a picture of {picture.width} x {picture.height} pixels cannot be written as JPEG ({error}); "
            "publish it as png"
        ) from error
    return file.getvalue()


def _with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """The file with a comment segment behind its JFIF header, which Pillow writes first of all.

    ``save(comment=...)`` fails for long comments in small pictures before Pillow 13.
    """
    header_end = 4 + int.from_bytes(jpeg[4:6], "big")
    segment = b"\xff\xfe" + (2 + len(comment)).to_bytes(2, "big") + comment
    return jpeg[:header_end] + segment + jpeg[header_end:]


def _tiff(pixels: torch.Tensor, description: str) -> bytes:
    import tifffile  # only here: few want it, and every worker would carry it

    levels = (pixels * FINER).round().permute(1, 2, 0).contiguous().numpy().astype(np.uint16)
    file = BytesIO()
    tifffile.imwrite(
        file,
        levels,
        photometric="rgb",
        compression="zlib",
        description=description,
        metadata=None,
        software=False,
        iccprofile=_srgb_profile(),
    )
    return file.getvalue()


def _from_tiff(data: bytes, uri: str) -> torch.Tensor:
    """The pixels of a 16-bit RGB file; its header is checked before tifffile reads it."""
    import tifffile

    width, height = header_size(data, uri)
    check_size((width, height), uri, LARGEST_PUBLISHED)
    with plain_errors(uri):
        levels = tifffile.imread(BytesIO(data))
    if levels.shape != (height, width, 3) or levels.dtype != np.uint16:
        raise PictureError(
            f"{uri} holds {levels.dtype} values of shape {levels.shape}; a published TIFF file holds uint16 "
            "values (height, width, 3)"
        )
    return torch.from_numpy(levels.astype(np.float32) / FINER).permute(2, 0, 1).contiguous()


def _srgb_profile() -> bytes:
    """The ICC profile of sRGB, with a fixed date of creation in place of the present one."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    date = struct.pack(">6H", 1999, 10, 18, 0, 0, 0)  # of IEC 61966-2-1
    return profile[:24] + date + profile[36:]


def _npy(pixels: torch.Tensor) -> bytes:
    file = BytesIO()
    np.save(file, pixels.permute(1, 2, 0).contiguous().numpy(), allow_pickle=False)
    return file.getvalue()


def _from_npy(data: bytes, uri: str) -> torch.Tensor:
    try:
        array = np.load(BytesIO(data), allow_pickle=False)
    except NPY_ERRORS as error:
        raise PictureError(f"{uri} is no array of numbers, or is damaged") from error
    is_picture = array.dtype == np.float32 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0
    if not is_picture or not np.isfinite(array).all():
        raise PictureError(
            f"{uri} holds an array of shape {array.shape} and type {array.dtype}; a published one has finite "
            "float32 values, (height, width, 3)"
        )
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
