"""Groups of a number, such as the seven age groups of MovieLens that every data set here is told in."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

AGE_EDGES: tuple[float, ...] = (18, 25, 35, 45, 50, 56)
"""Lowest age, in years, of every group but the first."""


def group_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Names of the len(edges) + 1 groups: ``(18, 25)`` gives "under 18", "18-24", "25+"."""
    texts = [f"{edge:g}" for edge in edges]
    whole = all(float(edge).is_integer() for edge in edges)
    between = [
        f"{low:g}-{high - 1:g}" if whole and high - low > 1 else f"{low:g}" if whole else f"{low:g} to under {high:g}"
        for low, high in pairwise(edges)
    ]
    return (f"under {texts[0]}", *between, f"{texts[-1]}+")


AGE_GROUPS: tuple[str, ...] = group_names(AGE_EDGES)


def group_codes(values: NDArray[np.floating], edges: Sequence[float] = AGE_EDGES) -> NDArray[np.int32]:
    """(n,) group of each value in [0, len(edges)], -1 where the value is NaN."""
    codes = np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right").astype(np.int32)
    return np.where(np.isnan(values), np.int32(-1), codes).astype(np.int32)
