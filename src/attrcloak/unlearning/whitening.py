"""Coordinates in which a table has no preferred direction: its principal components, each of variance 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix

_LEAST = 1e-9
"""Variance over the largest, below which a direction counts as constant."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map to q coordinates and back to what they stand for.

    Attributes:
        centre: (d,) the mean.
        axes: (d, q) principal directions, each over its standard deviation, widest first.
        back: (q, d) the same, each times its standard deviation.
    """

    centre: Matrix
    axes: Matrix
    back: Matrix

    @classmethod
    def of(cls, vectors: Matrix) -> "Whitening":
        """Of (n, d) vectors."""
        centre = vectors.mean(axis=0)
        centred = vectors - centre
        return cls.of_covariance(centre, centred.T @ centred / max(len(vectors), 1))

    @classmethod
    def of_covariance(cls, centre: Matrix, covariance: Matrix) -> "Whitening":
        """Of vectors with this mean (d,) and covariance (d, d)."""
        values, directions = np.linalg.eigh(covariance)
        values, directions = values[::-1], directions[:, ::-1]
        varies = values > max(_LEAST * float(values[0]) if len(values) else 0.0, 1e-300)
        spread = np.sqrt(values[varies])
        return cls(centre, directions[:, varies] / spread, (directions[:, varies] * spread).T)

    def widest(self, most: int) -> "Whitening":
        """The widest directions alone, so many at most."""
        return Whitening(self.centre, self.axes[:, :most], self.back[:most])

    def whitened(self, vectors: Matrix) -> Matrix:
        """(n, q) of (n, d) vectors."""
        return np.asarray((vectors - self.centre) @ self.axes)

    def coloured(self, steps: Matrix) -> Matrix:
        """(n, d) steps of (n, q) steps in these coordinates."""
        return np.asarray(steps @ self.back)


def inward_factors(coordinates: NDArray[np.floating]) -> Matrix:
    """(n, 1) factors that draw users in who lie far out, and leave those of the usual length where they are.

    z becomes z (2 / (1 + |z|^2 / q))^1/2 in q dimensions: at most 2^1/2 times as long as usual, however far out. Users
    nearer than usual go outwards, by 2^1/2 times at most.

    Args:
        coordinates: (n, q) of variance 1.
    """
    squares = (coordinates.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
    return np.asarray(np.sqrt(2 / (1 + squares / max(coordinates.shape[1], 1))))
