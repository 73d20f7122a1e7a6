"""One step of AttrCloak-DD over one part, and the last pass that writes where the users have come to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Eraser
from attrcloak.parts import Location
from attrcloak.parts.array_part import Stored
from attrcloak.parts.part import Change, rows_per_batch
from attrcloak.parts.user_items import UserItemsFile
from attrcloak.streaming.merge_tree import Arrays, key_arrays, key_of, moment_arrays, moments_of
from attrcloak.streaming.passes import Task, check_unchanged, free_columns
from attrcloak.streaming.sampled_loss import SampledLoss

_FLOAT = np.dtype("<f8")


@dataclass(frozen=True)
class Places:
    """Folders that every worker sees.

    Attributes:
        items: what was dealt to each part.
        positions: a folder for each step, a file in it for each part.
        unfinished: for files that are not complete.
    """

    items: Location
    positions: Location
    unfinished: Location

    def at(self, step: int) -> Location:
        """Where the users are before a step."""
        return self.positions / str(step)


@dataclass(frozen=True, eq=False)
class Along:
    """The step x' = x - rate (w (A_c x + b_c) + (1 - w) gR(x)) of Algorithm 1 (Wu et al. 2025).

    Attributes:
        maps: x -> x - rate w (A_c x + b_c), the part of it that is affine in a cell.
        pull: rate (1 - w).
    """

    maps: Eraser
    pull: float


@dataclass(frozen=True, eq=False)
class Standing:
    """Where the users of a part stand before a step. Everything merges.

    Attributes:
        both: moments of every user's vector and L^Rec gradient side by side, (C, 2 d_free): the class moments and all
            the inner products that MGDA needs can be told from them.
        loss: sum of L^Rec over the sampled triples.
        triples: how many.
        away: (d_free,) sum of squared distances from the start, by column.
    """

    both: CellMoments
    loss: float
    triples: int
    away: Matrix

    def merge(self, other: "Standing") -> "Standing":
        """Both together."""
        loss, triples = self.loss + other.loss, self.triples + other.triples
        return Standing(self.both.merge(other.both), loss, triples, self.away + other.away)

    def arrays(self) -> Arrays:
        """All of it, for a file."""
        numbers = {"loss": np.array(self.loss), "triples": np.array(self.triples), "away": self.away}
        return {**key_arrays(self.both.key), **moment_arrays("both", self.both), **numbers}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> "Standing":
        """What ``arrays`` gave."""
        both = moments_of("both", key_of(arrays), arrays)
        return cls(both, float(arrays["loss"]), int(arrays["triples"]), arrays["away"])


def advance(task: Task, step: int, along: Along | None, loss: SampledLoss, places: Places, key: CellKey) -> Standing:
    """Bring the users of a part to where they are before a step, and sample the loss there.

    Args:
        task: the part.
        step: number of the step that comes next.
        along: the step before it; None at the start.
        loss: of the recommender.
        places: of what was dealt and of positions; the file of this step is written, that of the step before read.
        key: the cells of the whole table.

    Raises:
        InvalidInput: the part is not the one that pass 1 read.
    """
    with one_thread():
        check_unchanged(task)
        part, free = task.part, free_columns(task.part)
        d = len(free)
        found = Standing(cell_moments(np.empty((0, 2 * d)), np.empty(0, dtype=np.int32), key), 0.0, 0, np.zeros(d))
        items, before = UserItemsFile(places.items, part.name), places.at(step - 1) / part.name
        start = done = 0
        with (places.at(step) / part.name).replacing(places.unfinished) as sink:
            for vectors in part.vectors():
                for low, high in _blocks(len(vectors), rows_per_batch(2 * d, _FLOAT)):
                    cells = task.cells(start + low, high - low)
                    rows = np.flatnonzero(~key.unmarked[cells])
                    if not len(rows):
                        continue
                    cells, origin = cells[rows], vectors[low:high][rows][:, free].astype(np.float64)
                    here = origin
                    if along is not None:
                        here, pulled = np.hsplit(_read(before, done, done + len(rows), 2 * d), 2)
                        here = along.maps.apply(np.ascontiguousarray(here), cells) - along.pull * pulled
                    pull = loss.gradient(here, items.read(done, done + len(rows)), step)
                    both = np.hstack([here, pull.gradient])
                    away = ((here - origin) ** 2).sum(axis=0)
                    block = Standing(cell_moments(both, cells, key), pull.loss, pull.triples, away)
                    found = found.merge(block)
                    sink.write(both.data.cast("B"))
                    done += len(rows)
                start += len(vectors)
        return found


def from_positions(task: Task, at: Location, constant: NDArray[np.bool_], key: CellKey) -> Change:
    """Users who move are where a descent brought them; a table is written from its first row to its last.

    Args:
        task: the part.
        at: folder of the positions.
        constant: (d_free,) columns that are the same for everybody who moves; they stay as they are.
        key: the cells of the whole table.
    """
    free = free_columns(task.part)
    done = 0

    def change(start: int, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        nonlocal done
        rows = np.flatnonzero(~key.unmarked[task.cells(start, len(vectors))])
        both = _read(at / task.part.name, done, done + len(rows), 2 * len(free))
        done += len(rows)
        new = vectors.copy()
        new[np.ix_(rows, free[~constant])] = both[:, : len(free)][:, ~constant]
        return new

    return change


def _blocks(rows: int, size: int) -> list[tuple[int, int]]:
    return [(low, min(low + size, rows)) for low in range(0, rows, size)]


def _read(place: Location, start: int, stop: int, width: int) -> Any:
    if start == stop:
        return np.empty((0, width))
    with place.open() as file:
        return Stored(_FLOAT, (stop, width), 0).read(file, start, stop)
