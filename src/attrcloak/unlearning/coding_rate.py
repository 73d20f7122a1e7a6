"""PAU: attribute unlearning by coding rates (Feng et al., WWW 2025)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings
from attrcloak.moments.cell_moments import Matrix
from attrcloak.progress import Progress
from attrcloak.unlearning.adam import Adam, descend
from attrcloak.unlearning.method import Moved, Rows

SWEEPS = 20
"""Most rounds over the attributes that bring all class norms to what they were; a few are enough, one for a single
attribute."""


@dataclass(frozen=True, kw_only=True)
class PAU:
    """Raise the coding rate within classes while that of the whole table stays what it was.

    For the vectors Z (d, m) of the users who asked for an attribute, of which m_j belong to class j:
    R = 1/2 log det(I + d / (m eps^2) Z Z^T), R^c = sum_j m_j / (2 m) log det(I + d / (m_j eps^2) Z_j Z_j^T). Maximise
    sum over the attributes of R^c - ``rate_weight`` |R - b|, with b = R at the start and sum ||z||^2 of every class
    held at what it was, by Adam. R - R^c is never negative, and zero when all classes have the same second moments
    Z_j Z_j^T / m_j: an uncentred cousin of AttrCloak's surrogate, with eps^2 / d in the place of the ridge.

    What is held stays readable: a class of longer vectors keeps its length. And second moments about the origin hardly
    see a difference of means in a table whose mean is near the origin, and not at all where the means mirror each
    other: on MovieLens-100K BPR vectors R - R^c of gender falls from .095 to .009 nats, below the .07 of shuffled
    labels, while XGBoost and MLP keep reading gender (balanced accuracy .66 and .67, of .67 and .70). On ALS vectors,
    whose mean holds .12 of the squared length and not .03, they fall to .53 and .47 (of .63 and .67).

    The paper leaves open what is chosen here. Vectors are measured in their root mean square length, as the rate
    assumes vectors of about length 1; norms of classes of several attributes are held by a few rounds over the
    attributes, whose factors go to every member of a class alike; b is the rate at the start, so that "as informative
    as before" needs no number; every attribute has its own R, over the users who asked for it.

    Attributes:
        steps: most steps of Adam.
        learning_rate: of Adam, in units of the table's root mean square coordinate.
        distortion: eps^2 for vectors of length 1, above 0; 0.5 is what coding rate reduction is commonly run with
            (Yu et al., NeurIPS 2020). Smaller values count narrower directions.
        rate_weight: lambda, not negative. At 1 the objective where the rate has risen is R^c - R + b, which does not
            ask it back, and vectors drift: on MovieLens-100K ALS vectors NDCG@10 is .058 at 1 and .068 at 3, of .076
            before. Larger values take more steps, since the sign changes that hold the rate also slow Adam down.
    """

    name: ClassVar[str] = "pau"

    steps: int = 500
    learning_rate: float = 0.01
    distortion: float = 0.5
    rate_weight: float = 3.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.learning_rate <= 0 or self.distortion <= 0 or self.rate_weight < 0:
            raise InvalidSettings(
                "steps, learning_rate and distortion must be positive, rate_weight must not be negative"
            )

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Ascend on rows; only users who asked move."""
        start = rows.vectors[rows.cells.moves]
        codes = rows.cells.codes[rows.cells.moves]
        unit = float(np.sqrt((start**2).mean())) or 1.0
        scale = 1 / self.distortion  # d / eps^2 for length 1 is this for coordinates of about 1
        z = start / unit
        attributes = [column for column in codes.T if len(np.unique(column[column >= 0])) > 1]
        norms = np.einsum("nd,nd->n", z, z)
        targets = [_class_sums(norms, column) for column in attributes]
        wanted = [coding_rate(z[column >= 0], scale)[0] for column in attributes]

        def slope(moved: Matrix) -> Matrix:
            found = np.zeros_like(z)
            for column, rate in zip(attributes, wanted, strict=True):
                found += rate_loss(z + moved, column, scale, self.rate_weight, rate)[1]
            return found

        return descend(
            rows,
            Adam(learning_rate=self.learning_rate),
            slope,
            name=self.name,
            steps=self.steps,
            unit=unit,
            project=lambda moved: with_class_norms(z + moved, attributes, targets) - z,
            progress=progress,
        )


def coding_rate(vectors: Matrix, scale: float) -> tuple[float, Matrix]:
    """Rate 1/2 log det(I + scale / m X^T X) of m vectors, in nats, and its gradient (m, d).

    Args:
        vectors: (m, d), at least one.
        scale: d / eps^2 of the paper, in squared units of the vectors.
    """
    users, d = vectors.shape
    matrix = np.eye(d) + (scale / users) * (vectors.T @ vectors)
    return 0.5 * float(np.linalg.slogdet(matrix)[1]), (scale / users) * np.linalg.solve(matrix, vectors.T).T


def rate_loss(
    vectors: Matrix, column: NDArray[np.integer], scale: float, rate_weight: float, wanted: float
) -> tuple[float, Matrix]:
    """-(R^c - lambda |R - b|) of one attribute, in nats, and its gradient (n, d).

    Args:
        vectors: (n, d).
        column: (n,) classes, -1 for users who did not ask for this attribute; they have no part in it.
        scale: as in ``coding_rate``.
        rate_weight: lambda.
        wanted: b.
    """
    marked = np.flatnonzero(column >= 0)
    gradient = np.zeros_like(vectors)
    rate, outwards = coding_rate(vectors[marked], scale)
    gradient[marked] = rate_weight * np.sign(rate - wanted) * outwards
    within = 0.0
    for k in np.unique(column[marked]):
        own = np.flatnonzero(column == k)
        share = len(own) / len(marked)
        rate_of_class, outwards = coding_rate(vectors[own], scale)
        within += share * rate_of_class
        gradient[own] -= share * outwards
    return rate_weight * abs(rate - wanted) - within, gradient


def with_class_norms(vectors: Matrix, attributes: Sequence[NDArray[np.integer]], targets: Sequence[Matrix]) -> Matrix:
    """Vectors scaled so that sum ||x||^2 of every class of every attribute is what it has to be.

    One factor a class, attribute after attribute (iterative proportional fitting), until all fit to 1e-9 or ``SWEEPS``
    rounds are done. Zero vectors stay zero.

    Args:
        vectors: (n, d).
        attributes: for each (n,) classes, -1 for users who did not ask for it.
        targets: for each (K,) sums of squares.
    """
    squares = np.einsum("nd,nd->n", vectors, vectors)
    factors = np.ones(len(vectors))
    for _ in range(SWEEPS):
        off = 0.0
        for column, target in zip(attributes, targets, strict=True):
            now = _class_sums(squares * factors, column)
            ratio = np.where(now > 0, target / np.where(now > 0, now, 1.0), 1.0)
            off = max(off, float(np.abs(ratio - 1).max()))
            factors = factors * np.append(ratio, 1.0)[column]  # the last place is that of class -1
        if off < 1e-9:
            break
    return vectors * np.sqrt(factors)[:, None]


def _class_sums(values: Matrix, column: NDArray[np.integer]) -> Matrix:
    asked = column >= 0
    return np.asarray(np.bincount(column[asked], weights=values[asked]), dtype=np.float64)
