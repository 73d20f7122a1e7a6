"""The two passes over a tile, compiled: no row waits for Python, and threads do not wait for one another.

Rows are gathered, widened to float64 and multiplied a few at a time, so that they stay in a core's first caches in
between. Needs the extra ``fast``, which is Numba; what is compiled is kept beside this file, or in the user's cache
folder, for the next process.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.compiling import compiled
from attrcloak.moments.machine_calls import add_gram, dsyrk_address, fetch_ahead
from attrcloak.moments.tiles import Tile

Matrix = NDArray[np.float64]

_ROWS_AT_ONCE = 128
_ROWS_AHEAD = 8
"""How long before its turn a row is asked for: rows of a cell lie far apart, where no processor guesses the next."""
_CACHE_LINE = 64
_HANDLED = (np.float32, np.float64)
"""Types that Numba computes with; others are widened tile by tile."""


class CompiledPasses:
    """All runs of a tile in one call."""

    def __init__(self) -> None:
        self._dsyrk = dsyrk_address()

    def tile_moments(self, vectors: NDArray[Any], tile: Tile) -> tuple[Matrix, Matrix]:
        """See ``TilePasses``."""
        runs, d = len(tile.cells), vectors.shape[1]
        mean, scatter = np.empty((runs, d)), np.empty((runs, d, d))
        if vectors.dtype in _HANDLED:
            _moments(vectors, tile.rows, tile.edges, mean, scatter, self._dsyrk)
        else:
            wide = vectors[tile.rows].astype(np.float64)
            _moments(wide, np.arange(len(wide)), tile.edges, mean, scatter, self._dsyrk)
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
        if vectors.dtype in _HANDLED:
            _move(vectors, tile.rows, tile.edges, tile.cells, matrices, offsets, stays, out)
        else:
            wide = vectors[tile.rows].astype(np.float64)
            _move(wide, np.arange(len(wide)), tile.edges, tile.cells, matrices, offsets, stays, wide)
            out[tile.rows] = wide.astype(out.dtype)


# Sums keep the order they are written in, so that a processor with wider registers rounds no differently; only
# products and sums may become one instruction.
@compiled("contract")
def _moments(
    vectors: NDArray[Any],
    rows: NDArray[np.intp],
    edges: NDArray[np.intp],
    mean: Matrix,
    scatter: Matrix,
    dsyrk: int,
) -> None:
    d, last = vectors.shape[1], len(rows) - 1
    line = _CACHE_LINE // vectors.itemsize
    wide = np.empty((_ROWS_AT_ONCE, d))
    total = np.empty(d)
    for run in range(len(edges) - 1):
        begin, end = edges[run], edges[run + 1]
        # Deviations are from a row of the run: whatever the offset of the table, they are of the size of the spread.
        reference, outer = mean[run], scatter[run]
        reference[:] = vectors[rows[begin]]
        total[:] = 0.0
        outer[:] = 0.0
        for start in range(begin, end, _ROWS_AT_ONCE):
            here = min(_ROWS_AT_ONCE, end - start)
            for i in range(here):
                row, ahead = rows[start + i], rows[min(start + i + _ROWS_AHEAD, last)]
                for j in range(0, d, line):
                    fetch_ahead(vectors, ahead, j)
                for j in range(d):
                    deviation = np.float64(vectors[row, j]) - reference[j]
                    wide[i, j] = deviation
                    total[j] += deviation
            add_gram(dsyrk, wide[:here], outer)
        count = end - begin
        for j in range(d):
            for k in range(j + 1):
                about_mean = outer[j, k] - total[j] * total[k] / count
                outer[j, k] = about_mean
                outer[k, j] = about_mean
        for j in range(d):
            reference[j] += total[j] / count


@compiled("contract")
def _move(
    vectors: NDArray[Any],
    rows: NDArray[np.intp],
    edges: NDArray[np.intp],
    cells: NDArray[np.intp],
    matrices: Matrix,
    offsets: Matrix,
    stays: NDArray[np.bool_],
    out: NDArray[Any],
) -> None:
    d, last = vectors.shape[1], len(rows) - 1
    line = _CACHE_LINE // vectors.itemsize
    wide, product = np.empty((_ROWS_AT_ONCE, d)), np.empty((_ROWS_AT_ONCE, d))
    for run in range(len(edges) - 1):
        cell, begin, end = cells[run], edges[run], edges[run + 1]
        if stays[cell]:
            for i in range(begin, end):
                out[rows[i]] = vectors[rows[i]]
            continue
        transposed, offset = matrices[cell].T, offsets[cell]
        for start in range(begin, end, _ROWS_AT_ONCE):
            here = min(_ROWS_AT_ONCE, end - start)
            for i in range(here):
                row, ahead = rows[start + i], rows[min(start + i + _ROWS_AHEAD, last)]
                for j in range(0, d, line):
                    fetch_ahead(vectors, ahead, j)
                for j in range(d):
                    wide[i, j] = vectors[row, j]
            np.dot(wide[:here], transposed, product[:here])
            for i in range(here):
                row = rows[start + i]
                for j in range(d):
                    out[row, j] = product[i, j] + offset[j]
