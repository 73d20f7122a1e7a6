"""Optimal transport between Gaussians: maps between covariances, and their barycentre."""

import numpy as np

from attrcloak.moments.cell_moments import Matrix


def psd_sqrt(matrices: Matrix) -> Matrix:
    """Symmetric square roots of positive semi-definite matrices (..., d, d); tiny negative eigenvalues count as 0."""
    values, directions = np.linalg.eigh(matrices)
    roots = np.sqrt(np.maximum(values, 0.0))
    return np.asarray((directions * roots[..., None, :]) @ np.swapaxes(directions, -1, -2))


def gaussian_map(source: Matrix, target: Matrix) -> Matrix:
    """The linear part A of the optimal transport from N(., source) to N(., target): A source A = target.

    A = S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2 (Gelbrich 1990), the symmetric map of least mean squared move.

    | edge | result |
    |---|---|
    | direction in which the source does not vary | left as it is: nothing there can be stretched |
    | direction in which the target does not vary | collapsed |
    | equal matrices | the identity on the source's range |

    Args:
        source: (d, d) positive semi-definite.
        target: (d, d) positive semi-definite.

    Returns:
        (d, d) symmetric positive semi-definite A.
    """
    values, directions = np.linalg.eigh(source)
    present = values > 1e-12 * max(float(values[-1]), 0.0)
    values = np.where(present, values, 1.0)
    half = (directions * np.where(present, np.sqrt(values), 0.0)) @ directions.T
    inverse_half = (directions * np.where(present, 1 / np.sqrt(values), 0.0)) @ directions.T
    absent = (directions * ~present) @ directions.T
    return np.asarray(inverse_half @ psd_sqrt(half @ target @ half) @ inverse_half + absent)


def barycentre(covariances: Matrix, weights: Matrix, tolerance: float = 1e-12, max_iterations: int = 1000) -> Matrix:
    """Bures-Wasserstein barycentre: the covariance with the least weighted squared transport cost from all others.

    Fixed point of B <- B^-1/2 (sum_k w_k (B^1/2 S_k B^1/2)^1/2)^2 B^-1/2 (Álvarez-Esteban et al. 2016).

    Args:
        covariances: (K, d, d) positive semi-definite.
        weights: (K,) non-negative, not all zero; they are normalised.
        tolerance: relative change at which to stop.
        max_iterations: most iterations.

    Returns:
        (d, d) symmetric positive semi-definite.
    """
    shares = weights / weights.sum()
    covariances, shares = covariances[shares > 0], shares[shares > 0]
    centre = np.tensordot(shares, covariances, axes=1)
    for _ in range(max_iterations):
        half = psd_sqrt(centre)
        inverse_half = np.linalg.pinv(half, hermitian=True)
        mean_root = np.tensordot(shares, psd_sqrt(half @ covariances @ half), axes=1)
        new = inverse_half @ mean_root @ mean_root @ inverse_half
        new = (new + new.T) / 2
        change = np.linalg.norm(new - centre)
        centre = new
        if change <= tolerance * max(float(np.linalg.norm(centre)), 1e-300):
            break
    return np.asarray(centre)
