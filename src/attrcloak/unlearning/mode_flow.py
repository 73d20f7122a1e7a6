"""A flow to a goal in every leading mode of a wide kernel: what leaks there goes, what is chance stays."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import Matrix
from attrcloak.unlearning.chance_goals import at_chance, blocks_of, leaking_blocks, rarity
from attrcloak.unlearning.class_flow import WIDEST, Scale, through_all_attributes

MODES = 512
"""Leading modes that have goals, at most. Of 64 coordinates the first 64 modes are all but linear, the next 2,080 all
but products of two of them, and products have ``ProductFlow``: the modes are for what is wider than a neighbourhood and
no product."""
MOST_LANDMARKS = 8192
"""Users whom modes are taken of; the matrix of their kernels has to fit into memory."""
_USERS_A_MODE = 4
"""At least: with more modes than that, a class could tell every user of its own."""
_WEAKEST = 1e-4
"""Eigenvalue, over the largest, below which a mode of kernels in float32 is rounding."""
_BLOCK = 64
"""Modes that are looked at together, at least: enough to settle a mean square to a sixth."""
_SAMPLE = 512
"""Users whose gradients say how modes respond to steps; each has as many as there are dimensions."""
_RIDGE = 0.1
"""Of the modes' mean response. What answers only to long steps is brought down last, in more rounds than there are."""
_SHARE = 0.5
"""Of the gap to its goal that one round takes from a class."""
_LONGEST = 0.1
"""Step of a class in one round, root mean square over its users and dimensions, in standard deviations: farther on the
modes are no longer straight."""
_NEAR = 0.1
"""Squared gap over chance's variance, mean over a block of modes, at which a class rests there."""
_AWAY = 1.02
"""A class whose gap grows by this factor in a round goes on at half speed."""
_FASTER = 1.1
"""Factor of a class's speed after each round that went well, up to full speed."""
_ROWS_AT_ONCE = 512

Floats = NDArray[np.float32]


