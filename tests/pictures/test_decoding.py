"""Files to pixels: formats, orientation, animations, and everything that is not a usable picture."""

import contextlib
import random
import struct
import threading
import time
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, features

from stylebatch.errors import PictureError
from stylebatch.pictures import decode, from_array, header_size
from stylebatch.pictures.headers import FORMATS

WIDTH, HEIGHT = 48, 32
NOT_READ = "x.jpg is not a picture in a format that is read here: " + ", ".join(FORMATS)


def file_of(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def photograph(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth colours that differ in every corner, with some noise."""
    across, down = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    noise = np.random.default_rng(1).integers(0, 20, (height, width))
    channels = [across + noise, down + noise, 220 - across + noise]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def skip_without(file_format: str) -> None:
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")


def png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_orientation(orientation: int, file_format: str, picture: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lossless = {"WEBP": {"lossless": True}}.get(file_format, {})
    return file_of(picture or photograph(), file_format, exif=exif, **lossless)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "TGA", "SGI", "PCX", "QOI", "DDS"])
def test_lossless_formats_give_the_same_pixels(file_format: str) -> None:
    data = file_of(photograph(), file_format)
    result = decode(data, "x")
    assert result.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(result), np.asarray(photograph()))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_give_nearly_the_same_pixels(file_format: str) -> None:
    skip_without(file_format)
    options = {} if file_format == "JPEG2000" else {"quality": 95}
    result = np.asarray(decode(file_of(photograph(), file_format, **options), "x"), np.float32)
    assert np.abs(result - np.asarray(photograph())).mean() < 4


TURNS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera stores an upright picture, by the EXIF orientation that it writes (TIFF 6.0, tag 274)."""


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_makes_the_picture_upright(orientation: int, file_format: str) -> None:
    upright = np.asarray(photograph())
    stored = Image.fromarray(np.ascontiguousarray(TURNS[orientation](upright)))
    data = with_orientation(orientation, file_format, stored)
    np.testing.assert_array_equal(np.asarray(decode(data, "x")), upright)
    assert header_size(data, "x") == (WIDTH, HEIGHT)


def test_orientation_of_a_jpeg() -> None:
    data = with_orientation(6, "JPEG")
    plain = decode(file_of(photograph(), "JPEG"), "x")
    assert decode(data, "x") == plain.transpose(Image.Transpose.ROTATE_270)


@pytest.mark.parametrize("orientation", [0, 9, 200])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert decode(with_orientation(orientation, "PNG"), "x") == photograph()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own, while it opens a JPEG
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\0" * 40])
def test_damaged_exif_costs_nobody_the_picture(exif: bytes) -> None:
    data = file_of(photograph(), "JPEG", exif=exif)
    assert decode(data, "x").size == (WIDTH, HEIGHT)
    assert header_size(data, "x") == (WIDTH, HEIGHT)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    for file_format in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        data = file_of(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
        assert np.asarray(decode(data, "x")).reshape(-1, 3).tolist() == [[255, 0, 0]] * 48


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "x.jpg is empty (0 bytes)"),
        (b"Dear Sir, this is a letter. " * 99, NOT_READ),
        (b"P", NOT_READ),
        (b"<!DOCTYPE html><html>404", NOT_READ),
        (b"\0" * 5000, NOT_READ),
        (b"\x89PNG\r\n\x1a\n\0\0", "x.jpg starts like a PNG file, but its header is damaged or cut off"),
        (file_of(photograph(), "PNG")[:-400], "x.jpg ends too early: the file is truncated"),
        (file_of(photograph(), "JPEG")[:-400], "x.jpg ends too early: the file is truncated"),
    ],
)
def test_bytes_that_are_no_picture_are_said_plainly(data: bytes, sentence: str) -> None:
    with pytest.raises(PictureError) as caught:
        decode(data, "s3://photos/x.jpg")
    assert str(caught.value) == "s3://photos/" + sentence


def test_postscript_is_never_given_to_ghostscript() -> None:
    with pytest.raises(PictureError, match="not a picture in a format"):
        decode(file_of(photograph(), "EPS"), "x.eps")


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000"])
def test_a_file_cut_anywhere_is_a_picture_error(file_format: str) -> None:
    skip_without(file_format)
    whole = file_of(photograph(), file_format)
    cuts = sorted({*range(1, 40), *np.linspace(40, len(whole) - 1, 40, dtype=int).tolist()})
    for cut in cuts:
        if cut < len(whole) - 40:
            with pytest.raises(PictureError):
                decode(whole[:cut], "x")
        else:  # the pixels may be all there already
            decode_or_refuse(whole[:cut])
        header_or_refuse(whole[:cut])


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PSD", "TGA"])
def test_damaged_bytes_raise_nothing_but_picture_errors(file_format: str) -> None:
    if file_format == "PSD":
        whole = b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + b"\0" * 14 + b"\7" * 192
    else:
        whole = with_orientation(6, file_format) if file_format != "TGA" else file_of(photograph(), "TGA")
    dice = random.Random(7)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(min(len(whole), dice.choice((40, 400, 99999))))] = dice.randrange(256)
        decode_or_refuse(bytes(damaged))
        header_or_refuse(bytes(damaged))


