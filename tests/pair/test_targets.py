"""Targets are computed once for each image, size, layer, pooling and network."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from inmemory import MemoryStore

from stylebatch.errors import SynthesisError
from stylebatch.pair.loading import Loader
from stylebatch.pair.targets import TargetCache
from stylebatch.pairs import Pair
from stylebatch.synthesis.problems import Problem
from stylebatch.synthesis.targets import content_targets, style_targets

PairMaker = Callable[..., Pair]
CAPACITY = 2**28


@pytest.fixture
def problem_of(store: MemoryStore, network: Any, make_pair: PairMaker) -> Callable[..., tuple[Problem, int]]:
    """``problem_of(cache, *pair, **recipe)``: the problem, and the forward passes that it took."""
    loader = Loader(store, 2**20)

    def make(cache: TargetCache, *names: str | None, **recipe: Any) -> tuple[Problem, int]:
        before = network.calls
        problem = cache.problem(network, loader.load(make_pair(*names, **recipe)))
        return problem, network.calls - before

    return make


def test_the_targets_are_those_of_the_images(
    problem_of: Any, store: MemoryStore, network: Any, make_pair: PairMaker
) -> None:
    pair = make_pair("c", "s")
    loaded = Loader(store, 0).load(pair)
    problem, passes = problem_of(TargetCache(CAPACITY), "c", "s")
    assert passes == 2
    content = content_targets(network, loaded.content.pixels, ["conv4_2"], "average")  # type: ignore[union-attr]
    style = style_targets(network, loaded.styles[0].pixels, pair.recipe.style_layers, "average")
    assert problem.targets.content.keys() == {"conv4_2"}
    assert torch.equal(problem.targets.content["conv4_2"], content["conv4_2"])
    assert list(problem.targets.style) == list(pair.recipe.style_layers)
    for layer, gram in style.items():
        assert torch.allclose(problem.targets.style[layer], gram)
    assert torch.equal(problem.start, loaded.start)
    assert problem.recipe == pair.recipe


def test_a_second_pair_with_the_same_images_computes_nothing(problem_of: Any) -> None:
    cache = TargetCache(CAPACITY)
    first, _ = problem_of(cache, "c", "s")
    second, passes = problem_of(cache, "c", "s", style_weight=7.0, seed=3, start="noise")
    assert passes == 0
    assert torch.equal(first.targets.content["conv4_2"], second.targets.content["conv4_2"])
    assert (cache.hits, cache.misses) == (6, 6)


def test_another_content_with_the_same_style_computes_its_content_alone(problem_of: Any) -> None:
    cache = TargetCache(CAPACITY)
    problem_of(cache, "c", "s")
    assert problem_of(cache, "d", "s")[1] == 1
    assert problem_of(cache, "d", "t", "s")[1] == 1
    assert problem_of(cache, None, "t")[1] == 0


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"size": 40}, 2),
        ({"style_size": 40}, 1),
        ({"pooling": "max"}, 2),
        ({"content_layers": ["conv4_1"]}, 1),
        ({"style_layers": ["conv2_2"]}, 1),
        ({"style_layers": ["conv1_1", "conv3_1"]}, 0),
        ({"content_layers": ["conv2_1"]}, 1),  # Gram matrices of a layer are not its responses
    ],
)
def test_a_key_holds_what_a_target_depends_on(problem_of: Any, changes: dict[str, Any], passes: int) -> None:
    cache = TargetCache(CAPACITY)
    problem_of(cache, "c", "s")
    assert problem_of(cache, "c", "s", **changes)[1] == passes
    assert problem_of(cache, "c", "s", **changes)[1] == 0


@pytest.mark.parametrize("attribute", ["sha256", "family"])
def test_another_network_has_other_targets(
    problem_of: Any, network: Any, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    cache = TargetCache(CAPACITY)
    problem_of(cache, "c", "s")
    monkeypatch.setattr(network, attribute, "other")
    assert problem_of(cache, "c", "s")[1] == 2


def test_a_grid_computes_each_target_once(problem_of: Any) -> None:
    """Three contents by two styles, whatever their order and the weights of a cell."""
    cache, passes = TargetCache(CAPACITY), 0
    grid = [(content, style) for style in ("s", "t") for content in ("c", "d", "tall")]
    for number, (content, style) in enumerate(grid):
        passes += problem_of(cache, content, style, style_weight=10.0**number, seed=number)[1]
    assert passes == 3 + 2
    assert (cache.hits, cache.misses) == ((2 - 1) * 3 + (3 - 1) * 2 * 5, 3 * 1 + 2 * 5)


def test_every_size_of_a_problem_has_targets_of_its_own(problem_of: Any) -> None:
    cache = TargetCache(CAPACITY)
    problem, passes = problem_of(cache, "c", "s", size=192, scales=2)
    assert passes == 4
    assert problem.balance_size == problem.smaller.balance_size == (144, 192)
    alone, passes = problem_of(cache, "c", "s", size=96)
    assert passes == 0
    for name in ("content", "style"):
        for layer, target in getattr(alone.targets, name).items():
            assert torch.equal(getattr(problem.smaller.targets, name)[layer], target)


def test_an_image_that_is_content_and_style_has_both_targets(problem_of: Any) -> None:
    problem, _ = problem_of(TargetCache(CAPACITY), "c", "c", content_layers=["conv1_1"])
    assert problem.targets.content["conv1_1"].shape == (64, 36, 48)
    assert problem.targets.style["conv1_1"].shape == (64, 64)


def test_only_missing_layers_are_computed_in_one_pass(problem_of: Any) -> None:
    cache = TargetCache(CAPACITY)
    problem_of(cache, None, "s", style_layers=["conv1_1"])
    assert problem_of(cache, None, "s", style_layers=["conv1_1", "conv1_2", "conv2_1"])[1] == 1


def test_styles_are_blended_by_their_shares(problem_of: Any) -> None:
    cache = TargetCache(CAPACITY)
    blended, _ = problem_of(cache, "c", "s", "t", style_blend=[3, 1])
    one, _ = problem_of(cache, "c", "s")
    other, _ = problem_of(cache, "c", "t")
    expected = 0.75 * one.targets.style["conv3_1"] + 0.25 * other.targets.style["conv3_1"]
    assert torch.allclose(blended.targets.style["conv3_1"], expected)


def test_without_room_the_targets_are_the_same(problem_of: Any) -> None:
    kept, _ = problem_of(TargetCache(CAPACITY), "c", "s")
    none, _ = problem_of(TargetCache(0), "c", "s")
    assert torch.equal(kept.targets.style["conv5_1"], none.targets.style["conv5_1"])
    assert problem_of(TargetCache(0), "c", "s")[1] == 2


def test_parts_that_are_not_there_have_no_targets(problem_of: Any) -> None:
    assert problem_of(TargetCache(0), "c")[0].targets.style == {}
    assert problem_of(TargetCache(0), None, "s")[0].targets.content == {}


def test_shares_that_do_not_fit_are_refused(problem_of: Any) -> None:
    with pytest.raises(SynthesisError, match="style_blend has 3 numbers for 2 style images"):
        problem_of(TargetCache(0), "c", "s", "t", style_blend=[1, 2, 3])


def test_two_parts_of_one_image_are_two_images(problem_of: Any) -> None:
    """Of the same size and from the same file: only the crop tells them apart."""
    cache = TargetCache(CAPACITY)
    left, _ = problem_of(cache, "c", "s", content_crop=[0, 0, 32, 48])
    right, passes = problem_of(cache, "c", "s", content_crop=[32, 0, 32, 48])
    assert passes == 1
    assert not torch.equal(left.targets.content["conv4_2"], right.targets.content["conv4_2"])
