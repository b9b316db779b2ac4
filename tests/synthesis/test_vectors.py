"""Long vectors in half the bytes."""

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis import vectors
from stylebatch.synthesis.vectors import KeptVectors

LENGTH = 1000


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def filled(wanted: Tensor, batch: int = 2, row: int = 1) -> KeptVectors:
    kept = KeptVectors(wanted.new_zeros(batch, wanted.shape[1]), len(wanted) + 2)
    for slot, vector in enumerate(wanted):
        kept.put(row, slot, vector)
    return kept


@pytest.fixture(params=[2**20, 64], ids=["at once", "in pieces"], autouse=True)
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "PIECE_VALUES", request.param)


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 60.0, 1e20])
def test_a_value_is_rounded_in_units_of_its_vector(size: float) -> None:
    wanted = size * random(3, LENGTH)
    kept = filled(wanted)
    for slot in range(3):
        found = kept.sum(1, torch.eye(3)[slot])
        error = (found - wanted[slot]).abs()
        assert float((error - 2**-11 * wanted[slot].abs()).max()) <= 1e-7 * float(wanted[slot].abs().max())


def test_products_and_sums_are_those_of_the_vectors() -> None:
    wanted, other, shares = random(5, LENGTH), random(LENGTH, seed=1), random(5, seed=2)
    kept = filled(wanted)
    length = float(wanted[0].norm() * other.norm())
    torch.testing.assert_close(kept.products(1, 5, other), wanted @ other, rtol=0, atol=1e-4 * length)
    torch.testing.assert_close(kept.sum(1, shares), shares @ wanted, rtol=0, atol=5e-3)
    assert kept.products(1, 3, other).shape == (3,)
    assert torch.equal(kept.sum(1, shares[:0]), torch.zeros(LENGTH))


def test_float64_is_kept_as_it_is() -> None:
    wanted, other = random(5, LENGTH, dtype=torch.float64), random(LENGTH, dtype=torch.float64, seed=1)
    torch.testing.assert_close(filled(wanted).products(1, 5, other), wanted @ other, rtol=1e-12, atol=1e-12)


def test_a_vector_of_zeros_stays_one() -> None:
    assert torch.equal(filled(torch.zeros(1, LENGTH)).sum(1, torch.ones(1)), torch.zeros(LENGTH))


def test_it_takes_two_bytes_a_value() -> None:
    state = filled(random(4, LENGTH)).state("name", 1, 4)
    assert state["name"].numel() * state["name"].element_size() == 2 * 4 * LENGTH


def test_images_keep_what_is_theirs() -> None:
    kept, shares = filled(random(2, LENGTH), batch=3, row=2), torch.ones(2)
    expected = kept.sum(2, shares)
    assert torch.equal(kept.sum(0, shares), torch.zeros(LENGTH))
    kept.keep(torch.tensor([2]))
    assert torch.equal(kept.sum(0, shares), expected)
    other = KeptVectors(torch.zeros(1, LENGTH), 4)
    other.restore("name", 0, kept.state("name", 0, 2))
    assert torch.equal(other.sum(0, shares), expected)
