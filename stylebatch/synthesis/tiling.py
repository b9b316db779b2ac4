"""Which convolutions are worth Winograd's algorithm, and what is done in pieces. Imports no torch."""

from collections.abc import Iterable

from stylebatch.recipe import LAYERS

TILE = 4
"""Side of the square of responses that Winograd's convolution computes at a time."""
WINDOW = (TILE + 2) ** 2
"""Inputs that such a square depends on, and the products that it takes for each channel and filter."""
WINOGRAD_FILTERS = 128 * 128
"""Channels by filters from which on it pays on a CPU; below, its transforms take longer than they save."""
WINOGRAD_TILES = 12
"""Tiles of a picture from which on it pays; below, reading its larger filters takes longer."""
FEW_TILES = 160
NARROW = 256 * 256
"""Below, making the filters anew at each pass would take longer than they save, and they are kept."""
PIECE_TILES = 128
FRESH_TILES = 400
"""That are worked on at a time, to bound what the transformed inputs take."""
STRIP_LAYERS = LAYERS[:3]
"""The first block, each of whose two responses is twice as large as any deeper one."""
STRIP_VALUES = 2**19
"""Of one of them, in one strip: two megabytes."""


def pays_winograd(channels: int, filters: int, height: int, width: int) -> bool:
    """Whether Winograd's convolution is the faster one on a CPU, for inputs of this size in positions."""
    return channels * filters >= WINOGRAD_FILTERS and _tiles(height, width) >= WINOGRAD_TILES


def keeps_winograd_filters(channels, filters, height: int, width: int, batch: int) -> bool:
    """Whether its transformed filters should stay in memory, for a batch of inputs of this size."""
    return channels * filters <= NARROW or batch * _tiles(height, width) < FEW_TILES


def winograd_rows(rows: int, columns: int, batch: int, keeps: bool) -> int:
    """How many of these rows of so many tiles are worked on at a time: in even pieces."""
    most = max(1, round((PIECE_TILES if keeps else FRESH_TILES) / (columns * batch)))
    return -(-rows // -(-rows // most))


def piece_tiles(height: int, width: int, batch: int, keeps: bool) -> int:
    """The most tiles that are worked on at a time, for a batch of inputs of this size."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    return batch * columns * winograd_rows(rows, columns, batch, keeps)


def _tiles(height: int, width: int) -> int:
    return -(-height // TILE) * -(-width // TILE)


def takes_strips(wanted: Iterable[str]) -> bool:
    """Whether the first block is done in strips where losses look at these layers.

    No loss looks at its second convolution or its pooling, and there is something deeper.
    """
    looked_at = set(wanted)
    deepest = max(LAYERS.index(layer) for layer in looked_at)
    return deepest >= len(STRIP_LAYERS) and not looked_at & {*STRIP_LAYERS[1:]}
