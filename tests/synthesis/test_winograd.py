"""Winograd's convolution against torch's, and its adjoint."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from stylebatch.synthesis import winograd
from stylebatch.synthesis.tiling import tiles_along
from stylebatch.synthesis.winograd import Winograd
from stylebatch.synthesis.workspace import Workspace

SHAPES = [(1, 3, 5, 4, 4), (2, 6, 3, 9, 14), (1, 4, 4, 1, 7), (3, 2, 7, 30, 5), (1, 5, 2, 17, 16)]
"""Batch, channels, filters, height, width."""
NO_BIAS = torch.zeros(4, dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.contiguous(memory_format=torch.channels_last)


@pytest.fixture(params=[1, 3, 1000], ids=["one row at a time", "a few", "all rows at once"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(height: int, *_: object) -> int:
        return min(request.param, tiles_along(height))

    monkeypatch.setattr(winograd, "winograd_rows", rows)


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("keeps_filters", [True, False])
@pytest.mark.parametrize(("batch", "channels", "filters", "height", "width"), SHAPES)
def test_it_equals_the_direct_convolution_and_its_adjoint(
    keeps_filters: bool, batch: int, channels: int, filters: int, height: int, width: int
) -> None:
    inputs = random(batch, channels, height, width).requires_grad_()
    weight = random(filters, channels, 3, 3, seed=1)
    gradients = random(batch, filters, height, width, seed=2)
    bias = random(filters, 1, 1, 1, seed=3).flatten()
    direct = functional.conv2d(inputs, weight, bias, padding=1)
    (expected,) = torch.autograd.grad(direct, inputs, gradients)
    own = Winograd(weight, keeps_filters, Workspace())
    with torch.no_grad():
        torch.testing.assert_close(own.convolve(inputs, bias), direct, rtol=0, atol=1e-12)
        torch.testing.assert_close(own.adjoint(gradients), expected, rtol=0, atol=1e-12)


def test_results_are_channels_last() -> None:
    own = Winograd(random(4, 4, 3, 3), keeps_filters=True, workspace=Workspace())
    for result in (own.convolve(random(2, 4, 9, 11), NO_BIAS), own.adjoint(random(2, 4, 9, 11))):
        assert result.shape == (2, 4, 9, 11)
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_what_goes_in_is_left_as_it_was() -> None:
    own, inputs = Winograd(random(4, 4, 3, 3), keeps_filters=True, workspace=Workspace()), random(1, 4, 8, 8)
    before = inputs.clone()
    own.convolve(inputs, NO_BIAS)
    own.adjoint(inputs)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("keeps_filters", [True, False])
def test_float32_costs_at_most_four_times_the_rounding_of_the_direct_one(keeps_filters: bool) -> None:
    inputs, weight = random(1, 128, 24, 32).relu(), random(128, 128, 3, 3, seed=1)
    gradients = random(1, 128, 24, 32, seed=2)
    own = Winograd(weight.float(), keeps_filters, workspace=Workspace())
    shape = list(inputs.shape)
    for found, direct, exact in (
        (
            own.convolve(inputs.float(), torch.zeros(128)),
            functional.conv2d(inputs.float(), weight.float(), padding=1),
            functional.conv2d(inputs, weight, padding=1),
        ),
        (
            own.adjoint(gradients.float()),
            conv2d_input(shape, weight.float(), gradients.float(), padding=1),
            conv2d_input(shape, weight, gradients, padding=1),
        ),
    ):
        assert (found - exact).norm() < 4 * (direct - exact).norm()


def test_a_smaller_batch_may_come_later() -> None:
    """Images of a batch end one after the other; the filters kept are laid out for a number of tiles."""
    own = Winograd(random(32, 32, 3, 3).float(), keeps_filters=True, workspace=Workspace())
    inputs, bias = random(3, 32, 12, 12).float(), torch.ones(32)
    whole = own.convolve(inputs, bias).clone()
    torch.testing.assert_close(own.convolve(inputs[:1], bias), whole[:1])
    torch.testing.assert_close(own.convolve(inputs, bias), whole)


@pytest.mark.parametrize("keeps_filters", [True, False])
def test_convolutions_may_share_a_workspace(keeps_filters: bool) -> None:
    workspace, inputs = Workspace(), random(1, 4, 9, 11)
    weights = [random(4, 4, 3, 3, seed=seed) for seed in (1, 2)]
    for weight, own in [(weight, Winograd(weight, keeps_filters, workspace)) for weight in weights]:
        expected = functional.conv2d(inputs, weight, padding=1)
        torch.testing.assert_close(own.convolve(inputs, NO_BIAS), expected, rtol=0, atol=1e-12)
