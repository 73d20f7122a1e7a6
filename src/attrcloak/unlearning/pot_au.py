"""U2U-R and D2D-R: the losses of post-training attribute unlearning, PoT-AU (Li et al.; ACM MM 2023, TOIS 2024).

Both have every attribute's loss added up, and descend by Adam on the vectors of the users who asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.moments.arrays import Array, beside, inner, is_numpy_array, namespace
from attrcloak.progress import Progress
from attrcloak.unlearning.adam import Adam, descend
from attrcloak.unlearning.method import Moved, RankingLoss, Rows

Members = Sequence[NDArray[np.int64]]
"""For each class of an attribute the rows of its users, among those who asked; an array may be empty."""

ROWS_PER_CHUNK = 128
"""Rows of a pair matrix that are worked on at once, few enough for them to stay in the processor's cache; on a device,
which has no such cache and waits for every call, all."""

FEWEST = 8
"""A class too small to put this many users into each block is in every block as a whole."""


@dataclass(frozen=True, kw_only=True)
class _PostTraining:
    """What U2U-R and D2D-R share: Adam, and what holds vectors back."""

    on_device: ClassVar[bool] = True

    steps: int = 500
    learning_rate: float = 0.01
    relative: bool = True
    keep: Literal["regularise", "ranking"] = "regularise"
    regularisation: float = 1e-6
    ranking_weight: float = 10.0
    ranking_margin: float = 0.05
    ranking_length: int = 20

    def __post_init__(self) -> None:
        if self.keep not in ("regularise", "ranking"):
            raise InvalidSettings(f"keep is {self.keep!r}, expected 'regularise' or 'ranking'")
        if self.steps < 1 or self.learning_rate <= 0 or self.ranking_length < 2:
            raise InvalidSettings("steps and learning_rate must be positive, ranking_length must be at least 2")
        if min(self.regularisation, self.ranking_weight, self.ranking_margin) < 0:
            raise InvalidSettings("regularisation, ranking_weight and ranking_margin must not be negative")

    def _descend(
        self,
        name: str,
        rows: Rows,
        slope: Callable[[Array], Array],
        size: Callable[[Array], float],
        progress: Progress | None,
    ) -> Moved:
        """Descend on a loss of the centred vectors of the users who asked.

        Args:
            name: of the method.
            rows: the table and its cells.
            slope: the loss's gradient.
            size: of the vectors at the start, the unit in which ``ranking_weight`` is given: a number of the order of
                the loss for U2U-R, 1 for D2D-R, whose loss has no unit.
            progress: see ``RowMethod``.
        """
        start = rows.vectors[rows.cells.moves]
        unit = (float(np.sqrt(start.var(axis=0).mean())) or 1.0) if self.relative else 1.0
        centred = rows.placed((start - start.mean(axis=0)) / unit)
        held = self._held(name, rows, unit, size(centred))
        return descend(
            rows,
            Adam(learning_rate=self.learning_rate),
            lambda moved: slope(centred + moved) + held(moved),
            name=name,
            steps=self.steps,
            unit=unit,
            progress=progress,
        )

    def _held(self, name: str, rows: Rows, unit: float, size: float) -> Callable[[Array], Array]:
        """The gradient of what holds the vectors back, at a move in units of ``unit``."""
        if self.keep == "regularise":
            return lambda moved: 2 * self.regularisation * moved
        if not isinstance(rows.recommendation, RankingLoss):
            raise NotSupported(
                f"{name} keeps rankings and needs interactions and the recommender's items; "
                "without them set keep to 'regularise'"
            )
        hinge = RankingHinge.of(rows, rows.recommendation, self.ranking_length, self.ranking_margin)
        weight = self.ranking_weight * size * unit / len(hinge.before)
        return lambda moved: weight * hinge.gradient(unit * moved)


@dataclass(frozen=True, kw_only=True)
class U2UR(_PostTraining):
    """User-to-user regularisation: pull every two users of different classes together.

    L = sum over pairs of users in different classes of ||x_i - x_j||^2, added up over the attributes, plus
    ``regularisation`` * ||X' - X||^2, by Adam. In O(users x dimensions) an attribute: a user of class k is pulled to
    the mean of the other classes, so no pair is ever formed.

    Users end up near the mean of the *other* classes, each class in a cloud of its own size and shape, all of it far
    smaller than the table was. An attacker who takes the coordinates as they come sees nothing in it; trees, and any
    attacker who standardises, read the classes: on MovieLens-100K ALS vectors an unscaled network is at .50 balanced
    accuracy on gender, the standardised MLP at .73 and XGBoost at .98 (before: .71, .67 and .63). It is here because it
    is compared with, and is not a protection.

    Attributes:
        steps: most steps of Adam, each on all users.
        learning_rate: of Adam; about how far a coordinate moves in a step.
        relative: whether ``learning_rate`` and the losses are in units of the table's standard deviation per
            coordinate (root mean square over coordinates, over the users who asked), so that a table's scale does not
            matter. The public code's step is absolute; on ALS vectors, whose deviation is .11, it is this default. A
            table of larger scale it cannot collapse in 500 steps.
        keep: "regularise" holds vectors at their place, "ranking" each user's original list in its order: the sum over
            neighbours n of the list of max(0, s(u, i_{n+1}) - s(u, i_n) + margin), which needs interactions.
        regularisation: weight of the squared move with keep="regularise". At the public code's 1e-6 it does nothing.
        ranking_weight: weight of the list's loss, mean over users, for a leakage loss of 1 at the start.
        ranking_margin: the margin, in units of the score. The publication's .05 is more than most neighbours are apart
            (.006 on MovieLens-100K ALS vectors, .02 on BPR), so it also spreads lists out.
        ranking_length: unseen items in the list.
    """

    name: ClassVar[str] = "u2u-r"

    @classmethod
    def paper(cls) -> "U2UR":
        """As in the public code: Adam with an absolute step of 1e-3, which moves a coordinate by about .5 at most."""
        return cls(learning_rate=1e-3, relative=False)

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Descend on rows; only users who asked move.

        Raises:
            NotSupported: keep="ranking" and the run has no interactions.
        """
        attributes = [[rows.placed(own) for own in members] for members in _members(rows)]

        def slope(vectors: Array) -> Array:
            total = namespace(vectors).zeros_like(vectors)
            for members in attributes:
                add_u2u_gradient(total, vectors, members)
            return total

        # The loss is quadratic and zero at zero, so that it is half of <gradient, vectors>.
        return self._descend(self.name, rows, slope, lambda x: inner(slope(x), x) / 2, progress)


