"""The one function that runs any method on a table in memory."""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.cells import Cells
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import InvalidInput, NotSupported
from attrcloak.moments.cell_moments import CellMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Scaling
from attrcloak.progress import Progress
from attrcloak.unlearning.lengths import unit_length
from attrcloak.unlearning.method import (
    OBJECTIVE_RIDGE,
    Length,
    MomentMethod,
    Moved,
    RecommendationLoss,
    RowMethod,
    Rows,
    UnlearningResult,
    objective,
)

if TYPE_CHECKING:
    from torch import Tensor


def nothing_to_unlearn(users: int, attributes: Sequence[str]) -> InvalidInput:
    """What to raise when no user of a table asks for anything."""
    return InvalidInput(
        f"none of the {users} users has a known class and a request for {', '.join(attributes)}; "
        "there is nothing to unlearn"
    )


def key_commitment(key: bytes) -> str:
    """SHA-256 of a secret key: what reports say of it."""
    return hashlib.sha256(b"attrcloak key" + key).hexdigest()


def run(
    method: MomentMethod | RowMethod,
    table: EmbeddingTable,
    people: UserAttributes,
    *,
    attributes: Sequence[str] | None = None,
    key: bytes | None = None,
    seed: int = 0,
    recommendation: RecommendationLoss | None = None,
    progress: Progress | None = None,
    device: str | None = None,
) -> UnlearningResult:
    """Run a method on a table: pass 1, solve, pass 2, or its iteration over rows.

    Args:
        method: a value of one of the method classes, or your own object with ``solve`` or ``move``.
        table: the vectors. Never changed.
        people: attributes and marks, joined by id.
        attributes: which of them to unlearn; all by default.
        key: secret key of the null draw. None draws a fresh one that is forgotten on return.
        seed: for what is random but not secret.
        recommendation: the recommender's loss, for methods that use interactions.
        progress: called with (stage, done, total).
        device: where torch works, such as "cuda" or "cuda:1": the two passes of methods that solve from moments, or
            the iteration of those that say ``on_device``; None is NumPy. The table has to fit there twice, and for an
            iteration fifteen times in float64, thirty with L-BFGS or lists. Results agree with NumPy's to rounding.

    Raises:
        InvalidInput: nobody of the table asked for anything, the table and the people do not fit, or ``method`` has
            neither ``solve`` nor ``move``.
        InvalidSettings: there is no such device.
        MissingExtra: a device is named and torch is not installed.
        NotSupported: the method asks for unit length and the table's scoring does not allow it, or it iterates over
            rows in NumPy alone and a device is named.
    """
    began = time.perf_counter()
    if not isinstance(method, MomentMethod | RowMethod):
        raise InvalidInput(f"{type(method).__name__} is no method: it has neither solve(moments) nor move(rows)")
    require_device(device, method)
    on_rows = isinstance(method, RowMethod) and (device is None or getattr(method, "on_device", False))
    people = people.align(table.ids)
    cells = people.cells(attributes)
    if not cells.moves.any():
        raise nothing_to_unlearn(len(table), cells.key.attributes)
    secret = secrets.token_bytes(32) if key is None else key
    length: Length = getattr(method, "length", "keep")
    scaling: Scaling = "unit" if length == "unit" or (length == "auto" and table.scoring == "dot") else "none"
    scaled, lengths, common = unit_length(table) if scaling == "unit" else (table, None, 1.0)
    rows = Rows(scaled, cells, secret, seed, recommendation, device)
    moved: Moved
    if on_rows:
        assert isinstance(method, RowMethod)
        moments, moved = rows.moments, _on_rows(method, rows, progress)
    else:
        assert isinstance(method, MomentMethod)
        moments, moved = _in_two_passes(method, scaled, cells, device)
    given = moments if scaled is table else cell_moments(_placed(table, device), cells.of_user, cells.key)
    moved = _leave_constant_columns(moved, rows.vectors, cells.moves)
    result = scaled.with_free(moved.vectors, cells.moves)
    after = cell_moments(_placed(result, device), cells.of_user, cells.key)
    asked = rows.vectors[cells.moves]
    move = float(((result.free[cells.moves] - asked) ** 2).sum())
    spread = float(((asked - asked.mean(axis=0)) ** 2).sum())
    settings = asdict(method) if is_dataclass(method) and not isinstance(method, type) else {"repr": repr(method)}
    eraser = moved.eraser
    if eraser is not None:
        provenance = {"method": method.name, "settings": repr(method), "input": table.fingerprint()}
        eraser = replace(eraser, scaling=scaling, common_length=common, provenance=provenance)
    return UnlearningResult(
        table=result,
        eraser=eraser,
        method=method.name,
        settings=settings,
        trace=moved.trace,
        stopped=moved.stopped,
        seconds=time.perf_counter() - began,
        relative_move=move / spread if spread > 0 else 0.0,
        objective_before=objective(given, OBJECTIVE_RIDGE * max(given.mean_variance, 1e-300)),
        objective_after=objective(after, OBJECTIVE_RIDGE * max(moments.mean_variance, 1e-300)),
        input_fingerprint=table.fingerprint(),
        key_commitment=key_commitment(secret) if getattr(method, "uses_key", False) else None,
        scaling=scaling,
        common_length=common,
        lengths=lengths,
        moved=cells.moves,
        seed=seed,
        scale=moved.scale,
    )


