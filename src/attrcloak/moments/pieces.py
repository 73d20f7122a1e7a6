"""How rows are cut into pieces that are multiplied together: many cells, whatever their sizes, in few calls.

A cell wants a product of its own; a GPU wants few calls that are large. So the rows, sorted by cell, are cut into
*pieces*: a cell of many rows into full pieces, all of one length, and what is left of it, its tail. Pieces of about one
length are multiplied together, hundreds of them by one call, whether they are of one cell or of as many cells. Calls
therefore grow with the numbers in the table and in the maps, not with cells, and a table of two cells keeps a GPU as
busy as one of a thousand.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIECES_PER_BATCH = 256


class Batch(NamedTuple):
    """Pieces that are multiplied at once; a piece is consecutive rows, in the order by cell, of one cell.

    Attributes:
        lanes: (B,) which piece of the first batch of its rounds, of the same cell, each of these adds to; ascending.
        cells: (B,) the cell of each piece.
        starts: (B,) the place in that order where each begins.
        lengths: (B,) its number of rows, at least 1; the first is the longest.
    """

    lanes: NDArray[np.intp]
    cells: NDArray[np.intp]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


def rounds(starts: NDArray[np.int64], sizes: NDArray[np.int64], dim: int, numbers: int) -> Iterator[list[Batch]]:
    """All rows of all cells, in lists of batches that add to the pieces of their first.

    Args:
        starts: (C,) the place of each cell's first row, in the order by cell.
        sizes: (C,) its number of rows.
        dim: number of dimensions d.
        numbers: the arrays (B, longest, d) and (B, d, d) of a batch hold no more than so many, unless one row of one
            piece does.
    """
    dim = max(dim, 1)
    length = _rows_per_piece(dim, numbers)
    full, tails = np.divmod(sizes, length)
    yield from _full_pieces(starts, full, length, _pieces_per_batch(length, dim, numbers))
    longest_first, at = np.argsort(-tails, kind="stable")[: np.count_nonzero(tails)], 0
    while at < len(longest_first):  # by length, so that padding to the longest adds a few batches in all at most
        most = _pieces_per_batch(int(tails[longest_first[at]]), dim, numbers)
        cells = longest_first[at : at + most]
        yield [Batch(np.arange(len(cells)), cells, (starts + full * length)[cells], tails[cells])]
        at += most


def _full_pieces(starts: NDArray[np.int64], count: NDArray[np.int64], length: int, most: int) -> Iterator[list[Batch]]:
    """So many full pieces of each cell in as few batches as they fill, dealt to lanes.

    A cell has lanes for its share of a batch, and every batch takes the next piece of each lane. So lanes are summed
    by cell once at the end, and not after every batch.
    """
    depth = max(-(-int(count.sum()) // most), 1)
    lanes = -(-count // depth)
    cells = np.repeat(np.arange(len(count)), lanes)
    before = (np.arange(len(cells)) - np.repeat(np.cumsum(lanes) - lanes, lanes)) * depth
    pieces = np.minimum(count[cells] - before, depth)
    deepest_first = np.argsort(-pieces, kind="stable")
    for at in range(0, len(cells), most):
        here = np.sort(deepest_first[at : at + most])
        batches = []
        for done in range(int(pieces[here].max())):
            lane = np.flatnonzero(pieces[here] > done)
            each = here[lane]
            first_rows = starts[cells[each]] + (before[each] + done) * length
            batches.append(Batch(lane, cells[each], first_rows, np.full(len(lane), length)))
        yield batches


def _rows_per_piece(dim: int, numbers: int) -> int:
    """Rows of a full piece: 256 fill a batch, unless each had less than several times the rows of its scatter then."""
    return max(min(4 * dim, numbers // dim), numbers // (PIECES_PER_BATCH * dim), 1)


def _pieces_per_batch(rows: int, dim: int, numbers: int) -> int:
    """Most pieces whose rows (B, rows, d) and scatters (B, d, d) are no more than so many numbers."""
    return max(numbers // (max(rows, dim) * dim), 1)
