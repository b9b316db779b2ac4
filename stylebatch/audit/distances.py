"""How far two pictures are apart in a layer, by their responses or by their Gram matrices.

Both are one formula: ``|x - y| / sqrt((|x|^2 + |y|^2) / 2)``, with x and y the responses of a layer (content
space) or its Gram matrices over their numbers of positions (style space), and Euclid's or Frobenius' norm.
It is symmetric, 0 for equal pictures, and at most the root of 2, as neither responses nor inner products of
Gram matrices are negative. Two pictures to which a layer does not respond at all are 0 apart.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

SMALLEST = 1e-6
"""Distances below are 0: responses are float32."""
COLUMN_BYTES = 256 * 2**20
"""Of the vectors that are in memory at once, as float64."""


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The distance of two vectors of one length."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    products = np.array([[one @ one, one @ other], [one @ other, other @ other]])
    return float(distances_by_products(products)[0, 1])


def distances_by_products(products: np.ndarray) -> np.ndarray:
    """The distances of n vectors, ``(n, n)``, from all their inner products, ``(n, n)`` in float64."""
    squares = np.diagonal(products)
    sums = squares[:, None] + squares[None, :]
    differences = sums - products - products.T  # symmetric to the last digit
    relative = np.divide(2 * differences, sums, out=np.zeros_like(sums), where=sums > 0)
    found: np.ndarray = np.sqrt(np.maximum(relative, 0))
    found[found < SMALLEST] = 0
    return found


@dataclass(frozen=True)
class VectorFile:
    """Float32 vectors of one length, one after the other in a file; they need not fit into memory."""

    path: Path
    """A file of this machine."""
    length: int
    """Numbers of each vector."""

    def append(self, vector: np.ndarray) -> None:
        """One more."""
        with self.path.open("ab") as file:
            vector.astype(np.float32).tofile(file)

    def products(self, count: int) -> np.ndarray:
        """The inner products of the first so many vectors, ``(count, count)``; the file is read once."""
        vectors = np.memmap(self.path, np.float32, "r", shape=(count, self.length))
        columns = max(1, COLUMN_BYTES // (8 * count))
        total = np.zeros((count, count))
        for first in range(0, self.length, columns):
            piece = vectors[:, first : first + columns].astype(np.float64)
            total += piece @ piece.T
        return total
