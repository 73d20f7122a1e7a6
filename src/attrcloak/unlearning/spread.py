"""Directions in which the vectors of a table hardly vary, and the others."""

import numpy as np

from attrcloak.moments.cell_moments import Matrix


def by_spread(vectors: Matrix, share: float) -> tuple[Matrix, Matrix, Matrix]:
    """The mean (d,), and orthonormal bases (d, j) and (d, d - j) of the narrowest directions and of the others.

    The j narrowest principal directions hold at most ``share`` of the variance together.
    """
    centre = vectors.mean(axis=0)
    values, directions = np.linalg.eigh(np.cov(vectors.T, bias=True).reshape(vectors.shape[1], -1))
    held = np.cumsum(np.maximum(values, 0.0))
    narrow = int(np.count_nonzero(held <= share * held[-1])) if held[-1] > 0 else 0
    return centre, directions[:, :narrow], directions[:, narrow:]
