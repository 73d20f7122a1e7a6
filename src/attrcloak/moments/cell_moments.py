"""Count, mean and scatter of each cell: statistics that merge, whoever computed the parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput
from attrcloak.moments.cell_key import CellKey

ROWS_PER_CHUNK = 1 << 16

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassMoments:
    """Moments of the K classes of one attribute, over users whose class is known and who asked.

    Attributes:
        count: (K,) users n_k; 0 for a class that does not occur.
        mean: (K, d) class means mu_k, 0 where the class is empty.
        covariance: (K, d, d) class covariances S_k with denominator n_k, 0 where the class is empty.
    """

    count: NDArray[np.int64]
    mean: Matrix
    covariance: Matrix

    @property
    def weights(self) -> Matrix:
        """(K,) class shares w_k = n_k / N; all 0 when nobody asked."""
        return self.count / max(int(self.count.sum()), 1)

    @property
    def global_mean(self) -> Matrix:
        """(d,) mean mu_g over all N users."""
        return self.weights @ self.mean

    @property
    def within(self) -> Matrix:
        """(d, d) pooled within-class covariance S_w = sum_k w_k S_k."""
        return np.tensordot(self.weights, self.covariance, axes=1)

    @property
    def between(self) -> Matrix:
        """(d, d) covariance of the class means, S_b = sum_k w_k (mu_k - mu_g)(mu_k - mu_g)^T."""
        centred = self.mean - self.global_mean
        return (centred * self.weights[:, None]).T @ centred

    @property
    def global_covariance(self) -> Matrix:
        """(d, d) covariance S_g = S_w + S_b over all N users."""
        return self.within + self.between


@dataclass(frozen=True, eq=False)
class CellMoments:
    """Moments of every cell of a table, in float64.

    Attributes:
        key: what the C cells mean.
        count: (C,) users in each cell.
        mean: (C, d) cell means, 0 where a cell is empty.
        scatter: (C, d, d) sums of outer products of the deviations from the cell mean.
    """

    key: CellKey
    count: NDArray[np.int64]
    mean: Matrix
    scatter: Matrix

    @property
    def dim(self) -> int:
        """Number of dimensions d."""
        return int(self.mean.shape[1])

    @property
    def users(self) -> int:
        """Users in all cells, those who asked for nothing included."""
        return int(self.count.sum())

    def merge(self, other: "CellMoments") -> "CellMoments":
        """The moments of both parts together (Chan, Golub and LeVeque 1983); in any order, to rounding.

        The parts may have seen different cells; the result has the union, sorted.

        Raises:
            InvalidInput: the parts differ in dimension, or their class codes mean different things.
        """
        if not self.key.same_meaning(other.key) or self.dim != other.dim:
            raise InvalidInput("these moments are of different attributes, classes or dimensions and cannot be merged")
        stacked = np.concatenate([self.key.combinations, other.key.combinations])
        key, cells = CellKey.of(self.key.attributes, self.key.classes, stacked)
        count = np.zeros((2, len(key)), dtype=np.int64)
        mean = np.zeros((2, len(key), self.dim))
        scatter = np.zeros((len(key), self.dim, self.dim))
        split = len(self.key)
        for part, moments, at in ((0, self, cells[:split]), (1, other, cells[split:])):
            count[part, at], mean[part, at] = moments.count, moments.mean
            scatter[at] += moments.scatter
        total = count.sum(axis=0)
        share = count[1] / np.maximum(total, 1)
        apart = mean[1] - mean[0]
        lift = np.sqrt(count[0] * share)[:, None] * apart
        scatter += lift[:, :, None] * lift[:, None, :]
        return CellMoments(key, total, mean[0] + share[:, None] * apart, scatter)

    def marginal(self, attribute: int) -> ClassMoments:
        """The moments of each class of one attribute, over the cells that name it.

        Args:
            attribute: position of the attribute in ``key.attributes``.
        """
        codes = self.key.combinations[:, attribute]
        classes = self.key.class_counts[attribute]
        member = (codes == np.arange(classes)[:, None]).astype(np.float64)  # (K, C); -1 matches no class
        count = member @ self.count
        share = member * self.count / np.maximum(count, 1)[:, None]
        mean = share @ self.mean
        d = self.dim
        scatter = (member @ self.scatter.reshape(len(self.key), -1)).reshape(classes, d, d)
        for k in np.flatnonzero(count):
            inside = codes == k
            apart = (self.mean[inside] - mean[k]) * np.sqrt(self.count[inside])[:, None]
            scatter[k] += apart.T @ apart
        covariance = scatter / np.maximum(count, 1)[:, None, None]
        return ClassMoments(count.astype(np.int64), mean, covariance)

    def marginals(self) -> tuple[ClassMoments, ...]:
        """The class moments of every attribute, in the key's order."""
        return tuple(self.marginal(attribute) for attribute in range(len(self.key.attributes)))

    def mapped(self, matrices: Matrix, offsets: Matrix) -> "CellMoments":
        """The moments after x -> M_c x + t_c in every cell.

        Args:
            matrices: (C, d, d) M_c.
            offsets: (C, d) t_c.
        """
        mean = np.einsum("cij,cj->ci", matrices, self.mean) + offsets
        scatter = matrices @ self.scatter @ matrices.transpose(0, 2, 1)
        return CellMoments(self.key, self.count, np.where(self.count[:, None] > 0, mean, 0.0), scatter)

    @property
    def mean_variance(self) -> float:
        """Mean variance per dimension over the users who asked for something: the unit of relative settings."""
        asked = ~self.key.unmarked
        count = self.count[asked]
        total = max(int(count.sum()), 1)
        centre = count @ self.mean[asked] / total
        spread = np.trace(self.scatter[asked], axis1=1, axis2=2).sum() + count @ ((self.mean[asked] - centre) ** 2).sum(
            axis=1
        )
        return float(spread / total / self.dim)


def cell_moments(vectors: NDArray[np.floating], cells: NDArray[np.integer], key: CellKey) -> CellMoments:
    """Count, mean and scatter of each cell, in float64 whatever comes in.

    Works in chunks with deviations from each chunk's own cell means, so neither a large common offset nor a long
    table costs accuracy. (In float32 a covariance of collinear columns can come out so wrong that leakage rises.)

    Args:
        vectors: (n, d) user embeddings.
        cells: (n,) cell of each user in [0, len(key)).
        key: the C cells; a cell may be empty here.
    """
    n, d = vectors.shape
    count = np.bincount(cells, minlength=len(key)).astype(np.int64)
    mean = np.zeros((len(key), d))
    scatter = np.zeros((len(key), d, d))
    seen = np.zeros(len(key), dtype=np.int64)
    for start in range(0, n, ROWS_PER_CHUNK):
        chunk_cells = np.asarray(cells[start : start + ROWS_PER_CHUNK])
        order = np.argsort(chunk_cells, kind="stable")
        chunk = np.asarray(vectors[start : start + ROWS_PER_CHUNK], dtype=np.float64)[order]
        occurring, first = np.unique(chunk_cells[order], return_index=True)
        for cell, rows in zip(occurring.tolist(), np.split(chunk, first[1:]), strict=True):
            here = len(rows)
            centre = rows.mean(axis=0)
            deviations = rows - centre
            apart = centre - mean[cell]
            share = here / (seen[cell] + here)
            scatter[cell] += deviations.T @ deviations + np.outer(apart, apart) * (seen[cell] * share)
            mean[cell] += share * apart
            seen[cell] += here
    return CellMoments(key, count, mean, scatter)
