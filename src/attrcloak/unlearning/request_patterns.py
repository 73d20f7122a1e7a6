"""Where some users did not ask: fitted on everybody whose class is known, for those who did."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from attrcloak.data.cells import Cells
from attrcloak.moments.cell_key import NOT_MARKED, CellKey
from attrcloak.moments.eraser import Eraser
from attrcloak.unlearning.method import Moved, Rows, Step, Stopped

Taught = Sequence[float | None]
"""For each attribute, of the users who did not ask for it, the share that a method learns from; None: all asked."""


def as_if_all_had_asked(rows: Rows, fit: Callable[[Rows, Taught], Moved]) -> Moved:
    """Fit on everybody, once for every set of attributes that somebody asked for, and keep what those users become.

    Whoever asked for two attributes moves as in a table where all asked for both; the others stay.

    Args:
        rows: the table as it is asked for.
        fit: moves all users of a table with a known class; also gets what it has to know of those who did not ask.
    """
    cells = rows.cells
    known = cells.codes if cells.known is None else cells.known
    marked = cells.codes != NOT_MARKED
    learned = ((known != NOT_MARKED) & ~marked).sum(axis=0) / np.maximum((~marked).sum(axis=0), 1)
    taught = [part if who.any() else None for part, who in zip(learned.tolist(), cells.silent.T, strict=True)]
    vectors, trace = rows.vectors.copy(), list[Step]()
    stopped: Stopped = "closed form"
    matrices = np.tile(np.eye(rows.table.free.shape[1]), (len(cells.key), 1, 1))
    offsets = np.zeros(matrices.shape[:2])
    affine = True
    for pattern in np.unique(marked[cells.moves], axis=0):
        key, of_user = CellKey.of(cells.key.attributes, cells.key.classes, np.where(pattern, known, NOT_MARKED))
        moved = fit(replace(rows, cells=Cells(key, of_user)), taught)
        who = cells.moves & (marked == pattern).all(axis=1)
        vectors[who] = moved.vectors[who]
        trace.extend(moved.trace)
        stopped = moved.stopped
        if moved.eraser is None:
            affine = False
            continue
        mine = np.unique(cells.of_user[who])
        there = key.locate(cells.key.combinations[mine])
        matrices[mine], offsets[mine] = moved.eraser.matrices[there], moved.eraser.offsets[there]
    return Moved(vectors, tuple(trace), stopped, Eraser(cells.key, matrices, offsets) if affine else None)
