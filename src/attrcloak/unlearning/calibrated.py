"""Calibrated unlearning: to the permutation null, not to equality."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.transport import gaussian_map
from attrcloak.progress import Progress
from attrcloak.unlearning.lengths import at_length, one_length
from attrcloak.unlearning.list_metric import ListMetric
from attrcloak.unlearning.method import Length, Moved, Rows, Step, objective
from attrcloak.unlearning.null_draw import null_labels, secret_generator
from attrcloak.unlearning.null_goals import null_goals
from attrcloak.unlearning.request_patterns import Taught, as_if_all_had_asked
from attrcloak.unlearning.slices import TaughtSlices, slice_steps
from attrcloak.unlearning.spread import exchanged

_TAME_PER_DIMENSION = 1.5
"""Users per dimension at which the map of a class is drawn half way to the identity, in every sweep."""
_RETURNS = 2
"""Times that vectors of one length are brought back to it and matched again."""
_PLAIN_ROUNDS = 3
"""Last rounds of slices, after another match, that users do not bend: bent ways miss the goals a little."""

MetricOf = Callable[[NDArray[np.int64], Matrix], ListMetric]
"""Takes the rows of (m,) users and an orthonormal basis (d_free, d) to the metric by which these users move."""


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Move each class to moments that class might have under a secret random permutation of the labels.

    Making all class moments equal is itself a leak: an attacker who knows part of the labels reads the rest from what
    must cancel out. Here the released table looks, in first and second moments, like one whose labels mean nothing,
    sampling noise included. The map of a class is Gaussian optimal transport from its moments to these,
    x -> m_t + A (x - m_s); attributes are swept until all agree. What needs the rows follows:

    1. The narrowest directions, which hold little of the variance, are exchanged among users at random. They hardly
       rank anything, yet attackers who standardise read them as loud as the others.
    2. Vectors that all had one length are brought back to it and matched again. An affine map of a sphere is an
       ellipsoid, and whoever knows that reads the class from which ellipsoid a vector lies on.
    3. Slices move what moments cannot see: in classes of few users where it deviates more than chance, in large ones
       always, to the draw.
    4. Where vectors are scored together with a constant (item biases) and everybody moves, all are scaled by one
       factor, the least-squares one, for what was moved predicts less than what was learnt.

    The draw comes from the key of the run and the user ids. Whoever holds it can solve for labels, so it is used once
    and never written anywhere; reports carry a commitment to it.

    Attributes:
        match: "covariance" matches means and covariances; "mean" only means.
        sweeps: rounds over the attributes in moment space.
        slices: rounds of sliced transport, each along the axes of the table and then along random orthogonal
            directions of coordinates scaled by S^-1/4, S the covariance of the vectors. 0 leaves out all that needs
            the rows (1 to 3 above): one affine map a cell, which can be saved and applied to others.
        own_per_dimension: how much of its own deviation from the pooled covariance a class may keep, in users per
            dimension: a class of n_k users at most the share p d / (p d + n_k). The rest comes from the draw. 0 takes
            everything from the draw; the larger, the less is moved, and the more unevenly. Not looked at for an
            attribute that some users did not ask for.
        learned_from: whose classes say what has to change where some users did not ask. "asked": only those of the
            users who did, and all of their means and covariances come from the draw, for to attackers who learn from
            the others what is chance among few is in part the leak. "everybody": all known ones, those of the others
            too, who stay where they are; what changes is then as small as in a table of all. It needs the others as
            they were trained: users whom an earlier run moved would hide part of the leak, so their classes must be
            unknown (``UserAttributes.without``).
        noise: variance of the new deviations, as a multiple of chance. At 1 a quadratic attacker is at chance and the
            moment equations, who profit from few unknowns, a little above; more noise lowers these and raises that.
        exchange: share of the variance whose narrowest directions are exchanged among users, in [0, 1).
        strength: share of the way that is gone, in (0, 1]. Below 1 less is lost and more leaks, often more than
            the verdict lets pass.
        ridge: added to every covariance, as a share of the mean variance per dimension.
        length: "unit" brings all vectors to one length first, which changes no ranking under plain dot-product scoring;
            "keep" leaves lengths; "auto" scales where the table says that its scoring is a plain dot product.
    """

    name: ClassVar[str] = "calibrated"
    uses_key: ClassVar[bool] = True

    match: Literal["covariance", "mean"] = "covariance"
    sweeps: int = 5
    slices: int = 20
    own_per_dimension: float = 12.0
    noise: float = 1.1
    exchange: float = 0.01
    learned_from: Literal["asked", "everybody"] = "asked"
    strength: float = 1.0
    ridge: float = 1e-4
    length: Length = "auto"

    def __post_init__(self) -> None:
        if self.sweeps < 1 or min(self.slices, self.own_per_dimension, self.noise, self.ridge) < 0:
            raise InvalidSettings(
                "sweeps must be at least 1; slices, own_per_dimension, noise and ridge must not be negative"
            )
        if not 0 <= self.exchange < 1:
            raise InvalidSettings(f"exchange is {self.exchange}, expected a share of the variance in [0, 1)")
        if not 0 < self.strength <= 1:
            raise InvalidSettings(f"strength is {self.strength}, expected a share of the way in (0, 1]")
        if self.learned_from not in ("asked", "everybody"):
            raise InvalidSettings(f"learned_from is {self.learned_from!r}, expected 'asked' or 'everybody'")

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Draw the null, solve in moment space, apply, and refine what needs the rows."""
        return self._moved(rows, None, progress)

    def _moved(self, rows: Rows, metric_of: MetricOf | None, progress: Progress | None) -> Moved:
        # Attribute by attribute: where everybody asked for something, some may still show what they did not ask for.
        silent = [bool(users.any()) for users in rows.cells.silent.T]
        if any(silent) and self.learned_from == "everybody":
            moved = as_if_all_had_asked(rows, lambda rows, taught: self._fitted(rows, taught, metric_of, progress))
        else:
            moved = self._fitted(rows, [0.0 if some else None for some in silent], metric_of, progress)
        return in_one_scale(rows, moved) if rows.cells.moves.all() else moved

    def _fitted(self, rows: Rows, taught: Taught, metric_of: MetricOf | None, progress: Progress | None) -> Moved:
        """All users of ``rows`` who asked, moved; ``taught`` as in ``null_goals``, for each attribute."""
        cells = rows.cells
        drawn = null_labels(cells.codes, rows.table.ids.values, rows.key)
        if self.slices:
            return self._by_rows(rows, drawn, taught, metric_of, progress)
        moments = rows.moments
        eraser, trace = self.solve_towards(moments, self._goals(rows.vectors, moments, drawn, taught))
        eraser = self.part_of(eraser)
        return Moved(eraser.apply(rows.vectors, cells.of_user), trace, "closed form", eraser)

    def _by_rows(
        self,
        rows: Rows,
        drawn: NDArray[np.int32],
        taught: Taught,
        metric_of: MetricOf | None,
        progress: Progress | None,
    ) -> Moved:
        """Steps 1 to 3 above; where users have a metric of their own, means and slices move them along it."""
        cells = rows.cells
        asked = np.flatnonzero(cells.moves)
        codes, drawn, of_user = cells.codes[asked], drawn[asked], cells.of_user[asked]
        length = one_length(rows.vectors[asked])
        wide, beside = exchanged(rows.vectors[asked], self.exchange, secret_generator(rows.key, b"exchange"))
        core = at_length(rows.vectors[asked] @ wide, length)
        goals = self._goals(core, cell_moments(core, of_user, cells.key), drawn, taught)
        trace: list[Step] = []

        def matched(vectors: Matrix) -> Matrix:
            eraser, steps = self.solve_towards(cell_moments(vectors, of_user, cells.key), goals)
            trace.extend(steps)
            return at_length(eraser.apply(vectors, of_user), length)

        metric = None if metric_of is None else metric_of(asked, wide)
        now = core if metric is None else at_length(metric.with_means(core, codes, goals), length)
        for _ in range(1 + (_RETURNS if length else 0)):
            now = matched(now)
        even, back = _evened(core)
        along_axes = TaughtSlices(now, taught) if any(taught) else None
        anywhere = None if along_axes is None else replace(along_axes, vectors=now @ even)
        rng = secret_generator(rows.key, b"slices")
        plain_from = 0 if metric is None else max(self.slices - _PLAIN_ROUNDS, 0)
        for done in range(self.slices):
            bent = metric.bent if metric is not None and done < plain_from else _as_they_are
            if metric is not None and done == plain_from:
                now = matched(now)
            # Trees look along the axes of the table; everybody else may look anywhere.
            now = now + bent(slice_steps(now, codes, drawn, wide.T, along_axes))
            basis, _ = np.linalg.qr(rng.normal(size=even.shape))
            now = now + bent(slice_steps(now @ even, codes, drawn, basis, anywhere) @ back)
            if progress is not None:
                progress(self.name, done + 1, self.slices)
        moved = rows.vectors.copy()
        moved[asked] = at_length(now, length) @ wide.T + beside
        if self.strength < 1:
            old = rows.vectors[asked]
            moved[asked] = at_length(old + self.strength * (moved[asked] - old), length)
        return Moved(moved, tuple(trace), "max steps")

    def solve_towards(self, moments: CellMoments, goals: Sequence[ClassMoments]) -> tuple[Eraser, tuple[Step, ...]]:
        """The eraser that brings the classes of every attribute to their goals; never sees a row.

        Args:
            moments: cells of the true labels.
            goals: class moments to reach, one set an attribute, in the order of ``moments.key.attributes``.

        Returns:
            One map a cell, and the objective before every step.
        """
        ridge = self.ridge * max(moments.mean_variance, 1e-300)
        eraser = Eraser.identity(moments.key, moments.dim)
        now, trace = moments, []
        for _ in range(self.sweeps):
            for attribute, goal in enumerate(goals):
                try:
                    trace.append(Step(objective(now, ridge), 0.0, 1.0))
                except np.linalg.LinAlgError as error:
                    raise InvalidInput(
                        f"a class covariance in {moments.dim} dimensions has no inverse to rounding: too few users. "
                        "Give a larger ridge, merge small classes, or use fewer dimensions"
                    ) from error
                eraser = eraser.compose(self._towards(now, attribute, goal, ridge))
                now = moments.mapped(eraser.matrices, eraser.offsets)
        return eraser, tuple(trace)

    def part_of(self, eraser: Eraser) -> Eraser:
        """The maps that go ``strength`` of the way."""
        stay = (1 - self.strength) * np.eye(eraser.dim)
        return replace(eraser, matrices=stay + self.strength * eraser.matrices, offsets=self.strength * eraser.offsets)

    def _goals(
        self, vectors: Matrix, moments: CellMoments, drawn: NDArray[np.int32], taught: Taught
    ) -> tuple[ClassMoments, ...]:
        """Goals of every attribute, from the vectors as they came and the moments of their cells."""
        drawn_key, drawn_cells = CellKey.of(moments.key.attributes, moments.key.classes, drawn)
        chance = cell_moments(vectors, drawn_cells, drawn_key).marginals()
        return tuple(
            null_goals(own, null, self.own_per_dimension, self.noise, share)
            for own, null, share in zip(moments.marginals(), chance, taught, strict=True)
        )

    def _towards(self, moments: CellMoments, attribute: int, goal: ClassMoments, ridge: float) -> Eraser:
        source = moments.marginal(attribute)
        d = moments.dim
        matrices = np.tile(np.eye(d), (len(moments.key), 1, 1))
        offsets = np.zeros((len(moments.key), d))
        codes = moments.key.combinations[:, attribute]
        for k in np.flatnonzero(source.count):
            matrix = np.eye(d)
            if self.match == "covariance":
                # Source and goal shrink alike towards their pooled covariance: the map of a class with few users for
                # the dimensions stays tame, and its fixed point over the sweeps is the goal itself.
                own = source.count[k] / (source.count[k] + _TAME_PER_DIMENSION * d)
                shrunk = source.within + own * (source.covariance[k] - source.within)
                wanted = goal.within + own * (goal.covariance[k] - goal.within)
                matrix = gaussian_map(shrunk + ridge * np.eye(d), wanted + ridge * np.eye(d))
            matrices[codes == k] = matrix
            offsets[codes == k] = goal.mean[k] - matrix @ source.mean[k]
        return Eraser(moments.key, matrices, offsets)


def _as_they_are(steps: Matrix) -> Matrix:
    return steps


def in_one_scale(rows: Rows, moved: Moved) -> Moved:
    """All users times one factor: the share of a new vector that is still about its user, by least squares, at most 1.

    A moved vector is in part a stranger's. Where it is weighed against a constant such as an item bias, that part
    should not count as much as taste did. It is the same invertible map for everybody, so whoever standardises sees the
    same as before; where some users stay as they are, the scale would tell who moved, and nobody may be scaled.
    """
    if rows.table.scoring != "dot+constant":
        return moved
    new, eraser = moved.vectors, moved.eraser
    scale = min(1.0, float(np.vdot(rows.vectors, new)) / max(float(np.vdot(new, new)), 1e-300))
    if eraser is not None:
        eraser = Eraser(eraser.key, scale * eraser.matrices, scale * eraser.offsets)
    return replace(moved, vectors=scale * new, eraser=eraser, scale=scale)


def _evened(vectors: Matrix) -> tuple[Matrix, Matrix]:
    """S^-1/4 and S^1/4 for the covariance S of the vectors: coordinates whose spreads differ by half as many decades.

    Random directions of raw coordinates are all but blind to those of little spread, yet moving along them shakes these
    most, and attackers standardise: class means would come out more alike there than drawn ones are. In fully whitened
    coordinates the wide directions, which hold the leak, would be moved too little.
    """
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred / max(len(centred), 1))
    present = values > 1e-9 * max(float(values[-1]), 1e-300)
    roots = np.where(present, np.maximum(values, 1e-300) ** 0.25, 1.0)
    return (directions / roots) @ directions.T, (directions * roots) @ directions.T