def require_device(device: str | None, method: MomentMethod | RowMethod) -> None:
    """See that a method can run on a device and that it is there; NumPy, None, always can.

    Raises:
        InvalidSettings: there is no such device.
        MissingExtra: torch is not installed.
        NotSupported: the method iterates over rows in NumPy alone.
    """
    if device is None:
        return
    if not isinstance(method, MomentMethod) and not getattr(method, "on_device", False):
        raise NotSupported(
            f"{method.name} iterates over rows in NumPy alone, not on a device; leave the device out, or name a method "
            "that can: attrcloak-df, barycentre, leace, mean-removal, attrcloak-dd, u2u-r or d2d-r"
        )
    from attrcloak.moments.torch_passes import to_device

    to_device(np.zeros(1), device)


def _on_rows(method: RowMethod, rows: Rows, progress: Progress | None) -> Moved:
    if rows.device is None:
        return method.move(rows, progress)
    from attrcloak.moments.torch_passes import room

    with room("rows in float64, gradients and what is kept of steps, fifteen times the table and more: leave it out"):
        return method.move(rows, progress)


def _in_two_passes(
    method: MomentMethod, table: EmbeddingTable, cells: Cells, device: str | None
) -> tuple[CellMoments, Moved]:
    """The moments of a table and its new rows; to a device it goes once."""
    vectors = _placed(table, device)
    moments = cell_moments(vectors, cells.of_user, cells.key)
    solution = method.solve(moments)
    new = solution.eraser.apply(vectors, cells.of_user)
    back = new if isinstance(new, np.ndarray) else new.cpu().numpy().astype(np.float64)
    return moments, Moved(back, solution.trace, solution.stopped, solution.eraser)


def _placed(table: EmbeddingTable, device: str | None) -> "Matrix | Tensor":
    """The free columns where the passes run; on a device in the table's own type, so that less goes there."""
    if device is None:
        return table.free
    from attrcloak.moments.torch_passes import to_device

    return to_device(table.vectors[:, table.free_columns] if table.frozen_columns else table.vectors, device)


def _leave_constant_columns(moved: Moved, before: Matrix, moves: NDArray[np.bool_]) -> Moved:
    """Keep columns that are the same for all who asked bit-identical.

    They tell nothing, but whatever rounding or a slice adds to them may differ by class, and an attacker who
    standardises columns would see that remainder at full size.
    """
    constant = np.ptp(before[moves], axis=0) == 0
    if not constant.any():
        return moved
    vectors = np.where(constant, before, moved.vectors)
    eraser = moved.eraser
    if eraser is not None:
        matrices = np.where(constant[:, None], np.eye(len(constant)), eraser.matrices)
        eraser = replace(eraser, matrices=matrices, offsets=np.where(constant, 0.0, eraser.offsets))
    return replace(moved, vectors=vectors, eraser=eraser)
