"""A flow of second moments: what classes show in products of two coordinates goes to the sizes of chance."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix
from attrcloak.unlearning.chance_goals import (
    at_chance,
    blocks_of,
    leaking_blocks,
    of_spectra,
    rarity,
    spectra_of_chance,
)
from attrcloak.unlearning.class_flow import through_all_attributes
from attrcloak.unlearning.whitening import Whitening, inward_factors

MOST_DIRECTIONS = 90
"""Widest principal directions whose products have goals: 4,095 products, whose covariance has to be decomposed."""
_USERS_A_PRODUCT = 2
"""At least: with fewer the widest directions alone are looked at, or goals would be set by noise and move everybody."""
_NARROWEST = 0.1
"""Width of a direction, over the widest, as which narrower ones count among the components."""
_BLOCK = 64
"""Combinations of products that are looked at together, at least."""
_WEAKEST = 1e-6
"""Variance of a combination of products, over the largest, below which it is rounding."""
_SHARE = 0.5
"""Of the gap to its goal that one round takes from a class."""
_ATTRIBUTES_AT_FULL_SHARE = 3
"""With more the share is less: attributes that say nearly the same would together go twice as far as they are to."""
_NEAR = 0.01
"""Squared gap over chance's variance, mean over a block, at which a class rests there. What is left lies along the
leak, where a tenth of chance's deviation adds a fifth to the mean square."""
_LONGEST = 0.1
"""Step of a class in one round, root mean square over its users and dimensions, in standard deviations."""
_TURNS = 4
"""In which goals get the sizes of chance, and in between its spectrum."""
_ROWS_AT_ONCE = 1024


