"""Pictures on the real network: batches, stopping, published losses, and what the optimiser reaches.

How far two float32 runs drift apart is a property of the problem, not of the batch: moving the start by 1e-4
grey levels moves the picture that 40 evaluations reach by 3 to 5 grey levels in the mean, and its loss by 1
to 2 %. So independence of the images is tested tightly in float64 and on the first evaluations, and with
those tolerances on the pictures.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import pytest
import torch
from torch import Tensor
from unchanged import as_it_is

from stylebatch import design
from stylebatch.errors import SynthesisError
from stylebatch.recipe import PAPER_STYLE_LAYERS, Recipe
from stylebatch.synthesis.batch import TOLERANCE_WINDOW
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.problems import Problem, Published, Solution, batch_objective, white_noise
from stylebatch.synthesis.synthesize import clip_and_round, synthesize
from stylebatch.synthesis.targets import Targets
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import Weights

Photograph = Callable[..., Tensor]
MakeProblem = Callable[..., Problem]

DEMO_PAIRS = tuple((PurePath(pair.content).stem, PurePath(pair.style).stem) for pair in design.DEMO_PAIRS)


class FailingNetwork(VGG19):
    """Its responses to one image of the batch are not numbers at some of its evaluations (from 1 on)."""

    def __init__(self, weights: Weights, row: int, evaluations: Sequence[int]) -> None:
        super().__init__(weights)
        self.row = row
        self.evaluations = set(evaluations)
        self.count = 0
        self.is_measuring = False

    def each_response(self, images: Tensor, *arguments: Any, **options: Any) -> Iterator[tuple[str, Tensor]]:
        self.is_measuring = True  # targets, not an evaluation
        yield from super().each_response(images, *arguments, **options)
        self.is_measuring = False

    def centred(self, images: Tensor) -> Tensor:
        found = super().centred(images)
        self.count += not self.is_measuring
        if not self.is_measuring and self.count in self.evaluations:
            found[self.row] = torch.nan
        return found


@pytest.fixture
def pair(photograph: Photograph) -> tuple[Tensor, Tensor]:
    """A content and a style of different shapes, small."""
    return photograph("coffee", 32, 48), photograph("retina", 40, 40)


# --- batches


def different_problems(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem, side: int, **shared: Any
) -> list[Problem]:
    """Images of one batch with nothing in common but shape and settings."""
    specifications: list[tuple[str, str, int, dict[str, Any]]] = [
        ("coffee", "retina", 40, {"seed": 1}),
        ("chelsea", "gravel", 64, {"seed": 2, "style_weight": 1e5, "tv_weight": 10}),
        (
            "astronaut",
            "ihc",
            48,
            {"start": "content", "convention": "neural-style", "content_weight": 5, "style_weight": 100},
        ),
        ("rocket", "hubble_deep_field", 56, {"start": "content", "reference_size": 512}),
    ]
    return [
        make_problem(
            network,
            Recipe(**fields, **shared),
            photograph(content, side, side),
            photograph(style, style_side, 60),
        )
        for content, style, style_side, fields in specifications
    ]


@pytest.mark.parametrize(("optimizer", "evaluations"), [("lbfgs", 40), ("adam", 12)])
def test_a_batch_gives_each_image_what_it_gets_alone_in_float64(
    network64: VGG19, photograph: Photograph, make_problem: MakeProblem, optimizer: str, evaluations: int
) -> None:
    """Losses within 1e-6 and pixels within 0.001, with images that stop at different times."""
    problems = different_problems(
        network64,
        photograph,
        make_problem,
        24,
        iterations=evaluations,
        tolerance=0.5,
        optimizer=optimizer,
        content_layers=["conv2_2"],
        style_layers=["conv1_1", "conv2_1"],
    )
    together = synthesize(network64, problems, publish=as_it_is)
    for problem, solution in zip(problems, together, strict=True):
        (alone,) = synthesize(network64, [problem], publish=as_it_is)
        assert (solution.evaluations, solution.stop_reason) == (alone.evaluations, alone.stop_reason)
        assert solution.loss_curve == pytest.approx(alone.loss_curve, rel=1e-6)
        torch.testing.assert_close(solution.image, alone.image, rtol=0, atol=1e-3)  # grey levels
    if optimizer == "lbfgs":
        assert len({solution.evaluations for solution in together}) > 1


def test_a_batch_gives_each_image_what_it_gets_alone(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem
) -> None:
    """In float32: the first losses within 0.1 %, then within the problem's own drift (see above)."""
    problems = different_problems(network, photograph, make_problem, 48, iterations=16)[::2]
    for problem, solution in zip(problems, synthesize(network, problems), strict=True):
        (alone,) = synthesize(network, [problem])
        assert solution.loss_curve[:8] == pytest.approx(alone.loss_curve[:8], rel=1e-3)
        assert solution.loss == pytest.approx(alone.loss, rel=0.1)
        assert float((solution.image - alone.image).abs().mean()) < 8


