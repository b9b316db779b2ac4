"""The content in the style's colours."""

import pytest
import torch
from torch import Tensor

from stylebatch.errors import SynthesisError
from stylebatch.synthesis import recolouring
from stylebatch.synthesis.recolouring import recoloured


def image(
    mean: tuple[float, float, float], spread: float, seed: int, size: tuple[int, int] = (40, 30)
) -> Tensor:
    """Correlated colours around a mean, well within 0..255."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(3) + 0.5 * torch.rand(3, 3, generator=generator)
    values = spread * mixing @ torch.randn(3, size[0] * size[1], generator=generator).clamp(-3, 3)
    return (torch.tensor(mean)[:, None] + values).view(3, *size)


def moments(*images: Tensor) -> tuple[Tensor, Tensor]:
    colours = torch.cat([image.flatten(1) for image in images], dim=1)
    return colours.mean(1), torch.cov(colours, correction=0)


CONTENT = image((90, 140, 120), 12, 1)
STYLE = image((130, 110, 150), 15, 2, (33, 52))


def test_it_has_the_styles_mean_and_covariance() -> None:
    found = recoloured(CONTENT, [STYLE])
    assert found.shape == CONTENT.shape
    for own, wanted in zip(moments(found), moments(STYLE), strict=True):
        torch.testing.assert_close(own, wanted, rtol=0.02, atol=0.5)


def test_an_image_in_its_own_colours_is_itself() -> None:
    torch.testing.assert_close(recoloured(CONTENT, [CONTENT]), CONTENT, rtol=0, atol=1e-3)


def test_no_other_linear_map_of_these_moments_changes_less() -> None:
    """Such maps differ by a rotation of the whitened colours."""
    found = recoloured(CONTENT, [STYLE])
    colours = (CONTENT.flatten(1) - CONTENT.flatten(1).mean(1, keepdim=True)).double()
    whitened = torch.linalg.inv(torch.linalg.cholesky(torch.cov(colours, correction=0))) @ colours
    lower = torch.linalg.cholesky(torch.cov(STYLE.flatten(1).double(), correction=0))
    mean = STYLE.flatten(1).double().mean(1, keepdim=True)
    least = (found - CONTENT).square().mean()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        turned, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        other = (lower @ turned @ whitened + mean).view_as(CONTENT)
        assert (other - CONTENT).square().mean() > 0.99 * least


def test_several_styles_give_the_colours_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recolouring, "PIECE_PIXELS", 100)
    other = image((110, 90, 100), 9, 3)
    found = recoloured(CONTENT, [other, STYLE[:, :30, :40]], [2.0, 2.0])
    for own, wanted in zip(moments(found), moments(other, STYLE[:, :30, :40]), strict=True):
        torch.testing.assert_close(own, wanted, rtol=0.02, atol=0.5)
    torch.testing.assert_close(recoloured(CONTENT, [other, STYLE], [0, 3]), recoloured(CONTENT, [STYLE]))


@pytest.mark.parametrize("flat", ["content", "style"])
def test_an_image_of_one_colour_is_no_trouble(flat: str) -> None:
    one_colour = torch.full((3, 20, 20), 77.0)
    content, style = (one_colour, STYLE) if flat == "content" else (CONTENT, one_colour)
    found = recoloured(content, [style])
    torch.testing.assert_close(found.mean((1, 2)), style.mean((1, 2)), rtol=0, atol=0.5)
    assert float(found.flatten(1).std(1).max()) < 4


def test_a_missing_share_is_refused() -> None:
    with pytest.raises(SynthesisError, match="style_blend has 1 numbers for 2 style images"):
        recoloured(CONTENT, [STYLE, STYLE], [1.0])
