"""Matrix products by either library."""

import platform

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis.products import (
    CAPABILITIES,
    BatchedProducts,
    GroupedProducts,
    Products,
    products_with,
)

GROUPS, ROWS, CHANNELS, FILTERS = 6, 20, 48, 32


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def matrices() -> Tensor:
    return random(GROUPS, FILTERS, CHANNELS, seed=1)


def expected(inputs: Tensor, matrices: Tensor) -> Tensor:
    return torch.einsum("tgc,gnc->tgn", inputs, matrices)


@pytest.mark.parametrize(
    "make",
    [BatchedProducts, lambda matrices: GroupedProducts(matrices, None), lambda m: GroupedProducts(m, ROWS)],
    ids=["batched", "grouped, any number of rows", "grouped, for so many rows"],
)
def test_each_group_is_multiplied_with_its_own_matrix(make: type[BatchedProducts], matrices: Tensor) -> None:
    inputs, bias = random(ROWS, GROUPS, CHANNELS, seed=2), random(GROUPS, FILTERS, seed=3)
    products: Products = make(matrices)
    torch.testing.assert_close(products(inputs), expected(inputs, matrices), rtol=0, atol=1e-4)
    torch.testing.assert_close(products(inputs, bias), expected(inputs, matrices) + bias, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_used_again_is_a_copy(dtype: torch.dtype, matrices: Tensor) -> None:
    inputs = random(ROWS, GROUPS, CHANNELS, seed=2).to(dtype)
    ours = matrices.to(dtype).clone()
    products = products_with(ours, ROWS)
    ours.zero_()
    torch.testing.assert_close(products(inputs), expected(inputs, matrices.to(dtype)), rtol=0, atol=1e-4)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64")
    or torch.backends.cpu.get_cpu_capability() not in CAPABILITIES,
    reason="the batched products are the faster ones here",
)
def test_the_faster_library_is_there_on_the_processors_that_most_people_have(matrices: Tensor) -> None:
    """A torch that has renamed it would cost half the speed, silently."""
    assert isinstance(products_with(matrices), GroupedProducts)


def test_double_precision_is_left_to_the_other(matrices: Tensor) -> None:
    assert isinstance(products_with(matrices.double()), BatchedProducts)


def test_a_library_that_is_switched_off_is_not_used(
    matrices: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert isinstance(products_with(matrices), BatchedProducts)
