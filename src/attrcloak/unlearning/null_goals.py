"""What the moments of each class are to become: indistinguishable from those of a class drawn at random."""

import numpy as np

from attrcloak.moments.cell_moments import ClassMoments, Matrix

_BLOCK = 8
"""Principal directions whose deviations are measured together: 36 or 64 entries settle a variance to a fifth."""


def null_goals(own: ClassMoments, drawn: ClassMoments, own_per_dimension: float, noise: float) -> ClassMoments:
    """Goal of every class of one attribute: the drawn mean, and a covariance that keeps what was only chance.

    A class covariance deviates from the pooled one by D = T + E, T what the attribute does and E sampling noise, whose
    variance v per entry the drawn classes show. It is to deviate by a D + b Z instead, Z the drawn deviation.
    What attackers can use is whether the deviations of known users and of the others agree; over the draw their
    covariance is a^2 E[D^2] + (b^2 - 1) v, which is 0 for

        b^2 = 1 - (a / f)^2,   f^2 = v / E[D^2] <= 1.

    Every share a in [0, f] qualifies. The larger a, the less is moved, for E stays where it was; but a leak that is
    stronger in some directions than in others stays uneven. So a = min(k, f^2) with k = p d / (p d + n_k): classes of
    few users, whose deviations are mostly noise, keep theirs, large ones take the draw, which costs them little.
    Entries are measured in blocks of principal directions, where D is whitened by the pooled covariance.

    Args:
        own: moments of the true classes.
        drawn: moments of the classes under permuted labels, over the same users.
        own_per_dimension: p, in users per dimension; 0 takes everything from the draw.
        noise: variance of the goal's deviations as a multiple of chance, in place of the 1 above.

    Returns:
        Counts as in ``own``; empty classes stay 0.
    """
    present = np.flatnonzero(own.count)
    d = own.mean.shape[1]
    values, directions = np.linalg.eigh(own.within)
    values = np.maximum(values[::-1], 1e-9 * max(float(values[-1]), 1e-300))
    directions = directions[:, ::-1]
    whiten, colour = directions / np.sqrt(values), (directions * np.sqrt(values)).T
    deviations = {k: whiten.T @ (own.covariance[k] - own.within) @ whiten for k in present.tolist()}
    chances = {k: whiten.T @ (drawn.covariance[k] - drawn.within) @ whiten for k in present.tolist()}
    # Sampling without replacement: a class of all users does not deviate.
    total = int(own.count.sum())
    precision = {k: own.count[k] * total / max(total - int(own.count[k]), 1) for k in present.tolist()}
    chance = sum(own.count[k] / total * precision[k] * _block_energy(chances[k]) for k in present.tolist())
    covariance = np.zeros_like(own.covariance)
    for k in present.tolist():
        energy = np.maximum(precision[k] * _block_energy(deviations[k]), 1e-300)
        f = np.sqrt(np.minimum(1.0, chance / energy))
        kept = own_per_dimension * d / (own_per_dimension * d + own.count[k])
        a = np.minimum(kept, f**2)
        b = np.sqrt(np.maximum(0.0, noise - (a / np.maximum(f, 1e-150)) ** 2))
        goal = _over_blocks(a, d) * deviations[k] + _over_blocks(b, d) * chances[k]
        covariance[k] = drawn.within + colour.T @ goal @ colour
    return ClassMoments(own.count, drawn.mean, _nearest_psd(covariance))


def _block_energy(matrix: Matrix) -> Matrix:
    """Mean square of the entries of each block of directions."""
    edges = np.arange(0, len(matrix), _BLOCK)
    sums = np.add.reduceat(np.add.reduceat(matrix**2, edges, axis=0), edges, axis=1)
    sizes = np.diff(np.append(edges, len(matrix)))
    return np.asarray(sums / np.outer(sizes, sizes))


def _over_blocks(values: Matrix, d: int) -> Matrix:
    """(d, d) matrix with each block's value at all of its entries."""
    return np.repeat(np.repeat(values, _BLOCK, axis=0), _BLOCK, axis=1)[:d, :d]


def _nearest_psd(matrices: Matrix) -> Matrix:
    """Negative eigenvalues set to 0: a sum of deviations need not be a covariance."""
    values, directions = np.linalg.eigh((matrices + np.swapaxes(matrices, -1, -2)) / 2)
    return np.asarray((directions * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(directions, -1, -2))
