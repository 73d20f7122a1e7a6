"""Both passes on torch tensors, on the device where they lie; ``cell_moments`` and ``Eraser.apply`` send tensors here.

Only this file of the room imports torch, and NumPy arrays never come here. ``pieces`` says which rows go
together; each batch of pieces is gathered, widened to float64 and multiplied by a few calls.

Sums go in a fixed order, without atomic additions, so that one device gives the same bits every time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput, InvalidSettings, MissingExtra, NotSupported
from attrcloak.moments.cell_moments import Matrix
from attrcloak.moments.pieces import Batch, rounds

try:
    import torch
except ImportError as error:
    raise MissingExtra("vectors on a device, or of another kind than a NumPy array", "torch") from error
from torch import Tensor

NUMBERS_PER_BATCH = {"cpu": 1 << 20, "elsewhere": 1 << 24}  # a core has a cache to stay in, a GPU cores to fill
ROWS_PER_BLOCK = 1 << 22
ROWS_PER_CELL = 256  # a block has room for so many rows of each cell, or many small cells were many tails

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Sums(NamedTuple):
    """Users (B,), mean (B, d) and scatter (B, d, d) of pieces or cells, all in float64."""

    users: Tensor
    mean: Tensor
    scatter: Tensor

    def take(self, at: Tensor) -> "Sums":
        """Copies of those at these places."""
        return Sums(self.users[at], self.mean[at], self.scatter[at])

    def add(self, at: Tensor, other: "Sums") -> None:
        """Merge others, none of them empty, into those at these places, all different (Chan et al. 1983)."""
        before = self.users[at]
        share = other.users / (before + other.users)
        apart = other.mean - self.mean[at]
        lift = (before * share).sqrt()[:, None] * apart
        self.scatter[at] += torch.baddbmm(other.scatter, lift[:, :, None], lift[:, None, :])
        self.mean[at] += share[:, None] * apart
        self.users[at] = before + other.users


FOR_PASSES = (
    "the table, the new one, moments or maps of all cells, and about 0.6 GB: take fewer rows at a time, or arrays, for "
    "which NumPy does it"
)


@contextmanager
def room(what: str = FOR_PASSES) -> Iterator[None]:
    """Say what a device holds and what to do where it has too little memory; torch's own error is the cause."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0]
        raise NotSupported(f"the device has too little memory ({reason}); it holds {what}") from error


@torch.no_grad()
@room()
def moments(
    vectors: Tensor, cells: NDArray[np.integer] | Tensor, cell_count: int
) -> tuple[NDArray[np.int64], Matrix, Matrix]:
    """Pass 1, behind ``cell_moments``: count (C,), mean (C, d) and scatter (C, d, d) of each cell, as NumPy arrays."""
    _check(vectors, cells, cell_count)
    d = vectors.shape[1]
    wide = vectors.new_zeros(0, dtype=torch.float64)
    found = Sums(wide.new_zeros(cell_count), wide.new_zeros(cell_count, d), wide.new_zeros(cell_count, d, d))
    for rows in _blocks(vectors, cell_count):
        order, starts, sizes = _by_cell(_on(cells[rows], vectors.device).to(torch.int32), cell_count)
        for first, *others in rounds(starts, sizes, d, _numbers(vectors.device)):
            lanes = _of_pieces(vectors[rows], order, first)
            for batch in others:
                lanes.add(_on(batch.lanes, vectors.device), _of_pieces(vectors[rows], order, batch))
            of_cells, sums = _by_cells(lanes, first.cells)
            found.add(_on(of_cells, vectors.device), sums)
    count, mean, scatter = (each.cpu().numpy() for each in found)
    return count.astype(np.int64), mean, scatter


@torch.no_grad()
@room()
def moved(
    vectors: Tensor,
    cells: NDArray[np.integer] | Tensor,
    matrices: Matrix,
    offsets: Matrix,
    stays: NDArray[np.bool_],
    out: NDArray[np.floating] | Tensor | None,
) -> Tensor:
    """Pass 2, behind ``Eraser.apply``: x -> M_c x + t_c in cells that do not stay, all else bit by bit as it was."""
    cell_count, d = offsets.shape
    _check(vectors, cells, cell_count)
    result = torch.empty_like(vectors, memory_format=torch.contiguous_format) if out is None else out
    if not isinstance(result, Tensor):
        raise InvalidInput(f"out is a {type(result).__name__}, expected a tensor like the vectors")
    place, wanted = ((t.dtype, tuple(t.shape), t.device) for t in (result, vectors))
    if place != wanted or not result.is_contiguous():
        raise InvalidInput("out is {} {} on {}, expected {} {} on {} in one piece, row by row".format(*place, *wanted))
    if result is not vectors:
        result.copy_(vectors)
    transposed, shifts = _on(matrices, vectors.device).transpose(1, 2), _on(offsets, vectors.device)
    for rows in _blocks(vectors, cell_count):
        order, starts, sizes = _by_cell(_on(cells[rows], vectors.device).to(torch.int32), cell_count)
        for batch in chain.from_iterable(rounds(starts, np.where(stays, 0, sizes), d, _numbers(vectors.device))):
            places, inside = _places(order, batch)
            wide = _gathered(vectors[rows], places, inside)
            of_piece = _on(batch.cells, vectors.device)
            new = torch.baddbmm(shifts[of_piece, None, :], wide, transposed[of_piece]).to(vectors.dtype)
            if inside is None:
                result[rows][places.flatten()] = new.flatten(0, 1)
            else:
                result[rows][places[inside]] = new[inside]
    return result


