"""Calibrated unlearning: to the permutation null, not to equality."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix, cell_moments
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.transport import gaussian_map
from attrcloak.progress import Progress
from attrcloak.unlearning.method import Length, Moved, Rows, Step, objective
from attrcloak.unlearning.null_draw import null_labels, secret_generator


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Move each class to the moments of that class under a secret random permutation of the labels.

    Making all class moments equal is itself a leak: an attacker who knows part of the labels reads the rest from what
    must cancel out. Here the released table looks, in first and second moments, like one whose labels mean nothing,
    sampling noise included. The map of a class is Gaussian optimal transport from its moments to the drawn ones,
    x -> m_t + A (x - m_s); attributes are swept until all agree. Slices then move what Gaussian maps cannot see: along
    random directions the quantiles of each class go to those of its drawn class. Where vectors are scored together with
    a constant (item biases) and everybody asked, all are last scaled by one factor, the least-squares one, for what was
    moved predicts less than what was learnt.

    The draw comes from the key of the run and the user ids. Whoever holds it can solve for labels, so it is used once
    and never written anywhere; reports carry a commitment to it.

    Attributes:
        match: "covariance" matches means and covariances; "mean" only means.
        sweeps: rounds over the attributes in moment space.
        slices: rounds of sliced transport after them, each along d random orthogonal directions of coordinates scaled
            by S^-1/4, S the covariance of the vectors; they need the rows. 0 leaves one affine map a cell, which can be
            saved and applied to others.
        slice_step: share of the way to the drawn quantiles that each round of slices goes, in (0, 1].
        pooling_per_dimension: how tame the maps of small classes are, in users per dimension. A class of n_k users
            keeps the share p d / (p d + n_k) of its own deviation from the pooled covariance and takes the rest from
            the draw, so that it spreads around the pooled covariance as a drawn class does. 0 takes everything from the
            draw; large values leave small classes readable in their second moments.
        ridge: added to every covariance, as a share of the mean variance per dimension.
        length: "unit" brings all vectors to one length first, which changes no ranking under plain dot-product scoring;
            "keep" leaves lengths; "auto" scales where the table says that its scoring is a plain dot product.
    """

    name: ClassVar[str] = "calibrated"
    uses_key: ClassVar[bool] = True

    match: Literal["covariance", "mean"] = "covariance"
    sweeps: int = 5
    slices: int = 20
    slice_step: float = 0.5
    pooling_per_dimension: float = 1.5
    ridge: float = 1e-4
    length: Length = "auto"

    def __post_init__(self) -> None:
        if self.sweeps < 1 or self.slices < 0 or self.pooling_per_dimension < 0 or self.ridge < 0:
            raise InvalidSettings(
                "sweeps must be at least 1; slices, pooling_per_dimension and ridge must not be negative"
            )
        if not 0 < self.slice_step <= 1:
            raise InvalidSettings(f"slice_step is {self.slice_step}, expected a number in (0, 1]")

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Draw the null, solve in moment space, apply, and slice what is left."""
        cells, vectors = rows.cells, rows.vectors
        moments = rows.moments
        drawn = null_labels(cells.codes, rows.table.ids.values, rows.key)
        drawn_key, drawn_cells = CellKey.of(cells.key.attributes, cells.key.classes, drawn)
        null = cell_moments(vectors, drawn_cells, drawn_key)
        eraser, trace = self.solve_towards(moments, null)
        moved = eraser.apply(vectors, cells.of_user)
        if not self.slices:
            scale = _common_scale(rows, moved)
            scaled = Eraser(eraser.key, scale * eraser.matrices, scale * eraser.offsets)
            return Moved(scale * moved, trace, "closed form", scaled)
        evened, back = _evened(vectors[cells.moves])
        target, projected = _Quantiles(vectors @ evened, drawn), moved @ evened
        rng = secret_generator(rows.key, b"slices")
        for done in range(self.slices):
            projected = target.pull(projected, cells.codes, rng, self.slice_step)
            if progress is not None:
                progress(self.name, done + 1, self.slices)
        moved = projected @ back
        return Moved(_common_scale(rows, moved) * moved, trace, "max steps")

    def solve_towards(self, moments: CellMoments, null: CellMoments) -> tuple[Eraser, tuple[Step, ...]]:
        """The eraser whose class moments are those of the drawn classes; never sees a row.

        Args:
            moments: cells of the true labels.
            null: cells of the drawn labels, over the same users and vectors.
        """
        ridge = self.ridge * max(moments.mean_variance, 1e-300)
        starts, targets = moments.marginals(), null.marginals()
        eraser = Eraser.identity(moments.key, moments.dim)
        now, trace = moments, []
        for _ in range(self.sweeps):
            for attribute, target in enumerate(targets):
                trace.append(Step(objective(now, ridge), 0.0, 1.0))
                step = self._towards(now, attribute, starts[attribute], target, ridge)
                eraser = eraser.compose(step)
                now = moments.mapped(eraser.matrices, eraser.offsets)
        return eraser, tuple(trace)

    def _towards(
        self, moments: CellMoments, attribute: int, start: ClassMoments, null: ClassMoments, ridge: float
    ) -> Eraser:
        source = moments.marginal(attribute)
        d = moments.dim
        matrices = np.tile(np.eye(d), (len(moments.key), 1, 1))
        offsets = np.zeros((len(moments.key), d))
        codes = moments.key.combinations[:, attribute]
        strength = self.pooling_per_dimension * d
        for k in np.flatnonzero(source.count):
            kept = strength / (strength + source.count[k])
            matrix = np.eye(d)
            if self.match == "covariance":
                # The squares of both shares sum to one, so the class spreads around the pooled covariance as it does
                # under permuted labels. With less spread the moment equations would hold more nearly than by chance,
                # and give labels away.
                own = kept * (start.covariance[k] - start.within)
                drawn = np.sqrt(1 - kept**2) * (null.covariance[k] - null.within)
                # Source and goal shrink alike: the map stays tame, and its fixed point over the sweeps is own + drawn.
                shrunk = source.within + (1 - kept) * (source.covariance[k] - source.within)
                goal = null.within + (1 - kept) * (own + drawn)
                matrix = gaussian_map(shrunk + ridge * np.eye(d), goal + ridge * np.eye(d))
            matrices[codes == k] = matrix
            offsets[codes == k] = null.mean[k] - matrix @ source.mean[k]
        return Eraser(moments.key, matrices, offsets)


def _common_scale(rows: Rows, moved: Matrix) -> float:
    """One factor for all users: the share of a new vector that is still about its user, by least squares, at most 1.

    A moved vector is in part a stranger's. Where it is weighed against a constant such as an item bias, that part
    should not count as much as taste did. It is the same invertible map for everybody, so whoever standardises sees the
    same as before; where some users did not ask, their scale would tell who did, and nobody is scaled.
    """
    if rows.table.scoring != "dot+constant" or not rows.cells.moves.all():
        return 1.0
    return min(1.0, float(np.vdot(rows.vectors, moved)) / max(float(np.vdot(moved, moved)), 1e-300))


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


class _Quantiles:
    """Sliced transport to the drawn classes (after Rabin et al. 2012), exact along each direction."""

    def __init__(self, vectors: Matrix, drawn: NDArray[np.int32]) -> None:
        self._drawn = [
            {k: vectors[drawn[:, a] == k] for k in np.unique(drawn[:, a][drawn[:, a] >= 0]).tolist()}
            for a in range(drawn.shape[1])
        ]

    def pull(self, vectors: Matrix, codes: NDArray[np.int32], rng: np.random.Generator, step: float) -> Matrix:
        """One round: a random orthogonal basis, every attribute in turn, every class along every direction of it."""
        basis, _ = np.linalg.qr(rng.normal(size=(vectors.shape[1], vectors.shape[1])))
        projected = vectors @ basis
        for attribute, classes in enumerate(self._drawn):
            for k, drawn in classes.items():
                inside = np.flatnonzero(codes[:, attribute] == k)
                goal = np.sort(drawn @ basis, axis=0)
                now = projected[inside]
                order = np.argsort(now, axis=0)
                # Permuted labels keep class sizes, so quantiles pair up one to one.
                paired = np.empty_like(now)
                np.put_along_axis(paired, order, goal, axis=0)
                projected[inside] = now + step * (paired - now)
        return np.asarray(projected @ basis.T)
