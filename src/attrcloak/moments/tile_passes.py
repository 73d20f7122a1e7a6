"""The two passes over one tile in NumPy, and who does them faster where there is enough to do."""

from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.tiles import Tile

Matrix = NDArray[np.float64]

NUMBERS_WORTH_COMPILING = 1 << 22
"""A table of fewer numbers is done before the compiled passes are loaded."""


class TilePasses(Protocol):
    """Both passes over a tile; of this module, or compiled."""

    def tile_moments(self, vectors: NDArray[Any], tile: Tile) -> tuple[Matrix, Matrix]:
        """Mean and scatter of each run of a tile.

        Args:
            vectors: (n, d) the block the tile is of, rows in one piece.
            tile: with R runs.

        Returns:
            (R, d) means and (R, d, d) sums of outer products of the deviations from them, in float64.
        """

    def move_tile(
        self,
        vectors: NDArray[Any],
        tile: Tile,
        matrices: Matrix,
        offsets: Matrix,
        stays: NDArray[np.bool_],
        out: NDArray[Any],
    ) -> None:
        """Write the new vectors of a tile's users to their rows of ``out``.

        Args:
            vectors: (n, d) the block the tile is of, rows in one piece.
            tile: its users.
            matrices: (C, d, d) M_c, float64.
            offsets: (C, d) t_c, float64.
            stays: (C + 1,) whether users of a cell keep their vectors, bit by bit; the last entry is for cell -1.
            out: (n, d) of the vectors' type.
        """


class NumpyPasses:
    """A product a run."""

    def tile_moments(self, vectors: NDArray[Any], tile: Tile) -> tuple[Matrix, Matrix]:
        """See ``TilePasses``."""
        runs, d = len(tile.cells), vectors.shape[1]
        mean, scatter = np.empty((runs, d)), np.empty((runs, d, d))
        for run, (begin, end) in enumerate(pairwise(tile.edges.tolist())):
            x = vectors[tile.rows[begin:end]].astype(np.float64)
            np.matmul(np.full(len(x), 1 / len(x)), x, out=mean[run])
            x -= mean[run]
            np.matmul(x.T, x, out=scatter[run])
        return mean, scatter

    def move_tile(
        self,
        vectors: NDArray[Any],
        tile: Tile,
        matrices: Matrix,
        offsets: Matrix,
        stays: NDArray[np.bool_],
        out: NDArray[Any],
    ) -> None:
        """See ``TilePasses``."""
        for cell, (begin, end) in zip(tile.cells.tolist(), pairwise(tile.edges.tolist()), strict=True):
            rows = tile.rows[begin:end]
            given = vectors[rows]
            if not stays[cell]:
                product = given.astype(np.float64) @ matrices[cell].T
                np.add(product, offsets[cell], out=given, casting="same_kind")
            out[rows] = given


def tile_passes(numbers: int) -> TilePasses:
    """The passes for a table of so many numbers: compiled where that pays and Numba is installed."""
    return _compiled() if numbers >= NUMBERS_WORTH_COMPILING else NumpyPasses()


@cache
def _compiled() -> TilePasses:
    try:
        from attrcloak.moments.compiled_passes import CompiledPasses
    except ImportError:  # Numba is an extra
        return NumpyPasses()
    return CompiledPasses()
