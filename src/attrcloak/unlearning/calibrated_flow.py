"""Calibrated unlearning in a flow: users move on their own, where their class is not like chance."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from attrcloak.errors import InvalidSettings
from attrcloak.moments.blas_threads import Map, side_by_side, threads_of_blas
from attrcloak.moments.cell_moments import Matrix, cell_moments
from attrcloak.progress import Progress
from attrcloak.unlearning.calibrated import Calibrated, MetricOf, in_one_scale
from attrcloak.unlearning.chance_goals import mean_goals
from attrcloak.unlearning.class_flow import ROWS_AT_ONCE, ClassFlow
from attrcloak.unlearning.lengths import at_length, one_length
from attrcloak.unlearning.list_metric import ListMetric, shifted
from attrcloak.unlearning.method import Moved, Rows
from attrcloak.unlearning.null_draw import null_labels, secret_generator
from attrcloak.unlearning.product_flow import MOST_DIRECTIONS, ProductFlow
from attrcloak.unlearning.spread import exchanged

_MULTIPLICATIONS_A_PAIR = 100
"""In a round, of two users' kernels, beside those of their vectors and classes."""
_PRODUCTS_TO_DECOMPOSE = 10
"""Of a matrix with itself, to find its eigenvectors."""
_MATRICES_AT_ONCE = 3
"""Of covariances of products."""
_KERNELS_AT_ONCE = 8
"""And parts of kernels, of some users with everybody."""
_PRODUCTS_FIRST = 10
"""Rounds of means and products alone, before neighbours look."""
_LOOK_AGAIN = 5
"""Rounds after which what is chance is measured anew, for users who have moved vary otherwise."""
_MATCHES_OF_ONE_LENGTH = 6
"""Times that class means are matched and vectors of one length brought back to it."""


