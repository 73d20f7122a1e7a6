"""How good user and item vectors are on the validation items: what stops a training early."""

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.interactions import NO_ITEM, Split

_CHUNK = 1024


def validation_ndcg(
    users: NDArray[np.floating], items: NDArray[np.floating], split: Split, cutoff: int = 10
) -> float | None:
    """NDCG@cutoff of the validation items in the ranking of all items the user has not seen in training.

    Args:
        users: (U, d) user vectors.
        items: (I, d) item vectors.
        split: with one validation item a user, or -1. Its test items are ranked like any unseen item.
        cutoff: length of the list.

    Returns:
        The mean over the users who have a validation item, in [0, 1]; None when nobody has one.
    """
    rows = np.flatnonzero(split.validation_items != NO_ITEM)
    if len(rows) == 0:
        return None
    total = 0.0
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        scores = users[chunk] @ items.T
        held_out = split.validation_items[chunk]
        target = scores[np.arange(len(chunk)), held_out][:, None]
        seen = split.train.matrix[chunk].tocoo()
        scores[seen.row, seen.col] = -np.inf
        # Equal scores count against the model, so that a model that scores everything alike earns nothing.
        ahead = (scores >= target).sum(axis=1) - 1
        total += float(np.where(ahead < cutoff, 1 / np.log2(ahead + 2), 0.0).sum())
    return total / len(rows)
