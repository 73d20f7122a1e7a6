"""How much more alike the users of a class are than chance has it, under several kernels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix

Floats = NDArray[np.float32]


class ClassEnergies:
    """Sums of kernels over the users of every class, and the energies that they add up to.

    The energy of a class of n_k users is n_k times the unbiased estimate of its squared MMD from all whose class of the
    attribute is known: the mean kernel of pairs within the class, less twice that of its pairs with all of them, plus
    that of all pairs, no user paired with itself. Of classes dealt out anew among these users it is 0 on average.

    Args:
        members: (n, C) whether a user is of a class, as numbers.
        attribute: (C,) of each class, from 0.
        kernels: number of kernels.
    """

    def __init__(self, members: Floats, attribute: NDArray[np.int64], kernels: int) -> None:
        self._members, self._attribute = members, attribute
        attributes = int(attribute.max(initial=-1)) + 1
        self._known = np.zeros((len(members), attributes), dtype=np.float32)
        for number in range(attributes):
            self._known[:, number] = members[:, attribute == number].any(axis=1)
        self._users = members.sum(axis=0, dtype=np.float64)
        self._within, self._across = (np.zeros((members.shape[1], kernels)) for _ in range(2))
        self._sum, self._squares, self._row_squares = (np.zeros((attributes, kernels)) for _ in range(3))

    def of_rows(self, rows: slice, kernels: Sequence[Floats]) -> list[tuple[Matrix, ...]]:
        """What some users' rows of every kernel add to the sums, for ``add``.

        Args:
            rows: which users.
            kernels: (r, n) each, 0 for the pair of a user with itself.
        """
        mine, known = self._members[rows], self._known[rows]
        found: list[tuple[Matrix, ...]] = []
        for kernel in kernels:
            with_known = (kernel @ self._known).astype(np.float64)
            within = (mine * (kernel @ self._members)).sum(axis=0, dtype=np.float64)
            across = (mine * with_known[:, self._attribute]).sum(axis=0)
            squares = (known * (kernel**2 @ self._known)).sum(axis=0, dtype=np.float64)
            found.append(
                (within, across, (known * with_known).sum(axis=0), squares, (known * with_known**2).sum(axis=0))
            )
        return found

    def add(self, found: Sequence[tuple[Matrix, ...]]) -> None:
        """Add what ``of_rows`` found; the order decides how sums are rounded."""
        sums = (self._within, self._across, self._sum, self._squares, self._row_squares)
        for number, parts in enumerate(found):
            for total, part in zip(sums, parts, strict=True):
                total[:, number] += part

    def unbiased(self) -> Matrix:
        """(C, kernels) energies; 0 where there are no two users to compare."""
        users = self._users[:, None]
        within = self._within / np.maximum(users * (users - 1), 1.0)
        across = self._across / np.maximum(users * (self._in_all() - 1)[self._attribute], 1.0)
        return np.where(users >= 2, users * (within - 2 * across + self._mean()[self._attribute]), 0.0)

    def in_deviations(self) -> Matrix:
        """(C, kernels) energies over the standard deviations of those of classes dealt out anew.

        Of n_k of n users it is 2^1/2 (1 - n_k / n) times the root mean square of the centred kernel.
        """
        n = self._in_all()
        others = np.maximum(n - 1, 1)
        centred = (
            self._squares / np.maximum(n * others, 1)
            - 2 * self._row_squares / np.maximum(n * others**2, 1)
            + self._mean() ** 2
        )
        size = np.maximum(n[self._attribute], 1)
        rest = np.maximum(1 - self._users[:, None] / size, 1 / size)
        return np.asarray(self.unbiased() / (np.sqrt(2 * np.maximum(centred, 1e-30))[self._attribute] * rest))

    def _in_all(self) -> Matrix:
        """(attributes, 1) users whose class is known."""
        return np.asarray(self._known.sum(axis=0, dtype=np.float64)[:, None])

    def _mean(self) -> Matrix:
        """(attributes, kernels) mean of all pairs."""
        n = self._in_all()
        return np.asarray(self._sum / np.maximum(n * (n - 1), 1))
