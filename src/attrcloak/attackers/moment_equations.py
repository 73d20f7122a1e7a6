"""Reading labels off moments that were made to hit a known target."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from attrcloak.moments.cell_moments import ClassMoments

Matrix = NDArray[np.float64]
CHUNK = 4096
"""Users whose products are held at one time."""


@dataclass(frozen=True, kw_only=True)
class MomentEquations:
    """Settings of the attack.

    Attributes:
        ridge: added to the equations' Gram matrix, as a share of its mean diagonal; above 0. It bears the rounding of
            float32 tables.
        max_dim: principal directions used at most. Equal moments are equal in every projection, and d directions make
            d (d + 3) / 2 equations.
    """

    ridge: float = 1e-6
    max_dim: int = 64


def moment_equation_attack(
    vectors: NDArray[np.floating],
    labels: NDArray[np.integer],
    known: NDArray[np.bool_],
    classes: int,
    *,
    target: "ClassMoments | None" = None,
    settings: MomentEquations | None = None,
) -> Matrix:
    """Solve for the labels of users from the first and second moments of the classes.

    If the means and covariances of the classes over *all* users are known, then sum_i y_ik phi(x_i) is known for
    phi(x) = (x, upper triangle of x x^T): linear equations in the labels y of the users not known. With phi centred
    over all users, r = y - class shares, and class moments equal to the global ones, they read
    sum_{unknown} r_ik phi(x_i) = - sum_{known} r_ik phi(x_i), solved by ridge regression of least norm. Needs neither
    features that separate the classes nor a model of them.

    Args:
        vectors: (n, d) every user whose moments were matched, and no other.
        labels: (n,) classes in [0, classes); read only where ``known``.
        known: (n,) users whose class the attacker knows.
        classes: number of classes K, at least 2.
        target: class moments the table was made to hit, for an attacker who holds the null draw. None: every class
            was made to hit the global moments.
        settings: None is the default.

    Returns:
        (u, K) scores of the users not known, in order: soft labels with the class shares of the known users taken out
        and each class brought to the same scale. The highest is the answer.
    """
    settings = settings or MomentEquations()
    one_hot = np.eye(classes)[labels[known]]
    share = one_hot.mean(axis=0)
    x, basis, centre = _whitened(np.asarray(vectors, dtype=np.float64), settings.max_dim)
    right = np.zeros((x.shape[1] * (x.shape[1] + 3) // 2, classes))
    for rows in _chunks(len(one_hot)):
        right -= _features(x[known][rows]).T @ (one_hot - share)[rows]
    if target is not None:
        right += _expected(target, basis, centre).T * (len(x) * share)
    residual = _least_norm(x[~known], right, settings.ridge)
    return np.asarray(residual / np.sqrt(np.maximum(share * (1 - share), 1e-12)))


def _whitened(vectors: Matrix, max_dim: int) -> tuple[Matrix, Matrix, Matrix]:
    """(n, q) vectors along the leading principal directions, scaled to variance 1; the map (d, q), and the mean."""
    centre = vectors.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov(vectors.T, bias=True).reshape(vectors.shape[1], -1))
    kept = np.flatnonzero(values > 1e-10 * values.max(initial=0))[::-1][:max_dim]
    basis = directions[:, kept] / np.sqrt(values[kept])
    return (vectors - centre) @ basis, basis, centre


def _features(x: Matrix) -> Matrix:
    """(m, q (q + 3) / 2) first and second powers, less their mean over all users: whitened, so 0 and the identity."""
    rows, columns = np.triu_indices(x.shape[1])
    return np.hstack((x, x[:, rows] * x[:, columns] - (rows == columns)))


def _expected(target: "ClassMoments", basis: Matrix, centre: Matrix) -> Matrix:
    """(K, equations) what the features of a class are to be on average."""
    means = (target.mean - centre) @ basis
    seconds = basis.T @ target.covariance @ basis + means[:, :, None] * means[:, None, :]
    rows, columns = np.triu_indices(basis.shape[1])
    return np.hstack((means, seconds[:, rows, columns] - (rows == columns)))


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


def _least_norm(x: Matrix, right: Matrix, ridge: float) -> Matrix:
    """(u, K) least-norm ridge solution r of features^T r = right, from the smaller of the two Gram matrices."""
    from scipy.linalg import cho_factor, cho_solve

    few_users = len(x) <= len(right)
    if few_users:
        features = _features(x)
        gram = features @ features.T
    else:
        gram = np.zeros((len(right), len(right)))
        for rows in _chunks(len(x)):
            features = _features(x[rows])
            gram += features.T @ features
    gram[np.diag_indices_from(gram)] += ridge * max(float(np.trace(gram)) / len(gram), 1e-300)
    factor = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    if few_users:
        return np.asarray(cho_solve(factor, features @ right, check_finite=False))
    weights = cho_solve(factor, right, check_finite=False)
    return np.concatenate([_features(x[rows]) @ weights for rows in _chunks(len(x))])
