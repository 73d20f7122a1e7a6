"""Intervals of balanced accuracy."""

import numpy as np
from numpy.typing import NDArray

from attrcloak.auditing.measures import Codes, Matrix


def bootstrap_interval(
    rates: Matrix, codes: Codes, classes: int, resamples: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap over users and seeds of the mean over classes of the share found.

    Users are drawn with replacement within their class, and so are the seeds of the attack, so that the interval holds
    the luck of the sample of users and that of splits and initial weights. The answers stay as they are; refits on
    resampled users would be wider still.

    Args:
        rates: (S, n) share of right answers on each user under each seed; NaN where a user was not attacked.
        codes: (n,) classes.
        classes: K.
        resamples: bootstrap samples.
        rng: draws them.
        level: of the interval, in (0, 1).
    """
    seeds = len(rates)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    total = np.zeros(resamples)
    occurring = 0
    for k in range(classes):
        of_class = rates[:, codes == k]
        of_class = of_class[:, ~np.isnan(of_class).all(axis=0)]
        if not of_class.shape[1]:
            continue
        occurring += 1
        total += _resampled_means(of_class, drawn_seeds, rng)
    low, high = np.quantile(total / max(occurring, 1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(rates: Matrix, drawn_seeds: Matrix, rng: np.random.Generator) -> NDArray[np.float64]:
    """(B,) mean over users drawn with replacement, seeds weighted by how often each was drawn."""
    users = rates.shape[1]
    there = ~np.isnan(rates)
    draws = rng.integers(users, size=(len(drawn_seeds), users), dtype=np.int32)
    times = np.zeros((len(drawn_seeds), users), dtype=np.float64)
    rows = np.repeat(np.arange(len(drawn_seeds)), users)
    times += np.bincount(rows * users + draws.ravel(), minlength=times.size).reshape(times.shape)
    means = (times @ np.where(there, rates, 0.0).T) / np.maximum(times @ there.T.astype(np.float64), 1e-300)
    return np.asarray((means * drawn_seeds).sum(axis=1))