@dataclass(eq=False)
class ProductFlow:
    """Rounds that bring the class means of the products y_a y_b to goals, every class by one linear map a round.

    y are whitened coordinates w of the users at the start, drawn in where a user lies far out (``inward_factors``), so
    that the many count as much as the few whose products are large: class covariances at chance still let attackers
    tell the many, where a few made up for them. Products are correlated among themselves, most where users vary in
    length, so goals are set in their principal components, in which class means deviate by chance independently: with
    fixed sizes in the products themselves, attackers who weigh combinations by how little they vary, such as the moment
    equations, would see classes that agree too closely. The components are those of the products of coordinates as wide
    as they are in the table, those that vary most first, and goals are set block by block in that order: attackers who
    compare distances weigh wide directions more, where classes show more to begin with, and ranks are kept within a
    block. The goals are those of ``like_chance``. They are in deviations of chance, and what these are changes as users
    move: wide directions lose a sixth of their variance, and as much in the products is a leak.

    A class whose means are off by the symmetric G moves by w' = w - G y / 2, which changes E[w w^T] by -G to first
    order where lengths are alike.

    Attributes:
        start: (n, d) where everybody is.
        codes: (n, A) classes, -1 where not marked.
    """

    start: Matrix
    codes: NDArray[np.int32]
    _whitening: Whitening = field(init=False)
    _own: NDArray[np.int32] = field(init=False)
    _attribute: NDArray[np.int64] = field(init=False)
    _users: NDArray[np.int64] = field(init=False)
    _pairs: tuple[NDArray[np.int64], NDArray[np.int64]] = field(init=False)
    _weights: Matrix = field(init=False)
    _components: Matrix = field(init=False)
    _blocks: list[slice] = field(init=False)
    _chance: Matrix = field(init=False)
    _goal: Matrix = field(init=False)

    def __post_init__(self) -> None:
        self._own, self._attribute = through_all_attributes(self.codes)
        self._users = np.bincount(self._own[self._own >= 0], minlength=len(self._attribute))
        told = int(np.sqrt(2 * len(self.start) / _USERS_A_PRODUCT))  # directions with so many products
        self._whitening = Whitening.of(self.start).widest(min(MOST_DIRECTIONS, max(told, 1)))
        y = self._drawn_in(self.start)
        self._pairs = np.triu_indices(y.shape[1])
        spread = np.linalg.norm(self._whitening.back, axis=1)
        spread = np.maximum(spread / max(float(spread.max(initial=0.0)), 1e-300), _NARROWEST)
        self._weights = np.outer(spread, spread)[self._pairs]
        self._components, variance = self._find_components(y)
        self._chance = self._by_chance(variance)
        self._blocks = blocks_of(len(variance), _BLOCK, int(np.bincount(self._attribute).max(initial=0)))
        self._goal = self._deviations(y)
        for attribute in np.unique(self._attribute):
            classes = np.flatnonzero((self._attribute == attribute) & (self._users > 0))
            self._goal[classes] = self._at_chance(self._goal[classes], classes)

    def _at_chance(self, own: Matrix, classes: NDArray[np.int64]) -> Matrix:
        """Goals of one attribute's classes: where a block leaks, at chance in their sizes and in their spectrum."""
        leaking = leaking_blocks(own, self._blocks)
        goal = own.copy()
        if not leaking:
            return goal
        spectra = spectra_of_chance(len(self._whitening.back), self._users[classes])
        for turn in range(_TURNS):
            there = goal
            if turn and spectra.shape[1] > 1:
                products = of_spectra(self._matrices(goal * self._chance[classes]), spectra)
                there = (products[:, *self._pairs] * self._weights) @ self._components / self._chance[classes]
            for block in leaking:
                goal[:, block] = at_chance(there[:, block], self._users[classes])
        return goal

    def _matrices(self, components: Matrix) -> Matrix:
        """(K, q, q) symmetric matrices of (K, M) means of components."""
        q = len(self._whitening.back)
        matrices = np.zeros((len(components), q, q))
        matrices[:, *self._pairs] = components @ self._components.T / self._weights
        return matrices + np.swapaxes(np.triu(matrices, 1), 1, 2)

    def steps(self, vectors: Matrix) -> Matrix:
        """(n, d) steps of one round.

        Args:
            vectors: (n, d) where everybody is now.
        """
        y = self._drawn_in(vectors)
        gap = self._deviations(y) - self._goal
        for block in self._blocks:
            gap[(gap[:, block] ** 2).mean(axis=1) <= _NEAR, block] = 0
        share = _SHARE * min(1.0, _ATTRIBUTES_AT_FULL_SHARE / max(self.codes.shape[1], 1))
        moved = np.zeros_like(y)
        for k, off in enumerate(self._matrices(gap * self._chance)):
            if off.any():
                length = share / 2 * np.sqrt((off**2).sum() / len(off))
                rows = self._own[:, self._attribute[k]] == k
                moved[rows] -= y[rows] @ (share / 2 * off * _LONGEST / max(length, _LONGEST))
        return self._whitening.coloured(moved)

    def look_again(self, vectors: Matrix) -> None:
        """Take for chance what it is now, with everybody at these (n, d) vectors."""
        y = self._drawn_in(vectors)
        mean = self._mean_products(y)
        components = self._components.astype(np.float32)
        variance = np.zeros(components.shape[1])
        for start in range(0, len(y), _ROWS_AT_ONCE):
            some = self._products(y[start : start + _ROWS_AT_ONCE], mean) @ components
            variance += (some**2).sum(axis=0, dtype=np.float64)
        self._chance = self._by_chance(variance / max(len(y), 1))

    def _by_chance(self, variance: Matrix) -> Matrix:
        """(C, M) standard deviations by chance of class means of components with these (M,) variances."""
        marked = (self.codes >= 0).sum(axis=0)[self._attribute]
        return np.asarray(np.sqrt(np.outer(rarity(self._users, marked), np.maximum(variance, 1e-300))))

    def _drawn_in(self, vectors: Matrix) -> Matrix:
        """(n, q) whitened coordinates y; they have their own length where a user is of the usual one."""
        w = self._whitening.whitened(vectors)
        return w * inward_factors(w)

    def _find_components(self, y: Matrix) -> tuple[Matrix, Matrix]:
        """(N, M) principal components of the products over everybody, and (M,) their variances."""
        mean = self._mean_products(y)
        if len(y) < len(mean):  # fewer users than products: their own products tell as much
            everybody = self._products(y, mean).astype(np.float64)
            values, directions = _strongest(everybody @ everybody.T)
            components = everybody.T @ directions / np.sqrt(values)
        else:
            total = np.zeros((len(mean),) * 2)
            for start in range(0, len(y), _ROWS_AT_ONCE):
                some = self._products(y[start : start + _ROWS_AT_ONCE], mean)
                total += some.T @ some
            values, components = _strongest(total)
        return np.asarray(components), values / max(len(y), 1)

    def _mean_products(self, y: Matrix) -> Matrix:
        """(N,) means of the products over everybody."""
        return np.asarray((y.T @ y / max(len(y), 1))[self._pairs])

    def _products(self, rows: Matrix, mean: Matrix) -> NDArray[np.float32]:
        """(r, N) weighted products of some users, less these means."""
        first, second = self._pairs
        return ((rows[:, first] * rows[:, second] - mean) * self._weights).astype(np.float32)

    def _deviations(self, y: Matrix) -> Matrix:
        """(C, M) class means of the components less those of all whose class is known, in chance's deviations."""
        means = np.zeros((len(self._users), len(self._pairs[0])))
        for attribute in np.unique(self._attribute):
            classes = np.flatnonzero((self._attribute == attribute) & (self._users > 0))
            members = [y[self._own[:, attribute] == k] for k in classes]
            sums = np.array([(rows.T @ rows)[self._pairs] for rows in members])
            overall = sums.sum(axis=0) / max(int(self._users[classes].sum()), 1)
            means[classes] = sums / self._users[classes][:, None] - overall
        return np.asarray((means * self._weights) @ self._components / self._chance)


def _strongest(symmetric: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues above rounding, largest first, and their eigenvectors."""
    values, directions = np.linalg.eigh(symmetric)
    strong = values > max(_WEAKEST * float(values.max(initial=0.0)), 1e-300)
    return values[strong][::-1], directions[:, strong][:, ::-1]
