"""Pixels to published files: a reader gets what was promised, and the same work gives the same file."""

import json
from io import BytesIO

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from stylebatch.errors import PictureError
from stylebatch.pictures import decode, read_provenance
from stylebatch.pictures.encoding import as_published, encode, to_pillow, to_tensor
from stylebatch.recipe import FIELDS, FILE_SUFFIXES, field_rule

PROVENANCE = {"seed": 7, "recipe": {"format": "png", "β": 1e3}, "losses": [1.5, 0.25]}


def noise(height: int = 37, width: int = 53) -> torch.Tensor:
    """Values that go out of range on both sides, as a solver's do."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(3)) * 300 - 20


def test_every_format_of_the_recipe_has_a_suffix() -> None:
    assert set(FILE_SUFFIXES) == set(field_rule("format").allowed.removeprefix("one of ").split(", "))
    assert FIELDS["format"].default in FILE_SUFFIXES


def test_tiff_keeps_16_bits_and_says_what_they_mean() -> None:
    data = encode(noise(), "tiff", 95, PROVENANCE)
    levels = tifffile.imread(BytesIO(data))
    assert levels.dtype == np.uint16
    promised = as_published(noise(), "tiff", 95)
    assert torch.equal(torch.from_numpy(levels.astype(np.float32) / 257).permute(2, 0, 1), promised)
    assert (promised - noise().clamp(0, 255)).abs().max() <= 0.5 / 257 + 1e-5
    with Image.open(BytesIO(data)) as picture:
        assert ImageCms.getProfileDescription(picture_profile(picture)).startswith("sRGB")
    assert read_provenance(data, "x") == json.loads(json.dumps(PROVENANCE))


def test_a_tiff_is_shown_as_it_is_by_readers_of_8_bits() -> None:
    read = to_tensor(decode(encode(noise(), "tiff", 95, PROVENANCE), "x"))
    assert (read - as_published(noise(), "png", 95)).abs().max() <= 1


def test_png_declares_its_transfer_function() -> None:
    with Image.open(BytesIO(encode(noise(), "png", 95, PROVENANCE))) as picture:
        assert picture.info["srgb"] == 0


def picture_profile(picture: Image.Image) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"]))


@pytest.mark.parametrize(
    ("name", "quality"), [("png", 95), ("jpeg", 1), ("jpeg", 50), ("jpeg", 95), ("jpeg", 100)]
)
def test_a_reader_gets_what_was_promised(name: str, quality: int) -> None:
    promised = as_published(noise(), name, quality)
    read = to_tensor(decode(encode(noise(), name, quality, PROVENANCE), "x"))
    assert torch.equal(read, promised)
    assert promised.dtype == torch.float32
    assert promised.shape == (3, 37, 53)


def test_png_is_clipped_and_rounded() -> None:
    pixels = torch.tensor([-5.0, 0.5, 1.5, 2.4, 254.6, 300.0]).expand(3, 1, 6)
    assert as_published(pixels, "png", 95)[0, 0].tolist() == [0, 0, 2, 2, 255, 255]


def test_jpeg_is_near_and_not_subsampled() -> None:
    stripes = torch.zeros(3, 32, 32)
    stripes[0, :, ::2] = 255
    data = encode(stripes, "jpeg", 95, {})
    with Image.open(BytesIO(data)) as picture:
        assert isinstance(picture, JpegImageFile)
        assert {component[1:3] for component in picture.layer} == {(1, 1)}
    assert (as_published(stripes, "jpeg", 95) - stripes).abs().mean() < 3


def test_jpeg_noise_of_the_highest_quality_fits_the_encoder() -> None:
    """White noise is what every picture starts from, and the longest file that JPEG can make of its size."""
    data = encode(torch.rand(3, 400, 400) * 255, "jpeg", 100, {"losses": "x" * 60_000})
    assert decode(data, "x").size == (400, 400)


def test_npy_keeps_fractions() -> None:
    array = np.load(BytesIO(encode(noise(), "npy", 95, PROVENANCE)))
    assert array.shape == (37, 53, 3)
    assert array.dtype == np.float32
    clipped = noise().clamp(0, 255)
    np.testing.assert_array_equal(array, clipped.permute(1, 2, 0).numpy())
    assert torch.equal(as_published(noise(), "npy", 95), clipped)


@pytest.mark.parametrize("name", FILE_SUFFIXES)
def test_the_same_work_gives_the_same_bytes(name: str) -> None:
    reordered = dict(reversed(PROVENANCE.items()))
    assert encode(noise(), name, 95, PROVENANCE) == encode(noise(), name, 95, reordered)


def test_pixels_survive_the_way_to_pillow_and_back() -> None:
    levels = noise().clamp(0, 255).round()
    assert torch.equal(to_tensor(to_pillow(levels)), levels)
    assert to_tensor(to_pillow(levels)).is_contiguous()
    red_above = torch.zeros(3, 2, 5)
    red_above[0, 0] = 255
    assert to_pillow(red_above).size == (5, 2)
    assert to_pillow(red_above).getpixel((4, 0)) == (255, 0, 0)


def test_pixels_that_want_gradients_and_other_types_are_taken() -> None:
    expected = as_published(noise(), "png", 95)
    assert torch.equal(as_published(noise().requires_grad_(), "png", 95), expected)
    assert torch.equal(as_published(noise().double(), "png", 95), expected)


def test_the_arguments_are_left_alone() -> None:
    pixels = noise()
    encode(pixels, "npy", 95, PROVENANCE)
    as_published(pixels, "npy", 95)
    assert torch.equal(pixels, noise())


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (4, 4, 3), (3, 4), (3, 0, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PictureError, match=r"a picture has \(3, height, width\)"):
        encode(torch.zeros(shape), "png", 95, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    for name in FILE_SUFFIXES:
        with pytest.raises(PictureError, match="not finite"):
            as_published(torch.full((3, 2, 2), value), name, 95)


def test_only_rgb_pictures_become_tensors() -> None:
    with pytest.raises(PictureError, match="mode RGBA; convert it to RGB"):
        to_tensor(Image.new("RGBA", (2, 2)))


def test_an_unknown_format_and_a_size_beyond_jpeg_are_refused() -> None:
    with pytest.raises(PictureError, match="there is no format 'gif'; the formats are png, jpeg, tiff, npy"):
        encode(noise(), "gif", 95, {})
    with pytest.raises(PictureError, match="66000 x 1 pixels cannot be written as JPEG"):
        encode(torch.zeros(3, 1, 66_000), "jpeg", 95, {})
