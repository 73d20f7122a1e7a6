"""A gradient flow of kernel distances: every class drifts, wherever it is denser than chance, to where it is not."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix
from attrcloak.unlearning.class_energies import ClassEnergies
from attrcloak.unlearning.kernel_rows import BANDS, References, choose_rows

WIDEST = 2.5
"""Bandwidth of the widest kernel, which is all but linear, in mean squared distances of two users. The narrowest is a
sixteenth of it, for near neighbours."""
_RATE = 1.5
"""Share of a difference between a class and chance that one round takes away where all kernels see it and none is left
out, times the root of the class's share of the users. Above 2 classes would overshoot from side to side."""
_REST = np.array((0.0, 0.0, 0.0, 0.4, 0.8))
"""Energy at which a class rests under each kernel, widest first, in standard deviations of a drawn class's. Narrow
kernels weigh users in dense places more than a k-NN attacker does, who would end below chance if they rested at 0."""
_FULL_SPEED = 0.2
"""Standard deviations above its rest at which a class moves at full speed."""
_BACK = 0.1
"""Speed at most, over the full one, of a class that is less like itself than chance, back towards others of its own.
Above, small classes swing to and fro, and take others along."""
_LONGEST_STEP = 0.25
"""Of a user, in root mean squared distances from the mean: for those who are alone under a narrow kernel."""
_ROWS_AT_ONCE = 128


@dataclass(eq=False)
class ClassFlow:
    """Rounds that make the classes of every attribute as like their drawn classes as two draws are like each other.

    After Arbel, Korba, Salim and Gretton (2019): the squared maximum mean discrepancy (MMD) of a class and its drawn
    class, under the kernel exp(-||z_i - z_j||^2 / h) of standardised vectors z, goes down fastest when user i of the
    class moves along sum_j w_j k(z_i, z_j) (z_i - z_j), w_j = 1 for the others of the class and -1 for the users drawn
    for it. As in mean shift, that is divided by the density at z_i, so that steps are lengths, whatever the bandwidth.

    Matching a class to its draw exactly would take the noise away that classes have by chance, and attackers would end
    *below* chance. So every class stops, under each kernel, where its energy is that of chance: where the unbiased
    estimate of the squared MMD between the class and everybody, without the pairs of a user with itself, is 0, or a
    little more under narrow kernels. Where it is below, the class goes back. One round looks at the energies that the
    round before has seen; the first goes at full speed.

    All pairs of users are looked at. With some of them drawn anew for each round, the noise of the energies would drive
    classes apart that are at chance.

    Attributes:
        codes: (n, A) classes, -1 where not marked.
        drawn: (n, A) classes under permuted labels, with as many users each.
        left_out: so many of the widest kernels move nobody; ``ModeFlow`` does what they would.
    """

    codes: NDArray[np.int32]
    drawn: NDArray[np.int32]
    left_out: int = 0
    _own: NDArray[np.int32] = field(init=False)
    _chance: NDArray[np.int32] = field(init=False)
    _speeds: Matrix = field(init=False)

    def __post_init__(self) -> None:
        (self._own, self._chance), attribute = through_all_attributes(self.codes, self.drawn)
        self._speeds = np.ones((len(attribute), BANDS))
        self._speeds[:, : self.left_out] = 0.0

    def steps(self, vectors: Matrix) -> Matrix:
        """(n, d) steps of one round.

        Args:
            vectors: (n, d) where everybody is; columns that do not vary are left alone.
        """
        steps = np.zeros_like(vectors)
        if len(vectors) < 2 or not len(self._speeds):
            return steps
        scale = Scale.of(vectors)
        if scale.varies.any():
            steps[:, scale.varies] = scale.back(self._drift(scale.standardised(vectors)))
        return steps

    def _drift(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, q) steps of standardised users, and the speeds of the next round."""
        n, q = z.shape
        square = (z**2).sum(axis=1)
        own = self._of_class(self._own)
        references, rows_of, seen = self._references(own), choose_rows(n * n), ClassEnergies(own, n)
        drift = np.empty_like(z)
        for start in range(0, n, _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, n))
            here = z[rows]
            kernel = here @ z.T
            kernel *= -2
            kernel += square[rows, None]
            kernel += square
            np.maximum(kernel, 0, out=kernel)
            kernel *= np.float32(-1 / (2 * q * WIDEST))
            np.exp(kernel, out=kernel)
            np.fill_diagonal(kernel[:, start:], 0)  # the pair of a user with itself does not count
            sums = rows_of(kernel, self._own[rows], references)
            seen.add(self._own[rows], sums)
            drift[rows] = kernel.sum(axis=1, keepdims=True) * here - kernel @ z
        self._set_speeds(seen)
        return drift * np.float32(_RATE / BANDS)

    def _references(self, own: NDArray[np.int64]) -> References:
        """How strongly everybody pulls in this round; ``own`` users of each class."""
        size = np.sqrt(len(self._own) * own)
        return References(
            np.ascontiguousarray(self._own.T),
            np.ascontiguousarray(self._chance.T),
            (size / np.maximum(own, 1)).astype(np.float32),
            (size / np.maximum(self._of_class(self._chance), 1)).astype(np.float32),
            self._speeds.astype(np.float32),
        )

    def _set_speeds(self, seen: ClassEnergies) -> None:
        speeds = np.clip((seen.in_deviations() - _REST) / _FULL_SPEED, -_BACK, 1.0)
        self._speeds = np.where(seen.known[:, None], speeds, 0.0)  # a single user has nobody to be like
        self._speeds[:, : self.left_out] = 0.0

    def _of_class(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """(C,) users of every class."""
        return np.bincount(codes[codes >= 0], minlength=len(self._speeds))


@dataclass(frozen=True, eq=False)
class Scale:
    """Coordinates in which every column that varies has mean 0 and variance 1.

    Attributes:
        varies: (d,) columns that do.
        centre: (q,) their means.
        spread: (q,) their standard deviations.
    """

    varies: NDArray[np.bool_]
    centre: Matrix
    spread: Matrix

    @classmethod
    def of(cls, vectors: Matrix) -> "Scale":
        """Of (n, d) vectors."""
        spread = vectors.std(axis=0)
        varies = spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-300)
        return cls(varies, vectors[:, varies].mean(axis=0), spread[varies])

    def standardised(self, vectors: Matrix) -> NDArray[np.float32]:
        """(n, q) of (n, d) vectors."""
        return ((vectors[:, self.varies] - self.centre) / self.spread).astype(np.float32)

    def back(self, steps: NDArray[np.float32]) -> Matrix:
        """(n, q) standardised steps as steps of vectors, none longer than a quarter of the users' root mean square."""
        lengths = np.linalg.norm(steps, axis=1, keepdims=True)
        longest = _LONGEST_STEP * np.sqrt(steps.shape[1])
        return np.asarray(steps * np.minimum(1.0, longest / np.maximum(lengths, longest)) * self.spread)


def through_all_attributes(*codes: NDArray[np.int32]) -> tuple[list[NDArray[np.int32]], NDArray[np.int64]]:
    """Count classes on from one attribute to the next.

    Args:
        codes: (n, A) classes, -1 where not marked; of several such tables, with the same classes.

    Returns:
        All of them, counted so, and (C,) the attribute of every class.
    """
    classes = np.max([each.max(axis=0, initial=-1) for each in codes], axis=0) + 1
    first = np.cumsum(classes) - classes
    counted = [np.where(each >= 0, each + first, -1).astype(np.int32) for each in codes]
    return counted, np.repeat(np.arange(len(classes)), classes)
