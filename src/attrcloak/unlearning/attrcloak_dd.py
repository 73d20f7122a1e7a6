"""AttrCloak-DD: unlearning with interaction data (Wu et al., ICDE 2025)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.moments.arrays import Array, beside, namespace, on_host
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.min_norm import leakage_weight
from attrcloak.progress import Progress
from attrcloak.unlearning.descent import Objectives, RowSpace, check_weight
from attrcloak.unlearning.method import Moved, RecommendationLoss, Rows, Step, Stopped

FARTHEST = 10.0
"""Relative squared move beyond which a descent has diverged. The surrogate cannot tell, for it ignores scale."""

NEAREST = 1e-8
"""Length of a step, as a share of the table's spread, below which a descent has converged."""


@dataclass(frozen=True, kw_only=True)
class AttrCloakDD:
    """Minimise the Gaussian surrogate of leakage together with the recommender's own loss, items frozen.

    Every step takes the gradient of L^AU over the whole table and that of L^Rec on one sampled batch, and moves along
    their MGDA combination (Wu et al. 2025, Algorithm 1 with L^R = L^Rec). Because L^Rec is a sample, the smallest
    weight of the leakage may be 0, as the paper has it; a floor above 0 keeps unlearning going where the recommender
    has not converged and its gradient would outweigh everything.

    Attributes:
        steps: number of steps.
        learning_rate: step on the gradient times the number of users, in units of the mean variance per dimension.
        min_leakage_weight: floor of the MGDA weight, in [0, 1].
        weight: "mgda" chooses the weight at every step; a number in [0, 1] holds it there (the paper's Fig. 5).
        ridge: added to every covariance, as a share of the mean variance per dimension.
        pooling: shrinkage of small classes, in users; see ``moments.surrogate``.
    """

    name: ClassVar[str] = "attrcloak-dd"
    on_device: ClassVar[bool] = True

    steps: int = 300
    learning_rate: float = 0.05
    min_leakage_weight: float = 0.5
    weight: Literal["mgda"] | float = "mgda"
    ridge: float = 1e-3
    pooling: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_leakage_weight <= 1:
            raise InvalidSettings(f"min_leakage_weight is {self.min_leakage_weight}, expected a number in [0, 1]")
        check_weight(self.weight)
        if self.steps < 1 or self.learning_rate <= 0 or self.ridge < 0 or self.pooling < 0:
            raise InvalidSettings("steps and learning_rate must be positive, ridge and pooling must not be negative")

    @classmethod
    def paper(cls) -> "AttrCloakDD":
        """As printed: the weight clipped to [0, 1]. Steps, learning rate and ridge are not stated; these are ours."""
        return cls(min_leakage_weight=0.0)

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Descend on rows; only users who asked move.

        A descent that diverges gives back the vectors at which the leakage was least.

        Raises:
            NotSupported: the run has no recommender loss, that is no interactions.
        """
        if rows.recommendation is None:
            raise NotSupported(
                "attrcloak-dd needs interactions and the recommender's items for its loss; "
                "without them use attrcloak-df or calibrated"
            )
        moments = rows.moments
        variance = max(moments.mean_variance, 1e-300)
        space = RowSpace(rows.placed(rows.vectors), rows.cells.of_user, rows.cells.key)
        xp, moves = namespace(space.start), beside(rows.cells.moves[:, None], space.start)
        objectives = Objectives(self.ridge * variance, self.pooling, drift_scale=0.0)
        rate = self.learning_rate * variance * space.users
        rng = np.random.default_rng(rows.seed)
        spread = variance * moments.dim * max(space.users, 1)
        position, trace = space.start, []
        best, least = position, np.inf
        bounds = (self.min_leakage_weight, 1.0) if self.weight == "mgda" else (float(self.weight),) * 2
        stopped: Stopped = "max steps"
        # On a busy machine threads wait for each other far longer than they help with products this small.
        with one_thread():
            for step in range(self.steps):
                try:
                    leakage, field = objectives.leakage_and_field(space, position)
                except np.linalg.LinAlgError:
                    stopped = "diverged"
                    break
                loss, pull = _gradient(rows, position, rng)
                pull = xp.where(moves, pull, 0.0)
                weight = leakage_weight(
                    space.inner(pull, pull), space.inner(pull, field), space.inner(field, field), *bounds
                )
                trace.append(Step(leakage, loss, weight))
                away = position - space.start
                far = space.inner(away, away) > FARTHEST * spread
                if far or not np.isfinite(leakage) or leakage > 2 * trace[0].leakage + 1:
                    stopped = "diverged"
                    break
                if leakage < least:
                    best, least = position, leakage
                change = rate * (weight * field + (1 - weight) * pull)
                if space.inner(change, change) <= NEAREST**2 * spread:
                    stopped = "converged"
                    break
                position = position - change
                if progress is not None:
                    progress(self.name, step + 1, self.steps)
        if progress is not None and stopped != "max steps":
            progress(self.name, self.steps, self.steps)
        return Moved(on_host(best if stopped == "diverged" else position), tuple(trace), stopped)


def _gradient(rows: Rows, position: Array, rng: np.random.Generator) -> tuple[float, Array]:
    """The recommender's loss and its gradient, where the position lies."""
    assert rows.recommendation is not None  # checked by ``move``
    try:
        loss, pull = rows.recommendation.gradient(position, rng)
    except TypeError as error:
        # Of a loss that fails with arrays too, it is the loss's own error.
        if rows.device is None or not _works(rows.recommendation, on_host(position), rng):
            raise
        raise NotSupported(
            f"{type(rows.recommendation).__name__}.gradient does not take tensors, which it is given on a device "
            f"({error}); name no device, or let it compute where the user vectors are"
        ) from error
    return loss, beside(pull, position)


def _works(loss: RecommendationLoss, vectors: NDArray[np.float64], rng: np.random.Generator) -> bool:
    try:
        loss.gradient(vectors, rng)
    except Exception:  # whatever a loss of the caller's raises
        return False
    return True
