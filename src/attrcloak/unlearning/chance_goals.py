"""Where class deviations are to go: to the sizes and correlations of chance, and no farther than that takes."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import ClassMoments, Matrix
from attrcloak.moments.transport import gaussian_map
from attrcloak.unlearning.whitening import Whitening

_DEVIATIONS = 2.0
"""Coordinates whose mean square is within so many standard deviations of chance are left as they are, but for a class
that is off by itself."""
_LEAST_BLOCK = 8
"""Whitened directions of class means that are looked at together, at least; a leak differs among them by tens."""
_NUMBERS_A_CLASS = 2
"""In a block, at least: with fewer, correlations of classes cannot be told."""
_BY_CHANCE = 0.01
"""How often one class of an attribute by itself may look like a leak in a block, where there is none."""
_RUN = 8
"""Coordinates side by side, at least, in which classes together deviate as in others. Coordinates come in the order of
how much they vary, and classes mostly show more in the first of them: these would keep the largest sizes of a block,
and whoever weighs coordinates by how much they vary would find more than chance."""
_NEIGHBOURS = 4
"""Blocks that are looked at together too."""
_ROUNDS = 5
_DRAWS = 32
"""Of eigenvalues by chance, for their means."""
_RIDGE = 1e-6
"""Of chance in the covariance of the classes, for deviations that are exactly alike."""


def blocks_of(coordinates: int, least: int, classes: int) -> list[slice]:
    """Coordinates in blocks of ``least`` or somewhat more, wide enough to tell how so many classes correlate."""
    width = max(least, _NUMBERS_A_CLASS * classes)
    edges = np.linspace(0, coordinates, max(coordinates // width, 1) + 1).astype(int).tolist()
    return [slice(begin, end) for begin, end in pairwise(edges) if begin < end]


def like_chance(deviations: Matrix, users: NDArray[np.int64]) -> Matrix:
    """The deviations of one attribute's classes as near to these as chance comes; these, where they may be chance.

    By chance the standardised deviations u_k of K classes of n_k users are normal in every coordinate, with

        E[u_k^2] = 1,   E[u_j u_k] = -(n_j n_k / ((n - n_j)(n - n_k)))^1/2,

    and independent from one coordinate to the next. Two things make a leak: that they are larger, and, with three
    classes or more, that neighbours deviate alike. So in turns classes are brought to those correlations by the linear
    map that is optimal transport between the two covariances, and the sizes |u_k| over the coordinates to those of as
    many normal numbers, each keeping its rank and its sign, evened out from one run of coordinates to the next.

    Known users of a class deviate by u + e and the others by u - e p / (1 - p), p the share of the known and e of
    variance (1 - p) / p. With u of variance 1 both are uncorrelated, and independent as far as u is normal: along
    directions about which nobody knows anything beforehand, neither tells anything of the other. Nothing is drawn, so
    noise that told nothing is not replaced.

    Args:
        deviations: (K, B) class means of B uncorrelated coordinates less the mean of all, in standard deviations that
            they have by chance; coordinates that vary alike side by side.
        users: (K,) users of each class, at least one.

    Returns:
        (K, B) in the same units; the same array where it does not leak.
    """
    return at_chance(deviations, users) if leaks(deviations) else deviations


def leaks(deviations: Matrix) -> bool:
    """Whether (K, B) standardised class deviations are larger than chance has them, all together or those of one class.

    One class among twenty may be far off and hardly show in the mean over all.
    """
    if not deviations.size:
        return False
    classes, width = deviations.shape
    # Deviations of K classes add up to nothing, so K - 1 of them are free.
    most = 1 + _DEVIATIONS * np.sqrt(2 / max((classes - 1) * width, 1))
    of_class = (deviations**2).sum(axis=1)
    from scipy.special import chdtri  # slow to load, and most methods never come here

    return float((deviations**2).mean()) > most or float(of_class.max()) > float(chdtri(width, _BY_CHANCE / classes))


def leaking_blocks(deviations: Matrix, blocks: Sequence[slice]) -> list[slice]:
    """Blocks that leak, by themselves or with their neighbours: a third more than chance is none for 64 numbers of two
    classes, and a leak for some hundreds.

    Args:
        deviations: (K, M) standardised class deviations.
        blocks: of the M coordinates, side by side.
    """
    found = []
    for first in range(0, len(blocks), _NEIGHBOURS):
        together = blocks[first : first + _NEIGHBOURS]
        whole = leaks(deviations[:, together[0].start : together[-1].stop])
        found += [block for block in together if whole or leaks(deviations[:, block])]
    return found


def at_chance(deviations: Matrix, users: NDArray[np.int64]) -> Matrix:
    """As ``like_chance``, whether or not these leak."""
    share = users / max(int(users.sum()), 1)
    odds = np.sqrt(share / np.maximum(1 - share, 1e-12))
    chance = -np.outer(odds, odds)
    np.fill_diagonal(chance, 1.0)
    goal = deviations
    for _ in range(_ROUNDS):
        goal = _evened(_of_normal_sizes(_correlated(goal, chance)))
    if deviations.shape[1] >= len(users):
        return _correlated(goal, chance)
    # So few coordinates cannot have the correlations of so many classes. All together they add up to nothing still.
    weights = np.sqrt(share * (1 - share))
    return np.asarray(goal - np.outer(weights, weights @ goal) / max(float(weights @ weights), 1e-300))


def rarity(users: NDArray[np.int64], everybody: NDArray[np.int64] | int) -> Matrix:
    """(K,) variance by chance of the mean of n_k of n users, drawn without replacement, in that of one user."""
    return np.asarray(np.maximum(1 / np.maximum(users, 1) - 1 / np.maximum(everybody, 1), 1e-12))


def mean_goals(own: ClassMoments, now: ClassMoments | None = None) -> ClassMoments:
    """The class means of one attribute at the sizes of chance, block by block of whitened principal directions.

    Args:
        own: moments of the classes.
        now: of the same classes, when users have moved since and vary otherwise: means deviate by chance as users vary.

    Returns:
        Counts and covariances as in ``own``; classes without users keep their mean.
    """
    present = np.flatnonzero(own.count)
    users = own.count[present]
    total = int(users.sum())
    whitening = Whitening.of_covariance(own.global_mean, own.within)
    chance = np.sqrt(rarity(users, total))[:, None]
    deviations = whitening.whitened(own.mean[present]) / chance
    for block in blocks_of(deviations.shape[1], _LEAST_BLOCK, len(present)):
        deviations[:, block] = like_chance(deviations[:, block], users)
    if now is not None:
        variance = np.einsum("dq,de,eq->q", whitening.axes, now.within, whitening.axes)
        chance = chance * np.sqrt(np.maximum(variance, 0.0))
    mean = own.mean.copy()
    # Along directions in which no class varies there is no chance to be like, so all classes have the common mean.
    mean[present] = own.global_mean + whitening.coloured(deviations * chance)
    return replace(own, mean=mean)


def spectra_of_chance(dimensions: int, users: NDArray[np.int64]) -> Matrix:
    """(K, q) mean eigenvalues, rising, of what chance leaves between a class and all others in products of two.

    The mean of w w^T over the users of a class, w white in q dimensions, is off that over the others by a difference of
    two Wishart matrices; these are means over simulated ones. Where both have many users the eigenvalues lie on a
    semicircle (Wigner 1958); where a class has fewer users than dimensions a few are large and the rest negative and
    all but equal, as Marchenko and Pastur (1967) have it.

    Args:
        dimensions: q.
        users: (K,) of each class, at least 1; K at least 2.
    """
    rng = np.random.default_rng(0)  # nothing secret hangs on these

    def white(n: int) -> Matrix:
        w = rng.normal(size=(_DRAWS, min(n, dimensions), dimensions))
        if n >= dimensions:  # a triangle that has the same products (Bartlett 1933)
            w = np.triu(w, 1)
            w[:, np.arange(dimensions), np.arange(dimensions)] = np.sqrt(
                rng.chisquare(n - np.arange(dimensions), (_DRAWS, dimensions))
            )
        return np.asarray(np.swapaxes(w, 1, 2) @ w / n)

    everybody = int(users.sum())
    return np.array([np.linalg.eigvalsh(white(n) - white(everybody - n)).mean(axis=0) for n in users.tolist()])


def of_spectra(matrices: Matrix, spectra: Matrix) -> Matrix:
    """(K, q, q) symmetric matrices with eigenvalues in these (K, q) proportions, of the same mean square.

    Eigenvectors and ranks stay, as with ``like_chance``: what a few directions show, which entries of the usual size
    can hold when their signs conspire, is no larger than the largest that chance shows.
    """
    values, directions = np.linalg.eigh(matrices)
    size = np.sqrt((values**2).sum(axis=1, keepdims=True) / (spectra**2).sum(axis=1, keepdims=True))
    return np.asarray((directions * (size * spectra)[:, None, :]) @ np.swapaxes(directions, 1, 2))


def _correlated(deviations: Matrix, chance: Matrix) -> Matrix:
    """The nearest deviations with these correlations: optimal transport from N(0, S) to N(0, C), S their covariance."""
    classes, width = deviations.shape
    covariance = deviations @ deviations.T / width
    covariance += _RIDGE * np.trace(covariance) / classes * chance
    return np.asarray(gaussian_map(covariance, chance) @ deviations)


def _of_normal_sizes(deviations: Matrix) -> Matrix:
    """Every row with the sizes of as many normal numbers; ranks and signs stay."""
    from scipy.special import ndtri

    width = deviations.shape[1]
    normal = ndtri(0.5 + 0.5 * (np.arange(width) + 0.5) / width)
    ranks = np.abs(deviations).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.asarray(np.copysign(normal[ranks], deviations))


def _evened(deviations: Matrix) -> Matrix:
    """All classes together with mean square 1 in each run of coordinates; what is 0 stays."""
    goal = deviations.copy()
    for run in blocks_of(goal.shape[1], _RUN, 0):
        goal[:, run] /= np.sqrt(max(float((goal[:, run] ** 2).mean()), 1e-300))
    return goal
