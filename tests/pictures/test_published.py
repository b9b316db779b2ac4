"""Reading a published file gives the very pixels that it was published as."""

import io

import numpy as np
import pytest
import torch
from inmemory import picture_bytes

from stylebatch.errors import PictureError
from stylebatch.pictures.encoding import as_published, encode, read_published


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
        b"",
        b"a shopping list",
        picture_bytes(40, 30)[:-200],
    ],
)
def test_other_files_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"^/out/x\.npy "):
        read_published(data, "/out/x.npy")
