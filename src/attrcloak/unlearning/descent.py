"""Descent on leakage and drift, written once for two spaces that give the same answer.

Within a cell every gradient of AttrCloak is affine in the user's vector, and the inner products that MGDA needs are
quadratic forms in the cell's second moments. So a *position* may be the rows themselves (n, d), or one affine map a
cell (C, d, d+1) acting on the start; the loops below cannot tell which. The second costs the same whatever the number
of users (the two-pass theorem).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings
from attrcloak.moments.arrays import Array, beside, inner, namespace, on_host
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.min_norm import leakage_weight
from attrcloak.moments.surrogate import surrogate_with_gradient
from attrcloak.unlearning.method import Step, Stopped

ClassFields = Sequence[tuple[Matrix, Matrix]]
"""For each attribute the gradient of its surrogate as one affine map a class: (K, d, d) and (K, d)."""


class Space(Protocol):
    """Where positions live. Positions and fields are arrays of one shape, so they add and scale alike."""

    start: Array
    users: int

    def marginals(self, position: Array) -> Sequence[ClassMoments]:
        """Class moments of every attribute at a position."""
        ...

    def field(self, position: Array, gradients: ClassFields) -> Array:
        """The vector field sum_j (G_jk x + g_jk) / A at a position."""
        ...

    def inner(self, one: Array, other: Array) -> float:
        """Sum over users of the products of two fields."""
        ...


class MomentSpace:
    """Positions are the image of each cell's mean and spread under its affine map, [M_c B_c | m_c]: (C, d, d+1).

    B_c is a square root of the cell's scatter, B_c B_c^T, so its columns stand for the cell's users in every quadratic
    form: the scatter at a position is [M B][M B]^T and inner products are plain ones. Directions in which the users of
    a cell do not differ (fewer users than dimensions) are zero columns and stay zero; kept as M_c they would carry no
    data, yet be multiplied by every step until they overflow.
    Cost per step: cells x d^3, whatever the number of users.
    """

    def __init__(self, moments: CellMoments) -> None:
        self.moments = moments
        self.users = int(moments.count[~moments.key.unmarked].sum())
        values, self._directions = np.linalg.eigh(moments.scatter)
        self._spread = np.sqrt(np.where(values > 1e-12 * values[:, -1:], values, 0.0))
        self.start = np.concatenate([self._directions * self._spread[:, None, :], moments.mean[:, :, None]], axis=2)

    def marginals(self, position: Matrix) -> Sequence[ClassMoments]:
        root = position[:, :, :-1]
        scatter = root @ root.transpose(0, 2, 1)
        return CellMoments(self.moments.key, self.moments.count, position[:, :, -1], scatter).marginals()

    def field(self, position: Matrix, gradients: ClassFields) -> Matrix:
        linear, constant = per_cell(self.moments.key, gradients)
        field = linear @ position
        field[:, :, -1] += constant
        return field

    def inner(self, one: Matrix, other: Matrix) -> float:
        # The mean stands for n_c users, and vdot has it once; on the spread alone, a slice, it would copy both fields.
        means = np.einsum("cd,cd,c->", one[:, :, -1], other[:, :, -1], self.moments.count - 1.0)
        return float(means + np.vdot(one, other))

    def eraser(self, position: Matrix) -> Eraser:
        """The position as maps of x; directions in which a cell's users do not differ are left alone."""
        flat = self._spread == 0
        inverse = np.where(flat, 0.0, 1 / np.where(flat, 1.0, self._spread))
        back = self._directions.transpose(0, 2, 1)
        absent = (self._directions * flat[:, None, :]) @ back
        matrices = (position[:, :, :-1] * inverse[:, None, :]) @ back + absent
        offsets = position[:, :, -1] - np.einsum("cij,cj->ci", matrices, self.moments.mean)
        return Eraser(self.moments.key, matrices, offsets)


