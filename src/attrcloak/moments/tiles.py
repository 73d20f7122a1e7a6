"""How both passes walk a table: in blocks of rows, the rows of a block by cell, in tiles that fit a core's cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput
from attrcloak.moments.blas_threads import Map, side_by_side

NUMBERS_PER_TILE = 1 << 19
NUMBERS_PER_BLOCK = 1 << 24
ROWS_PER_CELL = 256  # a block has room for so many rows of each cell, or many small cells were many tiny products


class Tile(NamedTuple):
    """Rows of a block, sorted by cell and within a cell by position, in R runs of one cell each.

    Attributes:
        rows: (r,) their positions in the block.
        cells: (R,) the cell of each run, ascending.
        edges: (R + 1,) where in ``rows`` runs begin, and the last one ends.
    """

    rows: NDArray[np.intp]
    cells: NDArray[np.intp]
    edges: NDArray[np.intp]


class Block(NamedTuple):
    """Consecutive rows of a table: where, their vectors, and the tiles they make together."""

    rows: slice
    vectors: NDArray[Any]
    tiles: list[Tile]


def blocks_by_cell(vectors: NDArray[Any], cells: NDArray[np.integer], cell_count: int) -> Iterator[Block]:
    """The rows of a table in blocks, each cut into tiles sorted by cell.

    Args:
        vectors: (n, d) the table.
        cells: (n,) cell of each user in [-1, cell_count).
        cell_count: number of cells.

    Raises:
        InvalidInput: there are more or fewer cells than rows.
    """
    n, d = vectors.shape
    if cells.shape != (n,):
        raise InvalidInput(f"{n} rows need the cell of each, shape ({n},), not {cells.shape}")
    per_block = max(NUMBERS_PER_BLOCK // max(d, 1), ROWS_PER_CELL * cell_count)
    for start in range(0, n, per_block):
        rows = slice(start, min(start + per_block, n))
        yield Block(rows, np.ascontiguousarray(vectors[rows]), _tiles(cells[rows], cell_count, d))


def rows_per_tile(dim: int) -> int:
    """Most rows of a tile of a table with ``dim`` dimensions."""
    return max(NUMBERS_PER_TILE // max(dim, 1), 1)


def _tiles(cells: NDArray[np.integer], cell_count: int, dim: int) -> list[Tile]:
    labels = np.asarray(cells, dtype=np.int64) + 1
    sixteen_bits = cell_count < 1 << 16  # which numpy sorts by radix, ten times as fast
    order = np.argsort(labels.astype(np.uint16) if sixteen_bits else labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=cell_count + 1))
    starts = np.arange(0, len(order), rows_per_tile(dim))
    edges = np.unique(np.concatenate([starts, ends]))  # runs end where a tile does or a cell
    cell = np.searchsorted(ends, edges[:-1], side="right") - 1
    # Nor has a tile more runs than their scatters, d x d numbers each, have room for.
    most_runs = max(NUMBERS_PER_TILE // max(dim, 1) ** 2, 1)
    cuts = np.unique(np.concatenate([np.searchsorted(edges, starts), np.arange(0, len(edges), most_runs)]))
    cuts = np.append(cuts[cuts < len(cell)], len(cell))
    return [
        Tile(order[edges[first] : edges[last]], cell[first:last], edges[first : last + 1] - edges[first])
        for first, last in pairwise(cuts.tolist())
    ]


@contextmanager
def map_over_tiles(rows: int, dim: int) -> Iterator[Map]:
    """A ``map`` that deals tiles to threads, as ``side_by_side``; a table that fits into a tile stays in this one.

    With more than one tile the number of threads changes no bit of a result.

    Args:
        rows: number of rows of the table; one that fits into a tile stays in this thread.
        dim: its number of dimensions.
    """
    if rows <= rows_per_tile(dim):
        yield map
        return
    with side_by_side() as over:
        yield over
