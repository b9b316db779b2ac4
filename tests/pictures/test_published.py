"""Reading a published file gives the very pixels that it was published as."""

import io

import numpy as np
import pytest
import torch
from inmemory import picture_bytes

from stylebatch.errors import PictureError
from stylebatch.pictures import header_size
from stylebatch.pictures.encoding import as_published, decode_exactly, encode, read_published


def noise(height: int = 20, width: int = 33) -> torch.Tensor:
    """Values beyond both ends, and between whole levels."""
    return 300 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(1)) - 20


@pytest.mark.parametrize("format", ["png", "jpeg", "tiff", "npy"])
def test_what_is_read_is_what_was_measured(format: str) -> None:
    pixels = noise()
    read = read_published(encode(pixels, format, 90, {"pair_id": "x"}), "x")
    expected = as_published(pixels, format, 90)
    assert read.dtype == torch.float32
    assert read.is_contiguous()
    assert torch.equal(read, expected)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros((4, 4), np.float32)),
        npy(np.zeros((4, 4, 4), np.float32)),
        npy(np.zeros((0, 4, 3), np.float32)),
        npy(np.zeros((4, 4, 3), np.float64)),
        npy(np.full((4, 4, 3), np.nan, np.float32)),
        npy(np.array([["text"]])),
        npy(np.zeros((4, 4, 3), np.float32))[:-9],
        b"\x93NUMPY",
        b"\x93NUMPY\1\0\x10\0{'shape': (4, ''')",
        b"",
        b"a shopping list",
        picture_bytes(40, 30)[:-200],
    ],
)
def test_other_files_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"^/out/x\.npy "):
        read_published(data, "/out/x.npy")
    with pytest.raises(PictureError, match=r"^/out/x\.npy "):
        decode_exactly(data, "/out/x.npy", 10_000)


@pytest.mark.parametrize(
    ("format", "is_exact"), [("png", False), ("jpeg", False), ("tiff", True), ("npy", True)]
)
def test_as_a_source_it_has_its_size_and_its_digits(format: str, is_exact: bool) -> None:
    data = encode(noise(), format, 90, {"pair_id": "x"})
    assert header_size(data, "x") == (33, 20)
    picture, exact = decode_exactly(data, "x", 10_000)
    assert picture.size == (33, 20)
    if exact is not None:
        assert torch.equal(exact, as_published(noise(), format, 90))
    assert (exact is not None) == is_exact
    with pytest.raises(PictureError, match="x is 33 x 20 pixels; at most 100 pixels are decoded"):
        decode_exactly(data, "x", 100)
