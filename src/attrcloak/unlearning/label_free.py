"""One map for everybody, for when old copies of the vectors may exist."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from attrcloak.errors import InvalidSettings
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix
from attrcloak.moments.eraser import Eraser
from attrcloak.progress import Progress
from attrcloak.unlearning.method import Length, Moved, Rows
from attrcloak.unlearning.null_draw import secret_generator


@dataclass(frozen=True, kw_only=True)
class LabelFree:
    """Erase the fewest directions that bring what class means give away down to chance; one map for everybody.

    Whoever holds the old and the new vector of a user reads the class from the difference wherever the map depends on
    the class. Here it does not: the difference is a function of the old vector, and all that labels entered into are
    the few directions that are erased. Like LEACE (Belrose et al. 2023) it projects in whitened coordinates, but

    1. only until the squared correlation of vectors and classes that is left, sum_k w_k |W (mu_k - mu)|^2, is what
       labels without meaning would have: (d - r)(K - 1) / N for N users, K classes and r directions erased. LEACE
       leaves 0, which pushes attackers below chance, and below chance is readable;
    2. the last direction of an attribute is turned towards a random one so far that exactly this much is left. Where
       to comes from the secret key.

    What class covariances and higher moments give away stays: quadratic attackers and trees read it still. Where no
    old copy can exist, ``Calibrated`` protects from these as well.

    Attributes:
        covariance_directions: further directions to erase, those in which class covariances differ most.
        erased: "mean" gives every user the same, mean component along the erased directions, which leaves an eraser
            that can be applied to anybody; "exchange" gives them that of another user, drawn from the key, so that
            among users who did not ask nobody stands out by lying in a subspace. It costs more.
        length: as in ``Calibrated``.
    """

    name: ClassVar[str] = "label-free"
    uses_key: ClassVar[bool] = True

    covariance_directions: int = 0
    erased: Literal["mean", "exchange"] = "mean"
    length: Length = "auto"

    def __post_init__(self) -> None:
        if self.covariance_directions < 0:
            raise InvalidSettings(f"covariance_directions is {self.covariance_directions}, expected 0 or more")

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Find the directions from the moments of the cells, and project."""
        moments = rows.moments
        eraser = self._solve(moments, secret_generator(rows.key, b"directions"))
        moved = eraser.apply(rows.vectors, rows.cells.of_user)
        if self.erased == "mean":
            return Moved(moved, eraser=eraser)
        asked = np.flatnonzero(rows.cells.moves)
        gone = rows.vectors[asked] - moved[asked]
        moved[asked] += gone[secret_generator(rows.key, b"exchange").permutation(len(asked))]
        return Moved(moved)

    def _solve(self, moments: CellMoments, rng: np.random.Generator) -> Eraser:
        marginals = [m for m in moments.marginals() if np.count_nonzero(m.count) > 1]
        if not marginals:
            return Eraser.identity(moments.key, moments.dim)
        centre, covariance = _of_those_who_asked(moments)
        values, directions = np.linalg.eigh(covariance)
        present = values > 1e-9 * max(float(values[-1]), 1e-300)
        roots, directions = np.sqrt(values[present]), directions[:, present]
        whiten, unwhiten = directions / roots, directions * roots
        basis = mean_directions([_correlations(m, whiten) for m in marginals], [_chance(m) for m in marginals], rng)
        for _ in range(min(self.covariance_directions, len(roots) - basis.shape[1])):
            basis = np.hstack((basis, _covariance_direction(marginals, whiten, basis)))
        matrix = np.eye(moments.dim) - unwhiten @ basis @ basis.T @ whiten.T
        cells = len(moments.key)
        offsets = np.tile(centre - matrix @ centre, (cells, 1))
        return Eraser(moments.key, np.tile(matrix, (cells, 1, 1)), offsets)


def mean_directions(correlations: list[Matrix], chance: list[float], rng: np.random.Generator) -> Matrix:
    """Orthonormal directions without which the correlations with every attribute are at chance.

    The attribute farthest above chance goes first: its strongest directions are erased one by one, the last one only
    as far as needed. What is erased for others afterwards leaves fewer dimensions to carry the rest; an attribute is
    taken up again where that brings it more than a standard deviation above chance.

    Args:
        correlations: for each of one or more attributes (d, K), with columns sqrt(w_k) W (mu_k - mu), mu_k class means.
        chance: for each attribute the sum of squares to expect in each dimension where labels mean nothing.
        rng: draws where the last direction of an attribute is turned to.

    Returns:
        (d, r), r from 0 to d.
    """
    d = len(correlations[0])
    basis = np.zeros((d, 0))
    finished: set[int] = set()
    while basis.shape[1] < d:
        free = d - basis.shape[1]
        left = [c - basis @ (basis.T @ c) for c in correlations]
        above = [float((c**2).sum()) / (unit * free) for c, unit in zip(left, chance, strict=True)]
        limit = [1 + (_deviation(c, free) if j in finished else 0.0) for j, c in enumerate(correlations)]
        open_ = [j for j in range(len(above)) if above[j] > limit[j]]
        if not open_:
            break
        worst = max(open_, key=above.__getitem__)
        directions, strengths, _ = np.linalg.svd(left[worst])
        strengths = np.append(strengths, np.zeros(d))[:d]
        direction, excess = directions[:, 0], chance[worst] * (above[worst] * free - (free - 1))
        if strengths[0] ** 2 >= excess:
            finished.add(worst)
            silent = directions[:, strengths <= 1e-9 * strengths[0]]
            aside = silent @ (silent.T @ rng.normal(size=d))
            aside -= basis @ (basis.T @ aside)
            length = float(np.linalg.norm(aside))
            if length > 1e-9:
                cosine = np.sqrt(excess) / strengths[0]
                direction = cosine * direction + np.sqrt(1 - cosine**2) * aside / length
        basis = np.hstack((basis, direction[:, None]))
    return basis


def _deviation(correlations: Matrix, free: int) -> float:
    """Standard deviation of the share of chance: a chi-squared variable's of free (K - 1) degrees of freedom."""
    return float(np.sqrt(2 / (free * max(int(correlations.any(axis=0).sum()) - 1, 1))))


def _correlations(marginal: ClassMoments, whiten: Matrix) -> Matrix:
    apart = (marginal.mean - marginal.global_mean) @ whiten
    return np.asarray((np.sqrt(marginal.weights)[:, None] * apart).T)


def _chance(marginal: ClassMoments) -> float:
    return float((np.count_nonzero(marginal.count) - 1) / marginal.count.sum())


def _covariance_direction(marginals: list[ClassMoments], whiten: Matrix, basis: Matrix) -> Matrix:
    """(d', 1) the direction, off the basis, along which class covariances differ most from the pooled one."""
    keep = np.eye(whiten.shape[1]) - basis @ basis.T
    apart = np.zeros_like(keep)
    for marginal in marginals:
        for weight, covariance in zip(marginal.weights, marginal.covariance, strict=True):
            deviation = keep @ whiten.T @ (covariance - marginal.within) @ whiten @ keep
            apart += weight * deviation @ deviation
    # Erased directions come last, whatever the rounding.
    return np.asarray(np.linalg.eigh(apart - basis @ basis.T)[1][:, -1:])


def _of_those_who_asked(moments: CellMoments) -> tuple[Matrix, Matrix]:
    asked = ~moments.key.unmarked
    count, mean = moments.count[asked], moments.mean[asked]
    users = max(int(count.sum()), 1)
    centre = count @ mean / users
    apart = (mean - centre) * np.sqrt(count)[:, None]
    return centre, (moments.scatter[asked].sum(axis=0) + apart.T @ apart) / users
