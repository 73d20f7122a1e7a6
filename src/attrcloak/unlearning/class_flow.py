"""A gradient flow of kernel distances: every class drifts, wherever it is denser than chance, to where it is not."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.blas_threads import Map
from attrcloak.moments.cell_moments import Matrix
from attrcloak.unlearning.class_energies import ClassEnergies, Floats
from attrcloak.unlearning.whitening import inward_factors

_WIDTH = 0.156
"""Of the kernel, in mean squared distances of two users: in 64 dimensions a quarter of 6,000 users count."""
_LOW_ORDERS = 3
"""Orders that count as low: what a class shows in lengths, directions, and products of two and of three."""
_RATES = np.array((0.6, 0.2))
"""Share of a difference between a class and its draw that one round takes away in low and high orders, times the root
of the class's share of the users. Above 2 classes would overshoot from side to side."""
_FULL_SPEED = np.array((1.0, 4.0))
"""Standard deviations of energy, in low and high orders, from which on a class moves at full speed. A round changes
high orders by several of them."""
_BACK = 0.1
"""Speed at most, over the full one, of a class that is less like itself than chance, back towards others of its own.
Above, small classes swing to and fro, and take others along."""
_LONGEST_STEP = 0.25
"""Of a user, in root mean squared distances from the mean: for those who are alone under the kernel."""
_TO_AND_FRO = -0.7
"""Cosine of all steps of a round with those of the round before, below which they have overshot and are halved."""
ROWS_AT_ONCE = 128
"""Users whose kernels with everybody are in memory, in some eight float32 matrices."""


@dataclass(eq=False)
class ClassFlow:
    """Rounds that make the classes of every attribute as like themselves as chance has it, in low orders and in high.

    After Arbel, Korba, Salim and Gretton (2019): the squared maximum mean discrepancy (MMD) of a class and its drawn
    class, under a kernel of standardised vectors z goes down fastest when the users of the class move along
    the slope of its witness, the mean kernel with the class less that with the users drawn for it. As in mean shift,
    that is divided by the density at the user, so that steps are lengths. Where lengths differ, users who lie far out
    are drawn in (``inward_factors``), or they would be alone under the kernel, and what their class shows in them would
    stay; where they do not, attackers who compare distances see more of what is left when it was found drawn in. With
    everybody in place of the drawn class, what is left of a deviation would lie where it was, in few directions, and
    networks find those.

    The Gaussian kernel is a sum over orders, with s = z^T z' / (q w) for width w and q dimensions:

        exp(-|z - z'|^2 / (2 q w)) = a(z) a(z') (1 + s + s^2 / 2 + s^3 / 6 + ...),   a(z) = exp(-|z|^2 / (2 q w)).

    Low orders compare classes in means, products of two and of three coordinates, of users near the middle most; high
    orders in neighbourhoods. They are two kernels here, each with energies and speeds of its own: with one for both, a
    class comes to rest when what is above chance in one makes up for what is below in the other, and attackers who look
    at other neighbours than the kernel does, more of them or fewer, read the difference.

    Matching a class to its draw exactly would take the noise away that classes have by chance, and attackers would end
    *below* chance. So a class stops where its unbiased energy is 0, and where it is below it goes back. A round looks
    at the energies that the round before has seen; the first looks before it moves anybody.

    How far a step of full speed reaches depends on the table: where many coordinates vary alike and on their own, some
    two and a half times as far as the goal, to and fro and farther each time. So once the steps of a round go back on
    those of the round before, these and all that follow are halved.

    All pairs of users are looked at. With some of them drawn anew for each round, the noise of the energies would drive
    classes apart that are at chance.

    Attributes:
        codes: (n, A) classes, -1 where not marked.
        drawn: (n, A) classes under permuted labels, with as many users each.
        lengths_differ: whether users are drawn in who lie far out.
    """

    codes: NDArray[np.int32]
    drawn: NDArray[np.int32]
    lengths_differ: bool = True
    _members: Floats = field(init=False)
    _attribute: NDArray[np.int64] = field(init=False)
    _pull: Floats = field(init=False)
    _speeds: Matrix | None = field(init=False, default=None)
    _before: Floats | None = field(init=False, default=None)
    _length: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        self._members, self._attribute = _of_classes(self.codes)
        users = self._members.sum(axis=0)[:, None]
        apart = self._members.T - _of_classes(self.drawn)[0].T
        # (C, n) what everybody pulls at a user of the class with, at the root of the class's share.
        self._pull = apart / np.maximum(users, 1) * np.sqrt(len(self.codes) * users)

    def steps(self, vectors: Matrix, over: Map = map) -> Matrix:
        """(n, d) steps of one round.

        Args:
            vectors: (n, d) where everybody is; columns that do not vary are left alone.
            over: maps over blocks of users, such as that of ``side_by_side``; it changes no bit.
        """
        steps = np.zeros_like(vectors)
        if len(vectors) < 2 or not self._members.any():
            return steps
        scale = Scale.of(vectors)
        if scale.varies.any():
            z = scale.standardised(vectors)
            factors = inward_factors(z).astype(np.float32) if self.lengths_differ else np.ones((1, 1), np.float32)
            z *= factors
            if self._speeds is None:
                self._round(z, np.zeros((self._members.shape[1], len(_RATES))), over)
            assert self._speeds is not None  # a round sets them
            steps[:, scale.varies] = scale.back(self._no_farther(self._round(z, self._speeds, over)) / factors)
        return steps

    def _no_farther(self, steps: Floats) -> Floats:
        """The steps, at half the length from the first time on that they go to and fro."""
        before, self._before = self._before, steps
        if before is not None and before.shape == steps.shape:
            sizes = float(np.linalg.norm(before)) * float(np.linalg.norm(steps))
            if float(np.vdot(before, steps)) < _TO_AND_FRO * sizes:
                self._length /= 2
        return steps * np.float32(self._length)

    def _round(self, z: Floats, speeds: Matrix, over: Map) -> Floats:
        """(n, q) steps of standardised users at these (C, 2) speeds, and the speeds of the next round."""
        n, q = z.shape
        half = (z**2).sum(axis=1) / np.float32(2 * q * _WIDTH)
        seen, drift = ClassEnergies(self._members, self._attribute, len(_RATES)), np.zeros_like(z)

        def of_block(start: int) -> list[tuple[Matrix, ...]]:
            """The block's part of all sums; its users' drift goes to its place."""
            rows = slice(start, min(start + ROWS_AT_ONCE, n))
            product = z[rows] @ z.T / np.float32(q * _WIDTH)
            low, slope_of_low = _low_orders(product, half[rows], half)
            kernel = np.exp(np.minimum(product - half[rows, None] - half, 0))
            for each in (kernel, low, slope_of_low):
                np.fill_diagonal(each[:, start:], 0)  # the pair of a user with itself does not count
            sums = seen.of_rows(rows, (low, kernel - low))
            if not speeds.any():
                return sums
            density = np.maximum(kernel.sum(axis=1, keepdims=True), np.float32(1e-30))
            in_low, in_high = (
                (self._members[rows] * (rate * speed).astype(np.float32)) @ self._pull
                for rate, speed in zip(_RATES, speeds.T, strict=True)
            )
            toward = in_low * slope_of_low + in_high * (kernel - slope_of_low)
            away = (in_low * low + in_high * (kernel - low)).sum(axis=1, keepdims=True)
            drift[rows] = (away * z[rows] - toward @ z) / density
            return sums

        for sums in over(of_block, range(0, n, ROWS_AT_ONCE)):
            seen.add(sums)
        self._speeds = np.clip(seen.in_deviations() / _FULL_SPEED, -_BACK, 1.0)
        return drift