class RowSpace:
    """Positions are the rows themselves, (n, d), arrays or tensors. Cost per step: users x attributes x d^2."""

    def __init__(self, vectors: Array, cells: NDArray[np.integer], key: CellKey) -> None:
        self.start = vectors
        self.key = key
        self.users = int((~key.unmarked[cells]).sum())
        codes = key.combinations[cells]
        self._members = [
            [beside(np.flatnonzero(codes[:, a] == k), vectors) for k in range(classes)]
            for a, classes in enumerate(key.class_counts)
        ]

    def marginals(self, position: Array) -> Sequence[ClassMoments]:
        marginals = []
        xp, d = namespace(position), position.shape[1]
        for members in self._members:
            mean, covariance = np.zeros((len(members), d)), np.zeros((len(members), d, d))
            for k, rows in enumerate(members):
                if len(rows):
                    centre = xp.mean(position[rows], axis=0)
                    centred = position[rows] - centre
                    mean[k], covariance[k] = on_host(centre), on_host(centred.T @ centred) / len(rows)
            marginals.append(ClassMoments(np.array([len(rows) for rows in members]), mean, covariance))
        return marginals

    def field(self, position: Array, gradients: ClassFields) -> Array:
        field = namespace(position).zeros_like(position)
        for members, (linear, constant) in zip(self._members, gradients, strict=True):
            for rows, matrix, offset in zip(members, linear, constant, strict=True):
                field[rows] += position[rows] @ beside(matrix.T, position) + beside(offset, position)
        return field / len(gradients)

    def inner(self, one: Array, other: Array) -> float:
        return inner(one, other)


def per_cell(key: CellKey, gradients: ClassFields) -> tuple[Matrix, Matrix]:
    """Affine maps of the cells (C, d, d) and (C, d) from those of the classes: the mean over attributes."""
    d = gradients[0][1].shape[1]
    linear, constant = np.zeros((len(key), d, d)), np.zeros((len(key), d))
    for codes, (matrices, offsets) in zip(key.combinations.T, gradients, strict=True):
        linear += _of_cells(matrices, codes)
        constant += _of_cells(offsets, codes)
    return linear / len(gradients), constant / len(gradients)


def _of_cells(values: Matrix, codes: NDArray[np.int32]) -> Matrix:
    """The value of each cell's class, (C, ...), and 0 for the code -1."""
    return np.concatenate([values, np.zeros((1, *values.shape[1:]))])[codes]


@dataclass(frozen=True)
class Objectives:
    """L^AU and L^R of a position, and their gradients as fields.

    Attributes:
        ridge: in squared units of the embedding.
        pooling: in users; see ``surrogate``.
        drift_scale: L^R = drift_scale * sum ||x' - x||^2.
    """

    ridge: float
    pooling: float
    drift_scale: float

    def leakage_and_field(self, space: Space, position: Array) -> tuple[float, Array]:
        """L^AU and its gradient."""
        parts = [surrogate_with_gradient(m, self.ridge, self.pooling) for m in space.marginals(position)]
        value = float(np.mean([part[0] for part in parts]))
        return value, space.field(position, [part[1:] for part in parts])

    def drift(self, space: Space, position: Array) -> float:
        """L^R."""
        moved = position - space.start
        return self.drift_scale * space.inner(moved, moved)


def check_weight(weight: Literal["mgda"] | float) -> None:
    """Raise InvalidSettings unless the weight is "mgda" or a number in [0, 1]."""
    if weight != "mgda" and not (isinstance(weight, int | float) and 0 <= weight <= 1):
        raise InvalidSettings(f"weight is {weight!r}, expected 'mgda' or a number in [0, 1]")


