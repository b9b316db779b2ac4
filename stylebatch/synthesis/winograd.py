"""3 x 3 convolutions by Winograd's minimal filtering: 36 products for 16 results instead of 144.

A response is cut into tiles of 4 x 4 positions. ``A^T [(G g G^T) * (B^T d B)] A`` (Lavin & Gray 2016,
equation 8) gives a tile from the 6 x 6 inputs d around it and a filter g; summed over input channels, the
products in the middle are 36 matrix products. The matrices follow from interpolation at five numbers and
infinity (Toom and Cook): with 0, 1, -1, 1/2 and -2 the rounding error is two to three times that of a
direct convolution, and two thirds of what the usual 0, 1, -1, 2, -2 gives.

Along each side the transforms are applied in turn. The way back is the same convolution with each filter
turned by half a circle, and channels and filters exchanged.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from stylebatch.synthesis.products import Products, products_with
from stylebatch.synthesis.tiling import TILE, winograd_rows
from stylebatch.synthesis.workspace import Workspace

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
REACH = TILE + 2
"""Inputs that a tile depends on, along one side."""
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
        self._workspace = workspace
        self._name = name
        self._filters, self._channels = weight.shape[:2]
        self._forward = _Filtering(_Filters(weight, keeps_filters, workspace), keeps_filters, workspace)
        self._back = _Filtering(_Filters(weight, keeps_filters, workspace, turned=True), keeps_filters, workspace)

    def convolve(self, inputs: Tensor, bias: Tensor) -> Tensor:
        """The convolution ``(B, N, H, W)`` of ``(B, C, H, W)``, both channels-last, plus the bias."""
        batch, _, height, width = inputs.shape
        results = self._workspace.place(self._name, inputs, batch, height, width, self._filters)
        return self._forward(inputs, results, bias)

    def adjoint(self, gradients: Tensor) -> Tensor:
        """From gradients ``(B, N, H, W)`` by the results to those by the inputs ``(B, C, H, W)``."""
        batch, _, height, width = gradients.shape
        found = self._workspace.flow(gradients, batch, height, width, self._channels)
        return self._back(gradients, found, None)


class _Filters:
    """The transformed filters of one convolution on one way, ready to be multiplied with.

    Args:
        weight: ``(N, C, 3, 3)``, on the way forward.
        keeps: Whether they stay.
        workspace: For what is needed while they are made.
        turned: Whether they are those of the way back.
    """

    def __init__(self, weight: Tensor, keeps: bool, workspace: Workspace, turned: bool = False) -> None:
        self._weight = weight.transpose(0, 1) if turned else weight
        self._keeps = keeps
        self._workspace = workspace
        both = torch.kron(_FILTERS, _FILTERS)
        self._transform = (both.flip(1) if turned else both).to(weight).view(REACH, REACH, 9)
        self._kept: list[Products] = []
        self._kept_tiles = 0

    def products(self, tiles: int) -> Iterator[Products]:
        """With so many tiles at a time, for each of the six numbers down a tile."""
        if not self._keeps:
            yield from (products_with(group) for group in self._transformed(self._workspace))
            return
        if self._kept_tiles != tiles:
            self._kept = [products_with(group, tiles) for group in self._transformed(Workspace())]
            self._kept_tiles = tiles
        yield from self._kept

    def _transformed(self, workspace: Workspace) -> Iterator[Tensor]:
        """``G g G^T`` of every filter and channel, ``(6, N, C)`` at a time."""
        filters, channels = self._weight.shape[:2]
        taps = workspace.take("taps", self._weight, 3, 3, filters, channels)
        taps.copy_(self._weight.permute(2, 3, 0, 1))
        made = workspace.take("filters", self._weight, REACH, filters, channels)
        for transform in self._transform:
            yield torch.mm(transform, taps.view(9, -1), out=made.view(REACH, -1)).view(made.shape)


class _Filtering:
    """What a convolution does with its inputs on one way."""

    def __init__(self, filters: _Filters, keeps, workspace: Workspace) -> None:
        self._filters = filters
        self._keeps = keeps
        self._workspace = workspace

    def __call__(self, inputs: Tensor, results: Tensor, bias: Tensor | None) -> Tensor:
        """Fill ``(B, H, W, N)`` from ``(B, C, H, W)``, channels-last in memory.

        Returns:
            The results as ``(B, N, H, W)``.
        """
        batch, height, width, filters = results.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        at_a_time = winograd_rows(rows, columns, batch, self._keeps)
        whole = results
        if (TILE * rows, TILE * columns) != (height, width):
            whole = self._workspace.take("uncropped", inputs, batch, TILE * rows, TILE * columns, filters)
        for first in _pieces(rows, at_a_time):
            ready = self._transformed(inputs, first, at_a_time, columns)
            found = self._multiplied(ready, filters, bias)
            self._write(found, whole[:, TILE * first : TILE * (first + at_a_time)])
        if whole is not results:
            results.copy_(whole[:, :height, :width])
        return results.permute(0, 3, 1, 2)

    def _transformed(self, inputs: Tensor, first: int, rows: int, columns: int) -> Tensor:
        """``B^T d B`` of some rows of tiles, ``(6, T, 6, C)``: first across, then down each tile."""
        batch, channels = inputs.shape[:2]
        around = self._around(inputs, first, rows, columns)
        lines, places = TILE * rows + 2, columns + 1
        windows = batch * lines * places - 1  # The last of each line is of no use, and the very last one too short.
        across = self._take("across", inputs, windows + 1, REACH, channels)
        matrix = _INPUTS.to(inputs)
        cut = around.as_strided((windows, REACH, channels), (TILE * channels, channels, 1))
        torch.bmm(matrix.expand(windows, -1, -1), cut, out=across[:windows])
        by_line = across.view(batch, lines, -1)[:, :, : columns * REACH * channels]
        transformed = self._take("transformed", inputs, REACH, batch * rows, columns * REACH * channels)
        for image in range(batch):
            for row in range(rows):
                reach = by_line[image, TILE * row : TILE * row + REACH]
                torch.mm(matrix, reach, out=transformed[:, image * rows + row])
        return transformed.view(REACH, -1, REACH, channels)

    def _multiplied(self, transformed, filters, bias):
        tiles = transformed.shape[1]
        matrix = _RESULTS.to(transformed).expand(tiles, -1, -1)
        found = self._take("found", transformed, REACH, tiles, TILE, filters)
        for number, multiply in enumerate(self._filters.products(tiles)):
            own = None
            if bias is not None and number == _EVERYWHERE:
                own = bias.new_zeros(REACH, filters)
                own[_EVERYWHERE] = bias
            torch.bmm(matrix, multiply(transformed[number], own), out=found[number])
        return found

    def _write(self, found: Tensor, results: Tensor) -> None:
        batch, lines, width, filters = results.shape
        rows = lines // TILE
        by_row = found.view(REACH, batch * rows, -1)
        matrix = _RESULTS.to(found)
        for image in range(batch):
            for row in range(rows):
                place = results[image, TILE * row : TILE * (row + 1)].view(TILE, -1)
                torch.mm(matrix, by_row[:, image * rows + row], out=place)

    def _take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        return self._workspace.take(name, like, *shape)

    def _around(self, inputs: Tensor, first: int, rows: int, columns: int) -> Tensor:
        """``(B, C, H, W)`` at some rows of tiles and one position around them, with zeros around the image:
        ``(B, 4 rows + 2, 4 columns + 4, C)``."""
        batch, channels, height, width = inputs.shape
        around = self._take("padded", inputs, batch, TILE * rows + 2, TILE * columns + 4, channels).zero_()
        above = TILE * first - 1
        top, bottom = max(above, 0), min(TILE * (first + rows) + 1, height)
        around[:, top - above : bottom - above, 1 : 1 + width] = inputs.permute(0, 2, 3, 1)[:, top:bottom]
        return around


def _pieces(rows: int, at_a_time: int) -> Iterator[int]:
    """The first row of tiles of each piece; the last piece begins earlier where it would be smaller."""
    for first in range(0, rows, at_a_time):
        yield min(first, rows - at_a_time)