def decode_or_refuse(data: bytes) -> None:
    with contextlib.suppress(PictureError):
        assert decode(data, "x", max_pixels=1_000_000).mode == "RGB"


def header_or_refuse(data: bytes) -> None:
    with contextlib.suppress(PictureError):
        assert min(header_size(data, "x")) > 0


@pytest.mark.parametrize("side", [100_000, 15_000, 19_000])
def test_a_huge_header_is_refused_before_decoding(side: int) -> None:
    started = time.monotonic()
    with pytest.raises(PictureError) as caught:
        decode(png_claiming(side, side), "bomb.png")
    assert str(caught.value) == (
        f"bomb.png is {side} x {side} pixels; at most 200000000 pixels are decoded "
        "(raise the limit with --max-pixels)"
    )
    assert time.monotonic() - started < 1
    assert header_size(png_claiming(side, side), "bomb.png") == (side, side)


def test_the_limit_is_the_callers() -> None:
    data = file_of(photograph(), "PNG")
    with pytest.raises(PictureError, match=r"48 x 32 pixels; at most 1535 pixels"):
        decode(data, "x", max_pixels=WIDTH * HEIGHT - 1)
    assert decode(data, "x", max_pixels=WIDTH * HEIGHT).size == (WIDTH, HEIGHT)


def test_pixels_that_no_header_tells_of_are_refused_too() -> None:
    """A GIF of 10 x 10 pixels whose first frame has 65535 x 65535 and wants to be cleared afterwards."""
    frame = b"!\xf9\4\x08\0\0\0\0," + struct.pack("<HHHH", 0, 0, 65535, 65535) + b"\0\2\2\x44\1\0;"
    data = b"GIF89a" + struct.pack("<HH", 10, 10) + b"\x80\0\0" + b"\0" * 6 + frame
    with pytest.raises(PictureError, match=r"too large to decode .*4294836225 pixels"):
        decode(data, "bomb.gif")


def test_pillows_limit_is_only_ever_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(photograph(), "PNG")
    for before, after in ((100, 5_000), (10_000, 10_000), (None, None)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", before)
        assert decode(data, "x", max_pixels=5_000) == photograph()
        assert after == Image.MAX_IMAGE_PIXELS
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_running_out_of_memory_is_a_picture_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", no_memory)
    with pytest.raises(PictureError, match="x needs more memory to decode than there is"):
        decode(file_of(photograph(), "BMP"), "x")


def test_threads_decode_at_once() -> None:
    data = file_of(photograph(), "PNG")
    results: list[Image.Image] = []
    jobs = [threading.Thread(target=lambda: results.append(decode(data, "x"))) for _ in range(8)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert results == [photograph()] * 8


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP"])
def test_64_kilobytes_are_enough_for_the_size(file_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 300, 3), np.uint8)
    orientation = 8 if file_format in ("JPEG", "PNG") else 1
    data = with_orientation(orientation, file_format, Image.fromarray(noise))
    assert len(data) > 65536
    expected = (500, 300) if orientation == 8 else (300, 500)
    assert header_size(data[:65536], "x") == decode(data, "x").size == expected


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_reading_the_size_decodes_nothing(file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda picture: decoded.append(picture))
    assert header_size(file_of(photograph(), file_format), "x") == (WIDTH, HEIGHT)
    assert decoded == []


def test_a_header_beyond_the_given_bytes_is_a_picture_error() -> None:
    data = file_of(photograph(), "JPEG", icc_profile=b"p" * 70_000)
    with pytest.raises(PictureError):
        header_size(data[:65536], "x")
    assert header_size(data, "x") == (WIDTH, HEIGHT)
    with pytest.raises(PictureError, match=r"x is empty \(0 bytes\)"):
        header_size(b"", "x")


def test_arrays_of_8_bits_are_pictures() -> None:
    rgb = np.asarray(photograph())
    assert from_array(rgb) == photograph()
    assert from_array(rgb[::-1, ::2]).size == (WIDTH // 2, HEIGHT)
    np.testing.assert_array_equal(np.asarray(from_array(rgb[..., 0])), rgb[..., [0, 0, 0]])
    see_through = np.zeros((2, 2, 4), np.uint8)
    see_through[0, :, 3] = 255
    assert np.asarray(from_array(see_through))[:, 0, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((4, 4), np.float32),
        ((4, 4, 3), np.float64),
        ((4, 4, 3), np.uint16),
        ((4, 4), np.bool_),
        ((4, 4, 3), np.int64),
        ((3, 4, 4, 3), np.uint8),
        ((3, 4, 5), np.uint8),
        ((4, 4, 1), np.uint8),
        ((7,), np.uint8),
        ((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_by_shape_and_type(shape: tuple[int, ...], kind: type) -> None:
    with pytest.raises(PictureError) as caught:
        from_array(np.zeros(shape, kind))
    assert f"of shape {shape} and type {np.dtype(kind)}" in str(caught.value)
    assert "convert it to uint8 values from 0 to 255" in str(caught.value)
