"""The sizes of VGG-19's layers. Imports no torch."""

from stylebatch.recipe import LAYERS

BLOCK_CHANNELS = (64, 128, 256, 512, 512)
"""Filters of the layers of each block."""


def layer_positions(height: int, width: int, layer: str) -> int:
    """M_l, the number of positions of a layer's response to an image of this size in pixels."""
    rows, columns = layer_sides(height, width, layer)
    return rows * columns


def layer_sides(height: int, width: int, layer: str) -> tuple[int, int]:
    """Rows and columns of a layer's response to an image of this size in pixels."""
    poolings = sum(name.startswith("pool") for name in LAYERS[: LAYERS.index(layer) + 1])
    return height >> poolings, width >> poolings


def layer_channels(layer: str) -> int:
    """N_l, the number of filters of a layer; a pooling has as many as its block."""
    return BLOCK_CHANNELS[int(layer.removeprefix("conv").removeprefix("pool")[0]) - 1]


def layer_inputs(layer: str) -> int:
    """The channels that a convolution sees."""
    block, number = (int(part) for part in layer.removeprefix("conv").split("_"))
    return BLOCK_CHANNELS[block - 1] if number > 1 else (3, *BLOCK_CHANNELS)[block - 1]
