"""Closed forms from concept erasure: mean removal, LEACE and the Gaussian barycentre."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attrcloak.errors import InvalidSettings
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, Matrix
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.transport import barycentre, gaussian_map
from attrcloak.unlearning.method import Solution, Step, objective

ClassMaps = Callable[[ClassMoments], tuple[Matrix, Matrix]]
"""From the moments of an attribute's classes to one affine map a class, (K, d, d) and (K, d)."""


@dataclass(frozen=True, kw_only=True)
class MeanRemoval:
    """x - mu_k + mu_g for each attribute: class means become equal, covariances stay.

    Attributes:
        sweeps: most rounds over the attributes; with several, one round leaves the others' means a little apart.
    """

    name: ClassVar[str] = "mean-removal"

    sweeps: int = 200

    def __post_init__(self) -> None:
        if self.sweeps < 1:
            raise InvalidSettings(f"sweeps is {self.sweeps}, expected at least 1")

    def solve(self, moments: CellMoments) -> Solution:
        """Sweep the attributes until their class means agree."""
        return _swept(moments, self.sweeps, _to_common_mean)


@dataclass(frozen=True, kw_only=True)
class Barycentre:
    """Move every class to one mean and one covariance, the Bures-Wasserstein barycentre of the class covariances.

    The solution L^AU = 0 of AttrCloak-DF with the least total move (QLEACE, Belrose et al. 2023; Gelbrich 1990). Equal
    moments over all users are equations an attacker who knows part of the labels can solve for the rest: see the
    moment-equation attack of the audit.

    Attributes:
        sweeps: rounds over the attributes.
        min_users_per_dimension: classes with fewer users than this times d are taken to have the pooled covariance,
            because their own has directions of (nearly) no variance that would be stretched without bound. Their means
            still match exactly.
        ridge: added to class covariances, as a share of the mean variance per dimension, in the directions in which
            anyone differs; others stay as they are.
    """

    name: ClassVar[str] = "barycentre"

    sweeps: int = 10
    min_users_per_dimension: float = 2.0
    ridge: float = 1e-9

    def __post_init__(self) -> None:
        if self.sweeps < 1 or self.min_users_per_dimension < 0 or self.ridge < 0:
            raise InvalidSettings("sweeps must be at least 1; min_users_per_dimension and ridge must not be negative")

    def solve(self, moments: CellMoments) -> Solution:
        """Sweep the attributes until the class moments of all agree."""
        ridge = self.ridge * max(moments.mean_variance, 1e-300)

        def to_barycentre(marginal: ClassMoments) -> tuple[Matrix, Matrix]:
            d = marginal.mean.shape[1]
            small = marginal.count < self.min_users_per_dimension * d
            covariances = np.where(small[:, None, None], marginal.within, marginal.covariance)
            covariances = covariances + ridge * _range_projection(marginal.global_covariance)
            centre = barycentre(covariances, marginal.weights, tolerance=1e-10, max_iterations=200)
            occurs = marginal.count > 0
            matrices = np.tile(np.eye(d), (len(occurs), 1, 1))
            matrices[occurs] = [gaussian_map(covariance, centre) for covariance in covariances[occurs]]
            return matrices, marginal.global_mean - np.einsum("kij,kj->ki", matrices, marginal.mean)

        return _swept(moments, self.sweeps, to_barycentre)


