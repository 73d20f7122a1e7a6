"""What becomes of the users of a streamed table, and how it is solved where it is one map a cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.cell_moments import CellMoments
from attrcloak.moments.eraser import Eraser, Scaling
from attrcloak.parts import Part
from attrcloak.parts.part import Change
from attrcloak.streaming.kept_maps import KeptMaps
from attrcloak.streaming.passes import Measured, Task, by_maps
from attrcloak.streaming.stages import Stages
from attrcloak.streaming.statistics import common_scale, relative_move
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.method import MomentMethod, Solution
from attrcloak.unlearning.null_moments import solve_calibrated
from attrcloak.unlearning.running import key_commitment


@dataclass(frozen=True, eq=False)
class Outcome:
    """What becomes of the users.

    Attributes:
        eraser: the maps; a secret. None where users move one by one.
        after: moments of the new table, over those who asked.
        change_of: what pass 2 does to a part.
        relative_move: sum ||x' - x||^2 / sum ||x - mean||^2 over the users who asked.
        how: what the manifest says of it.
    """

    eraser: Eraser | None
    after: CellMoments
    change_of: Callable[[Task], Change]
    relative_move: float
    how: dict[str, Any]


def solve_maps(
    stages: Stages,
    method: MomentMethod | Calibrated,
    moments: CellMoments,
    constant: NDArray[np.bool_],
    *,
    common_length: float,
    scaling: Scaling,
    key: bytes | None,
    silent: Sequence[bool],
    fingerprint: str,
) -> Outcome:
    """One map a cell, computed once.

    Args:
        stages: of the run.
        method: its settings.
        moments: of the table that is moved.
        constant: (d_free,) columns that are the same for everybody who moves.
        common_length: what vectors are brought to first, in units of the embedding; 1 where they are not.
        scaling: whether they are.
        key: secret key of the null draw; None takes that of the work folder.
        silent: for each attribute, whether users of known class did not ask for it.
        fingerprint: of the table as given.
    """

    def solve() -> tuple[Eraser, dict[str, Any]]:
        secret = stages.space.secret_key() if key is None else key
        solution = _solve(method, moments, secret, silent)
        eraser = solution.eraser
        if not isinstance(method, KeptMaps):
            eraser = _finished(eraser, moments, constant, stages.parts[0])
        provenance = {"method": method.name, "settings": repr(method), "input": fingerprint}
        eraser = replace(eraser, scaling=scaling, common_length=common_length, provenance=provenance)
        committed = key_commitment(secret) if getattr(method, "uses_key", False) else None
        return eraser, {"stopped": solution.stopped, "steps": len(solution.trace), "key_commitment": committed}

    eraser, how = stages.solve(solve)
    after = moments.mapped(eraser.matrices, eraser.offsets)
    return Outcome(eraser, after, partial(by_maps, eraser=eraser), relative_move(moments, eraser), how)


def scaled(measured: Measured, scaling: Scaling, kept: Eraser | None = None) -> tuple[CellMoments, float]:
    """The moments of the table that is moved, and the common length: that of kept maps, or the root mean square."""
    if measured.unit is None or scaling == "none":
        return measured.moments, 1.0
    unit = measured.unit
    common = kept.common_length if kept is not None else float(np.sqrt(measured.squares / max(unit.users, 1))) or 1.0
    return replace(unit, mean=common * unit.mean, scatter=common**2 * unit.scatter), common


def _solve(method: MomentMethod | Calibrated, moments: CellMoments, key: bytes, silent: Sequence[bool]) -> Solution:
    # On one thread, so that a run that is taken up again gives the same bits.
    with one_thread(scipy_too=not isinstance(method, Calibrated)):
        if isinstance(method, Calibrated):
            return solve_calibrated(method, moments, key, silent)
        return method.solve(moments)


def _finished(eraser: Eraser, moments: CellMoments, constant: NDArray[np.bool_], part: Part) -> Eraser:
    """The maps in one scale with what is scored beside them, and with constant columns left alone."""
    if part.scoring == "dot+constant" and not moments.key.unmarked.any():
        scale = common_scale(moments, eraser)
        eraser = replace(eraser, matrices=scale * eraser.matrices, offsets=scale * eraser.offsets)
    matrices = np.where(constant[:, None], np.eye(len(constant)), eraser.matrices)
    return replace(eraser, matrices=matrices, offsets=np.where(constant, 0.0, eraser.offsets))
