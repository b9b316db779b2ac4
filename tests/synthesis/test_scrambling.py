"""Phase-scrambled images: what stays of an image, and what does not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stylebatch.synthesis.scrambling import phase_scrambled


@pytest.fixture(scope="module", params=[(48, 64), (47, 63)])
def image(request: pytest.FixtureRequest, photograph: Callable[..., Tensor]) -> Tensor:
    return photograph("astronaut", *request.param)


def test_amplitudes_and_means_stay(image: Tensor) -> None:
    scrambled = phase_scrambled(image, 3)
    amplitudes, expected = (torch.fft.fft2(each.double()).abs() for each in (scrambled, image))
    torch.testing.assert_close(amplitudes, expected, rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(scrambled.mean((1, 2)), image.mean((1, 2)), rtol=1e-5, atol=0)


def test_the_colours_covariance_stays(image: Tensor) -> None:
    scrambled = phase_scrambled(image, 3)
    torch.testing.assert_close(scrambled.flatten(1).cov(), image.flatten(1).cov(), rtol=1e-4, atol=0.1)


def test_what_was_to_be_seen_is_gone(image: Tensor) -> None:
    together = torch.stack([phase_scrambled(image, 3).flatten(), image.flatten()])
    centred = together - image.mean()
    assert abs(float(torch.corrcoef(centred)[0, 1])) < 0.5


def test_the_seed_decides(image: Tensor) -> None:
    assert torch.equal(phase_scrambled(image, 3), phase_scrambled(image, 3))
    assert not torch.allclose(phase_scrambled(image, 3), phase_scrambled(image, 4), atol=1)
