"""Images in orthogonal parts."""

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis.bands import BLOCKS, WHOLE, Bands, ImageBands
from stylebatch.synthesis.problems import as_images, as_rows

SHAPES = [(3, 16, 24), (3, 17, 21), (3, 5, 1), (3, 64, 40)]


def vectors(shape: tuple[int, ...], batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return as_rows(torch.rand(batch, *shape, generator=generator, dtype=torch.float64) - 0.3)


def part(bands: Bands, values: Tensor, index: int) -> Tensor:
    """One part of vectors alone."""
    factors = torch.zeros(len(values), bands.count, dtype=values.dtype)
    factors[:, index] = 1
    return bands.scaled(values, factors)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_parts_add_up_and_are_orthogonal(shape: tuple[int, ...]) -> None:
    bands, values = ImageBands(torch.Size(shape)), vectors(shape)
    parts = torch.stack([part(bands, values, index) for index in range(bands.count)])
    torch.testing.assert_close(parts.sum(0), values)
    products = torch.einsum("pbn,qbn->bpq", parts, parts)
    off_diagonal = products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))
    assert float(off_diagonal.abs().max()) < 1e-10
    torch.testing.assert_close(parts, torch.stack([part(bands, p, i) for i, p in enumerate(parts)]))


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_those_of_the_parts(shape: tuple[int, ...]) -> None:
    bands, left, right = ImageBands(torch.Size(shape)), vectors(shape), vectors(shape, seed=1)
    expected = [(part(bands, left, index) * part(bands, right, index)).sum(1) for index in range(bands.count)]
    torch.testing.assert_close(bands.products(left, right), torch.stack(expected, dim=1))


def test_each_image_has_its_own_factors() -> None:
    bands, values = ImageBands(torch.Size((3, 9, 12))), vectors((3, 9, 12), batch=3)
    factors = torch.rand(3, bands.count, dtype=torch.float64)
    expected = sum(factors[:, index, None] * part(bands, values, index) for index in range(bands.count))
    torch.testing.assert_close(bands.scaled(values, factors), expected)


def test_the_parts_are_brightness_and_colour_from_fine_to_coarse() -> None:
    shape = torch.Size((3, 32, 32))
    rows = torch.arange(32)
    for index, block in enumerate(BLOCKS):
        stripes = 1.0 - 2 * (rows // block % 2)  # vanishes in means over twice the side
        grey = as_rows(stripes.view(1, 1, 32, 1).expand(1, 3, 32, 32))
        red_against_green = torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1)
        colour = as_rows(as_images(grey, shape) * red_against_green)
        for values, place in ((grey, index), (colour, len(BLOCKS) + index)):
            products = ImageBands(shape).products(values, values)
            assert products.argmax(1).tolist() == [place]
            assert float(products.sum()) == pytest.approx(float(products.max()))


def test_the_whole_is_one_part() -> None:
    values, others = vectors((3, 4, 4)), vectors((3, 4, 4), seed=1)
    assert WHOLE.count == 1
    torch.testing.assert_close(WHOLE.products(values, others)[:, 0], torch.linalg.vecdot(values, others))
    torch.testing.assert_close(WHOLE.scaled(values, torch.full((2, 1), 3.0)), 3.0 * values)
