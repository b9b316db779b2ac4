"""3 x 3 convolutions by Winograd's minimal filtering: 36 products for 16 results instead of 144.

A response is cut into tiles of 4 x 4 positions. ``A^T [(G g G^T) * (B^T d B)] A`` (Lavin & Gray 2016,
equation 8) gives a tile from the 6 x 6 inputs d around it and a filter g; summed over input channels, the
products in the middle are 36 matrix products. The matrices follow from interpolation at five numbers and
infinity (Toom and Cook): with 0, 1, -1, 1/2 and -2 the rounding error is two to three times that of a
direct convolution, and two thirds of what the usual 0, 1, -1, 2, -2 gives.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from stylebatch.synthesis.tiling import TILE, WINDOW, winograd_rows
from stylebatch.synthesis.workspace import Workspace

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
REACH = TILE + 2
"""Inputs that a tile depends on, along one side."""


def _powers(count: int) -> Tensor:
    """Row p holds ``p^0 .. p^(count-1)``; the last is for infinity, where only the highest power counts."""
    rows = [[point**power for power in range(count)] for point in POINTS]
    return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64)


def _both_sides(matrix: Tensor) -> Tensor:
    """The matrix that does to a flattened tile X what ``matrix X matrix^T`` does."""
    return torch.kron(matrix, matrix)


_FILTERS = _both_sides(_powers(3))
_INPUTS = _both_sides(torch.linalg.inv(_powers(REACH)).T.contiguous())
_RESULTS = _both_sides(_powers(TILE).T.contiguous())


class Winograd:
    """One convolution with zero padding 1, and the exact adjoint of what it computes.

    Args:
        weight: ``(N, C, 3, 3)``.
        keeps_filters: Whether the transformed filters stay in memory, four times as large as the weight; if
            not, they are made anew each time.
        workspace: May be shared by convolutions that do not work at the same time.
        name: Of a place in it for the results, as in :meth:`Workspace.place`.
    """

    def __init__(
        self, weight: Tensor, keeps_filters: bool, workspace: Workspace, name: str | None = None
    ) -> None:
        self._weight = weight
        self._name = name
        self._workspace = workspace
        self._from_inputs = _INPUTS.to(weight)
        self._to_results = _RESULTS.to(weight)
        self._filters_shape = (len(weight), WINDOW, weight.shape[1])
        self._kept = (
            self._transformed_filters(weight.new_empty(self._filters_shape)) if keeps_filters else None
        )

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """The convolution ``(B, N, H, W)`` of ``(B, C, H, W)``, both channels-last, plus the bias."""
        batch, channels, height, width = inputs.shape
        filters = len(self._weight)
        rows, columns = _tiles(height), _tiles(width)
        transformed_filters = self._filters()
        shape = batch, TILE * rows, TILE * columns, filters
        is_whole = shape[1:3] == (height, width)
        results = self._results(inputs, *shape) if is_whole else self._take("uncropped", *shape)
        for first, last in _pieces(rows, columns, batch):
            tiles = batch * (last - first) * columns
            around = _windows(self._around(inputs, first, last, columns), last - first, columns)
            windows = self._take("inputs", *around.shape).copy_(around)
            transformed = self._take("transformed", WINDOW, tiles, channels)
            torch.mm(self._from_inputs, windows.view(WINDOW, -1), out=transformed.view(WINDOW, -1))
            products = self._take("products", WINDOW, tiles, filters)
            torch.bmm(transformed, transformed_filters, out=products)
            ready = self._take("inputs", TILE**2, tiles * filters)
            torch.mm(self._to_results, products.view(WINDOW, -1), out=ready)
            places = _as_tiles(results, first, last)
            torch.add(ready.view(places.shape), bias, out=places)
        if not is_whole:
            whole, results = results, self._results(inputs, batch, height, width, filters)
            results.copy_(whole[:, :height, :width])
        return results.permute(0, 3, 1, 2)

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients ``(B, N, H, W)`` by the results to those by the inputs ``(B, C, H, W)``."""
        batch, filters, height, width = gradients.shape
        channels = self._weight.shape[1]
        rows, columns = _tiles(height), _tiles(width)
        padded = self._padded(gradients, TILE * rows, TILE * columns)
        transformed_filters = self._filters().transpose(1, 2)
        # Room for a whole tile beyond the last one, so that every part of a window has a place.
        sums = self._take("sums", batch, TILE * (rows + 1), TILE * (columns + 1), channels).zero_()
        for first, last in _pieces(rows, columns, batch):
            tiles = batch * (last - first) * columns
            cut = _as_tiles(padded, first, last)
            ready = self._take("inputs", *cut.shape).copy_(cut)
            products = self._take("products", WINDOW, tiles, filters)
            torch.mm(self._to_results.T, ready.view(TILE**2, -1), out=products.view(WINDOW, -1))
            transformed = self._take("transformed", WINDOW, tiles, channels)
            torch.bmm(products, transformed_filters, out=transformed)
            windows = self._take("inputs", WINDOW, tiles * channels)
            torch.mm(self._from_inputs.T, transformed.view(WINDOW, -1), out=windows)
            _add_windows(sums, windows.view(REACH, REACH, batch, last - first, columns, -1), first)
        found = self._workspace.flow(gradients, batch, height, width, channels)
        return found.copy_(sums[:, 1 : 1 + height, 1 : 1 + width]).permute(0, 3, 1, 2)

    def _results(self, like: Tensor, *shape: int) -> Tensor:
        return self._workspace.place(self._name, like, *shape)

    def _take(self, name: str, *shape: int) -> Tensor:
        return self._workspace.take(name, self._weight, *shape)

    def _around(self, inputs: Tensor, first: int, last: int, columns: int) -> Tensor:
        """``(B, C, H, W)`` at some rows of tiles and one position around them, with zeros around the image:
        ``(B, 4 rows + 2, 4 columns + 2, C)``."""
        batch, channels, height, width = inputs.shape
        around = self._take("padded", batch, TILE * (last - first) + 2, TILE * columns + 2, channels).zero_()
        above = TILE * first - 1
        top, bottom = max(above, 0), min(TILE * last + 1, height)
        around[:, top - above : bottom - above, 1 : 1 + width] = inputs.permute(0, 2, 3, 1)[:, top:bottom]
        return around

    def _padded(self, images: Tensor, height: int, width: int) -> Tensor:
        """``(B, C, H, W)`` as ``(B, height, width, C)``, with zeros below and at the right of it."""
        positions = images.permute(0, 2, 3, 1)
        batch, rows, columns, channels = positions.shape
        if (rows, columns) == (height, width):
            return positions
        padded = self._take("padded", batch, height, width, channels).zero_()
        padded[:, :rows, :columns] = positions
        return padded

    def _filters(self) -> Tensor:
        if self._kept is not None:
            return self._kept
        return self._transformed_filters(self._take("filters", *self._filters_shape))

    def _transformed_filters(self, transformed: Tensor) -> Tensor:
        """``G g G^T`` of every filter and channel, ``(36, C, N)``, in the memory given, ``(N, 36, C)``."""
        filters, channels = self._weight.shape[:2]
        weight = self._weight.permute(0, 2, 3, 1).reshape(filters, 9, channels)
        torch.bmm(_FILTERS.to(weight).expand(filters, -1, -1), weight, out=transformed)
        return transformed.permute(1, 2, 0)


