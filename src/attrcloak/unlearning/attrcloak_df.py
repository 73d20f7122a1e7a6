"""AttrCloak-DF: unlearning without interaction data (Wu et al., ICDE 2025)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from attrcloak.errors import InvalidSettings
from attrcloak.moments.arrays import Array, on_host
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.cell_moments import CellMoments
from attrcloak.progress import Progress
from attrcloak.unlearning.descent import (
    MomentSpace,
    Objectives,
    RowSpace,
    Space,
    check_weight,
    gradient_descent,
    limited_memory_bfgs,
)
from attrcloak.unlearning.method import Moved, Rows, Solution, Step, Stopped


@dataclass(frozen=True, kw_only=True)
class AttrCloakDF:
    """Minimise the Gaussian surrogate of leakage, weighed against drift by MGDA, without interaction data.

    Attributes:
        solver: "gradient descent" is the paper's Algorithm 1; "l-bfgs" takes the same objective to convergence with
            the weight held at its floor, which is where Algorithm 1 spends its steps. Stopping early is kinder to
            recommendations than convergence: on MovieLens-1M ALS vectors 500 steps leave .124 nats for a relative move
            of .20, "l-bfgs" .027 nats for .46.
        steps: most steps to take.
        learning_rate: step on the gradient times the number of users, in units of the mean variance per dimension, so
            that neither the table's size nor its scale matters.
        min_leakage_weight: floor of the MGDA weight, in [0, 1]: the trade-off knob. At 0 nothing moves.
        weight: "mgda" chooses the weight at every step; a number in [0, 1] holds it there (the paper's Fig. 5).
        drift: "relative" divides sum ||x' - x||^2 by sum ||x - mean||^2; "sum" is the paper's L^Reg as printed, whose
            meaning depends on the table's size and scale.
        ridge: added to every covariance, as a share of the mean variance per dimension.
        pooling: shrinkage of small classes towards the pooled covariance, in users; see ``moments.surrogate``.
        tolerance: of "l-bfgs", on the objective's relative fall over five steps.
        space: "moments" and "rows" give the same result to rounding. "auto" takes the cheaper one for the table; on a
            device that is "moments".
    """

    name: ClassVar[str] = "attrcloak-df"

    solver: Literal["gradient descent", "l-bfgs"] = "gradient descent"
    steps: int = 500
    learning_rate: float = 0.05
    min_leakage_weight: float = 0.9
    weight: Literal["mgda"] | float = "mgda"
    drift: Literal["relative", "sum"] = "relative"
    ridge: float = 1e-3
    pooling: float = 0.0
    tolerance: float = 1e-6
    space: Literal["auto", "moments", "rows"] = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.min_leakage_weight <= 1:
            raise InvalidSettings(f"min_leakage_weight is {self.min_leakage_weight}, expected a number in [0, 1]")
        if self.drift not in ("relative", "sum") or self.solver not in ("gradient descent", "l-bfgs"):
            raise InvalidSettings(
                f"drift is {self.drift!r} and solver {self.solver!r}, expected 'relative' or 'sum', and "
                "'gradient descent' or 'l-bfgs'"
            )
        check_weight(self.weight)
        if self.steps < 1 or self.learning_rate <= 0 or self.ridge < 0 or self.pooling < 0:
            raise InvalidSettings("steps and learning_rate must be positive, ridge and pooling must not be negative")

    @property
    def on_device(self) -> bool:
        """Whether it iterates over rows on a device; from moments the table goes there for two passes alone."""
        return self.space == "rows"

    @classmethod
    def paper(cls) -> "AttrCloakDF":
        """As printed: Algorithm 1, L^Reg as a sum, weight clipped to [0.1, 1], no pooling.

        Steps, learning rate and ridge are not stated in the paper; these are ours.
        """
        return cls(min_leakage_weight=0.1, drift="sum", steps=500, learning_rate=0.05)

    def solve(self, moments: CellMoments) -> Solution:
        """Solve in moment space; the cost does not depend on the number of users."""
        space = MomentSpace(moments)
        position, trace, stopped = self._descend(space, moments, None)
        return Solution(space.eraser(position), trace, stopped)

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Solve in whichever space is cheaper for this table, or the one that was asked for."""
        moments = rows.moments
        if self.space == "moments" or (self.space == "auto" and not self._rows_are_cheaper(moments)):
            solution = self.solve(moments)
            moved = solution.eraser.apply(rows.vectors, rows.cells.of_user)
            return Moved(moved, solution.trace, solution.stopped, solution.eraser)
        space = RowSpace(rows.placed(rows.vectors), rows.cells.of_user, rows.cells.key)
        position, trace, stopped = self._descend(space, moments, progress)
        if progress is not None and stopped != "max steps":
            progress(self.name, self.steps, self.steps)
        return Moved(on_host(position), trace, stopped)

    @staticmethod
    def _rows_are_cheaper(moments: CellMoments) -> bool:
        """Compare multiplications a step: two products (n, d) x (d, d) an attribute, or two (d, d) x (d, d) a cell."""
        return moments.users * len(moments.key.attributes) < len(moments.key) * moments.dim

    def _descend(
        self, space: Space, moments: CellMoments, progress: Progress | None
    ) -> tuple[Array, tuple[Step, ...], Stopped]:
        variance = max(moments.mean_variance, 1e-300)
        spread = variance * moments.dim * max(space.users, 1)
        objectives = Objectives(self.ridge * variance, self.pooling, 1 / spread if self.drift == "relative" else 1.0)
        report = None if progress is None else lambda done: progress(self.name, done, self.steps)
        # Products this small wait longer for a second thread than they gain by it.
        with one_thread():
            if self.solver == "l-bfgs":
                return limited_memory_bfgs(
                    space,
                    objectives,
                    steps=self.steps,
                    weight=self.min_leakage_weight if self.weight == "mgda" else float(self.weight),
                    tolerance=self.tolerance,
                    first_step=self.learning_rate * variance * space.users,
                    progress=report,
                )
            return gradient_descent(
                space,
                objectives,
                steps=self.steps,
                rate=self.learning_rate * variance * space.users,
                bounds=(self.min_leakage_weight, 1.0) if self.weight == "mgda" else (float(self.weight),) * 2,
                progress=report,
            )
