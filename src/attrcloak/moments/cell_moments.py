"""Count, mean and scatter of each cell: statistics that merge, whoever computed the parts."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.tile_passes import tile_passes
from attrcloak.moments.tiles import Tile, blocks_by_cell, map_over_tiles

if TYPE_CHECKING:
    from torch import Tensor

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
        one, two = self._among(key, cells[: len(self.key)]), other._among(key, cells[len(self.key) :])
        count, scatter = one.count + two.count, one.scatter + two.scatter
        share = two.count / np.maximum(count, 1)
        apart = two.mean - one.mean
        lift = np.sqrt(one.count * share)[:, None] * apart
        for cell in np.flatnonzero(lift.any(axis=1)):  # all at once would take as much memory as the scatters again
            scatter[cell] += np.outer(lift[cell], lift[cell])
        return CellMoments(key, count, one.mean + share[:, None] * apart, scatter)

    def _among(self, key: CellKey, cells: NDArray[np.integer]) -> "CellMoments":
        """The same moments among the cells of a larger key, of which these are ``cells``."""
        if np.array_equal(key.combinations, self.key.combinations):
            return self
        count, mean = np.zeros(len(key), dtype=np.int64), np.zeros((len(key), self.dim))
        scatter = np.zeros((len(key), self.dim, self.dim))
        count[cells], mean[cells], scatter[cells] = self.count, self.mean, self.scatter
        return CellMoments(key, count, mean, scatter)

    def marginal(self, attribute: int) -> ClassMoments:
        """The moments of each class of one attribute, over the cells that name it.

        Args:
            attribute: position of the attribute in ``key.attributes``.
        """
        codes = self.key.combinations[:, attribute]
        classes = self.key.class_counts[attribute]
        count = np.bincount(codes + 1, weights=self.count, minlength=classes + 1)[1:]  # -1 matches no class
        mean, covariance = np.zeros((classes, self.dim)), np.zeros((classes, self.dim, self.dim))
        for k in np.flatnonzero(count):
            inside = np.flatnonzero(codes == k)
            share = self.count[inside] / count[k]
            mean[k] = share @ self.mean[inside]
            apart = (self.mean[inside] - mean[k]) * np.sqrt(share)[:, None]
            covariance[k] = self.scatter[inside].sum(axis=0) / count[k] + apart.T @ apart
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


def cell_moments(
    vectors: "NDArray[np.floating] | Tensor", cells: "NDArray[np.integer] | Tensor", key: CellKey
) -> CellMoments:
    """Count, mean and scatter of each cell, in float64 whatever comes in.

    Works in tiles with deviations from each tile's own cell means, so neither a large common offset nor a long
    table costs accuracy. (In float32 a covariance of collinear columns can come out so wrong that leakage rises.)

    Args:
        vectors: (n, d) user embeddings in any float type, read-only or mapped from a file if need be. Not changed.
            A torch tensor stays on its device and is measured there; what comes back are NumPy arrays all the same.
        cells: (n,) cell of each user in [0, len(key)). For a tensor an array or a tensor, on whatever device.
        key: the C cells; a cell may be empty here.

    Raises:
        InvalidInput: users without a cell, or another number of cells than of rows.
        NotSupported: a tensor on a device that has no float64, or too little memory.
    """
    without = int((cells < 0).sum())
    if without:
        raise InvalidInput(f"{without} of {len(cells)} users are in no cell; moments need the cell of every row")
    if not isinstance(vectors, np.ndarray):
        from attrcloak.moments import torch_passes

        return CellMoments(key, *torch_passes.moments(vectors, cells, len(key)))
    cells = np.asarray(cells)
    d = vectors.shape[1]
    count = np.zeros(len(key), dtype=np.int64)
    mean = np.zeros((len(key), d))
    scatter = np.zeros((len(key), d, d))
    passes = tile_passes(vectors.size)

    def add(tile: Tile, means: Matrix, scatters: Matrix) -> None:
        cells, users = tile.cells, np.diff(tile.edges)
        before, share = count[cells], users / (count[cells] + users)
        apart = means - mean[cells]
        if before.any():
            scatters += (apart * (before * share)[:, None])[:, :, None] * apart[:, None, :]
        in_a_row = int(cells[-1] - cells[0]) + 1 == len(cells)  # whose scatters are reached without a copy
        scatter[slice(cells[0], cells[-1] + 1) if in_a_row else cells] += scatters
        mean[cells] += share[:, None] * apart
        count[cells] += users

    with map_over_tiles(*vectors.shape) as over:
        for block in blocks_by_cell(vectors, cells, len(key)):
            measured = over(partial(passes.tile_moments, block.vectors), block.tiles)
            for tile, found in zip(block.tiles, measured, strict=True):
                add(tile, *found)
    return CellMoments(key, count, mean, scatter)