def gradient_descent(
    space: Space,
    objectives: Objectives,
    *,
    steps: int,
    rate: float,
    bounds: tuple[float, float],
    progress: Callable[[int], None] | None = None,
) -> tuple[Array, tuple[Step, ...], Stopped]:
    """Algorithm 1 of Wu et al. 2025 with L^Reg: step along a gAU + (1-a) gR, a by MGDA, clipped to ``bounds``.

    Args:
        space: rows or moments.
        objectives: what is minimised.
        steps: number of steps.
        rate: learning rate times the number of users, so that the same rate means the same step at every size; in
            squared units of the embedding.
        bounds: smallest and largest weight of the leakage, equal to hold it fixed. With 0 as the smallest nothing
            moves, for the drift's gradient is 0 at the start. With a fixed weight the objective is one function, and
            its drift, whose gradient is linear, is taken where the step ends (a proximal step): a rate that suits the
            leakage would overshoot and diverge where the drift is a sum over many users.
        progress: called with the number of steps done.

    Returns:
        The position after the last step, the trace, and why it ended. A rate too large for the narrowest direction
        makes leakage rise; then it ends as "diverged" with the position that leaked least.
    """
    position = best = space.start
    trace: list[Step] = []
    for step in range(steps):
        try:
            leakage, field = objectives.leakage_and_field(space, position)
        except np.linalg.LinAlgError:
            return best, tuple(trace), "diverged"
        back = (2 * objectives.drift_scale) * (position - space.start)
        weight = leakage_weight(space.inner(back, back), space.inner(back, field), space.inner(field, field), *bounds)
        least = min((past.leakage for past in trace), default=np.inf)
        trace.append(Step(leakage, objectives.drift(space, position), weight))
        if leakage < least:
            best = position
        elif not leakage <= 2 * trace[0].leakage + 1:
            return best, tuple(trace), "diverged"
        if bounds[0] < bounds[1]:
            position = position - rate * (weight * field + (1 - weight) * back)
        else:
            hold = rate * (1 - weight) * 2 * objectives.drift_scale
            position = (position - rate * weight * field + hold * space.start) / (1 + hold)
        if progress is not None:
            progress(step + 1)
    return position, tuple(trace), "max steps"


def limited_memory_bfgs(
    space: Space,
    objectives: Objectives,
    *,
    steps: int,
    weight: float,
    tolerance: float,
    first_step: float,
    history: int = 10,
    progress: Callable[[int], None] | None = None,
) -> tuple[Array, tuple[Step, ...], Stopped]:
    """Minimise weight * L^AU + (1 - weight) * L^R to convergence (L-BFGS; Nocedal & Wright 2006, alg. 7.4 and 7.5).

    With the inner product of the space this is L-BFGS on the rows, run on the moments. It is the point gradient
    descent tends to while its weight stays clipped at the floor.

    Args:
        tolerance: stop when the objective falls by less than this share of itself over five steps, or the gradient
            vanishes.
        first_step: step on the gradient before any curvature is known, in squared units of the embedding.
        history: pairs kept for the curvature.
    """

    def value_and_field(position: Array) -> tuple[float, float, float, Array]:
        leakage, field = objectives.leakage_and_field(space, position)
        drift = objectives.drift(space, position)
        back = (2 * objectives.drift_scale) * (position - space.start)
        return weight * leakage + (1 - weight) * drift, leakage, drift, weight * field + (1 - weight) * back

    position = space.start
    value, leakage, drift, field = value_and_field(position)
    trace = [Step(leakage, drift, weight)]
    pairs: list[tuple[Array, Array, float]] = []
    recent = [value]
    stopped: Literal["converged", "max steps"] = "max steps"
    for step in range(steps):
        direction = -_inverse_hessian(space, field, pairs)
        slope = space.inner(direction, field)
        if slope >= 0 or value <= 0:
            stopped = "converged"
            break
        length = 1.0 if pairs else first_step
        accepted = False
        for _ in range(40):
            trial = position + length * direction
            try:
                new_value, leakage, drift, new_field = value_and_field(trial)
            except np.linalg.LinAlgError:
                new_value = np.inf
            if new_value <= value + 1e-4 * length * slope:
                accepted = True
                break
            length /= 2
        if not accepted:
            stopped = "converged"
            break
        change, bend = trial - position, new_field - field
        curvature = space.inner(change, bend)
        if curvature > 0:
            pairs = [*pairs[-(history - 1) :], (change, bend, curvature)]
        position, value, field = trial, new_value, new_field
        trace.append(Step(leakage, drift, weight))
        recent = [*recent[-4:], value]
        if progress is not None:
            progress(step + 1)
        if len(recent) == 5 and recent[0] - value <= tolerance * abs(recent[0]):
            stopped = "converged"
            break
    return position, tuple(trace), stopped


def _inverse_hessian(space: Space, field: Array, pairs: Sequence[tuple[Array, Array, float]]) -> Array:
    result = field
    weights = []
    for change, bend, curvature in reversed(pairs):
        weights.append(space.inner(change, result) / curvature)
        result = result - weights[-1] * bend
    if pairs:
        _, bend, curvature = pairs[-1]
        result = result * (curvature / space.inner(bend, bend))
    for (change, bend, curvature), weight in zip(pairs, reversed(weights), strict=True):
        result = result + (weight - space.inner(bend, result) / curvature) * change
    return result
