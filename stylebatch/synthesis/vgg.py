"""VGG-19's responses by the paper's layer names, and nothing above the deepest layer asked for."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stylebatch.errors import SynthesisError
from stylebatch.recipe import LAYERS
from stylebatch.synthesis.convolutions import Convolution, convolution
from stylebatch.synthesis.families import INPUT_FORMS
from stylebatch.synthesis.layers import layer_positions
from stylebatch.synthesis.poolings import POOLINGS
from stylebatch.synthesis.weights import CONVOLUTIONS, Weights
from stylebatch.synthesis.workspace import Workspace


class VGG19(nn.Module):
    """The 16 convolutions and 5 poolings of VGG-19, fed with RGB pixels of 0..255.

    Channel order and scale of the family's input are folded into the first convolution, so that one image
    form serves every family; the mean stays outside, because zero padding comes after it is subtracted.
    The weights are buffers: they never get gradients.

    Args:
        weights: All of them.
        deepest: The deepest layer that will be asked for; the weights above it are let go.
    """

    mean: Tensor

    def __init__(self, weights: Weights, deepest: str = LAYERS[-1]) -> None:
        super().__init__()
        self.family = weights.family
        self.sha256 = weights.sha256
        self.deepest = deepest
        form = INPUT_FORMS[weights.family]
        self.register_buffer("mean", torch.tensor(form.mean).view(1, 3, 1, 1))
        for layer in CONVOLUTIONS:
            if LAYERS.index(layer) > LAYERS.index(deepest):
                break
            weight, bias = weights.filters[layer]
            if layer == CONVOLUTIONS[0]:
                weight = weight[:, list(form.order)] * torch.tensor(form.scale).view(1, 3, 1, 1)
            self.register_buffer(f"{layer}_weight", weight.contiguous(memory_format=torch.channels_last))
            self.register_buffer(f"{layer}_bias", bias.contiguous())

    @property
    def device(self) -> torch.device:
        """Where the weights are, and so where images must be."""
        return self.mean.device

    def responses(self, images: Tensor, layers: Iterable[str], pooling: str = "average") -> dict[str, Tensor]:
        """What :meth:`each_response` gives, by layer name."""
        return dict(self.each_response(images, layers, pooling))

    @torch.no_grad()
    def each_response(
        self, images: Tensor, layers: Iterable[str], pooling: str = "average"
    ) -> Iterator[tuple[str, Tensor]]:
        """The responses F of the layers asked for, after their ReLU, without a way back.

        One that the caller lets go is gone when the next is made.

        Args:
            images: ``(B, 3, H, W)`` RGB, 0..255 (values outside are allowed).
            layers: Names from :data:`stylebatch.recipe.LAYERS`.
            pooling: ``average`` or ``max``. Odd sides lose their last row or column.

        Yields:
            Each layer's name and ``(B, N_l, H_l, W_l)``, channels-last in memory, shallow to deep.

        Raises:
            SynthesisError: The images are too small for the deepest layer.
        """
        wanted = set(layers)
        if not wanted:
            return
        deepest = max(LAYERS.index(layer) for layer in wanted)
        check_image_size(images.shape[-2], images.shape[-1], LAYERS[deepest])
        current, workspace = self.centred(images), Workspace()
        for layer in LAYERS[: deepest + 1]:
            if layer.startswith("pool"):
                current, _ = POOLINGS[pooling](current, workspace)
            else:
                current = self.respond(layer, current, self.convolution(layer, current.shape, workspace))
            if layer in wanted:
                yield layer, current

    def centred(self, images: Tensor) -> Tensor:
        """What the first convolution is fed with for images ``(B, 3, H, W)``, channels-last in memory."""
        return (images - self.mean).contiguous(memory_format=torch.channels_last)

    def convolution(
        self, layer: str, shape: Sequence[int], workspace: Workspace, place: str | None = None
    ) -> Convolution:
        """The convolution of a layer; see :func:`stylebatch.synthesis.convolutions.convolution`."""
        return convolution(layer, self.get_buffer(f"{layer}_weight"), shape, workspace, place)

    def respond(self, layer: str, inputs: Tensor, own: Convolution) -> Tensor:
        """A layer's response to the layer below, by its convolution."""
        return functional.relu_(own.convolve(inputs, self.get_buffer(f"{layer}_bias")))


def check_image_size(height: int, width: int, layer: str) -> None:
    """Raise SynthesisError if an image of this size has no position left at a layer."""
    if layer_positions(height, width, layer) == 0:
        raise SynthesisError(
            f"a picture of {width} x {height} pixels is too small for {layer}: nothing is left of it after "
            "the poolings; use a larger size or shallower layers"
        )
