"""A gradient flow of kernel distances: every class drifts, wherever it is denser than chance, to where it is not."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix

BANDS = (2.5, 1.25, 0.625, 0.3125, 0.15625)
"""Bandwidths of the kernels, in mean squared distances of two users: from all but linear to the nearest neighbours.
Each is half of the one before, so that its kernel is that one's square."""
_RATE = 1.5
"""Share of a difference between a class and chance that one round takes away where all kernels see it, times the root
of the class's share of the users. Above 2 classes would overshoot from side to side."""
_FULL_SPEED = 0.2
"""Standard deviations of a drawn class's energy at which a class moves at full speed."""
_BACK = 0.5
"""Speed at most, over the full one, of a class that is less like itself than chance, back to where it came from."""
_LONGEST_STEP = 0.25
"""Of a user, in root mean squared distances from the mean: for those who are alone under a narrow kernel."""
MOST_REFERENCES = 8192
"""Users that everybody is compared with in a round; where there are more, they are drawn anew for every round."""
_ROWS_AT_ONCE = 1024


@dataclass(eq=False)
class ClassFlow:
    """Rounds that make the classes of every attribute as like their drawn classes as two draws are like each other.

    After Arbel, Korba, Salim and Gretton (2019): the squared maximum mean discrepancy (MMD) of a class and its drawn
    class, under the kernel exp(-||z_i - z_j||^2 / h) of standardised vectors z, goes down fastest when user i of the
    class moves along sum_j w_j k(z_i, z_j) (z_i - z_j), w_j = 1 for the others of the class and -1 for the users drawn
    for it. As in mean shift, that is divided by the density at z_i, so that steps are lengths, whatever the bandwidth.

    Matching a class to its draw exactly would take the noise away that classes have by chance, and attackers would end
    *below* chance. So every class stops, under each kernel, where its energy is that of chance: where the unbiased
    estimate of the squared MMD between the class and everybody, without the pairs of a user with itself, is 0. Where
    it is below, the class goes back. One round looks at the energies that the round before has seen.

    Attributes:
        codes: (n, A) classes, -1 where not marked.
        drawn: (n, A) classes under permuted labels, with as many users each.
        rng: chooses whom everybody is compared with, where not with all.
    """

    codes: NDArray[np.int32]
    drawn: NDArray[np.int32]
    rng: np.random.Generator
    _speeds: list[Matrix] = field(init=False)

    def __post_init__(self) -> None:
        self._speeds = [np.ones((len(BANDS), self._classes(a))) for a in range(self.codes.shape[1])]

    def steps(self, vectors: Matrix) -> Matrix:
        """(n, d) steps of one round.

        Args:
            vectors: (n, d) where everybody is; columns that do not vary are left alone.
        """
        steps = np.zeros_like(vectors)
        if len(vectors) < 2:
            return steps
        spread = vectors.std(axis=0)
        varies = spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-300)
        if not varies.any():
            return steps
        z = ((vectors[:, varies] - vectors[:, varies].mean(axis=0)) / spread[varies]).astype(np.float32)
        drift = self._drift(z)
        lengths = np.linalg.norm(drift, axis=1, keepdims=True)
        longest = _LONGEST_STEP * np.sqrt(z.shape[1])
        steps[:, varies] = drift * np.minimum(1.0, longest / np.maximum(lengths, longest)) * spread[varies]
        return steps

    def _drift(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, q) steps of standardised users, and the speeds of the next round."""
        n, q = z.shape
        some = np.arange(n) if n <= MOST_REFERENCES else self.rng.choice(n, MOST_REFERENCES, replace=False)
        place = np.full(n, -1)
        place[some] = np.arange(len(some))
        others, square = z[some], (z**2).sum(axis=1)
        own = [_one_hot(column[some], self._classes(a)) for a, column in enumerate(self.codes.T)]
        pulls = [self._pulls(a, some, columns) for a, columns in enumerate(own)]
        seen = [_Energies(columns.sum(axis=0), len(some)) for columns in own]
        everybody, drift = np.zeros((len(BANDS) + 1, 2)), np.zeros_like(z)
        for start in range(0, n, _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, n))
            here, mine = z[rows], place[rows]
            themselves = np.flatnonzero(mine >= 0), mine[mine >= 0]
            distance = square[rows, None] + square[some] - 2 * (here @ others.T)
            kernel = np.exp(np.maximum(distance, 0) * np.float32(-1 / (2 * q * BANDS[0])))
            kernel[themselves] = 0
            among = mine >= 0  # the pair of a user with itself does not count
            for band in range(len(BANDS)):
                density = kernel.sum(axis=1)
                weights = np.zeros_like(kernel)
                for a, column in enumerate(self.codes.T):
                    codes = column[rows]
                    marked = np.flatnonzero(codes >= 0)
                    weights[marked] += pulls[a][band][codes[marked]]
                    seen[a].add(band, codes[marked], kernel[marked] @ own[a], density[marked], among[marked])
                everybody[band] += density.sum(dtype=np.float64), len(among) * len(some) - among.sum()
                weights *= kernel
                toward = weights.sum(axis=1, keepdims=True) * here - weights @ others
                drift[rows] += toward / (density[:, None] + np.float32(1e-12))
                kernel *= kernel  # the kernel of the next band
            everybody[-1] += kernel.sum(dtype=np.float64), len(among) * len(some) - among.sum()
        self._set_speeds(seen, everybody[:, 0] / np.maximum(everybody[:, 1], 1))
        return drift * np.float32(_RATE / len(BANDS))

    def _pulls(self, attribute: int, some: NDArray[np.int64], own: NDArray[np.float32]) -> NDArray[np.float32]:
        """(bands, K, m) weight of each of the users that everybody is compared with, for users of each class."""
        drawn = _one_hot(self.drawn[some, attribute], own.shape[1])
        mine, theirs = (columns / np.maximum(columns.sum(axis=0), 1) for columns in (own, drawn))
        count = np.bincount(self.codes[:, attribute] + 1, minlength=own.shape[1] + 1)[1:]
        size = len(some) * np.sqrt(count / max(len(self.codes), 1))
        both = (own.sum(axis=0) > 0) & (drawn.sum(axis=0) > 0)
        pull = ((mine - theirs) * (size * both)).T
        return np.asarray(self._speeds[attribute][:, :, None] * pull, dtype=np.float32)

    def _set_speeds(self, seen: "list[_Energies]", similarity: Matrix) -> None:
        """From the energies, in standard deviations of those of drawn classes."""
        for band in range(len(BANDS)):
            mean = max(float(similarity[band]), 1e-300)
            usual = np.sqrt(2 * max(float(similarity[band + 1]) - mean**2, 1e-30))
            for a, energies in enumerate(seen):
                energy = energies.unbiased(band, mean) / usual
                self._speeds[a][band] = np.clip(energy / _FULL_SPEED, -_BACK, 1.0)

    def _classes(self, attribute: int) -> int:
        return int(self.codes[:, attribute].max(initial=-1)) + 1


class _Energies:
    """Sums over the users of each class of one attribute, by band."""

    def __init__(self, others: NDArray[np.float32], in_all: int) -> None:
        self._others, self._others_in_all = others, in_all
        self._users = np.zeros(len(others))
        self._sums = np.zeros((len(BANDS), 4, len(others)))

    def add(
        self,
        band: int,
        codes: NDArray[np.int32],
        by_class: NDArray[np.float32],
        density: NDArray[np.float32],
        among: NDArray[np.bool_],
    ) -> None:
        """Users of classes ``codes``, their summed kernels with each class and with everybody they are compared with.

        ``among`` are those who are themselves compared with.
        """
        classes = len(self._others)
        within = np.take_along_axis(by_class, codes[:, None], axis=1)[:, 0]
        own_pairs, pairs = self._others[codes] - among, self._others_in_all - among
        for number, values in enumerate((within, own_pairs, density, pairs)):
            self._sums[band, number] += np.bincount(codes, values, classes)
        if band == 0:
            self._users += np.bincount(codes, minlength=classes)

    def unbiased(self, band: int, similarity: float) -> Matrix:
        """(K,) n_k times the unbiased squared MMD of each class and everybody; 0 for classes of one user or none."""
        within, own_pairs, cross, pairs = self._sums[band]
        several = own_pairs >= 1
        inside = within / np.where(several, own_pairs, 1.0)
        across = cross / np.maximum(pairs, 1)
        return np.where(several, self._users * (inside - 2 * across + similarity), 0.0)


def _one_hot(codes: NDArray[np.int32], classes: int) -> NDArray[np.float32]:
    """(n, K); no row has a 1 where the code is -1."""
    return np.asarray(codes[:, None] == np.arange(classes), dtype=np.float32)
