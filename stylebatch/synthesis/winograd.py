"""3 x 3 convolutions by Winograd's minimal filtering: 36 products for 16 results instead of 144.

A response is cut into tiles of 4 x 4 positions. ``A^T [(G g G^T) * (B^T d B)] A`` (Lavin & Gray 2016,
equation 8) gives a tile from the 6 x 6 inputs d around it and a filter g; summed over input channels, the
products in the middle are 36 matrix products. The matrices follow from interpolation at five numbers and
infinity (Toom and Cook): with 0, 1, -1, 1/2 and -2 the rounding error is two to three times that of a
direct convolution, and two thirds of what the usual 0, 1, -1, 2, -2 gives.

Along each side the transforms are applied in turn. The way back is the same convolution with each filter
turned by half a circle, and channels and filters exchanged.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from stylebatch.synthesis.products import Products, products_with
from stylebatch.synthesis.tiling import REACH, TILE, tiles_along, winograd_rows
from stylebatch.synthesis.workspace import Workspace

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_EVERYWHERE = POINTS.index(1.0)
"""The point whose product counts once in each result, for all powers of 1 are 1: where a bias is added."""


def _powers(count: int) -> Tensor:
    """Row p holds ``p^0 .. p^(count-1)``; the last is for infinity, where only the highest power counts."""
    rows = [[point**power for power in range(count)] for point in POINTS]
    return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64)


_FILTERS = _powers(3)
"""G, ``(6, 3)``."""
_INPUTS = torch.linalg.inv(_powers(REACH)).T.contiguous()
"""B^T, ``(6, 6)``."""
_RESULTS = _powers(TILE).T.contiguous()
"""A^T, ``(4, 6)``."""


class Winograd:
    """One convolution with zero padding 1, and its adjoint.

    Args:
        weight: ``(N, C, 3, 3)``.
        keeps_filters: Whether the transformed filters stay in memory, four times as large as the weight for
            each of the two ways; if not, they are made anew each time.
        workspace: May be shared by convolutions that do not work at the same time.
        name: Of a place in it for the results, as in :meth:`Workspace.place`.
    """

    def __init__(
        self, weight: Tensor, keeps_filters: bool, workspace: Workspace, name: str | None = None
    ) -> None:
        self._keeps_filters = keeps_filters
        self._workspace = workspace
        self._name = name
        self._forward = _Filters(weight, keeps_filters, workspace)
        self._back = _Filters(weight.transpose(0, 1), keeps_filters, workspace, turned=True)
        self._from_inputs = _INPUTS.to(weight)
        self._to_results = _RESULTS.to(weight)

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """The convolution ``(B, N, H, W)`` of ``(B, C, H, W)``, both channels-last, plus the bias."""
        batch, _, height, width = inputs.shape
        results = self._workspace.place(self._name, inputs, batch, height, width, len(bias))
        return self._fill(results, inputs, self._forward, bias)

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients ``(B, N, H, W)`` by the results to those by the inputs ``(B, C, H, W)``."""
        batch, _, height, width = gradients.shape
        found = self._workspace.flow(gradients, batch, height, width, self._back.count)
        return self._fill(found, gradients, self._back)

    def _fill(
        self, results: Tensor, inputs: Tensor, filters: "_Filters", bias: Tensor | None = None
    ) -> Tensor:
        """Fill ``(B, H, W, N)`` from ``(B, C, H, W)``, and return it as ``(B, N, H, W)``."""
        batch, height, width, count = results.shape
        rows, columns = tiles_along(height), tiles_along(width)
        sides = TILE * rows, TILE * columns
        is_cut = sides != (height, width)
        whole = self._take("uncut", batch, *sides, count) if is_cut else results
        at_a_time = winograd_rows(height, width, batch, self._keeps_filters)
        for first in _pieces(rows, at_a_time):
            transformed = self._transformed(inputs, first, at_a_time, columns)
            found = self._filtered(transformed, filters, bias)
            self._finish(found, whole[:, TILE * first : TILE * (first + at_a_time)])
        if is_cut:
            results.copy_(whole[:, :height, :width])
        return results.permute(0, 3, 1, 2)

    def _transformed(self, inputs: Tensor, first: int, rows: int, columns: int) -> Tensor:
        """``B^T d B`` of some rows of tiles, ``(6, T, 6, C)``: across each line, then down each tile."""
        batch, channels = inputs.shape[:2]
        around = self._around(inputs, first, rows, columns)
        lines, places = TILE * rows + 2, columns + 1
        # The last place of each line is of no use; the very last one would reach beyond the memory.
        windows = batch * lines * places - 1
        cut = around.as_strided((windows, REACH, channels), (TILE * channels, channels, 1))
        across = self._take("across", windows + 1, REACH, channels)
        torch.bmm(self._from_inputs.expand(windows, -1, -1), cut, out=across[:windows])
        by_line = across.view(batch, lines, -1)[:, :, : columns * REACH * channels]
        down = self._take("down", REACH, batch, rows, columns * REACH * channels)
        for image in range(batch):
            for row in range(rows):
                reach = by_line[image, TILE * row : TILE * row + REACH]
                torch.mm(self._from_inputs, reach, out=down[:, image, row])
        return down.view(REACH, -1, REACH, channels)

    def _around(self, inputs: Tensor, first: int, rows: int, columns: int) -> Tensor:
        """``(B, C, H, W)`` at some rows of tiles and one position around them, with zeros around the image:
        ``(B, 4 rows + 2, 4 columns + 4, C)``."""
        batch, channels, height, width = inputs.shape
        around = self._take("padded", batch, TILE * rows + 2, TILE * columns + 4, channels).zero_()
        above = TILE * first - 1
        top, bottom = max(above, 0), min(TILE * (first + rows) + 1, height)
        around[:, top - above : bottom - above, 1 : 1 + width] = inputs.permute(0, 2, 3, 1)[:, top:bottom]
        return around

    def _filtered(self, transformed: Tensor, filters: "_Filters", bias: Tensor | None) -> Tensor:
        """``(G g G^T) * (B^T d B)``, summed over the channels, and times A across: ``(6, T, 4, N)``."""
        tiles = transformed.shape[1]
        matrix = self._to_results.expand(tiles, -1, -1)
        found = self._take("filtered", REACH, tiles, TILE, filters.count)
        for number, multiply in enumerate(filters.products(tiles)):
            added = None if bias is None or number != _EVERYWHERE else _there(bias)
            torch.bmm(matrix, multiply(transformed[number], added), out=found[number])
        return found

    def _finish(self, filtered: Tensor, results: Tensor) -> None:
        """Fill some lines of the results, ``(B, 4 rows, 4 columns, N)``, with A^T times that."""
        batch, lines = results.shape[:2]
        by_row = filtered.view(REACH, batch, lines // TILE, -1)
        for image in range(batch):
            for row in range(lines // TILE):
                place = results[image, TILE * row : TILE * (row + 1)].view(TILE, -1)
                torch.mm(self._to_results, by_row[:, image, row], out=place)

    def _take(self, name: str, *shape: int) -> Tensor:
        return self._workspace.take(name, self._to_results, *shape)


class _Filters:
    """The transformed filters of a convolution, ready to be multiplied with.

    Args:
        weight: ``(N, C, 3, 3)``.
        keeps: Whether they stay.
        workspace: For what is needed while they are made anew.
        turned: Whether each filter is turned by half a circle.
    """

    def __init__(self, weight: Tensor, keeps: bool, workspace: Workspace, turned: bool = False) -> None:
        self.count = len(weight)
        self._weight = weight
        self._keeps = keeps
        self._workspace = workspace
        transform = torch.kron(_FILTERS, _FILTERS).to(weight)
        self._transform = (transform.flip(1) if turned else transform).view(REACH, REACH, 9)
        self._kept: list[Products] = []
        self._kept_tiles = 0

    def products(self, tiles: int) -> Iterable[Products]:
        """With so many tiles at a time, for each of the six numbers down a tile."""
        if not self._keeps:
            return (products_with(matrices) for matrices in self._transformed(self._workspace))
        if self._kept_tiles != tiles:
            self._kept_tiles = tiles
            self._kept = [products_with(matrices, tiles) for matrices in self._transformed(Workspace())]
        return self._kept

    def _transformed(self, workspace: Workspace) -> Iterator[Tensor]:
        """``G g G^T`` of every filter and channel, ``(6, N, C)`` at a time, in the same memory."""
        count, channels = self._weight.shape[:2]
        taps = workspace.take("taps", self._weight, 3, 3, count, channels)
        taps.copy_(self._weight.permute(2, 3, 0, 1))
        made = workspace.take("filters", self._weight, REACH, count, channels)
        for transform in self._transform:
            torch.mm(transform, taps.view(9, -1), out=made.view(REACH, -1))
            yield made


def _there(bias: Tensor) -> Tensor:
    """What adds the bias ``(N,)`` to the products of one number down a tile, ``(6, N)``."""
    added = bias.new_zeros(REACH, len(bias))
    added[_EVERYWHERE] = bias
    return added


def _pieces(rows: int, at_a_time: int) -> Iterator[int]:
    """The first row of tiles of each piece; the last piece begins earlier where it would be smaller."""
    for first in range(0, rows, at_a_time):
        yield min(first, rows - at_a_time)
