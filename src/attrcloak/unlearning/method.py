"""What a method is, what it returns, and the one function that runs any of them on a table."""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.cells import Cells
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import InvalidInput, NotSupported
from attrcloak.moments.cell_moments import CellMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Eraser, Scaling
from attrcloak.moments.surrogate import surrogate
from attrcloak.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

Stopped = Literal["closed form", "converged", "max steps", "diverged"]
Length = Literal["auto", "unit", "keep"]


class RecommendationLoss(Protocol):
    """A recommender's own training loss as a function of user vectors, items frozen (L^Rec)."""

    def gradient(self, user_vectors: Matrix, rng: np.random.Generator) -> tuple[float, Matrix]:
        """The loss on one sampled batch, and its gradient (n, d) on the user vectors."""
        ...


@runtime_checkable
class RankingLoss(RecommendationLoss, Protocol):
    """A recommender's loss that also knows its lists: what it takes to keep the order of recommendations."""

    @property
    def items(self) -> Matrix:
        """(I, d_free) item vectors of the free columns."""
        ...

    def best_unseen(self, user_vectors: Matrix, count: int) -> tuple[NDArray[np.int64], Matrix]:
        """Each user's best unseen items, best first (n, count), -1 past the last, and their scores (0 there)."""
        ...


@dataclass(frozen=True)
class Step:
    """One step of an iterative method.

    Attributes:
        leakage: L^AU before the step, mean over the attributes, in nats.
        drift: L^R before the step: relative squared move, or the recommender's loss.
        weight: MGDA weight of the leakage gradient.
    """

    leakage: float
    drift: float
    weight: float


@dataclass(frozen=True, eq=False)
class Solution:
    """What a method makes of moments: one affine map a cell."""

    eraser: Eraser
    trace: tuple[Step, ...] = ()
    stopped: Stopped = "closed form"


@dataclass(frozen=True, eq=False)
class Moved:
    """What a method makes of rows: (n, d_free) new vectors in float64, and the eraser where one gives the same."""

    vectors: Matrix
    trace: tuple[Step, ...] = ()
    stopped: Stopped = "closed form"
    eraser: Eraser | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """What a method that iterates over rows may see.

    Attributes:
        table: the table, already scaled where the method asked for it.
        cells: the cell of each of its users.
        key: secret key material for null draws; never written anywhere.
        seed: for everything that is not secret.
        recommendation: the recommender's loss, None without interactions.
    """

    table: EmbeddingTable
    cells: Cells
    key: bytes = field(repr=False)
    seed: int = 0
    recommendation: RecommendationLoss | None = None

    @property
    def vectors(self) -> Matrix:
        """(n, d_free) the free columns in float64."""
        return self.table.free

    @property
    def moments(self) -> CellMoments:
        """Moments of every cell (pass 1)."""
        return cell_moments(self.vectors, self.cells.of_user, self.cells.key)


@runtime_checkable
class MomentMethod(Protocol):
    """A method that needs the moments of the cells and never sees a user."""

    @property
    def name(self) -> str:
        """The method's name on the command line and in reports."""
        ...

    def solve(self, moments: CellMoments) -> Solution:
        """Turn moments into an eraser."""
        ...


