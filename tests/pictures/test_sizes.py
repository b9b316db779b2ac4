"""The size of the result, by the recipe's rules."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from stylebatch.pictures import halved_sizes, output_size, resize, style_output_size
from stylebatch.recipe import Recipe


@pytest.mark.parametrize(
    ("fields", "size", "expected"),
    [
        ({}, (4000, 3000), (512, 384)),
        ({"size": 512}, (3000, 4000), (384, 512)),
        ({"size": 512}, (100, 50), (512, 256)),
        ({"size": 500}, (333, 333), (500, 500)),
        ({"size": 100}, (3, 2), (100, 67)),
        ({"size": 16}, (10_000, 10), (16, 1)),
        ({"shorter_side": 512}, (4000, 3000), (683, 512)),
        ({"shorter_side": 512}, (300, 400), (512, 683)),
        ({"pixels": 10_000}, (2000, 500), (200, 50)),
        ({"pixels": 65536}, (37, 37), (256, 256)),
    ],
)
def test_output_size(fields: dict[str, Any], size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert output_size(Recipe(**fields), *size) == expected
    assert style_output_size(Recipe(**fields), *size) == expected


def test_the_named_side_is_met_exactly() -> None:
    for side in range(16, 3000, 37):
        for width, height in ((1023, 767), (4032, 3024), (7, 9999), (side, side + 1)):
            assert max(output_size(Recipe(size=side), width, height)) == side
            assert min(output_size(Recipe(shorter_side=side), width, height)) == side


def test_style_size_is_the_longer_side_whatever_sizes_the_result() -> None:
    recipe = Recipe(shorter_side=512, style_size=100)
    assert style_output_size(recipe, 200, 400) == (50, 100)
    assert output_size(recipe, 200, 400) == (512, 1024)


def test_shrinking_is_antialiased() -> None:
    board = np.indices((128, 128)).sum(axis=0) % 2 * 255
    picture = Image.fromarray(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    small = np.asarray(resize(picture, (16, 16)), np.float32)
    assert small.shape == (16, 16, 3)
    assert np.abs(small - 127.5).max() < 4


def test_the_same_size_is_the_same_picture() -> None:
    picture = Image.new("RGB", (5, 4))
    assert resize(picture, (5, 4)) is picture
    assert resize(picture, (4, 5)).size == (4, 5)


@pytest.mark.parametrize(
    ("size", "scales", "expected"),
    [
        ((512, 384), 1, [(512, 384)]),
        ((512, 384), 3, [(512, 384), (256, 192), (128, 96)]),
        ((201, 153), 2, [(201, 153), (100, 76)]),
        ((512, 512), 8, [(512, 512), (256, 256), (128, 128), (64, 64)]),
        ((512, 384), 8, [(512, 384), (256, 192), (128, 96)]),  # the next would be 64 x 48
        ((400, 40), 3, [(400, 40)]),
        ((20, 20), 4, [(20, 20)]),
    ],
)
def test_halved_sizes(size: tuple[int, int], scales: int, expected: list[tuple[int, int]]) -> None:
    assert halved_sizes(*size, scales) == expected
