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


def exchanged(vectors: Matrix, share: float, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
    """What the narrowest directions hold, dealt out to the users anew, and a basis of the others.

    Args:
        vectors: (n, d).
        share: of the variance, that the exchanged directions hold at most.
        rng: deals.

    Returns:
        (d, q) orthonormal basis of the wide directions, and (n, d) what users have beside their coordinates there.
    """
    centre, narrow, wide = by_spread(vectors, share)
    dealt = ((vectors - centre) @ narrow)[rng.permutation(len(vectors))]
    return wide, (dealt + centre @ narrow) @ narrow.T