def _tiles(positions: int) -> int:
    return -(-positions // TILE)


def _pieces(rows: int, columns: int, batch: int) -> Iterator[tuple[int, int]]:
    """First and last row of tiles of each piece that is worked on at a time."""
    step = winograd_rows(columns, batch)
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def _windows(padded: Tensor, rows: int, columns: int) -> Tensor:
    """The inputs around each tile, as a view ``(6, 6, B, rows, columns, C)``."""
    batch, down, right, channel = padded.stride()
    return padded.as_strided(
        (REACH, REACH, len(padded), rows, columns, padded.shape[3]),
        (down, right, batch, TILE * down, TILE * right, channel),
        padded.storage_offset(),
    )


def _as_tiles(positions: Tensor, first: int, last: int) -> Tensor:
    """Rows of tiles of ``(B, 4 rows, 4 columns, C)`` as a view ``(4, 4, B, rows, columns, C)``."""
    cut = positions[:, TILE * first : TILE * last]
    batch, _, width, channels = cut.shape
    tiles = cut.view(batch, last - first, TILE, width // TILE, TILE, channels)
    return tiles.permute(2, 4, 0, 1, 3, 5)


def _add_windows(sums: Tensor, windows: Tensor, first: int) -> None:
    """Add overlapping windows ``(6, 6, B, rows, columns, C)`` where they belong in ``(B, H, W, C)``."""
    rows, columns = windows.shape[3:5]
    for part, down in ((slice(0, TILE), 0), (slice(TILE, REACH), 1)):
        for across_part, across in ((slice(0, TILE), 0), (slice(TILE, REACH), 1)):
            shifted = sums[:, :, TILE * across : TILE * (across + columns)]
            places = _as_tiles(shifted, first + down, first + down + rows)
            window = windows[part, across_part]
            places[: window.shape[0], : window.shape[1]].add_(window)
