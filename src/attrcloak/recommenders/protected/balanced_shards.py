"""Shards of bounded size round the centres of k-means."""

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings


def centres(points: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """(count, d) centres of k-means on (n, d) points, n at least ``count``; the same seed gives the same ones."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # One thread: sums in another order give other last digits, and so perhaps another partition.
    with threadpool_limits(limits=1):
        fitted = KMeans(n_clusters=count, n_init=1, random_state=seed).fit(points)
    return np.asarray(fitted.cluster_centers_, dtype=np.float64)


def balanced_assignment(distances: NDArray[np.float64], capacity: int) -> NDArray[np.int64]:
    """Give each point to a centre, no centre more than ``capacity`` points.

    The result is that of going through all pairs of point and centre from the nearest on and taking a pair whenever the
    point is free and the centre not full (Chen et al., WWW 2022, algorithm 1). As both sides rank pairs by the same
    distance, deferred acceptance ends there too, and does it with whole columns at a time.

    Args:
        distances: (n, k) from each point to each centre.
        capacity: at least n / k.

    Returns:
        (n,) centre of each point.
    """
    n, k = distances.shape
    if capacity * k < n:
        raise InvalidSettings(f"{k} centres with room for {capacity} do not hold {n} points")
    preference = np.argsort(distances, axis=1, kind="stable")
    tried = np.zeros(n, dtype=np.int64)
    centre = np.full(n, -1, dtype=np.int64)
    free = np.arange(n)
    while len(free):
        asked = preference[free, tried[free]]
        tried[free] += 1
        centre[free] = asked
        for full in np.unique(asked).tolist():
            held = np.flatnonzero(centre == full)
            if len(held) > capacity:
                order = np.argsort(distances[held, full], kind="stable")
                centre[held[order[capacity:]]] = -1
        free = np.flatnonzero(centre == -1)
    return centre


def squared_distances(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, k) squared distances of (n, d) points to (k, d) centres."""
    squares = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.asarray(squares - 2 * points @ centres.T, dtype=np.float64)
