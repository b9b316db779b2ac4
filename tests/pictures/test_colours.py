"""Every mode and colour space that a file may hold becomes RGB in sRGB."""

import struct
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from stylebatch.errors import PictureError
from stylebatch.pictures import decode
from stylebatch.pictures.colours import to_srgb

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
SRGB_RED, SRGB_GREEN, SRGB_BLUE = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
"""The primaries of sRGB as XYZ under D50, the profile connection space's white."""
WHITE = (0.9642, 1.0, 0.8249)


def decoded(picture: Image.Image, file_format: str = "PNG", **options: Any) -> np.ndarray:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return np.asarray(decode(file.getvalue(), "x")).astype(int)


def grey_levels(rgb: np.ndarray) -> np.ndarray:
    assert (rgb == rgb[..., :1]).all()
    return rgb[..., 0]


def fixed_point(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.4 (ICC.1:2001-04, section 6)."""
    table, body, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        padded = content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", offset + len(body), len(content))
        body += padded
    header = struct.pack(">I4sI", offset + len(body), b"lcms", 0x02400000) + kind + space + connection
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + fixed_point(*WHITE)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed_point(*values)


def gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


def rgb_profile(*primaries: tuple[float, ...], exponent: float = 2.2) -> bytes:
    tags = {name: xyz(*values) for name, values in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(exponent))
    return profile(b"RGB ", b"XYZ ", b"mntr", {b"wtpt": xyz(*WHITE)} | tags | curves)


def grey_profile(exponent: float) -> bytes:
    return profile(b"GRAY", b"XYZ ", b"mntr", {b"wtpt": xyz(*WHITE), b"kTRC": gamma(exponent)})


def cmyk_profile() -> bytes:
    """A press whose every ink prints a grey: the first gives L* = 50, any two of them black."""
    identity = fixed_point(1, 0, 0, 0, 1, 0, 0, 0, 1)
    inks = [bin(corner).count("1") for corner in range(16)]
    grid = b"".join(bytes([(255, 128, 0, 0, 0)[count], 128, 128]) for count in inks)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + grid
    return profile(b"CMYK", b"Lab ", b"prtr", {b"wtpt": xyz(*WHITE), b"A2B0": table + bytes(range(256)) * 3})


def test_grey_and_1_bit() -> None:
    np.testing.assert_array_equal(grey_levels(decoded(Image.fromarray(RAMP))), RAMP)
    black_and_white = Image.fromarray(RAMP > 127)
    assert black_and_white.mode == "1"
    np.testing.assert_array_equal(grey_levels(decoded(black_and_white)), (RAMP > 127) * 255)


def test_transparency_is_laid_over_white() -> None:
    colours = np.zeros((1, 3, 4), np.uint8)
    colours[0] = [(255, 0, 0, 255), (0, 0, 0, 51), (10, 20, 30, 0)]
    expected = [[255, 0, 0], [204, 204, 204], [255, 255, 255]]
    for file_format in ("PNG", "TIFF"):
        assert decoded(Image.fromarray(colours), file_format)[0].tolist() == expected
    assert decoded(Image.fromarray(colours), "WEBP", lossless=True, exact=True)[0].tolist() == expected


def test_grey_with_opacity() -> None:
    picture = Image.fromarray(np.array([[[0, 255], [0, 51], [7, 0]]], np.uint8))
    assert picture.mode == "LA"
    assert grey_levels(decoded(picture))[0].tolist() == [0, 204, 255]


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_opacity(mode: str) -> None:
    straight = Image.new({"La": "LA", "RGBa": "RGBA"}[mode], (1, 1), (100,) * (len(mode) - 1) + (128,))
    result = np.asarray(to_srgb(straight.convert(mode), "x")).astype(int)
    assert np.abs(result - round(255 - (255 - 100) * 128 / 255)).max() <= 1


def test_palette_without_and_with_transparency() -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 0, 0, 0, 0, 255])
    picture.putdata([0, 1, 2])
    assert decoded(picture)[0].tolist() == [[255, 0, 0], [0, 0, 0], [0, 0, 255]]
    white = [255, 255, 255]
    for file_format in ("PNG", "GIF"):
        one_colour = decoded(picture, file_format, transparency=2)[0].tolist()
        assert one_colour == [[255, 0, 0], [0, 0, 0], white]
    by_entry = decoded(picture, transparency=bytes([255, 51, 0]))[0].tolist()
    assert by_entry == [[255, 0, 0], [204, 204, 204], white]
    assert np.asarray(to_srgb(picture.convert("PA"), "x"))[0].tolist() == [
        [255, 0, 0],
        [0, 0, 0],
        [0, 0, 255],
    ]


@pytest.mark.parametrize(
    ("mode", "colour"), [("RGB", (255, 0, 0)), ("L", 0), ("1", 0)], ids=["RGB", "L", "1"]
)
def test_one_transparent_colour(mode: str, colour: Any) -> None:
    result = decoded(Image.new(mode, (2, 2), colour), transparency=colour)
    assert (result == 255).all()


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "CMYK", "RGBX"])
def test_other_colour_spaces(mode: str) -> None:
    colours = [(200, 30, 60), (60, 180, 90), (0, 0, 0), (255, 255, 255), (128, 128, 128)]
    picture = Image.new("RGB", (len(colours), 1))
    picture.putdata(colours)
    result = np.asarray(to_srgb(picture.convert(mode), "x")).astype(int)
    assert np.abs(result - np.asarray(picture)).max() <= 4


def test_lab_files() -> None:
    picture = Image.new("RGB", (8, 8), (200, 30, 60)).convert("LAB")
    assert np.abs(decoded(picture, "TIFF") - (200, 30, 60)).max() <= 4


def test_cmyk_from_tiff_and_from_adobes_inverted_jpeg() -> None:
    picture = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert np.abs(decoded(picture, "TIFF") - (0, 255, 255)).max() == 0
    assert np.abs(decoded(picture, "JPEG", quality=95) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_16_bit_grey_keeps_its_range(kind: str, file_format: str) -> None:
    levels = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    picture = Image.fromarray(levels.astype(kind))
    assert picture.mode.startswith("I;16")
    if picture.mode == "I;16B" and file_format == "PNG":
        result = np.asarray(to_srgb(picture, "x")).astype(int)
    else:
        result = decoded(picture, file_format)
    assert grey_levels(result)[0].tolist() == [0, 0, 1, 1, 128, 254, 255, 255]


def test_a_16_bit_ramp_is_the_8_bit_ramp() -> None:
    ramp = Image.fromarray(RAMP.astype(np.uint16) * 257)
    np.testing.assert_array_equal(grey_levels(decoded(ramp)), RAMP)
    np.testing.assert_array_equal(grey_levels(decoded(ramp, "PPM")), RAMP)


def test_16_bit_grey_with_a_transparent_value() -> None:
    picture = Image.fromarray(np.array([[0, 300, 65535]], np.uint16))
    picture.info["transparency"] = 300
    assert np.asarray(to_srgb(picture, "x"))[0, :, 0].tolist() == [0, 255, 255]


def test_32_bit_grey_is_read_as_16_bit() -> None:
    levels = np.array([[0, 32768, 65535]], np.int32)
    assert grey_levels(decoded(Image.fromarray(levels), "TIFF"))[0].tolist() == [0, 128, 255]


def test_floating_point_grey_goes_from_0_to_1() -> None:
    levels = np.array([[0, 0.25, 0.5, 1]], np.float32)
    assert grey_levels(decoded(Image.fromarray(levels), "TIFF"))[0].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize(
    ("values", "span", "white"),
    [
        (np.array([[0, 70_000]], np.int32), "0 to 70000", "65535"),
        (np.array([[-3, 5]], np.int32), "-3 to 5", "65535"),
        (np.array([[0.5, 173.25]], np.float32), "0.5 to 173.25", "1"),
        (np.array([[0.5, np.nan]], np.float32), "nan to nan", "1"),
    ],
)
def test_values_outside_the_range_are_refused(values: np.ndarray, span: str, white: str) -> None:
    with pytest.raises(PictureError, match=rf"x holds values from {span}.* 0 is black and {white} is white"):
        decoded(Image.fromarray(values), "TIFF")


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_profile_with_exchanged_primaries_exchanges_colours(file_format: str) -> None:
    picture = Image.new("RGB", (16, 16), (220, 40, 90))
    swapped = rgb_profile(SRGB_BLUE, SRGB_GREEN, SRGB_RED)
    result = decoded(picture, file_format, icc_profile=swapped)
    assert np.abs(result - (90, 40, 220)).max() <= 5


def test_a_linear_profile_lightens_to_the_srgb_curve() -> None:
    linear = rgb_profile(SRGB_RED, SRGB_GREEN, SRGB_BLUE, exponent=1)
    result = decoded(Image.new("RGB", (4, 4), (128, 128, 128)), icc_profile=linear)
    assert np.abs(result - 188).max() <= 1  # sRGB's curve: 1.055 (128/255)^(1/2.4) - 0.055
    see_through = Image.new("RGBA", (4, 4), (128, 128, 128, 128))
    result = decoded(see_through, icc_profile=linear)
    assert np.abs(result - (188 * 128 + 255 * 127) / 255).max() <= 1


def test_profiles_of_palette_grey_16_bit_and_1_bit_pictures() -> None:
    linear = rgb_profile(SRGB_RED, SRGB_GREEN, SRGB_BLUE, exponent=1)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([128, 128, 128])
    assert np.abs(decoded(palette, icc_profile=linear) - 188).max() <= 1
    assert np.abs(decoded(Image.new("L", (4, 4), 128), icc_profile=grey_profile(1)) - 188).max() <= 1
    assert np.abs(decoded(Image.new("LA", (4, 4), (128, 255)), icc_profile=grey_profile(1)) - 188).max() <= 1
    deep = Image.fromarray(np.full((4, 4), 128 * 257, np.uint16))
    assert np.abs(decoded(deep, icc_profile=grey_profile(1)) - 188).max() <= 1
    assert (decoded(Image.new("1", (4, 4), 1), icc_profile=grey_profile(1)) == 255).all()


@pytest.mark.parametrize("file_format", ["TIFF", "JPEG"])
def test_a_cmyk_profile_decides_what_inks_look_like(file_format: str) -> None:
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 0] = 255
    result = decoded(
        Image.frombytes("CMYK", (32, 16), inks.tobytes()), file_format, icc_profile=cmyk_profile()
    )
    assert np.abs(result[:, :16] - 255).max() <= 3
    assert np.abs(result[:, 16:] - 119).max() <= 3  # L* = 50


def test_the_srgb_profile_changes_next_to_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(decoded(Image.fromarray(noise), icc_profile=srgb) - noise).max() <= 1


@pytest.mark.parametrize(
    "broken",
    [
        b"junk",
        b"\0" * 500,
        rgb_profile(SRGB_RED, SRGB_GREEN, SRGB_BLUE)[:200],
        cmyk_profile(),
        grey_profile(1),
    ],
    ids=["junk", "zeros", "cut", "for CMYK", "for grey"],
)
def test_a_profile_that_cannot_be_used_is_ignored(broken: bytes) -> None:
    for file_format in ("PNG", "TIFF"):
        result = decoded(Image.new("RGB", (4, 4), (220, 40, 90)), file_format, icc_profile=broken)
        assert (result == (220, 40, 90)).all()


def test_the_result_carries_nothing_of_the_file() -> None:
    file = BytesIO()
    linear = rgb_profile(SRGB_RED, SRGB_GREEN, SRGB_BLUE, exponent=1)
    Image.new("RGB", (4, 4)).save(file, "PNG", icc_profile=linear, exif=Image.Exif().tobytes())
    assert decode(file.getvalue(), "x").info == {}
