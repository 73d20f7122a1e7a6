"""How much more alike the users of a class are than chance has it, under kernels of all widths."""

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix
from attrcloak.unlearning.kernel_rows import BANDS, KernelSums


class ClassEnergies:
    """Sums of kernels over the users of every class, and the energies that they add up to.

    The energy of a class of n_k users is n_k times the unbiased estimate of its squared MMD from everybody: the mean
    kernel of pairs within the class, less twice that of its pairs with everybody, plus that of all pairs, no user
    paired with itself. Of drawn classes it is 0 on average.

    Args:
        users: (C,) of every class.
        in_all: number of users.
    """

    def __init__(self, users: NDArray[np.int64], in_all: int) -> None:
        self._users, self._in_all = users.astype(np.float64), in_all
        self._within, self._across = (np.zeros((len(users), BANDS)) for _ in range(2))
        self._everybody = np.zeros(BANDS + 1)

    def add(self, codes: NDArray[np.int32], sums: KernelSums) -> None:
        """Some users.

        Args:
            codes: (r, A) their classes, counted through all attributes; -1 where not marked.
            sums: of their kernels.
        """
        for a, column in enumerate(codes.T):
            marked = column >= 0
            np.add.at(self._within, column[marked], sums.within[marked, a])
            np.add.at(self._across, column[marked], sums.density[marked, :BANDS])
        self._everybody += sums.density.sum(axis=0, dtype=np.float64)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(C,) classes with pairs of users to look at."""
        return self._users >= 2

    def unbiased(self) -> Matrix:
        """(C, BANDS) energies; 0 where none is known."""
        pairs = self._users[:, None] * (self._users[:, None] - 1)
        within = self._within / np.maximum(pairs, 1.0)
        across = self._across / np.maximum(self._users[:, None] * (self._in_all - 1), 1.0)
        energies = self._users[:, None] * (within - 2 * across + self._similarity()[:BANDS])
        return np.where(self.known[:, None], energies, 0.0)

    def in_deviations(self) -> Matrix:
        """(C, BANDS) energies over the standard deviation of those of drawn classes, or a little more.

        Two things are left in that would make it smaller: the factor 1 - n_k/n, and differences of density.
        """
        mean = self._similarity()
        # The square of a kernel is the next one: its mean is the kernel's second moment.
        variance = np.maximum(mean[1:] - mean[:BANDS] ** 2, 1e-30)
        return np.asarray(self.unbiased() / np.sqrt(2 * variance))

    def _similarity(self) -> Matrix:
        """(BANDS + 1,) mean kernels of all pairs."""
        return self._everybody / max(self._in_all * (self._in_all - 1), 1)
