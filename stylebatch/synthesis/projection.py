"""What a batch will cost before it is started: bytes, from shapes and recipe alone. Imports no torch."""

from collections.abc import Iterable

from stylebatch.recipe import LAYERS, Recipe
from stylebatch.synthesis.layers import layer_channels, layer_inputs, layer_positions, layer_sides
from stylebatch.synthesis.tiling import (
    REACH,
    STRIP_LAYERS,
    TILE,
    keeps_winograd_filters,
    pays_winograd,
    takes_strips,
    tiles_along,
    winograd_rows,
)

BYTES = 4
"""Of one float32."""
KEPT_BYTES = 2
"""Of one float16, in which the history of L-BFGS is kept."""
PROCESS_BYTES = 640 * 2**20
"""A worker before its first batch: Python, Ray, torch and the network."""
SLACK = 1.3
"""What the C library's heap takes for what is asked of it, tensors of many sizes coming and going."""
GRADIENTS = 3
"""Tensors as large as a layer's response that there are while its gradient is made."""
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


def projected_bytes(recipe: Recipe, height: int, width: int, batch: int = 1) -> int:
    """The memory of a worker while it synthesizes a batch of this shape, in bytes."""
    return PROCESS_BYTES + batch_bytes(recipe, height, width, batch)


def batch_bytes(recipe: Recipe, height: int, width: int, batch: int = 1) -> int:
    """What synthesizing a batch of this shape takes, in bytes."""
    vectors = 3 * height * width * (_remembered_bytes(recipe, height, width) + BYTES * PIXEL_VECTORS)
    on_the_way = _most_on_the_way(recipe, height, width)
    each = 2 * BYTES * _target_values(recipe, height, width) + vectors + on_the_way
    return round(SLACK * (batch * each + _winograd_bytes(recipe, height, width, batch)))


def _layers(recipe: Recipe) -> tuple[str, ...]:
    """That an evaluation needs, shallow to deep."""
    return LAYERS[: LAYERS.index(recipe.deepest_layer) + 1]


def _target_values(recipe: Recipe, height: int, width: int) -> int:
    """Of one image at all its sizes, each with a quarter of the positions of the next."""
    contents = sum(_values(height, width, layer) for layer in recipe.content_layers)
    styles = sum(layer_channels(layer) ** 2 for layer in recipe.style_layers)
    return round(contents * sum(0.25**size for size in range(recipe.scales))) + styles * recipe.scales


def _values(height: int, width: int, layer: str) -> int:
    """Of a layer's response."""
    return layer_positions(height, width, layer) * layer_channels(layer)


def _most_on_the_way(recipe: Recipe, height: int, width: int) -> int:
    """Bytes of one image's responses and gradients where they are most, on the way forward or back.

    A response that a loss looks at is kept whole, another one as a byte a value; max pooling keeps the
    place of each value that it lets through. What is deeper is gone when a layer's gradient is made. Of what
    is done in strips no response is kept.
    """
    wanted = {*recipe.content_layers, *recipe.style_layers}
    strips = STRIP_LAYERS if takes_strips(wanted) else ()
    kept = most = 0
    below = BYTES * 3 * height * width
    for layer in _layers(recipe):
        response = BYTES * _values(height, width, layer)
        is_pooling = layer.startswith("pool")
        if is_pooling and recipe.pooling == "max":
            kept += 2 * response
        if layer in strips:
            kept += response // BYTES if layer == strips[1] else 0
        else:
            kept += response if layer in wanted else 0 if is_pooling else response // BYTES
            most = max(most, kept + max(below + response, GRADIENTS * response))
        below = response
    return most


def _winograd_bytes(recipe: Recipe, height: int, width: int, batch: int) -> int:
    """Filters that a batch keeps transformed, for both ways, and the most that one convolution takes."""
    kept = most = 0
    for layer in _layers(recipe):
        if layer.startswith("pool"):
            continue
        sides = layer_sides(height, width, layer)
        if not pays_winograd(layer, *sides):
            continue
        products = layer_inputs(layer) * layer_channels(layer)
        if keeps_winograd_filters(layer, *sides, batch):
            kept += BYTES * 2 * REACH**2 * products
            most = max(most, BYTES * _winograd_values(layer, *sides, batch, keeps_filters=True))
        else:
            # The filters of six products, and the same as the library lays them out.
            made = (3**2 + 2 * REACH) * products
            most = max(most, BYTES * (made + _winograd_values(layer, *sides, batch, keeps_filters=False)))
    return kept + most


def _winograd_values(layer: str, height: int, width: int, batch: int, keeps_filters: bool) -> int:
    """Of what it holds of a piece: inputs padded, transformed across and down, six products, filtered."""
    rows, columns = winograd_rows(height, width, batch, keeps_filters), tiles_along(width)
    padded = batch * (TILE * rows + 2) * TILE * (columns + 1)
    across = padded // TILE * REACH
    tiles = batch * rows * columns
    seen, made = padded + across + tiles * REACH**2, tiles * (REACH + TILE * REACH)
    fewer, more = sorted((layer_inputs(layer), layer_channels(layer)))
    return max(seen * more + made * fewer, seen * fewer + made * more)


def state_bytes(recipe: Recipe, height: int, width: int) -> int:
    """What it takes to store where one image stands: its history, and a few vectors more."""
    return 3 * height * width * (_remembered_bytes(recipe, height, width) + BYTES * STATE_VECTORS)


def _remembered_bytes(recipe: Recipe, height: int, width: int) -> int:
    """What the optimiser remembers of each image, in bytes for each pixel value."""
    if recipe.optimizer == "adam":
        return 2 * BYTES
    return 2 * KEPT_BYTES * recipe.most_pairs(height, width)


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
