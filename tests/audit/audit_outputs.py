"""What the finished output of these tests is: pictures and an array, a texture, a failed pair."""

import functools
from collections.abc import Mapping
from typing import Any

from inmemory import picture_bytes

from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import bundled_weights
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import read_weights

FOLDER = "s3://bucket/study"
OUTPUT = f"{FOLDER}/out"
SIZES = {"c": (64, 48), "d": (64, 48), "tall": (48, 64), "s": (40, 40), "t": (80, 40)}

COLUMNS: Mapping[str, Any] = {
    "pair_id": ["plain", "dotted.name", "photo", "array", "texture", "content-only", "gone"],
    "content": ["c.png", "d.png", "tall.png", "d.png", None, "c.png", "missing.png"],
    "style": [["s.png"], ["s.png"], ["t.png"], ["s.png", "t.png"], ["t.png"], None, ["s.png"]],
    "style_blend": [None, None, None, [3.0, 1.0], None, None, None],
    "start": [None, None, "noise", "c.png", "noise", None, None],
    "pooling": [None, "max", None, None, None, None, None],
    "format": [None, None, None, "npy", None, None, None],
    "tv_weight": [None, 1e-3, None, None, None, None, None],
    "seed": [0, 0, 7, 0, 3, 0, 0],
    "condition": ["x", "y", "x", "y", "x", "y", "x"],
}
RECIPE = Recipe(size=48, iterations=4, start="content")


@functools.cache
def real_network() -> VGG19:
    """The bundled weights, read once."""
    return VGG19(read_weights(bundled_weights()))


def sources() -> dict[str, bytes]:
    """The images that the pairs are made of, by URI; one of the contents is missing."""
    return {
        f"{FOLDER}/{name}.png": picture_bytes(*size, seed) for seed, (name, size) in enumerate(SIZES.items())
    }
