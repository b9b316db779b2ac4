"""Every convention against a literal, slow transcription in float64, and the gradients of the paper.

The transcriptions follow the texts that they are named after, one sum after another, and share nothing with
the package but the responses F, P and those to the style image.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from unchanged import as_it_is

from stylebatch.errors import SynthesisError
from stylebatch.recipe import Recipe
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.losses import Objective, gram_matrix, loss_scales
from stylebatch.synthesis.problems import Problem, Solution
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.targets import blend_styles
from stylebatch.synthesis.vgg import VGG19

HEIGHT, WIDTH = 32, 48
PRECISION = 1e-6
"""Relative: everything is float64 but the factors and means, which the package keeps as float32."""


def image(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """A smooth random image in float64, so that deep layers respond to more than noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    fine = torch.rand(3, height, width, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return 200 * smooth + 55 * fine


def losses_of(network: VGG19, problem: Problem) -> Solution:
    """The losses of the start image itself, through the public way."""
    unchanged = replace(problem, recipe=problem.recipe.replace({"iterations": 0}))
    return synthesize(network, [unchanged], publish=as_it_is)[0]


# --- literal transcriptions


def as_matrix(response: Tensor) -> Tensor:
    """F as the paper has it: a row for each of N filters, a column for each of M positions."""
    return response.reshape(response.shape[0], -1)


def equation_1(F: Tensor, P: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(F.shape[0]):
        total = total + (F[i] - P[i]).square().sum() / 2
    return total


def equation_3(F: Tensor) -> Tensor:
    return torch.einsum("ik,jk->ij", F, F)


def equation_4(F: Tensor, style: Tensor) -> Tensor:
    """To the letter: one M for both images."""
    N, M = F.shape
    assert style.shape == (N, M)
    G, A = equation_3(F), equation_3(style)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(N):
        total = total + (G[i] - A[i]).square().sum()
    return total / (4 * N**2 * M**2)


def equation_4_each_with_its_own_size(F: Tensor, style: Tensor) -> Tensor:
    """Each Gram matrix divided by its own number of positions."""
    N, M = F.shape
    difference = equation_3(F) / M - equation_3(style) / style.shape[1]
    return difference.square().sum() / (4 * N**2)


def notebook_content(F: Tensor, P: Tensor) -> Tensor:
    """Gatys' notebook: nn.MSELoss()(F, P), times 1e0."""
    return (F - P).square().mean()


def notebook_style(F: Tensor, style: Tensor) -> Tensor:
    """Gatys' notebook: nn.MSELoss()(G/(h w), A/(h w)), times 1/n**2; the caller multiplies by 1e3."""
    n, positions = F.shape
    G = torch.einsum("ik,jk->ij", F, F) / positions
    A = torch.einsum("ik,jk->ij", style, style) / style.shape[1]
    return (G - A).square().mean() / n**2


def neural_style_style(F: Tensor, style: Tensor) -> Tensor:
    """Johnson: the Gram matrix divided by the number of elements N M, then nn.MSECriterion."""
    G = torch.mm(F, F.t()) / F.nelement()
    A = torch.mm(style, style.t()) / style.nelement()
    return (G - A).square().mean()


Transcription = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]
LITERAL: dict[str, Transcription] = {
    "paper": (equation_1, equation_4_each_with_its_own_size),
    "gatys-code": (notebook_content, notebook_style),
    "neural-style": (notebook_content, neural_style_style),
}


def responses(network: VGG19, picture: Tensor, layers: Sequence[str], pooling: str) -> dict[str, Tensor]:
    with torch.no_grad():
        found = network.responses(picture[None], layers, pooling)
    return {layer: as_matrix(response[0]) for layer, response in found.items()}


# --- losses


@pytest.mark.parametrize(("style_height", "style_width"), [(HEIGHT, WIDTH), (41, 33)])
@pytest.mark.parametrize("convention", LITERAL)
def test_every_convention_equals_its_literal_transcription(
    network64: VGG19,
    make_problem: Callable[..., Problem],
    convention: str,
    style_height: int,
    style_width: int,
) -> None:
    recipe = Recipe(
        convention=convention,
        pooling="average" if convention == "paper" else "max",
        content_weight=3,
        style_weight=70,
        content_layers=["conv2_2", "conv4_2"],
    )
    picture, content, style = image(1), image(2), image(3, style_height, style_width)
    found = losses_of(network64, make_problem(network64, recipe, content, style, start=picture))

    layers = (*recipe.content_layers, *recipe.style_layers)
    F, P, S = (responses(network64, each, layers, recipe.pooling) for each in (picture, content, style))
    literal_content, literal_style = LITERAL[convention]
    w = 1 / 5 if convention == "paper" else 1
    expected = {
        f"content_{layer}": 3 * float(literal_content(F[layer], P[layer])) for layer in recipe.content_layers
    } | {f"style_{layer}": 70 * w * float(literal_style(F[layer], S[layer])) for layer in recipe.style_layers}
    assert found.layer_losses == pytest.approx(expected, rel=PRECISION)
    content_loss = sum(value for name, value in expected.items() if name.startswith("content"))
    style_loss = sum(value for name, value in expected.items() if name.startswith("style"))
    assert found.content_loss == pytest.approx(content_loss, rel=PRECISION)
    assert found.style_loss == pytest.approx(style_loss, rel=PRECISION)
    assert found.loss == pytest.approx(content_loss + style_loss, rel=PRECISION)


def test_equations_4_and_7_hold_to_the_letter_where_sizes_agree(
    network64: VGG19, make_problem: Callable[..., Problem]
) -> None:
    recipe = Recipe()
    picture, content, style = image(1), image(2), image(3)
    found = losses_of(network64, make_problem(network64, recipe, content, style, start=picture))
    layers = (*recipe.content_layers, *recipe.style_layers)
    F, P, S = (responses(network64, each, layers, "average") for each in (picture, content, style))
    alpha, beta = 1.0, 1000.0
    L_content = equation_1(F["conv4_2"], P["conv4_2"])
    L_style = sum(equation_4(F[layer], S[layer]) / 5 for layer in recipe.style_layers)
    assert found.loss == pytest.approx(float(alpha * L_content + beta * L_style), rel=PRECISION)
    assert found.content_loss == pytest.approx(float(alpha * L_content), rel=PRECISION)
    assert found.style_loss == pytest.approx(float(beta * L_style), rel=PRECISION)


@pytest.mark.parametrize("convention", LITERAL)
def test_style_layer_weights_are_the_w_of_equation_5(
    network64: VGG19, make_problem: Callable[..., Problem], convention: str
) -> None:
    weights = {"conv1_1": 0.0, "pool2": 0.25, "conv4_1": 3.0}
    recipe = Recipe(
        convention=convention,
        style_weight=10,
        style_layers=list(weights),
        style_layer_weights=list(weights.values()),
    )
    picture, style = image(1), image(3, 20, 30)
    found = losses_of(network64, make_problem(network64, recipe, None, style, start=picture))
    F, S = (responses(network64, each, recipe.style_layers, "average") for each in (picture, style))
    literal_style = LITERAL[convention][1]
    expected = {
        f"style_{layer}": 10 * w * float(literal_style(F[layer], S[layer])) for layer, w in weights.items()
    }
    assert found.layer_losses == pytest.approx(expected, rel=PRECISION)


@pytest.mark.parametrize("shares", [None, (1.0, 1.0, 1.0), (3.0, 0.0, 1.0)])
def test_the_gram_matrices_of_several_styles_are_blended(
    network64: VGG19, make_problem: Callable[..., Problem], shares: tuple[float, ...] | None
) -> None:
    recipe = Recipe(style_blend=shares, style_layers=["conv1_1", "conv3_1"])
    picture, styles = image(1), [image(3), image(4, 20, 30), image(5, 50, 16)]
    found = losses_of(network64, make_problem(network64, recipe, None, *styles, start=picture))
    parts = [1 / 3] * 3 if shares is None else [share / sum(shares) for share in shares]
    F = responses(network64, picture, recipe.style_layers, "average")
    S = [responses(network64, style, recipe.style_layers, "average") for style in styles]
    for layer in recipe.style_layers:
        N, M = F[layer].shape
        A = sum(part * equation_3(s[layer]) / s[layer].shape[1] for part, s in zip(parts, S, strict=True))
        E = (equation_3(F[layer]) / M - A).square().sum() / (4 * N**2)
        assert found.layer_losses[f"style_{layer}"] == pytest.approx(float(1000 * E / 2), rel=PRECISION)


def test_blend_shares_must_match_the_styles() -> None:
    grams = {"conv1_1": torch.eye(64)}
    with pytest.raises(SynthesisError, match="style_blend has 3 numbers for 2 style images"):
        blend_styles([grams, grams], [1, 2, 3])
    assert blend_styles([]) == {}


def test_without_a_style_only_content_counts_and_the_other_way_round(
    network64: VGG19, make_problem: Callable[..., Problem]
) -> None:
    recipe = Recipe()
    picture, content, style = image(1), image(2), image(3)
    both = losses_of(network64, make_problem(network64, recipe, content, style, start=picture))
    reconstruction = losses_of(network64, make_problem(network64, recipe, content, start=picture))
    texture = losses_of(network64, make_problem(network64, recipe, None, style, start=picture))
    assert reconstruction.loss == reconstruction.content_loss == pytest.approx(both.content_loss)
    assert reconstruction.style_loss == 0
    assert set(reconstruction.layer_losses) == {"content_conv4_2"}
    assert texture.loss == texture.style_loss == pytest.approx(both.style_loss)
    assert texture.content_loss == 0
    assert set(texture.layer_losses) == {f"style_{layer}" for layer in recipe.style_layers}


@pytest.mark.parametrize("reference_size", [24, 48, 512])
def test_reference_size_scales_the_content_by_the_ratio_of_areas(
    network64: VGG19, make_problem: Callable[..., Problem], reference_size: int
) -> None:
    picture, content, style = image(1), image(2), image(3)
    plain, scaled = (
        losses_of(network64, make_problem(network64, recipe, content, style, start=picture))
        for recipe in (Recipe(), Recipe(reference_size=reference_size))
    )
    assert scaled.content_loss / plain.content_loss == pytest.approx((reference_size / 48) ** 2)
    assert scaled.style_loss == plain.style_loss


def test_with_a_reference_size_the_balance_is_the_same_at_every_size() -> None:
    """An image made of equal tiles has the content loss of one tile, times their number."""
    for side in (128, 512, 1024):
        scales = loss_scales(Recipe(reference_size=256), side, side // 2)
        tiles = (side / 256) ** 2
        assert scales.content["conv4_2"] * tiles == pytest.approx(1 / 2)
        assert scales.style == loss_scales(Recipe(), 64, 64).style


def test_total_variation_is_half_the_sum_of_squared_differences(
    network64: VGG19, make_problem: Callable[..., Problem]
) -> None:
    picture, content = image(1), image(2)
    recipe = Recipe(tv_weight=0.5)
    found = losses_of(network64, make_problem(network64, recipe, content, start=picture))
    total = 0.0
    pixels = picture.tolist()
    for channel in range(3):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                if y > 0:
                    total += (pixels[channel][y][x] - pixels[channel][y - 1][x]) ** 2 / 2
                if x > 0:
                    total += (pixels[channel][y][x] - pixels[channel][y][x - 1]) ** 2 / 2
    assert found.loss - found.content_loss == pytest.approx(0.5 * total, rel=PRECISION)


def test_images_of_a_batch_have_their_own_targets_and_factors(
    network64: VGG19, make_problem: Callable[..., Problem]
) -> None:
    recipes = [
        Recipe(iterations=0),
        Recipe(iterations=0, convention="neural-style", content_weight=5, style_weight=100, tv_weight=1),
        Recipe(iterations=0, style_layer_weights=[1, 0, 0, 0, 2], reference_size=512),
    ]
    problems = [
        make_problem(network64, recipe, image(2 + i), image(7 + i, 30 + i, 30), start=image(12 + i))
        for i, recipe in enumerate(recipes)
    ]
    together = synthesize(network64, problems, publish=as_it_is)
    for solution, problem in zip(together, problems, strict=True):
        alone = losses_of(network64, problem)
        assert solution.loss == pytest.approx(alone.loss, rel=1e-12)
        assert solution.layer_losses == pytest.approx(alone.layer_losses, rel=1e-12)


# --- gradients

FILTERS, TALL, WIDE = 4, 3, 5


def small_objective(
    content: Tensor | None = None, gram: Tensor | None = None, scale: float = 1.0
) -> Objective:
    one = torch.tensor([scale], dtype=torch.float64)
    return Objective(
        {} if content is None else {"layer": content},
        {} if gram is None else {"layer": gram},
        {"layer": one},
        {"layer": one},
        torch.zeros(1, dtype=torch.float64),
    )


def small_case() -> tuple[Tensor, Tensor]:
    """Activations before the ReLU, about half of them negative, and the responses to another image."""
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(1, FILTERS, TALL, WIDE, generator=generator, dtype=torch.float64)
    other = torch.randn(1, FILTERS, TALL, WIDE, generator=generator, dtype=torch.float64).relu()
    assert (before < 0).any()
    assert (before > 0).any()
    return before.requires_grad_(), other


def gradient_of(objective: Objective, before: Tensor) -> Tensor:
    terms = objective.terms(torch.zeros(1, 3, 2, 2, dtype=torch.float64), {"layer": before.relu()}.items())
    (gradient,) = torch.autograd.grad(terms.total.sum(), before)
    return gradient


def test_the_content_gradient_is_equation_2() -> None:
    before, other = small_case()
    gradient = gradient_of(small_objective(content=other, scale=0.5), before)
    F, P = as_matrix(before.detach()[0].relu()), as_matrix(other[0])
    for i in range(FILTERS):
        for j in range(TALL * WIDE):
            expected = float(F[i, j] - P[i, j]) if F[i, j] > 0 else 0.0
            assert float(as_matrix(gradient[0])[i, j]) == pytest.approx(expected, rel=1e-12)


def test_the_style_gradient_is_equation_6() -> None:
    before, other = small_case()
    N, M = FILTERS, TALL * WIDE
    F = as_matrix(before.detach()[0].relu())
    G, A = equation_3(F), equation_3(as_matrix(other[0]))
    gradient = gradient_of(small_objective(gram=A[None] / M, scale=1 / (4 * N**2)), before)
    product = F.T @ (G - A)  # (F^T (G - A))_ji
    for i in range(N):
        for j in range(M):
            expected = float(product[j, i]) / (N**2 * M**2) if F[i, j] > 0 else 0.0
            assert float(as_matrix(gradient[0])[i, j]) == pytest.approx(expected, rel=1e-12)


def test_the_gram_matrix_of_each_image() -> None:
    generator = torch.Generator().manual_seed(1)
    F = torch.randn(2, FILTERS, TALL, WIDE, generator=generator, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        G = gram_matrix(F.contiguous(memory_format=layout))
        for each, gram in zip(F, G, strict=True):
            torch.testing.assert_close(gram, equation_3(as_matrix(each)) / (TALL * WIDE))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gram_matrix_passes_gradcheck(layout: torch.memory_format) -> None:
    """The gradient of any function of G, symmetric or not."""
    generator = torch.Generator().manual_seed(1)
    F = torch.randn(2, FILTERS, TALL, WIDE, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(gram_matrix, F.contiguous(memory_format=layout).requires_grad_())


class ProductCounter(TorchDispatchMode):
    """Counts matrix products and copies."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))

    @property
    def products(self) -> int:
        return sum(
            self.counts[name] for name in ("mm", "bmm", "addmm", "baddbmm", "baddbmm_", "mv", "einsum")
        )


def test_gram_matrix_and_gradient_take_one_product_each_and_no_copy() -> None:
    F = torch.rand(2, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    ones = torch.ones(2)
    objective = Objective({}, {"conv1_1": gram_matrix(F)}, {}, {"conv1_1": ones}, ones)
    gradient = torch.zeros_like(F)
    with ProductCounter() as counter:
        objective.add_style("conv1_1", F, gradient)
    assert counter.products == 2
    assert not {"clone", "copy_", "_to_copy"} & set(counter.counts)


FINITE_DIFFERENCES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "gatys-code with max pooling": {"convention": "gatys-code", "pooling": "max"},
    "neural-style": {"convention": "neural-style", "content_weight": 5, "style_weight": 100},
    "everything": {"reference_size": 512, "tv_weight": 1e3, "style_layer_weights": [1, 0, 2, 0, 3]},
}


@pytest.mark.parametrize("name", FINITE_DIFFERENCES)
def test_the_gradient_to_the_pixels_equals_finite_differences(
    network64: VGG19, make_problem: Callable[..., Problem], name: str
) -> None:
    """Along random directions; the step is small enough that hardly any ReLU switches on the way."""
    recipe = Recipe(**FINITE_DIFFERENCES[name])
    problem = make_problem(network64, recipe, image(2), image(3, 41, 33))
    scales = loss_scales(recipe, HEIGHT, WIDTH)
    objective = Objective(
        {layer: target[None] for layer, target in problem.targets.content.items()},
        {layer: target[None] for layer, target in problem.targets.style.items()},
        {layer: torch.tensor([scale]).double() for layer, scale in scales.content.items()},
        {layer: torch.tensor([scale]).double() for layer, scale in scales.style.items()},
        torch.tensor([scales.tv]).double(),
    )

    def loss(picture: Tensor) -> Tensor:
        found = network64.responses(picture, objective.layers, recipe.pooling)
        return objective.terms(picture, found.items()).total.sum()

    picture = image(1)[None]
    loss_gradient = LossGradient(network64, objective.layers, recipe.pooling, tuple(picture.shape))
    _, gradient = loss_gradient(picture, objective)
    generator = torch.Generator().manual_seed(9)
    step = 1e-5  # grey levels
    for _ in range(4):
        direction = torch.randn(picture.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            difference = loss(picture + step * direction) - loss(picture - step * direction)
        expected = float((gradient * direction).sum())
        scale = float(gradient.norm())
        assert float(difference) / (2 * step) == pytest.approx(expected, rel=1e-5, abs=1e-6 * scale)
