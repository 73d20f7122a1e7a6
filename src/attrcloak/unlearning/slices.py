"""Transport along directions, of what deviates more than chance: for shapes that moments cannot see."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix

_MODES = 12
"""Polynomials that a deviation of quantiles is split into: level, spread, skewness, tails, one bump against several."""
_MANY_PER_DIMENSION = 25
"""Users per dimension from which a class takes its quantiles from the draw altogether: its noise costs little then."""
_LOUD = 9.0
"""Energy over its usual value at which one mode along one direction counts as leaking by itself (chance: .3 %)."""
_LOUD_TOGETHER = 2.0
"""Standard deviations of a ratio of two draws at which a mode counts as leaking along all directions together."""


@dataclass(frozen=True, eq=False)
class TaughtSlices:
    """What attackers learn from users who did not ask is in the vectors as they came to the slices.

    Attributes:
        vectors: (n, d) as they were before the first round. Goals keep a share of *their* deviations, so that rounds do
            not wear it away.
        shares: for each attribute, of the users who did not ask, the share that these vectors hold; None: all asked.
    """

    vectors: Matrix
    shares: Sequence[float | None]


def slice_steps(
    vectors: Matrix,
    codes: NDArray[np.int32],
    drawn: NDArray[np.int32],
    directions: Matrix,
    taught: TaughtSlices | None = None,
) -> Matrix:
    """One round: every attribute in turn, every class along every direction.

    After Rabin et al. (2012), with two differences that keep vectors near where they were. The goal of a class is not
    the quantiles of its drawn class but *some* quantiles as far from those of everybody: their deviation is split into
    orthogonal polynomials of the rank, and of a mode that deviates more than chance the share 1/r is kept and
    sqrt(1 - 1/r) taken from the draw, r the ratio of its energy to that of the drawn classes. Modes within chance stay.
    Only classes of very many users take all modes from the draw: a leak too even to be told from chance along any one
    direction adds up over all of them. Where attackers learn from users who did not ask, every class keeps 1/r of what
    it was, as ``null_goals`` has it.

    Args:
        vectors: (n, d).
        codes: (n, A) classes, -1 where not marked.
        drawn: (n, A) classes under permuted labels, with as many users each.
        directions: (d, q) unit columns whose outer products sum to the identity: an orthogonal basis, or the axes of
            a larger space that this one is a part of.
        taught: None where everybody asked, or where these vectors hold nobody who did not; so are its shares, or 0.

    Returns:
        (n, d) steps that bring the vectors there.
    """
    now = vectors
    for attribute in range(codes.shape[1]):
        labels, chance = codes[:, attribute], drawn[:, attribute]
        if (labels < 0).all():
            continue
        projected = now @ directions
        everybody = np.sort(projected[labels >= 0], axis=0)
        share = None if taught is None else taught.shares[attribute]
        before = taught.vectors @ directions if taught is not None and share else None
        all_before = None if before is None else np.sort(before[labels >= 0], axis=0)
        spread = np.maximum(everybody.std(axis=0), 1e-300)
        steps = np.zeros_like(projected)
        for k in np.unique(labels[labels >= 0]).tolist():
            inside = np.flatnonzero(labels == k)
            if len(inside) <= _MODES:
                continue
            modes = _polynomials(len(inside))
            goal = _quantiles(everybody, len(inside))
            order = np.argsort(projected[inside], axis=0)
            own = modes.T @ (np.take_along_axis(projected[inside], order, axis=0) - goal)
            random = modes.T @ (np.sort(projected[chance == k], axis=0) - goal)
            if share and before is not None and all_before is not None:
                # From where everybody was: classes that keep different shares would pull all of them along.
                goal_before = _quantiles(all_before, len(inside))
                own += modes.T @ (goal - goal_before)
                was = modes.T @ (np.sort(before[inside], axis=0) - goal_before)
                kept = share / _ratio(was / spread, random / spread)
            else:
                was = own
                many = len(inside) >= _MANY_PER_DIMENSION * vectors.shape[1]
                kept = np.zeros_like(own) if many else 1 / _excess(own / spread, random / spread)
            step = modes @ (kept * was + np.sqrt(np.maximum(1 - kept, 0.0)) * random - own)
            placed = np.empty_like(step)
            np.put_along_axis(placed, order, step, axis=0)
            steps[inside] = placed
        now = now + steps @ directions.T
    return now - vectors


def _ratio(own: Matrix, random: Matrix) -> Matrix:
    """(modes, q) energy of each deviation over its usual value: alone where it is loud, else together.

    Not cut off at 1: where a mode deviates less than chance, more of it is kept, for the sake of the mean over modes.
    """
    usual = np.maximum(np.mean(random**2, axis=1, keepdims=True), 1e-300)
    alone, together = own**2 / usual, np.mean(own**2, axis=1, keepdims=True) / usual
    return np.asarray(np.maximum(np.where(alone > _LOUD, alone, together), 0.25))


def _excess(own: Matrix, random: Matrix) -> Matrix:
    """(modes, q) energy of each deviation over its usual value where that is more than chance, 1 elsewhere."""
    usual = np.maximum(np.mean(random**2, axis=1, keepdims=True), 1e-300)
    together = np.mean(own**2, axis=1, keepdims=True) / usual
    together = np.where(together > 1 + _LOUD_TOGETHER * 2 / np.sqrt(own.shape[1]), together, 1.0)
    alone = own**2 / usual
    return np.asarray(np.where(alone > _LOUD, alone, together))


def _polynomials(n: int) -> Matrix:
    """(n, modes) orthonormal polynomials of the rank."""
    ranks = (np.arange(n) + 0.5) / n * 2 - 1
    return np.asarray(np.linalg.qr(np.polynomial.legendre.legvander(ranks, _MODES - 1))[0])


def _quantiles(ordered: Matrix, n: int) -> Matrix:
    """(n, d) quantiles at the mid-ranks of n users, by linear interpolation."""
    places = np.clip((np.arange(n) + 0.5) / n * len(ordered) - 0.5, 0, len(ordered) - 1)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    share = (places - below)[:, None]
    return np.asarray(ordered[below] * (1 - share) + ordered[above] * share)
