"""The written-out gradient against automatic differentiation, and what it computes and keeps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from stylebatch.errors import SynthesisError
from stylebatch.recipe import LAYERS, Recipe
from stylebatch.synthesis import convolutions, strips
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.losses import Objective, gram_matrix
from stylebatch.synthesis.vgg import VGG19

MakeImages = Callable[[int, int, int], Tensor]


def images(height: int, width: int, seed: int, batch: int = 2) -> Tensor:
    """Some values are outside 0..255."""
    generator = torch.Generator().manual_seed(seed)
    return 300 * torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64) - 20


def objective(
    network: VGG19,
    content_layers: list[str],
    style_layers: list[str],
    height: int,
    width: int,
    **settings: Any,
) -> Objective:
    """Of two images, each with its own targets and scales."""
    pooling = settings.get("pooling", "average")
    contents = network.responses(images(height, width, 1), content_layers, pooling)
    styles = network.responses(images(41, 53, 2), style_layers, pooling)
    scales = torch.tensor([2.0, 5.0], dtype=torch.float64)
    return Objective(
        contents,
        {layer: gram_matrix(response) for layer, response in styles.items()},
        dict.fromkeys(contents, scales * 0.001),
        {layer: scales.flip(0) / response.shape[1] ** 2 for layer, response in styles.items()},
        scales * settings.get("tv", 0.0),
    )


def plain_responses(network: VGG19, images: Tensor, layers: set[str], pooling: str) -> dict[str, Tensor]:
    """A transcription that can be differentiated."""
    pool = functional.max_pool2d if pooling == "max" else functional.avg_pool2d
    current, found = images - network.mean, {}
    for layer in LAYERS[: max(LAYERS.index(layer) for layer in layers) + 1]:
        if layer.startswith("pool"):
            current = pool(current, 2)
        else:
            weight, bias = network.get_buffer(f"{layer}_weight"), network.get_buffer(f"{layer}_bias")
            current = functional.conv2d(current, weight, bias, padding=1).relu()
        if layer in layers:
            found[layer] = current
    return found


PAPER = Recipe()
CASES: dict[str, tuple[list[str], list[str], dict[str, Any]]] = {
    "paper": ([*PAPER.content_layers], [*PAPER.style_layers], {}),
    "max pooling": ([*PAPER.content_layers], [*PAPER.style_layers], {"pooling": "max"}),
    "content alone": (["conv3_1"], [], {}),
    "style alone": ([], ["conv1_1", "conv1_2"], {}),
    "poolings are looked at": (["pool1"], ["pool2", "conv2_2"], {}),
    "both losses at one layer": (["conv2_1"], ["conv2_1"], {"tv": 3.0}),
    "both losses at the first layer": (["conv1_1"], ["conv1_1", "conv2_1"], {"pooling": "max"}),
}


@pytest.fixture(params=[False, True], ids=["at once", "in pieces"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(convolutions, "LARGE_VALUES", 20_000)
        monkeypatch.setattr(strips, "STRIP_VALUES", 40_000)  # two to four rows


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize(("height", "width"), [(56, 72), (39, 46)], ids=["even sides", "odd sides"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_what_automatic_differentiation_gives(
    network64: VGG19, name: str, height: int, width: int
) -> None:
    content_layers, style_layers, settings = CASES[name]
    pooling = settings.get("pooling", "average")
    wanted = objective(network64, content_layers, style_layers, height, width, **settings)
    picture = images(height, width, 3).requires_grad_()
    expected = wanted.terms(picture, plain_responses(network64, picture, wanted.layers, pooling).items())
    (gradient,) = torch.autograd.grad(expected.total.sum(), picture)

    own = LossGradient(network64, wanted.layers, pooling, tuple(picture.shape))
    terms, found = own(picture.detach(), wanted)

    torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))
    assert list(terms.content) == list(expected.content)
    assert list(terms.style) == list(expected.style)
    for layer in terms.content:
        torch.testing.assert_close(terms.content[layer], expected.content[layer])
    for layer in terms.style:
        torch.testing.assert_close(terms.style[layer], expected.style[layer])
    torch.testing.assert_close(terms.total, expected.total)
    alone = own.losses(picture.detach(), wanted)
    for part, same in ((alone.content, expected.content), (alone.style, expected.style)):
        assert list(part) == list(same)
        torch.testing.assert_close([*part.values()], [*same.values()])


def test_each_image_has_its_own_gradient(network64: VGG19) -> None:
    wanted = objective(network64, ["conv3_1"], ["conv1_1", "conv2_1"], 48, 48)
    pictures = images(48, 48, 3)
    both, alone = (LossGradient(network64, wanted.layers, "average", (n, 3, 48, 48)) for n in (2, 1))
    terms, gradients = both(pictures, wanted)
    for row in range(2):
        terms_alone, gradient = alone(pictures[row, None], wanted.rows(torch.tensor([row])))
        torch.testing.assert_close(gradient[0], gradients[row])
        torch.testing.assert_close(terms_alone.total[0], terms.total[row])


class ConvolutionCounter(TorchDispatchMode):
    """Counts convolutions on the way there and back, and gradients by anything but what went in."""

    def __init__(self) -> None:
        super().__init__()
        self.there = 0
        self.back = 0
        self.for_weights = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = function.overloadpacket.__name__
        self.there += name == "convolution"
        if name == "convolution_backward":
            self.back += 1
            self.for_weights += any(args[-1][1:])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("layers", "there", "back"), [(["conv1_1"], 1, 1), (["conv2_2"], 5, 4), (["conv5_1"], 14, 13)]
)
def test_nothing_above_the_deepest_layer_and_nothing_for_weights(
    network: VGG19, layers: list[str], there: int, back: int
) -> None:
    """conv1_1 below deeper layers is not kept, but computed anew on the way back."""
    picture = images(24, 24, 3).float()  # so small that all convolutions are direct
    targets = {
        layer: torch.zeros_like(response) for layer, response in network.responses(picture, layers).items()
    }
    ones, none = {layer: torch.ones(2) for layer in layers}, torch.zeros(2)
    wanted = Objective(targets, {}, ones, {}, none)
    own = LossGradient(network, set(layers), "average", (2, 3, 24, 24))
    with ConvolutionCounter() as counter:
        own(picture, wanted)
    assert (counter.there, counter.back, counter.for_weights) == (there, back, 0)


def test_the_images_stay_as_they_were(network: VGG19) -> None:
    picture = images(32, 32, 3).float()
    before = picture.clone()
    targets = network.responses(picture + 1, ["conv1_1"])
    wanted = Objective(targets, {}, {"conv1_1": torch.ones(2)}, {}, torch.ones(2))
    LossGradient(network, {"conv1_1"}, "average", (2, 3, 32, 32))(picture, wanted)
    assert torch.equal(picture, before)


def test_an_image_too_small_for_the_deepest_layer_is_refused(network: VGG19) -> None:
    with pytest.raises(SynthesisError, match="40 x 15 pixels is too small for conv5_1"):
        LossGradient(network, {"conv1_1", "conv5_1"}, "average", (1, 3, 15, 40))
