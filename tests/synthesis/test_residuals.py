"""Residuals: how far each layer is from its target, whatever the convention; and stopping by them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from unchanged import as_it_is

from stylebatch.recipe import CONVENTIONS, Recipe
from stylebatch.synthesis.batch import TOLERANCE_WINDOW
from stylebatch.synthesis.losses import gram_matrix
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.problems import Problem, Solution
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.vgg import VGG19

MakeProblem = Callable[..., Problem]
LAYERS = {"content_layers": ["conv4_2"], "style_layers": ["conv1_1", "conv3_1"]}


@pytest.fixture(scope="module")
def pair(photograph: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    return photograph("coffee", 32, 48), photograph("gravel", 32, 48)


def solve(network: VGG19, problem: Problem) -> Solution:
    (solution,) = synthesize(network, [problem], publish=as_it_is)
    return solution


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_residuals_are_relative_distances_under_every_convention(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem, convention: str
) -> None:
    recipe = Recipe(convention=convention, iterations=4, content_weight=3.0, style_weight=7e4, **LAYERS)
    problem = make_problem(network, recipe, *pair)
    solution = solve(network, problem)
    responses = network.responses(solution.image[None], ["conv4_2", "conv1_1", "conv3_1"])
    content = problem.targets.content["conv4_2"]
    expected = {"content_conv4_2": float((responses["conv4_2"][0] - content).norm() / content.norm())}
    for layer in ("conv1_1", "conv3_1"):
        target = problem.targets.style[layer]
        distance = (gram_matrix(responses[layer])[0] - target).norm()
        expected[f"style_{layer}"] = float(distance / target.norm())
    assert dict(solution.layer_residuals) == pytest.approx(expected, rel=1e-3)
    assert min(expected.values()) > 0.05  # none of them is met after so few evaluations


def test_a_layer_without_weight_has_no_residual(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    recipe = Recipe(iterations=2, content_weight=0.0, style_layer_weights=[1, 0], **LAYERS)
    assert set(solve(network, make_problem(network, recipe, *pair)).layer_residuals) == {"style_conv1_1"}


def test_it_stops_at_the_first_image_whose_layers_are_all_near_enough(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    """A texture: its residuals all fall, so the rule ends it between too early and the budget's end."""
    recipe = Recipe(iterations=150, content_weight=0.0, residual_tolerance=0.2, **LAYERS)
    solution = solve(network, make_problem(network, recipe, *pair))
    assert solution.stop_reason is StopReason.MATCHED
    assert 2 < solution.evaluations < 150
    assert max(solution.layer_residuals.values()) <= 0.2 * 1.001
    sooner = recipe.replace({"iterations": solution.evaluations - 1})
    before = solve(network, make_problem(network, sooner, *pair))
    assert before.stop_reason is StopReason.ITERATIONS
    assert max(before.layer_residuals.values()) > 0.2


def test_each_image_of_a_batch_stops_for_itself(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    recipe = Recipe(iterations=30, residual_tolerance=0.2, bounds="clip", start="content", **LAYERS)
    easy = make_problem(network, recipe.replace({"content_weight": 0.0}), pair[0], pair[0])
    hard = make_problem(network, recipe.replace({"style_weight": 1e5}), *pair)
    at_once, never = synthesize(network, [easy, hard])
    assert (at_once.stop_reason, at_once.evaluations) == (StopReason.MATCHED, 1)
    assert (never.stop_reason, never.evaluations) == (StopReason.ITERATIONS, 30)


def test_the_change_of_the_loss_at_the_end(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    solution = solve(network, make_problem(network, Recipe(iterations=25, **LAYERS), *pair))
    first, last = solution.loss_curve[-1 - TOLERANCE_WINDOW], solution.loss_curve[-1]
    assert solution.loss_change == pytest.approx((first - last) / last)
    short = solve(network, make_problem(network, Recipe(iterations=3, **LAYERS), *pair))
    assert short.loss_change == pytest.approx(short.loss_curve[0] / short.loss_curve[-1] - 1)
    none = solve(network, make_problem(network, Recipe(iterations=0, **LAYERS), *pair))
    assert torch.tensor(none.loss_change).isnan()
