"""Hard bounds: every pixel of every image that is evaluated is displayable."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from unchanged import as_it_is

from stylebatch.recipe import Recipe
from stylebatch.synthesis.lbfgs import LBFGS
from stylebatch.synthesis.optimizers import Adam, Optimizer, StopReason
from stylebatch.synthesis.problems import Problem, Solution
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import Weights

MakeProblem = Callable[..., Problem]
LIMITS = (0.0, 255.0)


class WatchingNetwork(VGG19):
    """Notes the extremes of all images that it is shown."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.least, self.most = torch.inf, -torch.inf

    def centred(self, images: Tensor) -> Tensor:
        self.least = min(self.least, float(images.min()))
        self.most = max(self.most, float(images.max()))
        return super().centred(images)


@pytest.fixture(scope="module")
def dark_pair(photograph: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """A style of stars on black, which drives many pixels below 0."""
    return photograph("coffee", 48, 48), photograph("hubble_deep_field", 48, 48)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("scales", [1, 2])
def test_every_image_that_is_evaluated_is_in_range(
    bundled: Weights, dark_pair: tuple[Tensor, Tensor], make_problem: MakeProblem, optimizer: str, scales: int
) -> None:
    network = WatchingNetwork(bundled)
    recipe = Recipe(iterations=25, bounds="hard", optimizer=optimizer, scales=scales)
    problem = make_problem(network, recipe, *dark_pair)
    if scales == 2:
        half = [each[:, ::2, ::2] for each in dark_pair]
        smaller = make_problem(network, recipe, *half)
        problem = Problem(recipe, problem.targets, problem.start, smaller)
    network.least, network.most = torch.inf, -torch.inf
    (solution,) = synthesize(network, [problem], publish=as_it_is)
    assert (network.least, network.most) >= (0.0, 0.0)
    assert network.most <= 255.0
    assert solution.clipped_fraction == 0
    assert solution.loss_curve[-1] < 0.5 * solution.loss_curve[0]


def test_it_ends_where_clipping_costs_nothing_and_below_clipping(
    network: VGG19, dark_pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    def solved(bounds: str) -> Solution:
        recipe = Recipe(iterations=80, bounds=bounds, start="content")
        return synthesize(network, [make_problem(network, recipe, *dark_pair)])[0]

    hard, clip = solved("hard"), solved("clip")
    assert hard.loss == pytest.approx(hard.solver_loss, rel=0.02)  # 8 bits alone stand between them
    assert hard.loss < 0.9 * clip.loss


def bowl(points: Tensor) -> tuple[Tensor, Tensor]:
    """A bowl with its middle outside: at -80 for even pixels, at 300 for odd ones; stiff and soft ones."""
    middle = torch.where(torch.arange(points.shape[1]) % 2 == 0, -80.0, 300.0).to(points)
    stiffness = torch.linspace(0.01, 3, points.shape[1], dtype=points.dtype)
    away = points - middle
    coupling = 0.1 * away.mean(1, keepdim=True)
    losses = (stiffness * away.square()).sum(1) / 2 + 0.05 * points.shape[1] * away.mean(1).square()
    return losses, stiffness * away + coupling


@pytest.mark.parametrize("kind", ["lbfgs", "adam"])
def test_the_minimum_on_the_bounds_is_found(kind: str) -> None:
    start = 255 * torch.rand(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer: Optimizer = LBFGS(start, 10, limits=LIMITS) if kind == "lbfgs" else Adam(start, 4.0, LIMITS)
    for _ in range(120):
        trial = optimizer.propose()
        assert trial.min() >= 0
        assert trial.max() <= 255
        optimizer.observe(*bowl(trial))
        if all(optimizer.stopped):
            break
    expected = torch.where(torch.arange(40) % 2 == 0, 0.0, 255.0).double().expand(2, -1)
    torch.testing.assert_close(optimizer.points, expected, rtol=0, atol=1e-3)
    if kind == "lbfgs":
        assert optimizer.stopped == [StopReason.CONVERGED] * 2


def test_a_minimum_inside_is_found_as_without_bounds() -> None:
    def inside(points: Tensor) -> tuple[Tensor, Tensor]:
        stiffness = torch.linspace(0.01, 3, points.shape[1], dtype=points.dtype)
        return (stiffness * (points - 100).square()).sum(1) / 2, stiffness * (points - 100)

    start = 90 + 20 * torch.rand(1, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    free, bounded = LBFGS(start, 10), LBFGS(start, 10, limits=LIMITS)
    for _ in range(40):
        for optimizer in (free, bounded):
            optimizer.observe(*inside(optimizer.propose()))
    torch.testing.assert_close(bounded.points, free.points, rtol=0, atol=1e-6)


def test_a_start_outside_is_brought_inside() -> None:
    start = torch.tensor([[-30.0, 400.0, 7.0]])
    assert LBFGS(start, 5, limits=LIMITS).propose().tolist() == [[0, 255, 7]]
    assert Adam(start, 4.0, LIMITS).propose().tolist() == [[0, 255, 7]]