def _low_orders(product: Floats, half: Floats, halves: Floats) -> tuple[Floats, Floats]:
    """(r, n) low orders of the kernel, and of its slope along the other's vector, from the (r, n) products s."""
    term = np.exp(-half)[:, None] * np.exp(-halves)
    total, before = term.copy(), term
    for order in range(1, _LOW_ORDERS + 1):
        before = total.copy()
        term = term * (product / np.float32(order))
        total += term
    return total, before


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

    def standardised(self, vectors: Matrix) -> Floats:
        """(n, q) of (n, d) vectors."""
        return np.asarray(((vectors[:, self.varies] - self.centre) / self.spread).astype(np.float32))

    def back(self, steps: Floats) -> Matrix:
        """(n, q) standardised steps as steps of vectors, none longer than a quarter of the users' root mean square."""
        lengths = np.linalg.norm(steps, axis=1, keepdims=True)
        longest = _LONGEST_STEP * np.sqrt(steps.shape[1])
        return np.asarray(steps * np.minimum(1.0, longest / np.maximum(lengths, longest)) * self.spread)


def _of_classes(codes: NDArray[np.int32]) -> tuple[Floats, NDArray[np.int64]]:
    """(n, C) whether a user is of each class, counted through all attributes, and (C,) the attribute of every class."""
    own, attribute = through_all_attributes(codes)
    members = np.zeros((len(own), len(attribute)), dtype=np.float32)
    user, column = np.nonzero(own >= 0)
    members[user, own[user, column]] = 1
    return members, attribute


def through_all_attributes(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Count classes on from one attribute to the next.

    Args:
        codes: (n, A) classes, -1 where not marked.

    Returns:
        (n, A) the same, counted so, and (C,) the attribute of every class.
    """
    classes = codes.max(axis=0, initial=-1) + 1
    first = np.cumsum(classes) - classes
    return np.where(codes >= 0, codes + first, -1).astype(np.int32), np.repeat(np.arange(len(classes)), classes)
