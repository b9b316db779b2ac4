"""Many long vectors for each image, kept in half the bytes.

float32 vectors are kept in float16, each in units of its own largest value. That rounds single values by
up to 2^-11 of themselves, at random, and so the inner products of vectors as long as images hardly at all.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from stylebatch.synthesis.optimizers import copied, keep_rows
from stylebatch.synthesis.workspace import Workspace

PIECE_VALUES = 2**19
"""Values that are turned back to float32 at a time, on a CPU: they stay in its cache."""


class KeptVectors:
    """Slots for vectors ``(n,)`` of each of B images.

    Args:
        like: ``(B, n)``, for its shape and kind; float64 is kept as it is.
        slots: For each image.
    """

    def __init__(self, like: Tensor, slots: int) -> None:
        batch, values = like.shape
        kept = torch.float16 if like.dtype == torch.float32 else like.dtype
        self._values = like.new_zeros(batch, slots, values, dtype=kept)
        self._units = like.new_zeros(batch, slots)
        self._workspace = Workspace()

    def put(self, row: int, slot: int, vector: Tensor) -> None:
        """Keep a vector of one image."""
        unit = vector.abs().max().clamp(min=torch.finfo(vector.dtype).tiny)
        self._units[row, slot] = unit
        self._values[row, slot] = vector / unit

    def products(self, row: int, slots: int, vector: Tensor) -> Tensor:
        """The inner products of the first vectors of an image with another, ``(n,)``: ``(slots,)``."""
        found = vector.new_zeros(slots)
        for place, piece in self._pieces(row, slots):
            found += piece @ vector[place]
        return found * self._units[row, :slots]

    def sum(self, row: int, shares: Tensor) -> Tensor:
        """The sum ``(n,)`` of the first vectors of an image, each times its share, ``(slots,)``."""
        factors = shares.to(self._units.dtype) * self._units[row, : len(shares)]
        found = factors.new_empty(self._values.shape[2])
        for place, piece in self._pieces(row, len(shares)):
            torch.mv(piece.T, factors, out=found[place])
        return found

    def _pieces(self, row: int, slots: int) -> Iterator[tuple[slice, Tensor]]:
        """The first vectors of an image, a few of their values at a time."""
        values = self._values[row, :slots]
        step = PIECE_VALUES // max(1, slots) if values.device.type == "cpu" else values.shape[1]
        for first in range(0, values.shape[1], step):
            place = slice(first, first + step)
            kept = values[:, place]
            yield place, self._workspace.take("piece", self._units, *kept.shape).copy_(kept)

    def keep(self, rows: Tensor) -> None:
        """Forget all images but these (indices)."""
        keep_rows(self, rows)

    def state(self, name: str, row: int, slots: int) -> dict[str, Tensor]:
        """Copies, on the CPU, of the first vectors of an image, under names that begin with this one."""
        return {name: copied(self._values[row, :slots]), f"{name}_units": copied(self._units[row, :slots])}

    def restore(self, name: str, row: int, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` took."""
        values, units = state[name], state[f"{name}_units"]
        self._values[row, : len(values)] = values
        self._units[row, : len(units)] = units