@dataclass(frozen=True, kw_only=True)
class CalibratedFlow(Calibrated):
    """All that a class shows to chance, and no farther than that takes, user by user.

    A map of a class to drawn moments moves all its users, those too whom nothing gives away, and replaces noise that
    nobody could read. Here classes keep in what they deviate and in which order, and only the sizes and correlations of
    the deviations become those of chance (``like_chance``), where they are not: in class means, and in products of two
    coordinates (``ProductFlow``). What is left drifts away under a kernel, in low orders and in high ones apart
    (``ClassFlow``): a user moves from where users of the class are denser than in a secret draw of it, and a class
    rests where it is as like itself as chance is.

    Attackers who know beforehand in which directions classes differ, from an old copy of the table say, can read
    along these.

    Where lengths differ, the shifts of means and the steps of the flow are bent by what each user's own list would
    notice (``ListMetric``). Without interactions and items the users nearest to a user stand for the items that suit
    them: a direction in which these differ is one that orders a list. Where vectors are all of one length, as those of
    plain dot products are, nothing is bent: users reach what is to be by longer ways there, and lists lose more by that
    than they save.

    Users of one vector, of whom nothing is known yet, move alike within a class, and end on one point a class.
    Attackers see that; leave such users out, or train vectors that differ.

    A round costs n^2 d operations and more, a second for 6,040 users in 64 dimensions on one thread, after some 10 s to
    find principal components of products, of at most 90 directions; every fifth round measures them anew. Lists that
    bend need n d^2 float32 numbers of memory. One key gives one result on one machine; other processors round
    otherwise, and ranks that change places change it by a little.

    Where some users did not ask for an attribute and show their class, attackers learn from them what is not chance
    here: there it does what ``Calibrated`` does. The settings of that which are not ``exchange``, ``strength`` or
    ``length`` are for such tables alone.

    Attributes:
        rounds: of the flow.
        lists: members of a list whose order is to be kept, where there are lists.
    """

    name: ClassVar[str] = "calibrated-flow"

    rounds: int = 40
    lists: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices < 1 or self.rounds < 1 or self.lists < 2:
            raise InvalidSettings(
                f"{self.name} moves row by row: rounds, and slices, for tables where some did not ask, must be at "
                "least 1, and lists at least 2"
            )

    def cost(self, users: int, dimensions: int) -> tuple[int, int]:
        """Multiplications of all rounds and bytes of what they hold, roughly, beside what every method needs."""
        of_neighbours = (self.rounds + 1) * users**2 * (2 * dimensions + _MULTIPLICATIONS_A_PAIR)
        products = min(dimensions, MOST_DIRECTIONS) * (min(dimensions, MOST_DIRECTIONS) + 1) // 2
        looks = 1 + (_PRODUCTS_FIRST + self.rounds - 1) // _LOOK_AGAIN
        of_products = looks * users * products**2 + _PRODUCTS_TO_DECOMPOSE * min(users, products) ** 3
        lists = 4 * users * dimensions**2
        kernels = threads_of_blas() * _KERNELS_AT_ONCE * 4 * ROWS_AT_ONCE * users
        return of_neighbours + of_products, lists + kernels + _MATRICES_AT_ONCE * 8 * products**2

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Bring class means and products to chance, and flow."""
        if rows.cells.silent.any():
            return self._moved(rows, None, progress)
        rng = secret_generator(rows.key, b"lists")
        return self._flowed(rows, partial(ListMetric.of_users, rows.vectors, length=self.lists, rng=rng), progress)

    def _flowed(self, rows: Rows, metric_of: MetricOf, progress: Progress | None) -> Moved:
        # Products here are narrow, and on a busy machine BLAS's threads would wait for each other.
        with side_by_side() as over:
            return self._flowed_over(over, rows, metric_of, progress)

    def _flowed_over(self, over: Map, rows: Rows, metric_of: MetricOf, progress: Progress | None) -> Moved:
        cells = rows.cells
        asked = np.flatnonzero(cells.moves)
        old, codes = rows.vectors[asked], cells.codes[asked]
        drawn = null_labels(cells.codes, rows.table.ids.values, rows.key)[asked]
        length = one_length(old)
        wide, beside = exchanged(old, self.exchange, secret_generator(rows.key, b"exchange"))
        start = at_length(old @ wide, length)
        # Where lengths cannot give way, bent steps reach their goals by longer ways than they save.
        metric = metric_of(asked, wide) if length is None else None
        owns = cell_moments(start, cells.of_user[asked], cells.key).marginals()
        goals = [mean_goals(own) for own in owns]

        def matched(vectors: Matrix) -> Matrix:
            for _ in range(_MATCHES_OF_ONE_LENGTH if length else 1):
                there = shifted(vectors, codes, goals) if metric is None else metric.with_means(vectors, codes, goals)
                vectors = at_length(there, length)
            return vectors

        def told(done: int) -> None:
            if progress is not None:
                progress(self.name, done, _PRODUCTS_FIRST + self.rounds)

        def bent(steps: Matrix) -> Matrix:
            return steps if metric is None else metric.bent(steps)

        now = matched(start)
        products, neighbours = ProductFlow(now, codes), ClassFlow(codes, drawn, lengths_differ=length is None)
        for done in range(_PRODUCTS_FIRST + self.rounds):
            if done and done % _LOOK_AGAIN == 0:
                products.look_again(now)
                moments = cell_moments(now, cells.of_user[asked], cells.key).marginals()
                goals = [mean_goals(own, after) for own, after in zip(owns, moments, strict=True)]
            steps = products.steps(now)
            if done >= _PRODUCTS_FIRST:
                # All is seen, the exchanged directions too, as attackers see it; only the others move.
                steps += neighbours.steps(now @ wide.T + beside, over) @ wide
            # Class means are kept where they are to be, or a class would make up by them for what it shows elsewhere.
            now = matched(at_length(now + bent(steps), length))
            told(done + 1)
        moved = rows.vectors.copy()
        moved[asked] = now @ wide.T + beside
        if length:  # a vector without a direction gets none
            moved[asked] = np.where(old.any(axis=1, keepdims=True), moved[asked], old)
        if self.strength < 1:
            moved[asked] = at_length(old + self.strength * (moved[asked] - old), length)
        result = Moved(moved, stopped="max steps")
        return in_one_scale(rows, result) if cells.moves.all() else result
