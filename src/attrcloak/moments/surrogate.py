"""The Gaussian surrogate of what an embedding tells about an attribute, and its gradient (Wu et al. 2025, eq. 18)."""

from dataclasses import dataclass

import numpy as np

from attrcloak.moments.cell_moments import ClassMoments, Matrix


@dataclass(frozen=True, eq=False)
class _Pooled:
    """Covariances as the surrogate sees them: shrunk towards the pooled one, with the ridge added."""

    shrinkage: Matrix  # (K,) rho_k
    classes: Matrix  # (K, d, d) S~_k + ridge I
    everyone: Matrix  # (d, d) S_g + ridge I


def _pooled(marginal: ClassMoments, ridge: float, pooling: float) -> _Pooled:
    shrinkage = pooling / np.maximum(pooling + marginal.count, 1e-300)
    weights, within = marginal.weights, marginal.within
    eye = ridge * np.eye(within.shape[0])
    classes = (1 - shrinkage)[:, None, None] * marginal.covariance + shrinkage[:, None, None] * within
    everyone = np.tensordot(weights, classes, axes=1) + marginal.between
    return _Pooled(shrinkage, classes + eye, everyone + eye)


def surrogate(marginal: ClassMoments, ridge: float = 0.0, pooling: float = 0.0) -> float:
    """Gaussian surrogate of I(embedding; attribute) in nats, L_j^AU of Wu et al. 2025, in log-det form.

    sum_k w_k KL(N(mu_k, S_k) || N(mu_g, S_g)) = 1/2 (log|S_g| - sum_k w_k log|S_k|): with the moment-matched global
    Gaussian, the trace and mean terms of the divergences sum to d. The same ridge on every covariance keeps the
    identity exact; so does pooling, because S_g is then rebuilt from the pooled class covariances.

    It is zero exactly when all classes share one mean and one covariance. It is a surrogate and not a bound: for
    classes that are not Gaussian it can be near zero while trees tell them apart, so an audit has to follow.

    Args:
        marginal: class moments.
        ridge: added to the diagonal of every covariance, in squared units of the embedding, >= 0.
        pooling: strength in users of the shrinkage towards the pooled covariance: rho_k = pooling / (pooling + n_k).
            0 leaves the classes alone; infinity-like values give 1/2 log det(I + S_w^-1 S_b).

    Returns:
        The surrogate, >= 0 up to rounding; 0 when fewer than two classes occur.

    Raises:
        numpy.linalg.LinAlgError: a covariance is singular; give a ridge or pooling (n_k <= d needs one).
    """
    occurs = marginal.count > 0
    if occurs.sum() < 2:
        return 0.0
    pooled = _pooled(marginal, ridge, pooling)
    return 0.5 * float(_log_det(pooled.everyone) - marginal.weights[occurs] @ _log_det(pooled.classes[occurs]))


def surrogate_gradient(marginal: ClassMoments, ridge: float = 0.0, pooling: float = 0.0) -> tuple[Matrix, Matrix]:
    """The gradient of ``surrogate_with_gradient`` alone."""
    return surrogate_with_gradient(marginal, ridge, pooling)[1:]


def surrogate_with_gradient(
    marginal: ClassMoments, ridge: float = 0.0, pooling: float = 0.0
) -> tuple[float, Matrix, Matrix]:
    """The surrogate, and its gradient with respect to each user's vector as one affine map a class.

    For user x of class k it is G_k x + g_k. Without pooling that is (1/N) [S_g^-1 (x - mu_g) - S_k^-1 (x - mu_k)];
    with it, r = sum_l w_l rho_l, (1/N) [S_g^-1 ((1 - rho_k + r)(x - mu_k) + mu_k - mu_g)
    - (1 - rho_k) S~_k^-1 (x - mu_k) - sum_l w_l rho_l S~_l^-1 (x - mu_k)].

    Args:
        marginal: class moments of the vectors the gradient is taken at.
        ridge: as in ``surrogate``.
        pooling: as in ``surrogate``.

    Returns:
        The surrogate in nats, G (K, d, d), symmetric, and g (K, d); zero for classes that do not occur, and everywhere
        when fewer than two do.

    Raises:
        numpy.linalg.LinAlgError: as in ``surrogate``.
    """
    classes, d = marginal.mean.shape
    linear, constant = np.zeros((classes, d, d)), np.zeros((classes, d))
    occurs = np.flatnonzero(marginal.count)
    if len(occurs) < 2:
        return 0.0, linear, constant
    pooled = _pooled(marginal, ridge, pooling)
    rho, weights, users = pooled.shrinkage, marginal.weights, marginal.count.sum()
    global_inverse, global_log_det = _inverse_and_log_det(pooled.everyone)
    factored = [_inverse_and_log_det(covariance) for covariance in pooled.classes[occurs]]
    inverses = np.stack([inverse for inverse, _ in factored])
    value = 0.5 * (global_log_det - float(weights[occurs] @ [log_det for _, log_det in factored]))
    shared = np.tensordot((weights * rho)[occurs], inverses, axes=1)
    mean_shrinkage = float(weights @ rho)
    keep = (1 - rho[occurs])[:, None, None]
    linear[occurs] = ((keep + mean_shrinkage) * global_inverse - keep * inverses - shared) / users
    towards = (marginal.mean[occurs] - marginal.global_mean) @ global_inverse / users
    constant[occurs] = towards - np.einsum("kij,kj->ki", linear[occurs], marginal.mean[occurs])
    return value, linear, constant


def _log_det(covariances: Matrix) -> Matrix:
    diagonal = np.diagonal(np.linalg.cholesky(covariances), axis1=-2, axis2=-1)
    return np.asarray(2 * np.log(diagonal).sum(axis=-1))


def _inverse_and_log_det(covariance: Matrix) -> tuple[Matrix, float]:
    """Inverse and log-determinant of a positive definite matrix from one Cholesky factor, exactly symmetric."""
    from scipy.linalg.lapack import dpotrf, dpotri

    factor, failed = dpotrf(covariance, lower=1)
    if failed:
        raise np.linalg.LinAlgError("a covariance is not positive definite; give a ridge or pooling")
    log_det = 2 * float(np.log(np.diagonal(factor)).sum())
    lower, _ = dpotri(factor, lower=1)  # the upper half stays 0, as dpotrf left it
    inverse = lower + lower.T
    np.fill_diagonal(inverse, lower.diagonal())
    return inverse, log_det
