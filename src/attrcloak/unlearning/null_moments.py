"""The moments that classes would have under random labels, drawn from moments alone: for tables nobody can hold."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attrcloak.errors import InvalidInput, NotSupported
from attrcloak.moments.cell_key import NOT_MARKED
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.method import Solution
from attrcloak.unlearning.null_draw import secret_generator
from attrcloak.unlearning.null_goals import null_goals


def null_marginals(moments: CellMoments, generator: np.random.Generator) -> tuple[ClassMoments, ...]:
    """Class moments of every attribute, as if labels had been dealt out at random to users with Gaussian vectors.

    Every cell c draws the moments of n_c standard normal vectors: a mean z_c ~ N(0, I / n_c) and a scatter
    V_c ~ Wishart(n_c - 1, I). With z = sum_c (n_c / N) z_c and T = sum_c V_c + n_c (z_c - z)(z_c - z)^T, the drawn
    moments of the cell are

        mean  mu + B (z_c - z),      scatter  B V_c B^T,      B = S^1/2 (T / N)^-1/2,

    mu and S those of all users together. So the cells add up to exactly these, as they do when labels are permuted:
    the means have covariance S (1 / n_c - 1 / N), sampling without replacement included, and all covariances are
    positive semi-definite. The draws of cells are shared by all attributes, so that joint structure is kept; each
    attribute is normalised over the users who are marked for it.

    For vectors with heavier tails than Gaussian ones, class covariances under permuted labels vary more than this.

    Args:
        moments: of the table.
        generator: a secret one; the same gives the same draw, in whatever parts the moments were computed.

    Raises:
        InvalidInput: an attribute has no more users than there are dimensions.
    """
    own = moments.marginals()
    d = moments.dim
    few = [
        f"attribute {name!r}: {int(marginal.count.sum())} users for {d} dimensions; a null needs more users than that. "
        "Leave the attribute out, or use a table with fewer dimensions"
        for name, marginal in zip(moments.key.attributes, own, strict=True)
        if 0 < marginal.count.sum() <= d
    ]
    if few:
        raise InvalidInput(few)
    marked = moments.key.combinations != NOT_MARKED
    mean, scatter = np.zeros((len(moments.key), d)), np.zeros((len(moments.key), d, d))
    for cell in np.flatnonzero(marked.any(axis=1) & (moments.count > 0)):
        users = int(moments.count[cell])
        mean[cell] = generator.standard_normal(d) / np.sqrt(users)
        scatter[cell] = _wishart(users - 1, d, generator)
    drawn = CellMoments(moments.key, moments.count, mean, scatter).marginals()
    return tuple(map(_normalised, own, drawn))


def solve_calibrated(
    method: Calibrated, moments: CellMoments, key: bytes, silent: Sequence[bool] | None = None
) -> Solution:
    """The calibrated method in its affine form, its null drawn from moments; ``slices`` and ``exchange`` need rows.

    Args:
        method: its settings; ``slices`` and ``exchange`` are not looked at.
        moments: of the table.
        key: secret key of the draw.
        silent: for each attribute, whether users did not ask for it whose class is known. Moments do not tell them from
            users of unknown class; by default all who did not ask count.

    Raises:
        NotSupported: some users did not ask and the method is to learn from them: these moments do not tell the classes
            of users who did not ask.
    """
    if silent is None:
        asked_for = moments.key.combinations != NOT_MARKED
        silent = (moments.count[:, None] * ~asked_for).any(axis=0).tolist()
    if any(silent) and method.learned_from == "everybody":
        raise NotSupported(
            "a table in files is measured by what users asked for, so the classes of those who did not are not seen; "
            "set learned_from to 'asked', or unlearn in memory, without an engine"
        )
    null = null_marginals(moments, secret_generator(key, b"null moments"))
    goals = tuple(
        null_goals(own, drawn, method.own_per_dimension, method.noise, 0.0 if some else None)
        for own, drawn, some in zip(moments.marginals(), null, silent, strict=True)
    )
    eraser, trace = replace(method, slices=0).solve_towards(moments, goals)
    return Solution(method.part_of(eraser), trace)


def _wishart(degrees: int, d: int, generator: np.random.Generator) -> Matrix:
    """Scatter of ``degrees`` + 1 standard normal vectors about their mean (Bartlett 1933 where there are enough)."""
    if degrees < d:
        vectors = generator.standard_normal((d, degrees))
        return np.asarray(vectors @ vectors.T)
    factor = np.tril(generator.standard_normal((d, d)), -1)
    factor[np.diag_indices(d)] = np.sqrt(generator.chisquare(degrees - np.arange(d)))
    return np.asarray(factor @ factor.T)


def _normalised(own: ClassMoments, drawn: ClassMoments) -> ClassMoments:
    """The drawn moments brought to the mean and covariance of all users together."""
    if not own.count.any():
        return own
    values, directions = np.linalg.eigh(own.global_covariance)
    factor = np.linalg.cholesky(drawn.global_covariance)
    # Any two square roots will do: the draw looks the same from all sides.
    to_own = (directions * np.sqrt(np.maximum(values, 0.0))) @ np.linalg.inv(factor)
    mean = own.global_mean + (drawn.mean - drawn.global_mean) @ to_own.T
    occurs = own.count > 0
    return ClassMoments(
        own.count,
        np.where(occurs[:, None], mean, 0.0),
        np.where(occurs[:, None, None], to_own @ drawn.covariance @ to_own.T, 0.0),
    )
