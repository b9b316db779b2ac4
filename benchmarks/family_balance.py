"""Which β gives another family of weights the balance that β = 1e3 gives the original network.

Run it as ``python benchmarks/family_balance.py [FAMILY=FILE ...]``. At white noise, the start that the paper
uses, it compares the lengths of the content's and the style's gradient with respect to the pixels, over the
demo's pairs, 128 pixels square. For each network it prints the style weight at which the two have the ratio
that they have in the original network at α = 1, β = 1e3, and mean responses. Without arguments it measures
the original network, and a ``caffe-normalised`` one that it makes from it: each filter is scaled so that its
mean response to the eight photographs is 1.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from photographs import photograph
from torch import Tensor

from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.gradients import LossGradient
from stylebatch.synthesis.problems import Problem, batch_objective, white_noise
from stylebatch.synthesis.targets import Targets, content_targets, style_targets
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import CONVOLUTIONS, Weights, read_weights

SIZE = 128
PAIRS = (
    ("astronaut", "ihc"),
    ("coffee", "retina"),
    ("chelsea", "gravel"),
    ("rocket", "hubble_deep_field"),
)


def square(name: str) -> Tensor:
    """The middle of a photograph, ``(1, 3, SIZE, SIZE)``."""
    picture = photograph(name, 2 * SIZE)
    top, left = ((side - SIZE) // 2 for side in picture.shape[1:])
    return picture[None, :, top : top + SIZE, left : left + SIZE]


def normalised(weights: Weights) -> Weights:
    """The network whose filters' mean responses to the photographs are 1."""
    pictures = torch.cat([square(name) for pair in PAIRS for name in pair])
    responses = VGG19(weights).responses(pictures, CONVOLUTIONS)
    filters: dict[str, tuple[Tensor, Tensor]] = {}
    before = torch.ones(3)
    for layer in CONVOLUTIONS:
        mean = responses[layer].mean((0, 2, 3)).clamp(min=1e-6)
        weight, bias = weights.filters[layer]
        filters[layer] = (weight * before.view(1, -1, 1, 1) / mean.view(-1, 1, 1, 1), bias / mean)
        before = mean
    return Weights(filters, "caffe-normalised", "made here")


def gradient_lengths(network: VGG19, content: Tensor, style: Tensor) -> tuple[float, float]:
    """Lengths of the gradients of the content's and the style's part of the loss, at white noise."""
    noise, usual = white_noise(SIZE, SIZE, seed=0), Recipe()
    targets = Targets(
        content_targets(network, content[0], usual.content_layers, usual.pooling),
        style_targets(network, style[0], usual.style_layers, usual.pooling),
    )
    lengths = []
    for other in ("style_weight", "content_weight"):
        objective = batch_objective([Problem(usual.replace({other: 0.0}), targets, noise)], network.device)
        evaluate = LossGradient(network, objective.layers, usual.pooling, (1, *noise.shape))
        _, gradients = evaluate(noise[None], objective)
        lengths.append(float(gradients.norm()))
    first, second = lengths
    return first, second


def balance(network: VGG19) -> float:
    """The geometric mean over the pairs of style length / content length."""
    lengths = [gradient_lengths(network, square(content), square(style)) for content, style in PAIRS]
    return float(torch.tensor([style / content for content, style in lengths]).log().mean().exp())


def main() -> None:
    """Print the table."""
    original = read_weights(bundled_weights())
    networks: Mapping[str, Weights] = {
        "caffe": original,
        "caffe-normalised": normalised(original),
        **{
            f"{family} {file}": read_weights(Path(file), family)
            for family, _, file in (argument.partition("=") for argument in sys.argv[1:])
        },
    }
    reference = balance(VGG19(original))
    for name, weights in networks.items():
        network = VGG19(weights)
        responses = network.responses(square("astronaut"), ["conv1_1", "conv4_2", "conv5_1"])
        means = ", ".join(f"{layer} {response.mean():.3g}" for layer, response in responses.items())
        print(f"{name:40} style_weight {1e3 * reference / balance(network):9.3g}   mean responses: {means}")


if __name__ == "__main__":
    main()
