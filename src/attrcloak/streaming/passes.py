"""The two passes over one part: pure functions that any engine can run on any machine that sees the files."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Eraser
from attrcloak.parts import GroupRows, Location, Part, Written
from attrcloak.parts.part import Change, in_file
from attrcloak.streaming.merge_tree import Arrays, key_arrays, key_of, moment_arrays, moments_of

_ROWS_THAT_DIFFER = 1024

WORKER = "attrcloak.streaming.worker"
"""The module that brings what both passes need, for processes to import before their first part."""

Report = Callable[[int], None]
"""Called with the rows that have been done since the last call."""


@dataclass(frozen=True)
class Seen:
    """A file as pass 1 read it.

    Attributes:
        sha256: of the file.
        stamp: its size and time of change.
    """

    sha256: str
    stamp: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Task:
    """One part and what is known of its users.

    Attributes:
        part: the file.
        groups: the group of each row.
        cell_of_group: (G,) the cell of each group.
        sampled: rows whose vectors are wanted back.
        seen: the file as pass 1 read it; None in pass 1.
        report: where the engine is this process, called as rows are done.
    """

    part: Part
    groups: GroupRows
    cell_of_group: NDArray[np.int32]
    sampled: NDArray[np.int64]
    seen: Seen | None = None
    report: Report | None = None

    def cells(self, start: int, count: int) -> NDArray[np.int32]:
        """The cells of some rows; fewer where the part was shorter when it was joined."""
        return self.cell_of_group[self.groups.read(start, start + count)]

    def advance(self, rows: int) -> None:
        """Report rows that are done."""
        if self.report is not None:
            self.report(rows)


@dataclass(frozen=True, eq=False)
class Measured:
    """What pass 1 finds in a part. Everything merges.

    Attributes:
        moments: of the vectors as they are.
        unit: of the vectors at length 1; None where lengths stay.
        squares: sum of squared lengths.
        low: (d,) smallest value of each column among users who move, at length 1 where they are brought to it; any
            value will do where it is below ``high``, for only what is constant matters.
        high: (d,) largest.
        seen: the file; None for several parts together, or where that was not asked for.
        sampled: (s, d_free) vectors of the rows that were asked for; None for several parts together.
    """

    moments: CellMoments
    unit: CellMoments | None
    squares: float
    low: Matrix
    high: Matrix
    seen: Seen | None = None
    sampled: Matrix | None = None

    def merge(self, other: "Measured") -> "Measured":
        """Both together."""
        unit = None if self.unit is None or other.unit is None else self.unit.merge(other.unit)
        return Measured(
            self.moments.merge(other.moments),
            unit,
            self.squares + other.squares,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def arrays(self) -> Arrays:
        """All but ``seen`` and ``sampled``, for a file."""
        arrays = {**key_arrays(self.moments.key), **moment_arrays("given", self.moments)}
        arrays |= {"squares": np.array(self.squares), "low": self.low, "high": self.high}
        return arrays if self.unit is None else {**arrays, **moment_arrays("unit", self.unit)}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> "Measured":
        """What ``arrays`` gave."""
        key = key_of(arrays)
        unit = moments_of("unit", key, arrays) if "unit_count" in arrays else None
        given = moments_of("given", key, arrays)
        return cls(given, unit, float(arrays["squares"]), arrays["low"], arrays["high"])


@dataclass(frozen=True, eq=False)
class MovedPart:
    """What pass 2 leaves of a part.

    Attributes:
        written: the new file.
        sampled: (s, d_free) new vectors of the rows that were asked for.
    """

    written: Written
    sampled: Matrix


def measure(task: Task, key: CellKey, unit: bool, digest: bool = True) -> Measured:
    """Pass 1: the moments of one part, in float64 on one thread, so that the same part gives the same bits anywhere.

    Args:
        task: the part.
        key: the cells of the whole table.
        unit: whether vectors are to be brought to one length.
        digest: whether the file is to be known again, which takes reading it once more.

    Raises:
        InvalidInput: vectors that cannot be used, with their number and first rows.
    """
    with one_thread(scipy_too=False):
        part, free = task.part, free_columns(task.part)
        empty = cell_moments(np.empty((0, len(free))), np.empty(0, dtype=np.int32), key)
        found = Measured(empty, empty if unit else None, 0.0, np.full(len(free), np.inf), np.full(len(free), -np.inf))
        start, bad = 0, 0
        first_bad: list[int] = []
        wanted = np.empty((len(task.sampled), len(free)))
        # Moments of a batch are merged with those before: (d, d) numbers a cell, as much work as d rows.
        for vectors in _named(part, at_least=4 * len(key) * len(free)):
            cells = task.cells(start, len(vectors))
            if len(cells) < len(vectors):
                break
            moved = vectors[:, free] if len(free) < part.dim else vectors
            with np.errstate(invalid="ignore", over="ignore"):
                batch = _of_batch(moved, cells, key, found)
            _take(wanted, task.sampled, start, vectors, free)
            # Moments hold every number, so a look at them finds what is not finite, and rows are looked at only then.
            if not (np.isfinite(batch.moments.mean).all() and np.isfinite(batch.moments.scatter).all()):
                rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1)) + start
                bad, first_bad = bad + len(rows), [*first_bad, *rows[:3].tolist()]
            if not bad:
                found = found.merge(batch)
            start += len(vectors)
            task.advance(len(vectors))
        if bad:
            shown = ", ".join(map(str, first_bad[:3])) + (", ..." if bad > 3 else "")
            raise InvalidInput(
                f"{part.location.shown}: {bad} vectors hold NaN or infinity (rows {shown}); did the model not "
                "train to the end? Repair or drop these users"
            )
        if start != task.groups.rows:
            raise InvalidInput(f"{part.location.shown} had {task.groups.rows} rows and has others now: it was changed")
        seen = Seen(part.location.digest(), part.location.stamp()) if digest else None
        return replace(found, seen=seen, sampled=wanted)


def _take(
    wanted: Matrix, rows: NDArray[np.int64], start: int, batch: NDArray[np.floating], free: NDArray[np.int64]
) -> None:
    """Keep what of these rows of a part is in a batch that begins at row ``start``."""
    here = (rows >= start) & (rows < start + len(batch))
    wanted[here] = batch[rows[here] - start][:, free]


def _of_batch(vectors: NDArray[np.floating], cells: NDArray[np.int32], key: CellKey, before: Measured) -> Measured:
    moments = cell_moments(vectors, cells, key)
    seen, scaled, squares = vectors, None, 0.0
    if before.unit is not None:
        at_unit, lengths = at_length(vectors, 1.0)
        scaled, squares, seen = cell_moments(at_unit, cells, key), float(lengths @ lengths), at_unit
    if (before.low < before.high).all():  # no column is constant, whatever comes
        return Measured(moments, scaled, squares, before.low, before.high)
    moves = ~key.unmarked
    moving = seen if moves.all() else seen[moves[cells]]
    for rows in (moving[:_ROWS_THAT_DIFFER], moving):  # where a few differ, nobody has to look at all
        low = rows.min(axis=0, initial=np.inf).astype(np.float64)
        high = rows.max(axis=0, initial=-np.inf).astype(np.float64)
        if (low < high).all():
            break
    return Measured(moments, scaled, squares, low, high)


def move(task: Task, change_of: Callable[[Task], Change], table: Location, folder: Location) -> MovedPart:
    """Pass 2: write one part with its users moved.

    Args:
        task: the part.
        change_of: what becomes of its vectors.
        table: the folder of the new table.
        folder: for files that are not complete.

    Raises:
        InvalidInput: the file is not the one that pass 1 read.
    """
    with one_thread(scipy_too=False):
        check_unchanged(task)
        part, free = task.part, free_columns(task.part)
        wanted = np.empty((len(task.sampled), len(free)))
        changed = change_of(task)

        def change(start: int, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
            new = changed(start, vectors)
            _take(wanted, task.sampled, start, new, free)
            task.advance(len(vectors))
            return new

        return MovedPart(part.rewrite(table / part.name, folder, change), wanted)


def check_unchanged(task: Task) -> None:
    """Raise InvalidInput when the file of a part is not the one that pass 1 read."""
    place, seen = task.part.location, task.seen
    if seen is not None and place.stamp() != seen.stamp and place.digest() != seen.sha256:
        raise InvalidInput(f"{place.shown} was changed while this ran; start again from an input that stays")


def by_maps(task: Task, eraser: Eraser) -> Change:
    """Users move by the map of their cell; with ``scaling`` "unit" every vector is brought to the common length first.

    Args:
        task: the part.
        eraser: the maps.
    """
    free = free_columns(task.part)
    return lambda start, vectors: _changed(vectors, task.cells(start, len(vectors)), eraser, free)


def _changed(
    vectors: NDArray[np.floating],
    cells: NDArray[np.int32],
    eraser: Eraser,
    free: NDArray[np.int64],
) -> NDArray[np.floating]:
    if eraser.scaling == "unit":
        vectors = at_length(vectors, eraser.common_length)[0].astype(vectors.dtype)
    everything = len(free) == vectors.shape[1]
    new = eraser.apply(vectors if everything else np.ascontiguousarray(vectors[:, free]), cells)
    if everything:
        return new
    whole = vectors.copy()
    whole[:, free] = new
    return whole


def at_length(vectors: NDArray[np.floating], length: float) -> tuple[Matrix, Matrix]:
    """Vectors in float64 brought to one length, and (n,) the lengths before; zero vectors stay zero."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    return wide * (length / np.where(lengths > 0, lengths, 1.0))[:, None], lengths


def free_columns(part: Part) -> NDArray[np.int64]:
    """The columns that a method may move."""
    return np.setdiff1d(np.arange(part.dim), np.asarray(part.frozen_columns, dtype=np.int64))


def _named(part: Part, at_least: int) -> Any:
    try:
        yield from part.vectors(at_least)
    except InvalidInput as error:
        raise type(error)(in_file(part.location, error)) from error
