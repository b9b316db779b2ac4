"""Which convolutions are worth Winograd's algorithm, and what is done in pieces. Imports no torch."""

from collections.abc import Iterable

from stylebatch.recipe import LAYERS
from stylebatch.synthesis.layers import layer_channels, layer_inputs

TILE = 4
"""Side of the square of responses that Winograd's convolution computes at a time."""
REACH = TILE + 2
"""Inputs that such a square depends on, along one side."""
WINOGRAD_LAYERS = LAYERS[LAYERS.index("conv2_2") : LAYERS.index("conv4_4") + 1]
"""Where it pays on a CPU: the filters before them are so few that its transforms take longer than it saves,
and the positions behind them too few for the memory that their filters take."""
WINOGRAD_TILES = 12
"""Tiles of a picture from which on it pays; below, reading its larger filters takes longer."""
SMALL_FILTERS = 128 * 256
"""Channels by filters up to which the transformed filters are kept, whatever the picture's size."""
FEW_TILES = 160
"""Below, making the filters anew at each pass would take too long, and all are kept."""
PIECE_TILES = 128
"""That are worked on at a time, to bound what the transformed inputs take."""
FRESH_PIECE_TILES = 400
"""The same where the filters are made anew for each piece."""
STRIP_LAYERS = LAYERS[:3]
"""The first block, each of whose two responses is twice as large as any deeper one."""
STRIP_VALUES = 2**19
"""Of one of them, in one strip: two megabytes."""


def pays_winograd(layer: str, height: int, width: int) -> bool:
    """Whether Winograd's convolution is the faster one on a CPU, for a layer's inputs of this size."""
    return layer in WINOGRAD_LAYERS and tiles_along(height) * tiles_along(width) >= WINOGRAD_TILES


def keeps_winograd_filters(layer: str, height: int, width: int, batch: int) -> bool:
    """Whether its transformed filters should stay in memory, for a batch of inputs of this size."""
    is_small = layer_inputs(layer) * layer_channels(layer) <= SMALL_FILTERS
    return is_small or batch * tiles_along(height) * tiles_along(width) < FEW_TILES


def winograd_rows(height: int, width: int, batch: int, keeps_filters: bool) -> int:
    """How many rows of tiles are worked on at a time, in a batch of inputs of this size: even pieces."""
    most_tiles = PIECE_TILES if keeps_filters else FRESH_PIECE_TILES
    rows = tiles_along(height)
    at_most = max(1, most_tiles // (batch * tiles_along(width)))
    return -(-rows // -(-rows // at_most))


def tiles_along(positions: int) -> int:
    """How many tiles cover so many positions in a row."""
    return -(-positions // TILE)


def takes_strips(wanted: Iterable[str]) -> bool:
    """Whether the first block is done in strips where losses look at these layers.

    No loss looks at its second convolution or its pooling, and there is something deeper.
    """
    looked_at = set(wanted)
    deepest = max(LAYERS.index(layer) for layer in looked_at)
    return deepest >= len(STRIP_LAYERS) and not looked_at & {*STRIP_LAYERS[1:]}