@dataclass(frozen=True, kw_only=True)
class D2DR(_PostTraining):
    """Distribution-to-distribution regularisation: bring every class to one anchor class by maximum mean discrepancy.

    L = sum over classes k other than the anchor of MMD^2(class k, anchor), added up over the attributes, plus
    ``regularisation`` * ||X' - X||^2, by Adam. MMD^2 is the biased V-statistic under a sum of Gaussian kernels
    exp(-||x - y||^2 / (b factor^m)), m = -(kernels // 2), ..., with b the mean squared distance between distinct users
    of both classes together, taken anew at every step and held fixed in the gradient.

    Classes are compared with the anchor only, and small ones hardly count against it. Like all that makes classes
    equal on the very users at hand it goes past the mark: attackers land below chance, and relabelling their answers
    shows it.

    Attributes:
        steps: most steps of Adam.
        learning_rate: of Adam; about how far a coordinate moves in a step.
        relative: as in U2U-R: ``learning_rate`` in units of the table's standard deviation per coordinate.
        anchor: "first" class with users who asked, in the order of the classes (sorted, unless given otherwise);
            "largest"; or the index of a class, the same one for every attribute.
        kernels: number of Gaussian kernels, at least 1.
        factor: from one kernel's squared width to the next, above 1.
        batch: most users in one matrix of pairs. Larger pairs of classes are dealt, anew in every step, into random
            blocks with the same share of both, and their gradient is the mean over the blocks; so memory is
            batch x batch at most and every user is moved in every step. On 6,040 x 64 with three attributes 500 steps
            take about 75 s of one core, and 51 s with 512.
        keep: "regularise" or "ranking", as in U2U-R.
        regularisation: weight of the squared move with keep="regularise".
        ranking_weight: weight of the list's loss, mean over users, with keep="ranking". At 10, NDCG@10 on
            MovieLens-100K is .064 on ALS vectors and .063 on BPR, and .054 and .050 with keep="regularise".
        ranking_margin: its margin, in units of the score.
        ranking_length: unseen items in the list.
    """

    name: ClassVar[str] = "d2d-r"

    anchor: Literal["first", "largest"] | int = "first"
    kernels: int = 5
    factor: float = 2.0
    batch: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.anchor in ("first", "largest") if isinstance(self.anchor, str) else self.anchor >= 0
        if not known:
            raise InvalidSettings(f"anchor is {self.anchor!r}, expected 'first', 'largest' or the index of a class")
        if self.kernels < 1 or self.factor <= 1 or self.batch < 2 * FEWEST:
            raise InvalidSettings(
                f"kernels must be at least 1, factor above 1 and batch at least {2 * FEWEST}; they are "
                f"{self.kernels}, {self.factor} and {self.batch}"
            )

    @classmethod
    def paper(cls) -> "D2DR":
        """As in the public code: Adam with an absolute step of 1e-3, which moves a coordinate by about .5 at most."""
        return cls(learning_rate=1e-3, relative=False)

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Descend on rows; only users who asked move.

        Raises:
            NotSupported: keep="ranking" and the run has no interactions.
            InvalidSettings: ``anchor`` is the index of a class that an attribute does not have among those who asked.
        """
        rng = np.random.default_rng(rows.seed)
        pairs = []
        for name, members in zip(rows.cells.key.attributes, _members(rows), strict=True):
            occurs = [k for k, own in enumerate(members) if len(own)]
            if len(occurs) > 1:
                anchor = self._anchor(name, members, occurs)
                pairs += [(members[k], members[anchor]) for k in occurs if k != anchor]

        def slope(vectors: Array) -> Array:
            total = namespace(vectors).zeros_like(vectors)
            for own, anchor in pairs:
                blocks = deal(own, anchor, self.batch, rng)
                add_mmd_gradient(total, vectors, blocks, kernels=self.kernels, factor=self.factor)
            return total

        return self._descend(self.name, rows, slope, lambda _: 1.0, progress)

    def _anchor(self, attribute: str, members: Members, occurs: Sequence[int]) -> int:
        if self.anchor == "first":
            return occurs[0]
        if self.anchor == "largest":
            return max(occurs, key=lambda k: len(members[k]))
        index = int(self.anchor)
        if index not in occurs:
            raise InvalidSettings(
                f"anchor is class {index}, which no user of attribute {attribute!r} who asked belongs to; "
                f"those that occur: {', '.join(map(str, occurs))}"
            )
        return index


@dataclass(frozen=True, eq=False)
class RankingHinge:
    """What keeps each user's list in its order: sum_n max(0, s(u, i_{n+1}) - s(u, i_n) + margin), items frozen.

    Attributes:
        steps: (m, length - 1, d) item vector of each place of the list less that of the place before; 0 past its end.
            float32, where ``Rows.placed`` puts it.
        before: (m, length - 1) s(i_{n+1}) - s(i_n) + margin at the start, as the hinge
            has it; minus infinity past the list's end. Likewise.
    """

    steps: Array
    before: Array

    @classmethod
    def of(cls, rows: Rows, loss: RankingLoss, length: int, margin: float) -> "RankingHinge":
        """The lists of the users who asked, as they are before unlearning."""
        moving = np.flatnonzero(rows.cells.moves)
        lists, scores = (part[moving] for part in loss.best_unseen(rows.vectors, length))
        there = lists[:, 1:] >= 0
        items = loss.items.astype(np.float32)
        steps = np.where(there[:, :, None], items[lists[:, 1:]] - items[lists[:, :-1]], np.float32(0))
        before = np.where(there, np.diff(scores, axis=1) + margin, -np.inf)
        return cls(rows.placed(steps), rows.placed(before.astype(np.float32)))

    def gradient(self, moved: Array) -> Array:
        """(m, d) gradient of the sum over users, once they have moved by ``moved``."""
        xp = namespace(moved)
        gaps = self.before + (self.steps @ xp.astype(moved, xp.float32)[:, :, None])[:, :, 0]
        hit = xp.astype(gaps > 0, xp.float32)
        return xp.astype((hit[:, None, :] @ self.steps)[:, 0, :], xp.float64)


def add_u2u_gradient(slope: Array, vectors: Array, members: Members) -> None:
    """Add the gradient of sum ||x_i - x_j||^2 over pairs in different classes to ``slope`` (n, d), in O(n d).

    For user x of class k, with n users in all classes, it is 2 [(n - n_k)(x - mu_k) + n (mu_k - mu)]; in this form
    nothing cancels when classes have shrunk to points. Zero where fewer than two classes occur.
    """
    occurs = [rows for rows in members if len(rows)]
    if len(occurs) < 2:
        return
    users = sum(map(len, occurs))
    xp = namespace(vectors)
    means = [xp.mean(vectors[rows], axis=0) for rows in occurs]
    centre = sum(len(rows) * mean for rows, mean in zip(occurs, means, strict=True)) / users
    for rows, mean in zip(occurs, means, strict=True):
        slope[rows] += 2 * ((users - len(rows)) * (vectors[rows] - mean) + users * (mean - centre))


def add_mmd_gradient(
    slope: Array,
    vectors: Array,
    blocks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    *,
    kernels: int,
    factor: float,
) -> None:
    """Add the mean over blocks of the gradient of MMD^2 between two classes to ``slope`` (n, d)."""
    for one, other in blocks:
        both = beside(np.concatenate([one, other]), vectors)
        slope[both] += mmd_gradient(vectors[both], len(one), kernels=kernels, factor=factor) / len(blocks)


def mmd_gradient(vectors: Array, first: int, *, kernels: int, factor: float) -> Array:
    """Gradient of MMD^2 between the first ``first`` users and the others, the kernels' widths held fixed.

    With w = 1 / size of the class, negative for the others, MMD^2 = w^T K w, and its gradient on x_i is
    4 w_i sum_j w_j K'_ij (x_i - x_j), K' the derivative with respect to the squared distance. Pair matrices are in
    float32, and only one half of them is formed, a few rows at a time.

    Args:
        vectors: (n, d) users of both classes, at least one of each.
        first: users of the first class.
        kernels: number of kernels.
        factor: from one squared width to the next.

    Returns:
        (n, d) float64; zero when all vectors are the same.
    """
    xp, users = namespace(vectors), len(vectors)
    centred = vectors - xp.mean(vectors, axis=0)
    # The mean over pairs of distinct users of ||x_i - x_j||^2.
    distance = 2 * float(xp.sum(centred**2)) / max(users - 1, 1)
    if not distance > 0:
        return xp.zeros_like(vectors)
    unit = distance**0.5
    x = xp.astype(centred / unit, xp.float32)
    of_each = np.where(np.arange(users) < first, 1 / first, -1 / max(users - first, 1)).astype(np.float32)
    weights = beside(of_each, x)[:, None]
    weighted = xp.concat([weights * x, weights], axis=1)
    widths = [float(factor) ** (m - kernels // 2) for m in range(kernels - 1, -1, -1)]
    # One product gives the exponents of the widest kernel, -||x_i - x_j||^2 / h.
    norms, ones = xp.vecdot(x, x)[:, None], xp.ones_like(weights)
    left = xp.concat([2 * x, -norms, -ones], axis=1) / widths[0]
    right = xp.concat([x, ones, norms], axis=1)
    sums = xp.zeros_like(weighted)
    rows_at_once = ROWS_PER_CHUNK if is_numpy_array(x) else users
    for start in range(0, users, rows_at_once):
        stop = min(start + rows_at_once, users)
        slopes = _kernel_slopes(left[start:stop] @ right[start:].T, widths, factor)
        sums[start:stop] += slopes @ weighted[start:]
        sums[stop:] += slopes[:, stop - start :].T @ weighted[start:stop]
    own = xp.astype(sums[:, -1:], xp.float64) * x - sums[:, :-1]
    return -4 * xp.astype(weights, xp.float64) * own / unit


def _kernel_slopes(exponents: Array, widths: Sequence[float], factor: float) -> Array:
    """-K' of every pair, sum_m exp(-D / h_m) / h_m, from -D / h_0.

    ``widths`` go down from the widest; each kernel is the one before it to the power ``factor``.
    """
    kernel = namespace(exponents).exp(exponents)
    slopes = kernel / widths[0]
    for width in widths[1:]:
        if factor == 2:
            kernel *= kernel
        else:
            kernel **= factor
        slopes += kernel * (1 / width)
    return slopes


def deal(
    one: NDArray[np.int64], other: NDArray[np.int64], batch: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Two classes dealt into blocks of at most about ``batch`` users; one block, in order, if they fit."""
    count = -(-(len(one) + len(other)) // batch)
    if count == 1:
        return [(one, other)]
    dealt = [
        np.array_split(rng.permutation(rows), count) if len(rows) >= FEWEST * count else [rows] * count
        for rows in (one, other)
    ]
    return list(zip(*dealt, strict=True))


def _members(rows: Rows) -> list[Members]:
    """For each attribute the members of its classes, as positions among the users who asked."""
    codes = rows.cells.codes[rows.cells.moves]
    return [
        [np.flatnonzero(codes[:, attribute] == k) for k in range(classes)]
        for attribute, classes in enumerate(rows.cells.key.class_counts)
    ]
