"""The network against a plain transcription of VGG-19, layer by layer."""

import copy
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import VGG19_Weights
from torchvision.transforms.functional import normalize

from stylebatch.errors import SynthesisError
from stylebatch.recipe import LAYERS
from stylebatch.synthesis import convolutions as chosen
from stylebatch.synthesis.layers import layer_channels, layer_positions
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import CONVOLUTIONS, Weights

Filters = dict[str, tuple[Tensor, Tensor]]

PAPER_NAMES = [
    *("conv1_1", "conv1_2", "pool1"),
    *("conv2_1", "conv2_2", "pool2"),
    *("conv3_1", "conv3_2", "conv3_3", "conv3_4", "pool3"),
    *("conv4_1", "conv4_2", "conv4_3", "conv4_4", "pool4"),
    *("conv5_1", "conv5_2", "conv5_3", "conv5_4", "pool5"),
]


class OperationCounter(TorchDispatchMode):
    """Counts the operations that torch really runs, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def plain_vgg(filters: Filters, pooling: nn.Module) -> nn.Sequential:
    """VGG-19 as anyone would write it, for inputs that are already preprocessed."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in PAPER_NAMES:
        if layer.startswith("pool"):
            modules[layer] = copy.deepcopy(pooling)
            continue
        weight, bias = filters[layer]
        convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        modules[layer + "_before_relu"] = convolution
        modules[layer] = nn.ReLU()
    return nn.Sequential(modules)


def caffe_input(images: Tensor) -> Tensor:
    """BGR, 0-255, minus the mean."""
    return images[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68])[:, None, None]


def torchvision_input(images: Tensor) -> Tensor:
    """RGB, 0-1, by the numbers that torchvision itself ships with the weights."""
    preset = VGG19_Weights.IMAGENET1K_V1.transforms()
    return normalize(images / 255, preset.mean, preset.std)


@pytest.fixture
def images() -> Tensor:
    """Two images with odd sides, some values outside 0..255."""
    return 300 * torch.rand(2, 3, 37, 53, generator=torch.Generator().manual_seed(1)) - 20


@pytest.mark.parametrize(("pooling", "module"), [("average", nn.AvgPool2d(2)), ("max", nn.MaxPool2d(2))])
@pytest.mark.parametrize(
    ("family", "preprocess"),
    [("caffe", caffe_input), ("caffe-normalised", caffe_input), ("torchvision", torchvision_input)],
)
@torch.no_grad()
def test_every_layer_equals_a_plain_transcription(
    random_filters: Filters,
    images: Tensor,
    pooling: str,
    module: nn.Module,
    family: str,
    preprocess: Callable[[Tensor], Tensor],
) -> None:
    found = VGG19(Weights(random_filters, family, "")).responses(images, LAYERS, pooling)
    assert list(found) == PAPER_NAMES
    current = preprocess(images)
    for name, step in plain_vgg(random_filters, module).named_children():
        current = step(current)
        if name in found:
            tolerance = 1e-4 * float(current.abs().max())  # float32, sums of up to 4608 products, 16 deep
            torch.testing.assert_close(found[name], current, rtol=0, atol=tolerance)


def test_the_paper_s_layer_names_in_order() -> None:
    assert list(LAYERS) == PAPER_NAMES


def test_channels_and_positions(random_filters: Filters, images: Tensor) -> None:
    channels = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
    with torch.no_grad():
        found = VGG19(Weights(random_filters, "caffe", "")).responses(images, LAYERS)
    for layer, response in found.items():
        block = layer.removeprefix("conv").removeprefix("pool")[0]
        batch, filters, height, width = response.shape
        assert (batch, filters) == (2, channels[block])
        assert layer_channels(layer) == filters
        assert layer_positions(37, 53, layer) == height * width
    assert layer_positions(37, 53, "conv1_2") == 37 * 53
    assert layer_positions(37, 53, "pool1") == 18 * 26
    assert layer_positions(37, 53, "conv5_1") == 2 * 3


def test_responses_are_after_the_relu(network: VGG19, images: Tensor) -> None:
    for layer, response in network.responses(images, [name for name in LAYERS if "conv" in name]).items():
        assert response.min() == 0, layer


def test_responses_do_not_change_the_images_nor_one_another(network: VGG19, images: Tensor) -> None:
    before = images.clone()
    together = network.responses(images, ["conv1_1", "pool1", "conv2_1"])
    assert torch.equal(images, before)
    for layer, response in together.items():
        assert torch.equal(network.responses(images, [layer])[layer], response), layer


@pytest.mark.parametrize(
    ("layers", "convolutions", "poolings"),
    [
        (["conv1_1"], 1, 0),
        (["conv3_1", "conv1_1"], 5, 2),
        (["pool2"], 4, 2),
        (["conv4_2", "conv5_1"], 13, 4),
        (["pool5"], 16, 5),
        ([], 0, 0),
    ],
)
def test_nothing_above_the_deepest_layer_is_computed(
    network: VGG19,
    layers: list[str],
    convolutions: int,
    poolings: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chosen, "pays_winograd", lambda *_: False)
    with torch.no_grad(), OperationCounter() as operations:
        found = network.responses(torch.zeros(1, 3, 32, 32), layers)
    assert set(found) == set(layers)
    assert operations.counts["convolution"] == convolutions
    assert operations.counts["avg_pool2d"] == poolings


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_responses_are_channels_last(network: VGG19, images: Tensor, pooling: str) -> None:
    for layer, response in network.responses(images, LAYERS, pooling).items():
        assert response.is_contiguous(memory_format=torch.channels_last), layer


def test_weights_are_no_parameters(network: VGG19) -> None:
    assert list(network.parameters()) == []
    buffers = dict(network.named_buffers())
    assert len(buffers) == 33
    assert not any(buffer.requires_grad for buffer in buffers.values())


def test_weights_above_the_deepest_layer_are_let_go(bundled: Weights) -> None:
    network = VGG19(bundled, "conv5_1")
    assert network.deepest == "conv5_1"
    names = {name.rpartition("_")[0] for name, _ in network.named_buffers()} - {""}
    assert names == {*CONVOLUTIONS[:13]}


def test_making_a_network_leaves_the_weights_as_they_were(bundled: Weights) -> None:
    before = bundled.filters["conv1_1"][0].clone()
    VGG19(bundled)
    assert torch.equal(bundled.filters["conv1_1"][0], before)


@pytest.mark.parametrize(
    ("height", "width", "layer"),
    [(15, 40, "conv5_1"), (40, 15, "conv5_1"), (31, 99, "pool5"), (1, 1, "pool1")],
)
def test_an_image_too_small_for_a_layer_is_refused(
    network: VGG19, height: int, width: int, layer: str
) -> None:
    with pytest.raises(SynthesisError, match=rf"{width} x {height} pixels is too small for {layer}"):
        network.responses(torch.zeros(1, 3, height, width), ["conv1_1", layer])


def test_the_smallest_image_of_a_layer_works(network: VGG19) -> None:
    assert network.responses(torch.zeros(1, 3, 16, 16), ["conv5_4"])["conv5_4"].shape == (1, 512, 1, 1)
    assert network.responses(torch.zeros(1, 3, 1, 1), ["conv1_2"])["conv1_2"].shape == (1, 64, 1, 1)
