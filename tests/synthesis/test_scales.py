"""Pictures that are made at smaller sizes first."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from unchanged import as_it_is

from stylebatch.errors import SynthesisError
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import Problem, batch_objective
from stylebatch.synthesis.state import ImageState, TakeStates
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.vgg import VGG19

Photograph = Callable[..., Tensor]
MakeProblem = Callable[..., Problem]
SIZES = ((12, 18), (24, 36), (48, 72))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scaled(network: VGG19, photograph: Photograph, make_problem: MakeProblem) -> Callable[..., Problem]:
    """``scaled(content, style, **recipe)``: a problem at each of :data:`SIZES`, with layers that fit them."""

    def make(content: str, style: str, **fields: Any) -> Problem:
        settings = {"content_layers": ["conv2_2"], "style_layers": ["conv1_1", "conv2_1"], "scales": 3}
        recipe = Recipe(**(settings | {"start": "content", "iterations": 6} | fields))
        problem = None
        for height, width in SIZES:
            pictures = photograph(content, height, width), photograph(style, height, height)
            made = make_problem(network, recipe, *pictures)
            problem = replace(made, smaller=problem, balance_size=SIZES[-1])
        assert problem is not None
        return problem

    return make


@pytest.fixture
def problem(scaled: Callable[..., Problem]) -> Problem:
    return scaled("coffee", "retina")


def test_each_size_starts_from_the_change_that_the_smaller_one_made(network: VGG19, problem: Problem) -> None:
    """By hand: the three sizes one after the other, each alone."""
    carried = problem.start
    for size in problem.sizes:
        if size.smaller:
            change = (carried - size.smaller.start)[None]
            larger = functional.interpolate(change, size.start.shape[1:], mode="bicubic")[0]
            start = size.start + larger
        else:
            start = size.start
        alone = replace(size, smaller=None, start=start)
        (expected,) = synthesize(network, [alone], publish=as_it_is)
        carried = expected.image
    (solution,) = synthesize(network, [problem], publish=as_it_is)
    assert torch.equal(solution.image, expected.image)
    assert solution.loss_curve == expected.loss_curve
    assert (solution.evaluations, solution.smaller_evaluations) == (6, (6, 6))


def test_from_noise_the_smaller_picture_itself_is_enlarged(
    network: VGG19, scaled: Callable[..., Problem]
) -> None:
    problem = scaled("coffee", "retina", start="noise", iterations=1)
    (solution,) = synthesize(network, [problem], publish=as_it_is)
    first, second, _ = problem.sizes  # one evaluation leaves every size where it starts
    larger = functional.interpolate(first.start[None], second.start.shape[1:], mode="bicubic")
    larger = functional.interpolate(larger, problem.start.shape[1:], mode="bicubic")
    assert torch.equal(solution.image, larger[0])


def test_a_smaller_size_brings_the_loss_down_before_the_picture_s_own(
    network: VGG19, problem: Problem
) -> None:
    (alone,) = synthesize(network, [replace(problem, smaller=None)])
    (solution,) = synthesize(network, [problem])
    assert solution.loss_curve[0] < 0.8 * alone.loss_curve[0]
    assert solution.loss < alone.loss


def test_evaluations_are_counted_over_all_sizes(network: VGG19, problem: Problem) -> None:
    seen: list[int] = []
    synthesize(network, [problem], on_evaluation=seen.append)
    assert seen == list(range(1, 19))
    only_two = replace(problem, smaller=replace(problem.sizes[1], smaller=None))
    seen.clear()
    (solution,) = synthesize(network, [only_two], on_evaluation=seen.append)
    assert seen == list(range(7, 19))  # of a recipe with three, which a small image cannot have
    assert solution.smaller_evaluations == (6,)


def test_no_iterations_publish_the_start_image(network: VGG19, scaled: Callable[..., Problem]) -> None:
    for start in ("content", "noise"):
        problem = scaled("coffee", "retina", iterations=0, start=start)
        (solution,) = synthesize(network, [problem])
        assert torch.equal(solution.image, problem.start.round())
        assert (solution.evaluations, solution.smaller_evaluations) == (0, ())


@pytest.mark.parametrize(
    "fields", [{}, {"reference_size": 512}, {"convention": "gatys-code"}, {"convention": "neural-style"}]
)
def test_content_and_style_are_weighed_as_in_the_final_picture(
    network: VGG19, scaled: Callable[..., Problem], fields: dict[str, Any]
) -> None:
    """A content loss is a sum over positions: with a quarter of them, each counts four times as much."""
    sizes = [batch_objective([size], CPU) for size in scaled("coffee", "retina", **fields).sizes]
    for smaller, larger in pairwise(sizes):
        ratio = smaller.content_scales["conv2_2"] / larger.content_scales["conv2_2"]
        assert float(ratio) == pytest.approx(4, rel=1e-6)
        assert smaller.style_scales == larger.style_scales


def test_a_picture_that_converged_waits_for_the_others_of_its_batch(
    network: VGG19, scaled: Callable[..., Problem]
) -> None:
    """At each size one has long converged after 21 evaluations, the other is far from it after 24."""
    shared = {"iterations": 24, "tolerance": 0.1}
    problems = [
        scaled("coffee", "retina", style_weight=0.01, **shared),
        scaled("rocket", "hubble_deep_field", style_weight=1e4, **shared),
    ]
    together = synthesize(network, problems)
    for problem, solution, evaluations in zip(problems, together, (21, 24), strict=True):
        (alone,) = synthesize(network, [problem])
        assert solution.smaller_evaluations == alone.smaller_evaluations == (evaluations, evaluations)
        assert solution.evaluations == alone.evaluations == evaluations
        assert solution.loss == pytest.approx(alone.loss, rel=0.05)


def test_an_interrupted_batch_goes_on_to_the_same_bytes_at_any_size(
    network: VGG19, scaled: Callable[..., Problem]
) -> None:
    problems = [scaled("coffee", "retina"), scaled("rocket", "ihc", style_weight=1e5)]
    states: dict[tuple[int, int], list[ImageState]] = {}

    def watch(take_states: TakeStates) -> None:
        taken = take_states()
        states[len(taken[0].smaller_evaluations), taken[0].evaluations] = taken

    undisturbed = synthesize(network, problems, offer=watch)
    assert list(states) == [(size, evaluations) for size in range(3) for evaluations in range(1, 6)]
    for place in ((0, 2), (1, 1), (1, 5), (2, 3)):
        again = synthesize(network, problems, resume=states[place])
        for one, other in zip(again, undisturbed, strict=True):
            assert one.image.numpy().tobytes() == other.image.numpy().tobytes()
            assert replace(one, image=other.image, to_encode=other.to_encode) == other


def test_states_of_different_sizes_do_not_go_together(network: VGG19, scaled: Callable[..., Problem]) -> None:
    problems = [scaled("coffee", "retina"), scaled("rocket", "ihc")]
    states: list[list[ImageState]] = []
    synthesize(network, problems, offer=lambda take_states: states.append(take_states()))
    with pytest.raises(SynthesisError, match=r"taken after \[\(0, 1\), \(1, 1\)\] smaller sizes and eval"):
        synthesize(network, problems, resume=[states[0][0], states[5][1]])


def test_pictures_with_other_sizes_below_share_no_batch(
    network: VGG19, scaled: Callable[..., Problem]
) -> None:
    problem = scaled("coffee", "retina")
    with pytest.raises(SynthesisError, match="cannot share a batch"):
        synthesize(network, [problem, replace(problem, smaller=None)])