@room()
def to_device(array: NDArray[np.generic], device: str) -> Tensor:
    """A copy of an array on a device.

    Args:
        array: of any shape; read-only if need be.
        device: "cpu", "cuda", "cuda:1" and so on, as torch names it.

    Raises:
        InvalidSettings: torch knows no such device, or there is none, or it has no float64.
        NotSupported: it has too little memory.
    """
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # a name, a build without it, no float64
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        reason = str(error).partition("\n")[0]
        raise InvalidSettings(
            f"device {device!r} cannot be used; there are: {', '.join(there)} (torch: {reason})"
        ) from error
    return _on(array, torch.device(device))


def _check(vectors: Tensor, cells: NDArray[np.integer] | Tensor, cell_count: int) -> None:
    if not isinstance(vectors, Tensor):
        raise InvalidInput(f"vectors are a {type(vectors).__name__}, expected a NumPy array or a torch tensor")
    if vectors.ndim != 2 or vectors.layout != torch.strided or vectors.dtype not in TYPES:
        raise InvalidInput(
            f"vectors are {vectors.dtype} {tuple(vectors.shape)}, {vectors.layout}; expected (users, dimensions) of "
            "float16, bfloat16, float32 or float64, dense"
        )
    if vectors.device.type in ("mps", "meta"):
        raise NotSupported(f"the device {vectors.device} does not compute in float64; take vectors.cpu()")
    if tuple(cells.shape) != vectors.shape[:1]:
        raise InvalidInput(
            f"{len(vectors)} rows need the cell of each, shape ({len(vectors)},), not {tuple(cells.shape)}"
        )
    # On a GPU an index out of bounds would end the whole process's use of it, without a word about where.
    beyond = int((cells >= cell_count).sum())
    if beyond:
        raise InvalidInput(
            f"{beyond} of {len(cells)} users are in a cell past the last, {cell_count - 1} (up to {int(cells.max())})"
        )


def _on(array: NDArray[np.generic] | Tensor, device: torch.device) -> Tensor:
    # as_tensor would warn of an array that is read-only, though nobody writes to it.
    return array.to(device) if isinstance(array, Tensor) else torch.tensor(array, device=device)


def _blocks(vectors: Tensor, cell_count: int) -> Iterator[slice]:
    """Consecutive rows that are sorted together: their order takes some 30 bytes a row."""
    most = max(ROWS_PER_BLOCK, ROWS_PER_CELL * cell_count)
    for start in range(0, len(vectors), most):
        yield slice(start, start + most)


def _by_cell(cells: Tensor, cell_count: int) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int64]]:
    """The rows in the order of their cells, where in it each cell starts (C,), and its number of rows (C,)."""
    ordered, order = torch.sort(cells, stable=True)
    edges = torch.searchsorted(ordered, torch.arange(cell_count + 1, dtype=cells.dtype, device=cells.device))
    places = edges.cpu().numpy()  # users in no cell, -1, come before the first
    return order, places[:-1], np.diff(places)


def _numbers(device: torch.device) -> int:
    return NUMBERS_PER_BATCH.get(device.type, NUMBERS_PER_BATCH["elsewhere"])


def _places(order: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """The row at each place of each piece (B, longest), and which places are inside the piece: None for all."""
    longest, shortest = int(batch.lengths[0]), int(batch.lengths[-1])
    nth = torch.arange(longest, device=order.device)
    at = _on(batch.starts, order.device)[:, None] + nth
    if longest == shortest:
        return order[at], None
    return order[at.clamp_(max=len(order) - 1)], nth < _on(batch.lengths, order.device)[:, None]


def _gathered(vectors: Tensor, places: Tensor, inside: Tensor | None) -> Tensor:
    """These rows in float64, (B, longest, d), zero where a piece has ended."""
    wide = vectors[places.flatten()].to(torch.float64).view(*places.shape, vectors.shape[1])
    return wide if inside is None else wide.masked_fill_(~inside[:, :, None], 0.0)


def _of_pieces(vectors: Tensor, order: Tensor, batch: Batch) -> Sums:
    places, inside = _places(order, batch)
    x = _gathered(vectors, places, inside)
    count = _on(batch.lengths, x.device).to(torch.float64)
    mean = x.sum(dim=1) / count[:, None]
    x -= mean[:, None, :]
    if inside is not None:
        x.masked_fill_(~inside[:, :, None], 0.0)
    return Sums(count, mean, torch.bmm(x.transpose(1, 2), x))


def _by_cells(pieces: Sums, cells: NDArray[np.intp]) -> tuple[NDArray[np.intp], Sums]:
    """The cells of a batch, each once, and the sums of its pieces, merged two by two and these two by two again."""
    first = np.flatnonzero(np.diff(cells, prepend=-1))
    if len(first) == len(cells):
        return cells, pieces
    nth = np.arange(len(cells)) - np.repeat(first, np.diff(first, append=len(cells)))
    step = 1
    while step <= nth.max():
        right = _on(np.flatnonzero(nth % (2 * step) == step), pieces.users.device)
        pieces.add(right - step, pieces.take(right))
        step *= 2
    return cells[first], pieces.take(_on(first, pieces.users.device))
