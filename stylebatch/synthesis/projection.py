"""What a batch will cost before it is started: bytes, from shapes and recipe alone. Imports no torch."""

from collections.abc import Iterable

from stylebatch.recipe import LAYERS, Recipe

BLOCK_CHANNELS = (64, 128, 256, 512, 512)
"""Filters of the layers of each block."""
BYTES = 4
"""Of one float32."""
PROCESS_BYTES = 725 * 2**20
"""A worker before its first batch: Python, Ray, torch and the network."""
PIXEL_VECTORS = 12
"""Vectors of one number for each pixel value that the optimiser holds beside its history."""
STATE_VECTORS = 3
"""The same of what is stored of it: the best image, its gradient and the direction that was tried."""

CPU_POSITIONS = 128 * 128 * 4
"""On a CPU, a forward pass over more pixels than this gains nothing from another image."""
GPU_POSITIONS = 1024 * 1024
"""The same on a GPU (an estimate; not measured)."""
LARGEST_BATCH = 16
"""The most images in one forward pass."""


def layer_positions(height: int, width: int, layer: str) -> int:
    """M_l, the number of positions of a layer's response to an image of this size in pixels."""
    poolings = sum(name.startswith("pool") for name in LAYERS[: LAYERS.index(layer) + 1])
    return (height >> poolings) * (width >> poolings)


def layer_channels(layer: str) -> int:
    """N_l, the number of filters of a layer; a pooling has as many as its block."""
    return BLOCK_CHANNELS[int(layer.removeprefix("conv").removeprefix("pool")[0]) - 1]


def projected_bytes(recipe: Recipe, height: int, width: int, batch: int = 1) -> int:
    """The memory of a worker while it synthesizes a batch of this shape, in bytes."""
    return PROCESS_BYTES + batch * image_bytes(recipe, height, width)


def image_bytes(recipe: Recipe, height: int, width: int) -> int:
    """What each image of a batch adds, in bytes: responses, the largest gradients, targets, history."""
    deepest = max(LAYERS.index(layer) for layer in (*recipe.content_layers, *recipe.style_layers))
    responses = [
        layer_positions(height, width, layer) * layer_channels(layer) for layer in LAYERS[: deepest + 1]
    ]
    targets = sum(
        layer_positions(height, width, layer) * layer_channels(layer) for layer in recipe.content_layers
    ) + sum(layer_channels(layer) ** 2 for layer in recipe.style_layers)
    vectors = 3 * height * width * (_history_vectors(recipe) + PIXEL_VECTORS)
    return BYTES * (sum(responses) + 3 * max(responses) + 2 * targets + vectors)


def state_bytes(recipe: Recipe, height: int, width: int) -> int:
    """What it takes to store where one image stands: its history, and a few vectors more."""
    return BYTES * 3 * height * width * (_history_vectors(recipe) + STATE_VECTORS)


def _history_vectors(recipe: Recipe) -> int:
    """What the optimiser remembers of each image, in numbers for each pixel value."""
    return 2 * min(recipe.history, max(1, recipe.iterations)) if recipe.optimizer == "lbfgs" else 2


def measuring_bytes(layers: Iterable[str], height: int, width: int) -> int:
    """The memory of the one forward pass that measures the targets of an image at some layers, in bytes."""
    wanted = set(layers)
    most = kept = current = 3 * height * width
    for layer in LAYERS[: max(LAYERS.index(layer) for layer in wanted) + 1]:
        following = layer_positions(height, width, layer) * layer_channels(layer)
        most = max(most, kept + current + following)
        kept, current = (kept + following, 0) if layer in wanted else (kept, following)
    return BYTES * most


def largest_batch(height: int, width: int, is_gpu: bool) -> int:
    """How many images of this shape should share a forward pass.

    Args:
        height: Of each image, in pixels.
        width: Likewise.
        is_gpu: Whether a GPU does the work.

    Returns:
        At least 1.
    """
    positions = GPU_POSITIONS if is_gpu else CPU_POSITIONS
    by_positions = positions // (height * width)
    return max(1, min(LARGEST_BATCH, by_positions))
