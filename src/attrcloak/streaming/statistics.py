"""What moments alone tell of a run: how much leaks before and after, against chance, and how far users moved."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.surrogate import surrogate
from attrcloak.unlearning.method import OBJECTIVE_RIDGE
from attrcloak.unlearning.null_moments import null_marginals

DRAWS = 49


@dataclass(frozen=True)
class Leak:
    """The Gaussian surrogate of one attribute, over everybody who asked, in nats.

    Small values do not mean unreadable: only attackers tell.

    Attributes:
        attribute: its name.
        before: of the table as given.
        after: of the new table, computed from the maps.
        chance: 95 % of tables with these moments and labels dealt out at random lie below.
        p_before: share of such tables that lie as high, (1 + higher) / (1 + draws).
        p_after: likewise.
        too_equal: "means" or "covariances" of the new classes that agree far more closely than those of any draw.
        equations: expected balanced accuracy above chance of who knows 80 % of labels and solves the moment equations
            where classes were made equal; 0 where they were not.
    """

    attribute: str
    before: float
    after: float
    chance: float
    p_before: float
    p_after: float
    too_equal: tuple[str, ...]
    equations: float

    @property
    def equality(self) -> str:
        """What is to be said of classes that are too equal."""
        return (
            f"class {' and '.join(self.too_equal)} of all users agree more closely than by chance; they are equations "
            f"for labels, worth about {self.equations:.3f} above chance"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "too_equal": list(self.too_equal)}


def leaks(given: CellMoments, scaled: CellMoments, after: CellMoments, seed: int) -> tuple[Leak, ...]:
    """The surrogate of each attribute before and after, against its values under random labels.

    Args:
        given: moments of the table as given.
        scaled: of the table that is moved; the same where lengths stay.
        after: of the new table.
        seed: of the random labels; not a secret.
    """
    generator = np.random.default_rng([seed, 7])
    ridge_given = OBJECTIVE_RIDGE * max(given.mean_variance, 1e-300)
    ridge = OBJECTIVE_RIDGE * max(scaled.mean_variance, 1e-300)
    found = []
    for position, name in enumerate(given.key.attributes):
        was, now = given.marginal(position), after.marginal(position)
        # One draw of standard normal vectors serves both tables: a linear map of all users maps their null too.
        standard = _null(name, now.count, scaled.dim, generator)
        root_was, root_now = _root(was), _root(now)
        null_was = [surrogate(_mapped(null, root_was), ridge_given) for null in standard]
        nulls = [_mapped(null, root_now) for null in standard]
        null_now = [surrogate(null, ridge) for null in nulls]
        too_equal = _too_equal(now, nulls, ridge)
        found.append(
            Leak(
                name,
                surrogate(was, ridge_given),
                surrogate(now, ridge),
                float(np.quantile(null_now, 0.95)) if nulls else 0.0,
                _p(surrogate(was, ridge_given), null_was),
                _p(surrogate(now, ridge), null_now),
                too_equal,
                _by_equations(now, too_equal),
            )
        )
    return tuple(found)


def _too_equal(now: ClassMoments, nulls: Sequence[ClassMoments], ridge: float) -> tuple[str, ...]:
    """What of the classes deviates less than half as much as in the most even of all draws.

    Chance hardly ever does that; class moments that were made equal, not calibrated, do.
    """
    if not nulls:
        return ()
    whiten = np.linalg.inv(np.linalg.cholesky(now.global_covariance + ridge * np.eye(now.mean.shape[1])))

    def deviations(classes: ClassMoments) -> tuple[float, float]:
        means = (classes.mean - classes.global_mean) @ whiten.T
        covariances = whiten @ (classes.covariance - classes.within) @ whiten.T
        return (
            float(classes.weights @ (means**2).sum(axis=1)),
            float(classes.weights @ (covariances**2).sum(axis=(1, 2))),
        )

    least = np.min([deviations(null) for null in nulls], axis=0)
    pairs = zip(("means", "covariances"), deviations(now), least.tolist(), strict=True)
    return tuple(what for what, value, lowest in pairs if value < lowest / 2)


def _by_equations(now: ClassMoments, too_equal: tuple[str, ...]) -> float:
    """Equal moments over all users are d, or d (d + 3) / 2, linear equations in the labels of those an attacker lacks.

    Least squares explains about that share of the variance of n unknown labels; a share r of explained variance moves
    balanced accuracy by about 0.4 r^1/2 (for two classes cut at the middle of two normal distributions).
    """
    d = now.mean.shape[1]
    equations = (d if "means" in too_equal else 0) + (d * (d + 1) // 2 if "covariances" in too_equal else 0)
    unknown = max(0.2 * int(now.count.sum()), 1.0)
    return float(0.4 * np.sqrt(min(equations / unknown, 1.0)))


def relative_move(scaled: CellMoments, eraser: Eraser) -> float:
    """sum ||x' - x||^2 / sum ||x - mean||^2 over the users who asked."""
    asked = ~scaled.key.unmarked
    change = eraser.matrices - np.eye(scaled.dim)
    shift = np.einsum("cij,cj->ci", change, scaled.mean) + eraser.offsets
    spread = np.einsum("cij,cjk,cik->c", change, scaled.scatter, change)
    move = float((scaled.count * (shift**2).sum(axis=1) + spread)[asked].sum())
    total = scaled.mean_variance * scaled.dim * int(scaled.count[asked].sum())
    return move / total if total > 0 else 0.0


def common_scale(moments: CellMoments, eraser: Eraser) -> float:
    """The factor, at most 1, that brings moved vectors closest to the old ones in the sum of squares."""
    shifted = np.einsum("cij,cj->ci", eraser.matrices, moments.mean) + eraser.offsets
    spread = eraser.matrices @ moments.scatter
    with_old = moments.count @ (moments.mean * shifted).sum(axis=1) + np.trace(spread, axis1=1, axis2=2).sum()
    with_itself = moments.count @ (shifted**2).sum(axis=1) + float((spread * eraser.matrices).sum())
    return min(1.0, float(with_old) / max(float(with_itself), 1e-300))


def _null(name: str, count: NDArray[np.int64], d: int, generator: np.random.Generator) -> list[ClassMoments]:
    """Draws of random labels with these class counts on standard normal vectors; none for a single class."""
    classes = np.flatnonzero(count)
    if len(classes) < 2 or count.sum() <= d:
        return []
    key = CellKey((name,), (tuple(map(str, range(len(count)))),), classes[:, None].astype(np.int32))
    scatter = np.eye(d) * count[classes][:, None, None]
    moments = CellMoments(key, count[classes], np.zeros((len(classes), d)), scatter)
    return [null_marginals(moments, generator)[0] for _ in range(DRAWS)]


def _root(classes: ClassMoments) -> Matrix:
    values, directions = np.linalg.eigh(classes.global_covariance)
    return np.asarray((directions * np.sqrt(np.maximum(values, 0.0))) @ directions.T)


def _mapped(classes: ClassMoments, matrix: Matrix) -> ClassMoments:
    return ClassMoments(classes.count, classes.mean @ matrix.T, matrix @ classes.covariance @ matrix.T)


def _p(value: float, null: Sequence[float]) -> float:
    return (1 + sum(other >= value for other in null)) / (1 + len(null))
