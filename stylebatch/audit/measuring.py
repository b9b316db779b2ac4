"""What one network says of pictures: responses and Gram matrices as vectors that can be compared."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stylebatch.audit.distances import distance
from stylebatch.pair.cache import ByteCache
from stylebatch.pair.loading import Loader
from stylebatch.pairs import Pair
from stylebatch.recipe import LAYERS
from stylebatch.synthesis.layers import layer_channels, layer_positions
from stylebatch.synthesis.losses import gram_matrix
from stylebatch.synthesis.vgg import VGG19

Space = Literal["content", "style"]
Key = tuple[Space, str]
"""A space and a layer."""

SOURCE_CACHE_BYTES = 512 * 2**20
"""For the measures of sources, which many stimuli share."""
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Layers:
    """Where pictures are compared."""

    content: tuple[str, ...]
    """Layers of the content space, shallow to deep."""
    style: tuple[str, ...]
    """Layers of the style space."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every space with each of its layers."""
        content: list[Key] = [("content", layer) for layer in self.content]
        style: list[Key] = [("style", layer) for layer in self.style]
        return (*content, *style)

    @property
    def deepest(self) -> str:
        """The deepest of all."""
        return max((*self.content, *self.style), key=LAYERS.index)


@dataclass(frozen=True)
class Measure:
    """One picture as a network sees it."""

    width: int
    """In pixels."""
    height: int
    """In pixels."""
    vectors: dict[Key, np.ndarray]
    """Responses, or the Gram matrix over its number of positions, flat, float32."""

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(vector.nbytes for vector in self.vectors.values())


def vector_length(key: Key, width: int, height: int) -> int:
    """How many numbers a picture of this size has in a space and layer."""
    space, layer = key
    channels = layer_channels(layer)
    return channels**2 if space == "style" else channels * layer_positions(height, width, layer)


def measure_bytes(layers: Layers, width: int, height: int) -> int:
    """The bytes of the measure of a picture of this size."""
    return FLOAT_BYTES * sum(vector_length(key, width, height) for key in layers.keys)


class Ruler:
    """Measures pictures with one network.

    Args:
        network: The VGG-19.
        pooling: ``average`` or ``max``.
        layers: Where.
        loader: Fetches sources.
    """

    def __init__(self, network: VGG19, pooling: str, layers: Layers, loader: Loader) -> None:
        self._network = network
        self._pooling = pooling
        self._layers = layers
        self._loader = loader
        self._sources: ByteCache[Measure] = ByteCache(SOURCE_CACHE_BYTES, lambda measure: measure.bytes)

    @torch.no_grad()
    def measure(self, pixels: Tensor) -> Measure:
        """The measure of a picture ``(3, H, W)``, 0..255.

        Raises:
            SynthesisError: It is too small for the layers.
        """
        vectors: dict[Key, np.ndarray] = {}
        wanted = {*self._layers.content, *self._layers.style}
        images = pixels[None].to(self._network.device)
        for layer, response in self._network.each_response(images, wanted, self._pooling):
            if layer in self._layers.content:
                vectors["content", layer] = _flat(response[0])
            if layer in self._layers.style:
                vectors["style", layer] = _flat(gram_matrix(response)[0])
        height, width = pixels.shape[1:]
        return Measure(width, height, vectors)

    def content(self, pair: Pair) -> Measure:
        """The measure of a pair's content image as the pair uses it: cropped, at the picture's size.

        Raises:
            StylebatchError: It cannot be read, or is too small for the layers.
        """
        return self._source(replace(pair, styles=()))

    def style(self, pair: Pair, uri: str) -> Measure:
        """The measure of one of a pair's style images, at the size at which the pair uses it.

        Raises:
            StylebatchError: It cannot be read, or is too small for the layers.
        """
        return self._source(replace(pair, content=None, styles=(uri,)))

    def _source(self, pair: Pair) -> Measure:
        """The measure of the one image of a pair that is to be measured."""
        loaded = self._loader.load(pair)
        (source,) = [image for image in (loaded.content, *loaded.styles) if image]
        key = hashlib.sha256(source.pixels.numpy().tobytes()).digest(), source.pixels.shape
        measure = self._sources.get(key)
        if measure is None:
            measure = self.measure(source.pixels)
            self._sources.put(key, measure)
        return measure


def _flat(values: Tensor) -> np.ndarray:
    """A copy, channel by channel, whatever the order in memory."""
    vector: np.ndarray = values.cpu().clone(memory_format=torch.contiguous_format).flatten().numpy()
    return vector


def apart(one: Measure, other: Measure, key: Key) -> tuple[float | None, str | None]:
    """The distance of two pictures in a space and layer; or None, and why there is none."""
    if key[0] == "content" and (one.width, one.height) != (other.width, other.height):
        return None, different_sizes((one.width, one.height), (other.width, other.height))
    return distance(one.vectors[key], other.vectors[key]), None


def different_sizes(one: Sequence[int], other: Sequence[int]) -> str:
    """Why pictures of two sizes have no distance in content space: their positions do not correspond."""
    return f"sizes differ: {one[0]} x {one[1]} and {other[0]} x {other[1]}"