@runtime_checkable
class RowMethod(Protocol):
    """A method that iterates over the table."""

    @property
    def name(self) -> str:
        """The method's name on the command line and in reports."""
        ...

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Turn rows into new rows."""
        ...


@dataclass(frozen=True, eq=False)
class UnlearningResult:
    """A new table, and how it came about.

    Attributes:
        table: same ids, same order, same type as the input.
        eraser: the affine map of every cell, None for methods that move rows otherwise.
        method: name of the method.
        settings: its settings.
        trace: objective and MGDA weight over the steps; empty for closed forms.
        stopped: why it ended. Not reaching the goal is a result, not an error.
        seconds: wall time of both passes and the solve.
        relative_move: sum ||x' - x||^2 / sum ||x - mean||^2 over the users who asked, against the scaled table.
        objective_before: L^AU of the table as given, mean over attributes, in nats, with ridge ``OBJECTIVE_RIDGE``.
        objective_after: L^AU of the new table, likewise; its ridge is taken from the scaled table, so that shrinking a
            table does not lower the objective.
        input_fingerprint: of the table as given.
        key_commitment: SHA-256 of the secret key where a null draw was used; the key itself is nowhere in here.
        scaling: "unit" when vectors were first brought to one length.
        common_length: that length.
        lengths: (n,) the lengths before that, for undo; None without scaling.
        moved: (n,) users who asked for something.
    """

    table: EmbeddingTable
    eraser: Eraser | None
    method: str
    settings: Mapping[str, Any]
    trace: tuple[Step, ...]
    stopped: Stopped
    seconds: float
    relative_move: float
    objective_before: float
    objective_after: float
    input_fingerprint: str
    key_commitment: str | None
    scaling: Scaling
    common_length: float
    lengths: NDArray[np.float64] | None
    moved: NDArray[np.bool_]
    seed: int

    @property
    def steps(self) -> int:
        """Number of steps taken; 0 for closed forms."""
        return len(self.trace)


OBJECTIVE_RIDGE = 1e-3
"""Ridge of the reported objective, as a share of the mean variance per dimension."""


def objective(moments: CellMoments, ridge: float, pooling: float = 0.0) -> float:
    """L^AU: the mean of the surrogates of all attributes, in nats. ``ridge`` in squared units of the embedding."""
    values = [surrogate(marginal, ridge, pooling) for marginal in moments.marginals()]
    return float(np.mean(values)) if values else 0.0


def unit_length(
    table: EmbeddingTable, common_length: float | None = None
) -> tuple[EmbeddingTable, NDArray[np.float64], float]:
    """Bring every vector to one length; zero vectors stay zero.

    With plain dot-product scoring no user's ranking changes, and length itself tells activity.

    Args:
        table: the vectors.
        common_length: the length to bring them to; the table's root mean square length by default.

    Returns:
        The scaled table, (n,) the lengths before, and the common length.
    """
    if table.frozen_columns or table.scoring == "dot+constant":
        raise frozen_length(table.represents)
    lengths = np.linalg.norm(table.vectors.astype(np.float64), axis=1)
    common = common_length or float(np.sqrt(np.mean(lengths**2))) or 1.0
    if np.abs(lengths[lengths > 0] - common).max(initial=0.0) <= 4 * np.finfo(table.vectors.dtype).eps * common:
        # Already done: dividing again would shake the last bit of users who asked for nothing.
        return table, lengths, common
    scaled = table.vectors * (common / np.where(lengths > 0, lengths, 1.0))[:, None]
    return replace(table, vectors=scaled.astype(table.vectors.dtype)), lengths, common


def frozen_length(represents: str) -> NotSupported:
    """What to raise when vectors of one length are asked for where length is part of the score."""
    return NotSupported(
        f"{represents}: frozen columns enter the score, so changing a vector's length would change that "
        "user's ranking; use length='keep'"
    )


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
        device: where torch runs the passes, such as "cuda" or "cuda:1", for methods that solve from moments; None is
            NumPy. The table has to fit there twice. Results agree with NumPy's to rounding.

    Raises:
        InvalidInput: nobody of the table asked for anything, or the table and the people do not fit.
        InvalidSettings: there is no such device.
        MissingExtra: a device is named and torch is not installed.
        NotSupported: the method asks for unit length and the table's scoring does not allow it, or it iterates over
            rows and a device is named.
    """
    began = time.perf_counter()
    if device is not None and not isinstance(method, MomentMethod):
        raise NotSupported(
            f"{method.name} iterates over rows, which is not done on a device; methods in two passes are: "
            "attrcloak-df, barycentre, leace, mean-removal"
        )
    people = people.align(table.ids)
    cells = people.cells(attributes)
    if not cells.moves.any():
        raise nothing_to_unlearn(len(table), cells.key.attributes)
    secret = secrets.token_bytes(32) if key is None else key
    length: Length = getattr(method, "length", "keep")
    scaling: Scaling = "unit" if length == "unit" or (length == "auto" and table.scoring == "dot") else "none"
    scaled, lengths, common = unit_length(table) if scaling == "unit" else (table, None, 1.0)
    rows = Rows(scaled, cells, secret, seed, recommendation)
    moved: Moved
    if isinstance(method, RowMethod) and device is None:
        moments, moved = rows.moments, method.move(rows, progress)
    else:
        assert isinstance(method, MomentMethod)  # checked above, where a device is named
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
    )


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
