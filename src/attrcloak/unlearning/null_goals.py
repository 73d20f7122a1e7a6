"""What the moments of each class are to become: indistinguishable from those of a class drawn at random."""

import numpy as np

from attrcloak.moments.cell_moments import ClassMoments, Matrix

_BLOCK = 8
"""Principal directions whose deviations are measured together: 36 or 64 entries of a covariance settle a variance to a
fifth, 8 of a mean to a half."""
_MOST_KEPT = 4.0
"""Times that a deviation much smaller than chance may grow to make up for those that are larger by chance."""


def null_goals(
    own: ClassMoments, drawn: ClassMoments, own_per_dimension: float, noise: float, taught: float | None = None
) -> ClassMoments:
    """Goal of every class of one attribute: a mean and a covariance that keep what was only chance.

    A class covariance deviates from the pooled one by D = T + E, T what the attribute does and E sampling noise, whose
    variance v per entry the drawn classes show. It is to deviate by a D + b Z instead, Z the drawn deviation.
    What attackers can use is whether the deviations of known users and of the others agree; over the draw their
    covariance is a^2 E[D^2] + (b^2 - 1) v, which is 0 for

        b^2 = 1 - (a / f)^2,   f^2 = v / E[D^2] <= 1.

    Every share a in [0, f] qualifies. The larger a, the less is moved, for E stays where it was; but a leak that is
    stronger in some directions than in others stays uneven. So a = min(k, f^2) with k = p d / (p d + n_k): classes of
    few users, whose deviations are mostly noise, keep theirs, large ones take the draw, which costs them little. Means
    come from the draw.

    Where some users did not ask, attackers learn T + E' from them, as it was. What agrees with that is a T^2 less
    (1 - a) times what E and E' share: v for users that the moments are of, 0 for others. With a share c of the former
    it is 0 for a = c f^2, nearly; means keep theirs alike. There f^2 may exceed 1: where D happens to be small it makes
    up for where it is large by chance, and shares cut off at 1 would leave classes turned about on average. Where the
    moments are of those who asked alone, c = 0.

    Entries are measured in blocks of principal directions, where D is whitened by the pooled covariance.

    Args:
        own: moments of the true classes.
        drawn: moments of the classes under permuted labels, over the same users.
        own_per_dimension: p, in users per dimension; 0 takes everything from the draw. Not looked at with ``taught``.
        noise: variance of the goal's deviations as a multiple of chance, in place of the 1 above.
        taught: c above, in [0, 1]; None where everybody asked for this attribute.

    Returns:
        Counts as in ``own``; empty classes stay 0.
    """
    present = np.flatnonzero(own.count).tolist()
    d = own.mean.shape[1]
    values, directions = np.linalg.eigh(own.within)
    values, directions = values[::-1], directions[:, ::-1]
    # Where no class varies, as with fewer users than dimensions, there is no scale to measure by: all is from the draw.
    varies = values > 1e-9 * max(float(values[0]), 1e-300)
    roots = np.sqrt(np.where(varies, values, 1.0))
    whiten, colour = np.where(varies, directions / roots, 0.0), (directions * roots).T
    total = int(own.count.sum())
    # Sampling without replacement: a class of all users does not deviate.
    precision = own.count * total / np.maximum(total - own.count, 1)

    def goal(own_parts: Matrix, drawn_parts: Matrix, most: Matrix, variance: float) -> dict[int, Matrix]:
        """Deviation of each class to reach; ``most`` is the largest share that it may keep."""
        chance = sum(own.count[k] / total * precision[k] * _block_energy(drawn_parts[k]) for k in present)
        reached = {}
        for k in present:
            energy = np.maximum(precision[k] * _block_energy(own_parts[k]), 1e-300)
            f = np.sqrt(np.minimum(1.0 if taught is None else _MOST_KEPT, chance / energy))
            a = np.minimum(most[k], f**2) if taught is None else taught * f**2
            b = np.sqrt(np.maximum(0.0, variance - (a / np.maximum(f, 1e-150)) ** 2))
            reached[k] = _over_blocks(a, own_parts[k]) * own_parts[k] + _over_blocks(b, own_parts[k]) * drawn_parts[k]
        return reached

    most = own_per_dimension * d / (own_per_dimension * d + np.maximum(own.count, 1))
    own_shapes, drawn_shapes = (whiten.T @ (m.covariance - m.within[None]) @ whiten for m in (own, drawn))
    covariance = np.zeros_like(own.covariance)
    for k, shape in goal(own_shapes, drawn_shapes, most, noise).items():
        covariance[k] = drawn.covariance[k] + colour.T @ (shape - drawn_shapes[k]) @ colour
    mean = drawn.mean.copy()
    if taught is not None:
        own_places, drawn_places = ((m.mean - m.global_mean) @ whiten for m in (own, drawn))
        for k, place in goal(own_places, drawn_places, most, 1.0).items():
            mean[k] += (place - drawn_places[k]) @ colour
    return ClassMoments(own.count, mean, _nearest_psd(covariance))


def _block_energy(entries: Matrix) -> Matrix:
    """Mean square of the entries of each block of directions, of a matrix or a vector."""
    edges = np.arange(0, len(entries), _BLOCK)
    sizes = np.diff(np.append(edges, len(entries)))
    energy = entries**2
    for _ in range(entries.ndim):
        energy = np.moveaxis(np.add.reduceat(energy, edges, axis=0), 0, -1) / sizes
    return np.asarray(energy)


def _over_blocks(values: Matrix, like: Matrix) -> Matrix:
    """Each block's value at all of its entries, in the shape of ``like``."""
    for axis in range(like.ndim):
        values = np.repeat(values, _BLOCK, axis=axis)
    return values[tuple(slice(size) for size in like.shape)]


def _nearest_psd(matrices: Matrix) -> Matrix:
    """Negative eigenvalues set to 0: a sum of deviations need not be a covariance."""
    values, directions = np.linalg.eigh((matrices + np.swapaxes(matrices, -1, -2)) / 2)
    return np.asarray((directions * np.maximum(values, 0.0)[..., None, :]) @ np.swapaxes(directions, -1, -2))
