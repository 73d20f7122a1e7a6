"""How both passes walk a table: in blocks of rows, the rows of a block by cell, in tiles that fit a core's cache."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput

NUMBERS_PER_TILE = 1 << 18
NUMBERS_PER_BLOCK = 1 << 23
ROWS_PER_CELL = 256  # a block has room for so many rows of each cell, or many small cells were many tiny products

Map = Callable[[Callable[["Tile"], Any], Iterable["Tile"]], Iterator[Any]]


class Run(NamedTuple):
    """Consecutive rows of a tile that belong to one cell; ``whole`` when the block has no other row of that cell."""

    cell: int
    rows: slice
    whole: bool


class Tile(NamedTuple):
    """Rows of a block, sorted by cell and within a cell by position, and the runs they fall into."""

    rows: NDArray[np.intp]
    runs: list[Run]


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
        yield Block(rows, np.ascontiguousarray(vectors[rows]), _tiles(cells[rows], cell_count, rows_per_tile(d)))


def rows_per_tile(dim: int) -> int:
    """Most rows of a tile of a table with ``dim`` dimensions."""
    return max(NUMBERS_PER_TILE // max(dim, 1), 1)


def _tiles(cells: NDArray[np.integer], cell_count: int, most: int) -> list[Tile]:
    labels = np.asarray(cells, dtype=np.int64) + 1
    sixteen_bits = cell_count < 1 << 16  # which numpy sorts by radix, ten times as fast
    order = np.argsort(labels.astype(np.uint16) if sixteen_bits else labels, kind="stable")
    sizes = np.bincount(labels, minlength=cell_count + 1)
    ends = np.cumsum(sizes)
    starts = np.arange(0, len(order), most)
    edges = np.unique(np.concatenate([starts, ends]))  # runs end where a tile does or a cell
    label = np.searchsorted(ends, edges[:-1], side="right")
    lengths = np.diff(edges)
    first = edges[:-1] % most
    rows = map(slice, first.tolist(), (first + lengths).tolist())
    runs = list(map(Run, (label - 1).tolist(), rows, (lengths == sizes[label]).tolist()))
    cuts = np.searchsorted(edges, [*starts, len(order)]).tolist()
    return [Tile(order[at : at + most], runs[cuts[i] : cuts[i + 1]]) for i, at in enumerate(starts.tolist())]


class Buffers(threading.local):
    """Room for one tile of a table, made once in each thread that reaches for it."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        n, d = vectors.shape
        most = min(n, rows_per_tile(d))
        self._given, self._wide, self._spare = np.empty((most, d), vectors.dtype), *np.empty((2, most, d))

    def gather(self, vectors: NDArray[Any], rows: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        """These rows as they are, the same in float64, and room for as many more in float64."""
        given, wide, spare = (buffer[: len(rows)] for buffer in (self._given, self._wide, self._spare))
        np.take(vectors, rows, axis=0, out=given, mode="clip")  # any other mode would copy ``out`` first
        np.copyto(wide, given)
        return given, wide, spare


@contextmanager
def map_over_tiles(rows: int, dim: int) -> Iterator[Map]:
    """A ``map`` that deals tiles to as many threads as BLAS has, while BLAS keeps to one thread in each.

    BLAS left to itself splits products as narrow as these badly: on two busy cores its threads, waiting for one
    another, took ten times as long as one. With more than one tile the number of threads changes no bit of a result.

    Args:
        rows: number of rows of the table; one that fits into a tile stays in this thread.
        dim: its number of dimensions.
    """
    if rows <= rows_per_tile(dim):
        yield map
        return
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library.num_threads for library in blas.lib_controllers), default=1)
    if threads == 1:
        yield map
        return
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield pool.map