@dataclass(frozen=True, kw_only=True)
class LEACE:
    """Least-squares concept erasure (Belrose et al. 2023, theorem 4.2): one map for all, without using labels.

    x - W^+ P W (x - mu), with W = S_xx^-1/2 and P the projection on the columns of W S_xz, z the one-hot classes of all
    attributes. No linear classifier with a squared or logistic loss does better than the constant one; other attackers
    are not addressed. Because the map is the same for everybody, it can be applied to users whose class is not known.
    """

    name: ClassVar[str] = "leace"

    def solve(self, moments: CellMoments) -> Solution:
        """The same map for every cell that asked for something."""
        asked = ~moments.key.unmarked
        count, mean, scatter = moments.count[asked], moments.mean[asked], moments.scatter[asked]
        users = max(int(count.sum()), 1)
        centre = count @ mean / users
        apart = (mean - centre) * np.sqrt(count)[:, None]
        covariance = (scatter.sum(axis=0) + apart.T @ apart) / users
        # S_xz: users who are not marked for an attribute have z = 0 there.
        columns = [
            marginal.weights[:, None] * (marginal.count.sum() / users) * (marginal.mean - centre)
            for marginal in moments.marginals()
        ]
        cross = np.concatenate(columns).T
        values, directions = np.linalg.eigh(covariance)
        present = values > 1e-12 * max(float(values[-1]), 1e-300)
        roots = np.sqrt(np.where(present, values, 1.0))
        whiten = (directions * np.where(present, 1 / roots, 0.0)) @ directions.T
        unwhiten = (directions * np.where(present, roots, 0.0)) @ directions.T
        left, strength, _ = np.linalg.svd(whiten @ cross, full_matrices=False)
        basis = left[:, strength > 1e-10 * max(float(strength.max(initial=0.0)), 1e-8)]
        matrix = np.eye(moments.dim) - unwhiten @ basis @ basis.T @ whiten
        cells = len(moments.key)
        matrices = np.tile(matrix, (cells, 1, 1))
        offsets = np.tile(centre - matrix @ centre, (cells, 1))
        return Solution(_constant_columns_kept(moments, matrices, offsets))


def _to_common_mean(marginal: ClassMoments) -> tuple[Matrix, Matrix]:
    classes, d = marginal.mean.shape
    return np.tile(np.eye(d), (classes, 1, 1)), marginal.global_mean - marginal.mean


def _range_projection(covariance: Matrix) -> Matrix:
    values, directions = np.linalg.eigh(covariance)
    present = values > 1e-12 * max(float(values[-1]), 0.0)
    return np.asarray((directions * present) @ directions.T)


def _constant_columns_kept(moments: CellMoments, matrices: Matrix, offsets: Matrix) -> Eraser:
    """The eraser of these maps that hands on columns in which nobody who asked differs, bit for bit.

    Left to rounding, such a column would come out a little different for each class, and an attacker who standardises
    columns brings that difference to full size.
    """
    asked = ~moments.key.unmarked
    count, mean = moments.count[asked], moments.mean[asked]
    users = max(int(count.sum()), 1)
    centre = count @ mean / users
    within = np.diagonal(moments.scatter[asked], axis1=1, axis2=2).sum(axis=0)
    deviation = np.sqrt((within + count @ (mean - centre) ** 2) / users)
    constant = np.flatnonzero(deviation <= 1e-12 * (np.abs(centre) + deviation.max()))
    matrices[:, constant, :], offsets[:, constant] = 0.0, 0.0
    matrices[:, constant, constant] = 1.0
    return Eraser(moments.key, matrices, offsets)


def _swept(moments: CellMoments, sweeps: int, towards: ClassMaps) -> Solution:
    """Apply one attribute's class maps after the other, until a whole round changes next to nothing."""
    variance = max(moments.mean_variance, 1e-300)
    attributes = len(moments.key.attributes)
    eraser, now, trace = Eraser.identity(moments.key, moments.dim), moments, []
    # Factoring matrices this small, threads wait for one another: on two busy cores a second made it 30 times slower.
    with one_thread():
        for _ in range(sweeps):
            before = now
            trace.append(Step(objective(now, 1e-3 * variance), 0.0, 1.0))
            for attribute in range(attributes):
                eraser = eraser.compose(_class_maps(now, attribute, towards))
                now = moments.mapped(eraser.matrices, eraser.offsets)
            if attributes == 1:
                return Solution(eraser, tuple(trace), "closed form")
            # Means alone would stop at once where they all agree from the start and only covariances differ.
            means = np.abs(now.mean - before.mean).max() / np.sqrt(variance * moments.dim)
            scatters = np.abs(now.scatter - before.scatter).max() / (variance * moments.users)
            if max(means, scatters) < 1e-10:
                return Solution(eraser, tuple(trace), "converged")
        return Solution(eraser, tuple(trace), "max steps")


def _class_maps(moments: CellMoments, attribute: int, towards: ClassMaps) -> Eraser:
    matrices = np.tile(np.eye(moments.dim), (len(moments.key), 1, 1))
    offsets = np.zeros((len(moments.key), moments.dim))
    linear, constant = towards(moments.marginal(attribute))
    codes = moments.key.combinations[:, attribute]
    marked = codes >= 0
    matrices[marked], offsets[marked] = linear[codes[marked]], constant[codes[marked]]
    return _constant_columns_kept(moments, matrices, offsets)
