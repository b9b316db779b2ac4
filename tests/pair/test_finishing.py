"""From the solver's image to the published pixels, with the appearance that a recipe asks for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from inmemory import MemoryStore

from stylebatch.errors import SynthesisError
from stylebatch.pair.finishing import finish
from stylebatch.pair.loading import LoadedPair, Loader
from stylebatch.pairs import Pair

PairMaker = Callable[..., Pair]


@pytest.fixture
def load(store: MemoryStore, make_pair: PairMaker) -> Callable[..., LoadedPair]:
    def loaded(*names: str, **settings: Any) -> LoadedPair:
        return Loader(store, 0).load(make_pair(*names, **settings))

    return loaded


def wild(height: int = 36, width: int = 48) -> torch.Tensor:
    """A solver's image that leaves the range at both ends."""
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(1)) * 300 - 20


def test_a_plain_recipe_is_clipped_and_rounded(load: Callable[..., LoadedPair]) -> None:
    published = finish(wild(), load("c", "s"))
    assert torch.equal(published.pixels, wild().clamp(0, 255).round())
    assert published.clipped_fraction == pytest.approx(float(((wild() < 0) | (wild() > 255)).float().mean()))
    assert set(published.achieved) == {"mean_luminance", "rms_contrast"}


@pytest.mark.parametrize("format", ["png", "tiff", "npy"])
def test_luminance_and_contrast_after_clipping_and_quantising(
    load: Callable[..., LoadedPair], format: str
) -> None:
    published = finish(wild(), load("c", "s", mean_luminance=0.3, rms_contrast=0.4, format=format))
    assert published.achieved["mean_luminance"] == pytest.approx(0.3, abs=2e-3)
    assert published.achieved["rms_contrast"] == pytest.approx(0.4, abs=5e-3)
    assert published.clipped_fraction < 0.2


@pytest.mark.parametrize(("histogram", "name"), [("style", "s"), ("content", "c"), ("/in/t.png", "t")])
def test_a_histogram_of_each_source(load: Callable[..., LoadedPair], histogram: str, name: str) -> None:
    published = finish(wild(), load("c", "s", histogram=histogram))
    reference = load(name, size=48).content
    assert reference is not None
    ranks = np.linspace(0, 1, 21)
    for channel in range(3):
        got, wanted = (
            np.quantile(each[channel].numpy(), ranks) for each in (published.pixels, reference.pixels)
        )
        assert np.abs(got - wanted).mean() < 3
    assert published.achieved["histogram_distance"] < 0.01


def test_styles_count_by_their_shares(load: Callable[..., LoadedPair]) -> None:
    first, both = (
        finish(wild(), load("c", "s", "t", histogram="style", style_blend=shares))
        for shares in ((1.0, 0.0), (1.0, 1.0))
    )
    alone = finish(wild(), load("c", "s", histogram="style"))
    assert (first.pixels - alone.pixels).abs().max() <= 1  # ranks fall between other values
    assert (both.pixels - alone.pixels).abs().max() > 2


def test_a_spectrum_of_an_image_of_another_shape(load: Callable[..., LoadedPair]) -> None:
    plain = finish(wild(), load("c", "s"))
    published = finish(wild(), load("c", "s", spectrum="/in/tall.png"))
    assert "spectrum_distance" in published.achieved
    assert published.pixels.shape == plain.pixels.shape


def test_a_source_that_is_not_there_cannot_be_a_reference(
    load: Callable[..., LoadedPair], store: MemoryStore, make_pair: PairMaker
) -> None:
    with pytest.raises(SynthesisError, match="histogram is style, but the pair has no style"):
        load("c", histogram="style")
    with pytest.raises(SynthesisError, match="spectrum is content, but the pair has no content"):
        Loader(store, 0).load(make_pair(None, "s", spectrum="content"))
