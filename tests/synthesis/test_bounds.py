"""The penalty that keeps pixels in range, by itself; what it does for pictures is in test_synthesize."""

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis.bounds import FIRST_STIFFNESS, GROWTH, SoftBounds

CPU = torch.device("cpu")


def images() -> Tensor:
    """Row 0 leaves the range at both ends, row 1 stays in it, row 2 leaves it by a lot."""
    return torch.tensor([[-3.0, 100, 255, 257], [0, 1, 254, 255], [-500, 0, 300, 128]], dtype=torch.float64)


def ready(batch: int = 3) -> SoftBounds:
    """Bounds that have seen a first gradient with a root mean square of 2."""
    bounds = SoftBounds(batch, CPU)
    bounds.penalty(torch.zeros(batch, 4).double(), torch.full((batch, 4), 2.0).double())
    return bounds


def test_the_penalty_is_the_squared_distance_to_the_range() -> None:
    penalty = ready().penalty(images(), torch.ones(3, 4).double())
    stiffness = FIRST_STIFFNESS / 2 * 2
    expected = torch.tensor([9.0 + 4, 0, 250_000 + 2025], dtype=torch.float64)
    torch.testing.assert_close(penalty.values, stiffness * expected, rtol=1e-6, atol=0)
    assert torch.equal(penalty.gradients[1], torch.zeros(4).double())
    assert penalty.gradients[0].sign().tolist() == [-1, 0, 0, 1]


def test_one_grey_level_outside_pulls_with_the_stated_share_of_the_first_gradient() -> None:
    penalty = ready(1).penalty(torch.tensor([[-1.0, 0, 0, 0]]).double(), torch.ones(1, 4).double())
    assert penalty.gradients[0, 0].item() == pytest.approx(-FIRST_STIFFNESS * 2, rel=1e-6)


def test_the_gradient_of_the_penalty_passes_finite_differences() -> None:
    bounds, gradients = ready(), torch.ones(3, 4).double()
    found = bounds.penalty(images(), gradients).gradients
    for pixel in range(4):
        step = torch.zeros(3, 4).double()
        step[:, pixel] = 1e-4
        ahead, behind = (bounds.penalty(images() + sign * step, gradients).values for sign in (1, -1))
        torch.testing.assert_close((ahead - behind) / 2e-4, found[:, pixel], rtol=1e-5, atol=1e-3)


def test_the_penalty_scales_with_the_loss() -> None:
    gradients = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double()
    plain, scaled = SoftBounds(3, CPU), SoftBounds(3, CPU)
    torch.testing.assert_close(
        scaled.penalty(images(), 1e6 * gradients).values, 1e6 * plain.penalty(images(), gradients).values
    )


def test_only_the_first_finite_gradient_counts() -> None:
    bounds = SoftBounds(2, CPU)
    rows = torch.tensor([[-1.0], [-1.0]])
    first = bounds.penalty(rows, torch.tensor([[torch.nan], [3.0]])).values
    later = bounds.penalty(rows, torch.tensor([[5.0], [1e9]])).values
    last = bounds.penalty(rows, torch.tensor([[1e9], [1e-9]])).values
    assert first[0] == 0
    assert later[1] == first[1] == last[1]
    assert later[0] == last[0] == pytest.approx(FIRST_STIFFNESS / 2 * 5)


def test_kept_rows_keep_their_stiffness() -> None:
    bounds = SoftBounds(3, CPU)
    rows = torch.full((3, 1), -1.0)
    before = bounds.penalty(rows, torch.tensor([[1.0], [2.0], [3.0]])).values
    bounds.keep(torch.tensor([0, 2]))
    assert torch.equal(bounds.penalty(rows[:2], torch.ones(2, 1)).values, before[[0, 2]])


def test_only_penalties_that_are_too_large_are_raised_and_by_what_is_said() -> None:
    bounds, gradients = ready(), torch.ones(3, 4).double()
    before = bounds.penalty(images(), gradients)
    losses = torch.stack([1e6 * before.values[0], torch.tensor(1.0), before.values[2]])
    added = bounds.tighten(images(), losses)
    assert added is not None
    assert added.values[:2].tolist() == [0, 0]
    torch.testing.assert_close(added.values[2], (GROWTH - 1) * before.values[2])
    after = bounds.penalty(images(), gradients)
    torch.testing.assert_close(after.values, before.values + added.values)
    torch.testing.assert_close(after.gradients, before.gradients + added.gradients)


def test_nothing_to_tighten_says_so() -> None:
    assert ready().tighten(images(), torch.full((3,), 1e12).double()) is None
