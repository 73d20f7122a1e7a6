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
        references: (C,) users that everybody is compared with, of every class.
        in_all: their number.
    """

    def __init__(self, references: NDArray[np.int64], in_all: int) -> None:
        self._references, self._in_all = references, in_all
        classes = len(references)
        self._users, self._own_pairs, self._pairs = (np.zeros(classes) for _ in range(3))
        self._within, self._across = (np.zeros((classes, BANDS)) for _ in range(2))
        self._everybody, self._all_pairs = np.zeros(BANDS + 1), 0

    def add(self, codes: NDArray[np.int32], sums: KernelSums, among: NDArray[np.bool_]) -> None:
        """Some users.

        Args:
            codes: (r, A) their classes, counted through all attributes; -1 where not marked.
            sums: of their kernels.
            among: (r,) whether they are themselves compared with.
        """
        others = self._in_all - among
        for a, column in enumerate(codes.T):
            marked = column >= 0
            classes = column[marked]
            np.add.at(self._users, classes, 1)
            np.add.at(self._own_pairs, classes, self._references[classes] - among[marked])
            np.add.at(self._pairs, classes, others[marked])
            np.add.at(self._within, classes, sums.within[marked, a])
            np.add.at(self._across, classes, sums.density[marked, :BANDS])
        self._everybody += sums.density.sum(axis=0, dtype=np.float64)
        self._all_pairs += int(others.sum())

    @property
    def known(self) -> NDArray[np.bool_]:
        """(C,) classes with pairs of users to look at."""
        return self._own_pairs >= 1

    def unbiased(self) -> Matrix:
        """(C, BANDS) energies; 0 where none is known."""
        within = self._within / np.maximum(self._own_pairs, 1.0)[:, None]
        across = self._across / np.maximum(self._pairs, 1.0)[:, None]
        energies = self._users[:, None] * (within - 2 * across + self._similarity()[:BANDS])
        return np.where(self.known[:, None], energies, 0.0)

    def in_deviations(self) -> Matrix:
        """(C, BANDS) energies over the standard deviation of those of drawn classes, but for the share of the class."""
        mean = self._similarity()
        # The square of a kernel is the next one: its mean is the kernel's second moment.
        variance = np.maximum(mean[1:] - mean[:BANDS] ** 2, 1e-30)
        return np.asarray(self.unbiased() / np.sqrt(2 * variance))

    def _similarity(self) -> Matrix:
        """(BANDS + 1,) mean kernels of all pairs."""
        return self._everybody / max(self._all_pairs, 1)
