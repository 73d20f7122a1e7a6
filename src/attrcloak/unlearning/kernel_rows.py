"""Rows of kernels between users, at all widths at once: what they sum to by class, and the weights of a flow."""

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BANDS = 5
"""Kernels, each the square of the one before: half as wide."""

PAIRS_WORTH_COMPILING = 1 << 18
"""A round of fewer pairs of users is done before the compiled way is loaded."""

Floats = NDArray[np.float32]
Codes = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class References:
    """Whom the users of a row are compared with, and how strongly each of them pulls.

    Attributes:
        own: (A, m) classes of the references, counted through all attributes; -1 where not marked.
        drawn: (A, m) their drawn classes, likewise.
        away: (C,) weight of a reference of the user's own class.
        toward: (C,) weight of a reference that was drawn for it.
        speeds: (C, BANDS) of every class under every kernel.
    """

    own: Codes
    drawn: Codes
    away: Floats
    toward: Floats
    speeds: Floats


@dataclass(frozen=True, eq=False)
class KernelSums:
    """Sums over the references, for r users.

    Attributes:
        within: (r, A, BANDS) over references of the user's own class; 0 where that is not known.
        density: (r, BANDS + 1) over all; the last is of the square of the narrowest kernel.
    """

    within: Floats
    density: Floats


class KernelRows(Protocol):
    """Reads rows of the widest kernel and leaves the flow's weights in their place; of this module, or compiled."""

    def __call__(self, kernel: Floats, codes: Codes, references: References) -> KernelSums:
        """Sums of a row, and its weights.

        A reference j gets the weight

            sum_a (away_c [own_aj = c] - toward_c [drawn_aj = c]) sum_b speed_cb k_b / density_b,

        c the user's class of attribute a.

        Args:
            kernel: (r, m) the widest kernel, 0 for the pair of a user with itself; overwritten by the weights.
            codes: (r, A) classes of the users, counted through all attributes; -1 where not marked.
            references: m of them.
        """


def numpy_rows(kernel: Floats, codes: Codes, references: References) -> KernelSums:
    """See ``KernelRows``."""
    (rows, others), attributes = kernel.shape, codes.shape[1]
    within = np.zeros((rows, attributes, BANDS), dtype=np.float32)
    density = np.empty((rows, BANDS + 1), dtype=np.float32)
    same = [column[:, None] == own for column, own in zip(codes.T, references.own, strict=True)]
    for each, column in zip(same, codes.T, strict=True):
        each[column < 0] = False
    weights = [np.zeros((rows, others), dtype=np.float32) for _ in range(attributes)]
    band = kernel.copy()
    for b in range(BANDS):
        density[:, b] = band.sum(axis=1)
        normalised = band / (density[:, b, None] + np.float32(1e-12))
        for a, column in enumerate(codes.T):
            within[:, a, b] = np.where(same[a], band, 0).sum(axis=1)
            weights[a] += references.speeds[column, b][:, None] * normalised
        band *= band
    density[:, BANDS] = band.sum(axis=1)
    kernel[:] = 0
    for a, column in enumerate(codes.T):
        drawn = (column[:, None] == references.drawn[a]) & (column[:, None] >= 0)
        pull = same[a] * references.away[column][:, None] - drawn * references.toward[column][:, None]
        kernel += pull * weights[a]
    return KernelSums(within, density)


def choose_rows(pairs: int) -> KernelRows:
    """Choose for so many pairs of users in a round: compiled where that pays and Numba is installed."""
    return _compiled() if pairs >= PAIRS_WORTH_COMPILING else numpy_rows


@cache
def _compiled() -> KernelRows:
    try:
        from attrcloak.unlearning.compiled_kernel_rows import compiled_rows
    except ImportError:  # Numba is an extra
        return numpy_rows
    return compiled_rows