def test_a_neighbour_that_fails_changes_nothing(
    bundled: Weights, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    """Image 0 fails at evaluations 4 and 7 and leaves the batch; image 1 goes on as if alone."""
    recipe = Recipe(iterations=10)
    failing = FailingNetwork(bundled, row=0, evaluations=(4, 7)).double()
    healthy = FailingNetwork(bundled, row=0, evaluations=()).double()
    problems = [make_problem(healthy, recipe.replace({"seed": seed}), *pair) for seed in (1, 2)]
    failed, solution = synthesize(failing, problems)
    assert (failed.stop_reason, failed.evaluations) == (StopReason.NOT_FINITE, 7)
    (alone,) = synthesize(healthy, [problems[1]])
    assert solution.loss_curve == pytest.approx(alone.loss_curve, rel=1e-6)
    assert (solution.stop_reason, solution.evaluations) == (StopReason.ITERATIONS, 10)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_same_work_gives_the_same_bytes(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem, optimizer: str
) -> None:
    recipe = Recipe(iterations=12, optimizer=optimizer)
    first, second = (synthesize(network, [make_problem(network, recipe, *pair)])[0] for _ in range(2))
    assert first.image.numpy().tobytes() == second.image.numpy().tobytes()
    assert replace(first, image=second.image, to_encode=second.to_encode) == second


def problem_with(recipe: Recipe, height: int = 16, layer: str = "conv1_1") -> Problem:
    targets = Targets({layer: torch.zeros(64, height, 16)}, {})
    return Problem(recipe, targets, torch.zeros(3, height, 16))


@pytest.mark.parametrize(
    "others",
    [
        [problem_with(Recipe(), height=17)],
        [problem_with(Recipe(iterations=3))],
        [problem_with(Recipe(pooling="max"))],
        [problem_with(Recipe(), layer="conv1_2")],
    ],
)
def test_problems_that_cannot_share_a_batch_are_refused(network: VGG19, others: list[Problem]) -> None:
    with pytest.raises(SynthesisError, match="cannot share a batch"):
        synthesize(network, [problem_with(Recipe()), *others])


def test_nothing_to_do_is_refused(network: VGG19) -> None:
    with pytest.raises(SynthesisError, match="empty"):
        synthesize(network, [])
    with pytest.raises(SynthesisError, match="content targets, style targets or both"):
        synthesize(network, [Problem(Recipe(), Targets({}, {}), torch.zeros(3, 16, 16))])


# --- evaluations and stopping


def test_evaluations_are_counted_and_reported(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    seen: list[int] = []
    problem = make_problem(network, Recipe(iterations=7), *pair)
    (solution,) = synthesize(network, [problem], on_evaluation=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert solution.evaluations == len(solution.loss_curve) == 7
    assert solution.stop_reason is StopReason.ITERATIONS
    assert solution.solver_loss == solution.loss_curve[-1] < solution.loss_curve[0]


def test_the_first_loss_of_the_curve_is_the_start_image_s(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    problem = make_problem(network, Recipe(iterations=1), *pair)
    (solution,) = synthesize(network, [problem], publish=as_it_is)
    assert torch.equal(solution.image, problem.start)
    assert solution.loss == pytest.approx(solution.loss_curve[0], rel=1e-6)


def test_no_iterations_publish_the_start_image(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    problem = make_problem(network, Recipe(iterations=0), *pair)
    (solution,) = synthesize(network, [problem])
    assert torch.equal(solution.image, problem.start.round())
    assert (solution.evaluations, solution.loss_curve) == (0, ())
    assert solution.loss > 0


def test_the_tolerance_stops_when_twenty_evaluations_bring_too_little(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    recipe = Recipe(iterations=100, tolerance=0.3, start="content")
    (solution,) = synthesize(network, [make_problem(network, recipe, *pair)])
    curve = solution.loss_curve
    assert solution.stop_reason is StopReason.CONVERGED
    assert TOLERANCE_WINDOW < solution.evaluations < 100
    falls = [(before - after) / after for before, after in zip(curve, curve[TOLERANCE_WINDOW:], strict=False)]
    assert falls[-1] < 0.3
    assert min(falls[:-1], default=1) >= 0.3


def test_a_start_with_nothing_to_gain_has_converged(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    """The content's own reconstruction, started from the content."""
    recipe = Recipe(iterations=10, start="content")
    (solution,) = synthesize(network, [make_problem(network, recipe, pair[0])])
    assert (solution.stop_reason, solution.evaluations, solution.loss) == (StopReason.CONVERGED, 1, 0)
    assert torch.equal(solution.image, pair[0])


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_loss_that_is_not_finite_once_is_survived(
    bundled: Weights, pair: tuple[Tensor, Tensor], make_problem: MakeProblem, optimizer: str
) -> None:
    network = FailingNetwork(bundled, row=0, evaluations=(6,))
    recipe = Recipe(iterations=16, optimizer=optimizer)
    (solution,) = synthesize(network, [make_problem(network, recipe, *pair)])
    assert solution.stop_reason is StopReason.ITERATIONS
    assert solution.loss_curve[5] == solution.loss_curve[4]
    assert solution.loss_curve[-1] < solution.loss_curve[4]


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_loss_that_is_not_finite_again_ends_with_the_last_good_image(
    bundled: Weights, pair: tuple[Tensor, Tensor], make_problem: MakeProblem, optimizer: str
) -> None:
    network = FailingNetwork(bundled, row=0, evaluations=(6, 7))
    recipe = Recipe(iterations=16, optimizer=optimizer)
    (solution,) = synthesize(network, [make_problem(network, recipe, *pair)], publish=as_it_is)
    assert (solution.stop_reason, solution.evaluations) == (StopReason.NOT_FINITE, 7)
    assert solution.loss == pytest.approx(solution.loss_curve[4], rel=1e-5)
    assert solution.solver_loss == solution.loss_curve[4]


def test_a_start_that_is_not_finite_ends_with_the_start(
    bundled: Weights, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    network = FailingNetwork(bundled, row=0, evaluations=(1,))
    problem = make_problem(network, Recipe(iterations=5), *pair)
    (solution,) = synthesize(network, [problem])
    assert (solution.stop_reason, solution.evaluations) == (StopReason.NOT_FINITE, 1)
    assert torch.equal(solution.image, problem.start.round())


# --- what is published


def test_losses_are_those_of_the_published_picture(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    """A file format that keeps eight grey levels, so that the difference cannot be missed."""
    recipe = Recipe(iterations=10, tv_weight=1.0)
    problem = make_problem(network, recipe, *pair)

    def publish(image: Tensor, number: int) -> Published:
        assert number == 0
        levels = (image / 36).round().clamp(0, 7) * 36
        return Published(levels, levels, 0.5, {"levels": 8})

    (solution,) = synthesize(network, [problem], publish=publish)
    assert set((solution.image / 36).unique().tolist()) <= set(range(8))
    unchanged = Problem(recipe.replace({"iterations": 0}), problem.targets, solution.image)
    (again,) = synthesize(network, [unchanged], publish=as_it_is)
    assert (solution.adjusted_clipped_fraction, solution.achieved) == (0.5, {"levels": 8})
    assert solution.loss == pytest.approx(again.loss, rel=1e-6)
    assert solution.layer_losses == pytest.approx(again.layer_losses, rel=1e-6)
    assert abs(solution.loss / solution.solver_loss - 1) > 0.01


def test_layer_losses_add_up(network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem) -> None:
    recipe = Recipe(iterations=4, content_layers=["conv2_2", "conv4_2"])
    (solution,) = synthesize(network, [make_problem(network, recipe, *pair)])
    parts = solution.layer_losses
    assert list(parts) == [
        *(f"content_{layer}" for layer in recipe.content_layers),
        *(f"style_{layer}" for layer in recipe.style_layers),
    ]
    content = sum(loss for name, loss in parts.items() if name.startswith("content_"))
    style = sum(loss for name, loss in parts.items() if name.startswith("style_"))
    assert solution.content_loss == pytest.approx(content, rel=1e-6)
    assert solution.style_loss == pytest.approx(style, rel=1e-6)
    assert solution.loss == pytest.approx(content + style, rel=1e-6)


def test_total_variation_is_in_the_loss_and_smooths(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    rough, smooth = (
        synthesize(network, [make_problem(network, Recipe(iterations=12, tv_weight=weight), *pair)])[0]
        for weight in (0.0, 3e5)
    )
    assert smooth.loss > smooth.content_loss + smooth.style_loss

    def roughness(image: Tensor) -> float:
        return float(image.diff(dim=1).square().mean() + image.diff(dim=2).square().mean())

    assert roughness(smooth.image) < 0.7 * roughness(rough.image)


def test_the_clipped_fraction_counts_the_solver_s_pixels_out_of_range(network: VGG19) -> None:
    start = torch.full((3, 16, 16), 100.0)
    start[0, :8] = -2
    start[1, 0, :4] = 256
    targets = Targets(network.responses(start[None], ["conv1_1"]), {})
    content = {layer: response[0] for layer, response in targets.content.items()}
    recipe = Recipe(content_layers=["conv1_1"], iterations=0)
    (solution,) = synthesize(network, [Problem(recipe, Targets(content, {}), start)])
    assert solution.clipped_fraction == pytest.approx((128 + 4) / 768)
    assert solution.image.min() == 0
    assert solution.image.max() == 255
    assert solution.loss > 0


def test_clip_and_round_keeps_what_eight_bits_hold() -> None:
    image = torch.tensor([[[-5.0, 0.4, 0.6, 254.6, 300.0]]])
    assert clip_and_round(image, 0).pixels.flatten().tolist() == [0, 0, 1, 255, 255]


def test_white_noise_is_uniform_and_seeded() -> None:
    noise = white_noise(40, 50, 7)
    assert noise.shape == (3, 40, 50)
    assert torch.equal(noise, white_noise(40, 50, 7))
    assert not torch.equal(noise, white_noise(40, 50, 8))
    assert 0 <= noise.min() < 1
    assert 254 < noise.max() <= 255
    assert float(noise.mean()) == pytest.approx(127.5, abs=3)
    assert float(noise.std()) == pytest.approx(255 / 12**0.5, abs=2)


def test_the_start_and_the_targets_are_not_written_to(
    network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem
) -> None:
    problem = make_problem(network, Recipe(iterations=3), *pair)
    start = problem.start.clone()
    content = problem.targets.content["conv4_2"].clone()
    synthesize(network, [problem])
    assert torch.equal(problem.start, start)
    assert torch.equal(problem.targets.content["conv4_2"], content)


# --- what is reached


def test_a_reconstruction_from_conv1_1_shows_the_content(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem
) -> None:
    content = photograph("astronaut", 48, 48)
    recipe = Recipe(content_layers=["conv1_1"], iterations=400)
    (solution,) = synthesize(network, [make_problem(network, recipe, content)])
    assert float((solution.image - content).abs().mean()) < 4  # grey levels; measured 2.6
    assert float((white_noise(48, 48, 0) - content).abs().mean()) > 60


def test_a_texture_needs_no_content(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem
) -> None:
    style = photograph("gravel", 48, 48)
    recipe = Recipe(iterations=60)
    (solution,) = synthesize(network, [make_problem(network, recipe, None, style)])
    assert solution.loss == solution.style_loss < solution.loss_curve[0] / 50
    assert float((solution.image - style).abs().mean()) > 10  # its own arrangement, not a copy
    assert float(solution.image.mean()) == pytest.approx(float(style.mean()), abs=8)


def test_adam_lowers_the_loss(network: VGG19, pair: tuple[Tensor, Tensor], make_problem: MakeProblem) -> None:
    recipe = Recipe(iterations=40, optimizer="adam")
    (solution,) = synthesize(network, [make_problem(network, recipe, *pair)])
    assert solution.evaluations == 40
    assert solution.loss < solution.loss_curve[0] / 3
    assert list(solution.loss_curve) == sorted(solution.loss_curve, reverse=True)


def test_the_loss_falls_more_than_five_times_on_the_demo_pairs(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem
) -> None:
    """At 96 pixels, 40 evaluations from the content already; the loss of an accepted step never rises."""
    recipe = Recipe(start="content", iterations=40)
    problems = [
        make_problem(network, recipe, photograph(content, 64, 96), photograph(style, 96, 96))
        for content, style in DEMO_PAIRS
    ]
    for names, solution in zip(DEMO_PAIRS, synthesize(network, problems), strict=True):
        assert solution.loss_curve[-1] < solution.loss_curve[0] / 5, names


def plain_lbfgs(network: VGG19, problem: Problem, evaluations: int) -> Tensor:
    """The image that ``torch.optim.LBFGS`` makes as most programs use it: full steps, no checks."""
    objective = batch_objective([problem], network.device)
    shape = (1, *problem.start.shape)
    loss = LossGradient(network, objective.layers, problem.recipe.pooling, shape)
    picture = problem.start[None].clone().requires_grad_()
    optimizer = torch.optim.LBFGS([picture], lr=1, max_iter=1, history_size=100)

    def closure() -> Tensor:
        terms, gradient = loss(picture.detach(), objective)
        picture.grad = gradient.contiguous()
        return terms.total[0]

    for _ in range(evaluations):
        optimizer.step(closure)
    return picture.detach()[0]


@pytest.mark.parametrize("names", [("chelsea", "gravel"), ("astronaut", "ihc")], ids=" ".join)
def test_it_needs_fewer_evaluations_than_the_usual_lbfgs(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem, names: tuple[str, str]
) -> None:
    """Four fifths of them at most, from the content, to the published loss of the usual one after 100."""
    recipe = Recipe(start="content", convention="gatys-code", iterations=80)
    content, style = (photograph(name, 64, 64) for name in names)
    problem = make_problem(network, recipe, content, style)
    usual = plain_lbfgs(network, problem, 100)
    at_rest = replace(problem, recipe=recipe.replace({"iterations": 0}), start=usual)
    (judged,) = synthesize(network, [at_rest])
    (own,) = synthesize(network, [problem])
    assert own.loss <= judged.loss


def check_bounds(names: object, soft: Solution, clipped: Solution) -> None:
    # Where no pixel leaves the range the two differ by float32 rounding alone (see the top).
    assert soft.loss <= 1.005 * clipped.loss, names
    assert soft.loss == pytest.approx(soft.solver_loss, rel=0.02), names


BOUNDS_CASES = (
    *((*names, pair.style_weight) for names, pair in zip(DEMO_PAIRS, design.DEMO_PAIRS, strict=True)),
    ("coffee", "hubble_deep_field", 1e3),
)


@pytest.mark.parametrize("is_square", [True, False])
def test_soft_bounds_publish_what_the_solver_reached_on_the_demo_pairs(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem, is_square: bool
) -> None:
    """At 64 pixels from the content, whole images; ``benchmarks/soft_bounds.py`` does it from noise too."""
    cases = [case for case in BOUNDS_CASES if (case[0] == "astronaut") == is_square]
    soft, clipped = (
        synthesize(
            network,
            [
                make_problem(
                    network,
                    Recipe(start="content", iterations=120, bounds=bounds, style_weight=style_weight),
                    photograph(content, 64 if is_square else 43, 64),
                    photograph(style, 56 if style == "hubble_deep_field" else 64, 64),
                )
                for content, style, style_weight in cases
            ],
        )
        for bounds in ("soft", "clip")
    )
    for case, soft_solution, clipped_solution in zip(cases, soft, clipped, strict=True):
        check_bounds(case, soft_solution, clipped_solution)


def test_soft_bounds_publish_what_the_solver_reached_with_dark_styles(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem
) -> None:
    """``coffee`` with ``hubble_deep_field`` at 64 pixels from noise: clipping multiplies the loss."""
    content, style = photograph("coffee", 43, 64), photograph("hubble_deep_field", 56, 64)
    soft, clipped = (
        synthesize(network, [make_problem(network, Recipe(iterations=80, bounds=bounds), content, style)])[0]
        for bounds in ("soft", "clip")
    )
    assert clipped.loss > 3 * clipped.solver_loss
    check_bounds("coffee", soft, clipped)


@pytest.mark.parametrize("layers", [1, 3])
def test_no_cell_of_figure_3_stalls(
    network: VGG19, photograph: Photograph, make_problem: MakeProblem, layers: int
) -> None:
    """Two rows of the grid, shorter; ``benchmarks/figure3_cells.py`` checks all 20 cells at full length."""
    ratios = (1e-5, 1e-4, 1e-3, 1e-2)
    content, style = photograph("coffee", 32, 48), photograph("hubble_deep_field", 42, 48)
    problems = [
        make_problem(
            network,
            Recipe(style_weight=1 / ratio, style_layers=PAPER_STYLE_LAYERS[:layers], iterations=60),
            content,
            style,
        )
        for ratio in ratios
    ]
    row = synthesize(network, problems)
    contents = [solution.content_loss for solution in row]
    styles = [solution.style_loss * ratio for solution, ratio in zip(row, ratios, strict=True)]
    for left, right in ((0, 1), (1, 2), (2, 3)):
        assert contents[right] < 1.1 * contents[left]
        assert styles[right] > 0.9 * styles[left]
    assert contents[3] < contents[0] / 2
    assert styles[3] > 2 * styles[0]