@dataclass(eq=False)
class ModeFlow:
    """Rounds that bring the mean of every class to a goal of its own in each mode, by smooth steps.

    Modes are the leading principal components psi_m of the kernel exp(-||z - z'||^2 / h) over the users' standardised
    vectors at the start (Schölkopf, Smola and Müller 1998): directions, products of directions and so on, those in
    which users vary most first. As kernels are bounded, so are modes: no user far out weighs more than others, as in a
    covariance. Users vary in each apart from the others, so the mean of a class of n_k users would deviate by chance
    with variance v = var(psi_m) / n_k (1 - n_k/n) in each, independently. Where the classes of an attribute deviate
    more, over a block of modes, their goal is what ``like_chance`` makes of that; elsewhere they are where they are to
    be, their noise stays, and nobody moves for it.

    Users move by the least steps that bring their classes there, to first order and with a ridge, as in Gauss and
    Newton's method: user i by sum_m y_m grad psi_m(z_i), summed over the user's classes, y = (E + ridge)^-1 gap with E
    the mean products of the modes' gradients. All steps are smooth, for wide kernels have no others: what users in one
    neighbourhood show by where they are within it stays.

    Attributes:
        start: (n, d) where everybody is.
        codes: (n, A) classes, -1 where not marked.
        rng: chooses whom modes are taken of, where there are more than ``MOST_LANDMARKS``.
    """

    start: Matrix
    codes: NDArray[np.int32]
    rng: np.random.Generator
    _scale: Scale = field(init=False)
    _own: NDArray[np.int32] = field(init=False)
    _attribute: NDArray[np.int64] = field(init=False)
    _users: NDArray[np.int64] = field(init=False)
    _landmarks: Floats = field(init=False)
    _gamma: float = field(init=False)
    _modes: Floats = field(init=False)
    _blocks: list[slice] = field(init=False)
    _variance: Matrix = field(init=False)
    _goal: Matrix = field(init=False)
    _response: Matrix = field(init=False)
    _answer: Matrix = field(init=False)
    _speed: Matrix = field(init=False)
    _last: Matrix = field(init=False)

    def __post_init__(self) -> None:
        (self._own,), self._attribute = through_all_attributes(self.codes)
        classes = len(self._attribute)
        self._users = np.bincount(self._own[self._own >= 0], minlength=classes)
        self._speed, self._last = np.ones(classes), np.full(classes, np.inf)
        self._scale = Scale.of(self.start)
        z = self._scale.standardised(self.start)
        n = len(z)
        self._landmarks = z if n <= MOST_LANDMARKS else z[np.sort(self.rng.choice(n, MOST_LANDMARKS, replace=False))]
        self._gamma = 1 / (2 * max(z.shape[1], 1) * WIDEST)
        self._modes = self._find_modes(min(MODES, len(self._landmarks) // _USERS_A_MODE))
        most_classes = int(np.bincount(self._attribute).max(initial=0))
        self._blocks = blocks_of(self._modes.shape[1], _BLOCK, most_classes)
        marked = (self.codes >= 0).sum(axis=0)[self._attribute]
        self._variance = np.outer(rarity(self._users, marked), self._spread(z))
        self._goal = self._goals(self._class_means(z))
        self._response = self._responses(z[self.rng.permutation(n)[:_SAMPLE]])
        ridge = max(_RIDGE * float(np.trace(self._response)) / max(len(self._response), 1), 1e-300)
        damped = self._response + ridge * np.eye(len(self._response))
        self._answer = np.asarray(np.linalg.inv(damped), dtype=np.float64)

    def steps(self, vectors: Matrix) -> Matrix:
        """(n, d) steps of one round.

        Args:
            vectors: (n, d) where everybody is now.
        """
        z = self._scale.standardised(vectors)
        gap = self._class_means(z) - self._goal
        if not gap.size:
            return np.zeros_like(vectors)
        square = gap**2 / self._variance
        for block in self._blocks:
            gap[square[:, block].mean(axis=1) <= _NEAR, block] = 0
        size = square.sum(axis=1)
        # Near its goals a class is pushed about by other steps, and must not lose its speed by that.
        away = size > np.maximum(_AWAY * self._last, _NEAR * gap.shape[1])
        self._speed = np.asarray(
            np.where(away, self._speed / 2, np.minimum(_FASTER * self._speed, 1.0)), dtype=np.float64
        )
        self._last = size
        aim = (_SHARE * self._speed)[:, None] * gap @ self._answer
        long = np.sqrt(np.maximum(np.einsum("cm,mk,ck->c", aim, self._response, aim), 0) / z.shape[1])
        aim *= (_LONGEST / np.maximum(long, _LONGEST))[:, None]
        witness = (2 * self._gamma * aim @ self._modes.T).astype(np.float32)
        drift = np.empty_like(z)
        for start in range(0, len(z), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            kernel = self._kernel(z[rows])
            weights = np.zeros_like(kernel)
            for column in self._own[rows].T:
                weights += np.where(column[:, None] >= 0, witness[column], 0)
            weights *= kernel
            drift[rows] = weights.sum(axis=1, keepdims=True) * z[rows] - weights @ self._landmarks
        steps = np.zeros_like(vectors)
        steps[:, self._scale.varies] = self._scale.back(drift)
        return steps

    def _find_modes(self, count: int) -> Floats:
        """(L, M) weights of the modes over landmarks, ``count`` at most."""
        if count < 1 or not self._landmarks.shape[1]:
            return np.zeros((len(self._landmarks), 0), dtype=np.float32)
        from sklearn.decomposition import KernelPCA  # takes longer to load than all else here

        components = KernelPCA(
            count,
            kernel="rbf",
            gamma=self._gamma,
            eigen_solver="randomized",
            iterated_power=3,
            random_state=int(self.rng.integers(2**31)),
        ).fit(self._landmarks)
        strong = components.eigenvalues_ > _WEAKEST * components.eigenvalues_.max(initial=0.0)
        roots = np.sqrt(components.eigenvalues_[strong])
        weights = components.eigenvectors_[:, strong] / roots
        # Modes are of the centred kernel and are read from the plain one: weights of one mode must add up to nothing.
        return np.asarray(weights - weights.mean(axis=0, dtype=np.float64), dtype=np.float32)

    def _spread(self, z: Floats) -> Matrix:
        """(M,) variance of the modes over everybody."""
        first, second = (np.zeros(self._modes.shape[1]) for _ in range(2))
        for start in range(0, len(z), _ROWS_AT_ONCE):
            place = (self._kernel(z[start : start + _ROWS_AT_ONCE]) @ self._modes).astype(np.float64)
            first += place.sum(axis=0)
            second += (place**2).sum(axis=0)
        return np.asarray(np.maximum(second / len(z) - (first / len(z)) ** 2, 1e-300))

    def _goals(self, own: Matrix) -> Matrix:
        """(C, M) where class means are to go."""
        chance = np.sqrt(self._variance)
        goal = own.copy()
        for attribute in np.unique(self._attribute):
            classes = np.flatnonzero((self._attribute == attribute) & (self._users > 0))
            deviations = own[classes] / chance[classes]
            for block in leaking_blocks(deviations, self._blocks):
                wanted = at_chance(deviations[:, block], self._users[classes])
                goal[classes, block] = chance[classes, block] * wanted
        return goal

    def _responses(self, z: Floats) -> Matrix:
        """(M, M) products of the modes' gradients, mean over some users: how means answer to steps along them."""
        kernel = self._kernel(z)
        total = np.zeros((self._modes.shape[1],) * 2)
        at = kernel @ self._modes
        for place, column in zip(z.T, self._landmarks.T, strict=True):
            slope = 2 * self._gamma * (place[:, None] * at - kernel @ (column[:, None] * self._modes))
            total += slope.T @ slope
        return total / max(len(z), 1)

    def _class_means(self, z: Floats) -> Matrix:
        """(C, M) class means of the modes, less those of all whose class of the attribute is known."""
        classes_of = [np.flatnonzero(self._attribute == a) for a in range(self.codes.shape[1])]
        total = np.zeros((len(self._users), len(self._landmarks)))
        for start in range(0, len(z), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            kernel = self._kernel(z[rows])
            for classes, column in zip(classes_of, self._own[rows].T, strict=True):
                total[classes] += (column == classes[:, None]).astype(np.float32) @ kernel
        apart = total / np.maximum(self._users, 1)[:, None]
        for classes in classes_of:
            apart[classes] -= total[classes].sum(axis=0) / max(float(self._users[classes].sum()), 1.0)
        return np.asarray(np.where(self._users[:, None] > 0, apart, 0.0) @ self._modes)

    def _kernel(self, z: Floats) -> Floats:
        """(r, L) kernels of users and landmarks."""
        square = (z**2).sum(axis=1)[:, None] + (self._landmarks**2).sum(axis=1) - 2 * z @ self._landmarks.T
        kernel: Floats = np.exp(np.maximum(square, 0) * np.float32(-self._gamma))
        return kernel
