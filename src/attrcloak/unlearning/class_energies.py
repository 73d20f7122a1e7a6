"""How much more alike the users of a class are than chance has it, under several kernels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix

Floats = NDArray[np.float32]


class ClassEnergies:
    """Sums of kernels over the users of every class, and the energies that they add up to.

    The energy of a class of n_k users is n_k times the unbiased estimate of its squared MMD from everybody: the mean
    kernel of pairs within the class, less twice that of its pairs with everybody, plus that of all pairs, no user
    paired with itself. Of drawn classes it is 0 on average.

    Args:
        members: (n, C) whether a user is of a class, as numbers.
        kernels: number of kernels.
    """

    def __init__(self, members: Floats, kernels: int) -> None:
        self._members = members
        self._users = members.sum(axis=0, dtype=np.float64)
        self._within, self._across = (np.zeros((members.shape[1], kernels)) for _ in range(2))
        self._sum, self._squares, self._row_squares = (np.zeros(kernels) for _ in range(3))

    def add(self, rows: slice, kernels: Sequence[Floats]) -> None:
        """Some users' rows of every kernel.

        Args:
            rows: which users.
            kernels: (r, n) each, 0 for the pair of a user with itself.
        """
        mine = self._members[rows]
        for number, kernel in enumerate(kernels):
            of_row = kernel.sum(axis=1, dtype=np.float64)
            self._within[:, number] += (mine * (kernel @ self._members)).sum(axis=0, dtype=np.float64)
            self._across[:, number] += mine.T @ of_row
            self._sum[number] += of_row.sum()
            self._squares[number] += np.einsum("ij,ij->i", kernel, kernel).sum(dtype=np.float64)
            self._row_squares[number] += of_row @ of_row

    def unbiased(self) -> Matrix:
        """(C, kernels) energies; 0 where there are no two users to compare."""
        users, others = self._users[:, None], max(len(self._members) - 1, 1)
        within = self._within / np.maximum(users * (users - 1), 1.0)
        across = self._across / np.maximum(users * others, 1.0)
        return np.where(users >= 2, users * (within - 2 * across + self._mean()), 0.0)

    def in_deviations(self) -> Matrix:
        """(C, kernels) energies over the standard deviations of those of drawn classes.

        Of n_k of n users it is 2^1/2 (1 - n_k / n) times the root mean square of the centred kernel.
        """
        n = len(self._members)
        others = max(n - 1, 1)
        centred = self._squares / max(n * others, 1) - 2 * self._row_squares / max(n, 1) / others**2 + self._mean() ** 2
        most = np.maximum(1 - self._users / max(n, 1), 1 / max(n, 1))
        return np.asarray(self.unbiased() / (np.sqrt(2 * np.maximum(centred, 1e-30)) * most[:, None]))

    def _mean(self) -> Matrix:
        """(kernels,) mean of all pairs."""
        n = len(self._members)
        return np.asarray(self._sum / max(n * (n - 1), 1))
