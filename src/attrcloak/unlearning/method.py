"""What a method is, what it may see, and what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.cells import Cells
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.moments.arrays import Array
from attrcloak.moments.cell_moments import CellMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Eraser, Scaling
from attrcloak.moments.surrogate import surrogate
from attrcloak.progress import Progress

Stopped = Literal["closed form", "converged", "max steps", "diverged"]
Length = Literal["auto", "unit", "keep"]


class RecommendationLoss(Protocol):
    """A recommender's own training loss as a function of user vectors, items frozen (L^Rec)."""

    def gradient(self, user_vectors: Array, rng: np.random.Generator) -> tuple[float, Array]:
        """The loss on one sampled batch, and its gradient (n, d) on the user vectors.

        On a device the user vectors are a float64 tensor there; the gradient may be one, or an array.
        """
        ...


@runtime_checkable
class RankingLoss(RecommendationLoss, Protocol):
    """A recommender's loss that also knows its lists: what it takes to keep the order of recommendations."""

    @property
    def items(self) -> Matrix:
        """(I, d_free) item vectors of the free columns."""
        ...

    def best_unseen(self, user_vectors: Matrix, count: int, constants: bool = True) -> tuple[NDArray[np.int64], Matrix]:
        """Each user's best unseen items, best first (n, count), -1 past the last, and their scores (0 there).

        Without ``constants``, such as item biases, by what is the user's own of the score.
        """
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
    """What a method makes of rows: (n, d_free) new vectors in float64, and the eraser where one gives the same.

    ``scale`` is a factor of all of them that the method put in at the end, the same for everybody.
    """

    vectors: Matrix
    trace: tuple[Step, ...] = ()
    stopped: Stopped = "closed form"
    eraser: Eraser | None = None
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class Rows:
    """What a method that iterates over rows may see.

    Attributes:
        table: the table, already scaled where the method asked for it.
        cells: the cell of each of its users.
        key: secret key material for null draws; never written anywhere.
        seed: for everything that is not secret.
        recommendation: the recommender's loss, None without interactions.
        device: where torch is to work; None is NumPy.
    """

    table: EmbeddingTable
    cells: Cells
    key: bytes = field(repr=False)
    seed: int = 0
    recommendation: RecommendationLoss | None = None
    device: str | None = None

    @property
    def vectors(self) -> Matrix:
        """(n, d_free) the free columns in float64."""
        return self.table.free

    def placed(self, values: NDArray[np.generic]) -> Array:
        """These numbers where the method is to work: themselves, or a tensor on the device."""
        if self.device is None:
            return values
        from attrcloak.moments.torch_passes import to_device

        return to_device(values, self.device)

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
    """A method that iterates over the table.

    One whose ``move`` works where ``Rows.placed`` puts its arrays says so by an attribute ``on_device`` that is true.
    """

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
        scale: factor of all new vectors that the method put in at the end, for their weight against constants of the
            score. Scaled alike, the vectors as they were would rank otherwise too: compare with these.
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
    scale: float = 1.0

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
