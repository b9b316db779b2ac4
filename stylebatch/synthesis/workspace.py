"""Memory that evaluations use again and again.

On a CPU, every large tensor that torch makes is memory fresh from the system, and getting it takes longer
than filling it.
"""

import math

from torch import Tensor

LARGE_VALUES = 2**21
"""A tensor of more values is worth a place of its own; smaller ones the C library's heap has at hand."""


class Workspace:
    """Buffers by name, for the work of one thread."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}
        self._flow = 0

    def take(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """A contiguous tensor of this shape and another's kind; it holds what its last use left."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype:
            buffer = self._buffers[name] = like.new_empty(size)
        return buffer[:size].view(shape)

    def place(self, name: str | None, like: Tensor, *shape: int) -> Tensor:
        """A contiguous tensor of this shape: of this name, in the flow if that is empty, fresh if None."""
        if name is None:
            return like.new_empty(shape)
        return self.take(name, like, *shape) if name else self.flow(like, *shape)

    def flow(self, like: Tensor, *shape: int) -> Tensor:
        """One of two buffers in turn: a step reads what the last one wrote, and writes the other."""
        self._flow = 1 - self._flow
        return self.take(f"flow {self._flow}", like, *shape)
