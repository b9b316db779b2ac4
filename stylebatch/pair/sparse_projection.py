"""Random projections of long vectors that keep their distances, the same on every machine.

The matrix is the sparse one of Kane and Nelson (Sparser Johnson-Lindenstrauss Transforms, J. ACM 61, 2014) in
its block form: the rows are cut into :data:`NONZEROS` blocks, and each column has one entry in every block,
at a random row and with a random sign. Every entry is +-1/sqrt(NONZEROS), so the squared length of a
projected vector is that of the vector in expectation, with a variance of at most 2/rows of its square.

Rows and signs come from the raw 64-bit words of PCG64, which numpy promises never to change; its
distributions may change from version to version.
"""

import math

import numpy as np

NONZEROS = 8
"""Entries of each column. One would do for the expectation; more keep large values from falling together."""
LEAST_DIMENSION = NONZEROS
"""One row in each block."""
LARGEST_DIMENSION = 1 << 16


class SparseProjection:
    """One matrix.

    Args:
        inputs: Length of the vectors.
        dimension: Length of the projected ones, from :data:`LEAST_DIMENSION` on.
        seed: Decides the matrix, together with the other arguments.
        stream: Tells matrices of the same seed apart.
    """

    def __init__(self, inputs: int, dimension: int, seed: int, stream: int) -> None:
        self._edges = [dimension * block // NONZEROS for block in range(NONZEROS + 1)]
        words = np.random.PCG64([seed, stream]).random_raw((NONZEROS, inputs))
        sizes = np.diff(np.array(self._edges, np.uint64)).astype(np.uint64)[:, None]
        # The upper half of a word, as a fraction of 2^32, picks the row; the lowest bit picks the sign.
        self._rows = ((words >> np.uint64(32)) * sizes >> np.uint64(32)).astype(np.intp)
        self._signs = 1 - 2 * (words & np.uint64(1)).astype(np.int8)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Project vectors.

        Args:
            vectors: ``(B, inputs)``.

        Returns:
            ``(B, dimension)``, float32; sums are taken in float64, in the order of the inputs.
        """
        projected = np.empty((len(vectors), self._edges[-1]))
        for block, (start, stop) in enumerate(zip(self._edges, self._edges[1:], strict=False)):
            for image, vector in enumerate(vectors):
                signed = vector * self._signs[block]
                projected[image, start:stop] = np.bincount(self._rows[block], signed, stop - start)
        return (projected / math.sqrt(NONZEROS)).astype(np.float32)
