"""Adam on the rows of a table, and the descent of the methods that use it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attrcloak.errors import InvalidSettings
from attrcloak.moments.arrays import Array, namespace, on_host
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.cell_moments import cell_moments
from attrcloak.progress import Progress
from attrcloak.unlearning.method import OBJECTIVE_RIDGE, Moved, Rows, Step, Stopped, objective

TRACED_EVERY = 10
"""Steps between two evaluations of L^AU for the trace; it costs more than a step of some methods that do not use it."""


class AdamState(NamedTuple):
    """What Adam remembers: steps taken, and running means of the gradient and of its square."""

    taken: int
    mean: Array
    square: Array


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma and Ba, ICLR 2015, Algorithm 1), as a pure function of state and gradient.

    Attributes:
        learning_rate: a coordinate moves by about this much a step while its gradient keeps its sign.
        mean_decay: beta_1, of the running mean of the gradient, in [0, 1).
        square_decay: beta_2, of the running mean of its square, in [0, 1).
        epsilon: added to the root of that; gradients well below it hardly move anything.
    """

    learning_rate: float = 1e-3
    mean_decay: float = 0.9
    square_decay: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if not (0 <= self.mean_decay < 1 and 0 <= self.square_decay < 1):
            raise InvalidSettings(f"decays are {self.mean_decay} and {self.square_decay}, expected numbers in [0, 1)")
        if self.learning_rate <= 0 or self.epsilon <= 0:
            raise InvalidSettings("learning_rate and epsilon must be positive")

    def start(self, position: Array) -> AdamState:
        """The state before the first step from a position."""
        nothing = namespace(position).zeros_like(position)
        return AdamState(0, nothing, nothing)

    def step(self, state: AdamState, gradient: Array) -> tuple[AdamState, Array]:
        """The next state, and what to subtract from the position."""
        taken = state.taken + 1
        mean = self.mean_decay * state.mean + (1 - self.mean_decay) * gradient
        square = self.square_decay * state.square + (1 - self.square_decay) * gradient**2
        unbiased = mean / (1 - self.mean_decay**taken)
        size = (square / (1 - self.square_decay**taken)) ** 0.5
        return AdamState(taken, mean, square), self.learning_rate * unbiased / (size + self.epsilon)


def descend(
    rows: Rows,
    adam: Adam,
    gradient: Callable[[Array], Array],
    *,
    name: str,
    steps: int,
    unit: float,
    project: Callable[[Array], Array] | None = None,
    progress: Progress | None = None,
) -> Moved:
    """Move the users who asked by Adam, where ``rows`` are to be worked on; everyone else keeps the very same numbers.

    A position is what the users who asked have moved so far, (m, d), in units of ``unit``: nothing is lost of a small
    move in a table far from the origin, and what does not move comes out bit-identical.

    Args:
        rows: the table and its cells.
        adam: settings; the learning rate is in units of ``unit``.
        gradient: of the loss, at a position.
        name: of the method, for progress.
        steps: most steps to take.
        unit: length of one unit, in those of the embedding.
        project: brings a position back to where it has to stay; after every step.
        progress: called with (name, steps done, steps).

    Returns:
        The rows. The trace has one entry a step: L^AU as in ``UnlearningResult``, evaluated on every
        ``TRACED_EVERY``-th step and carried on in between, the relative squared move, and weight 1, since nothing is
        weighed by MGDA. It stops as "converged" when a gradient is zero everywhere, and as "diverged", with the last
        finite position, when one is not finite.
    """
    asked = rows.vectors[rows.cells.moves]
    ridge = OBJECTIVE_RIDGE * max(rows.moments.mean_variance, 1e-300)
    spread = max(float(((asked - asked.mean(axis=0)) ** 2).sum()), 1e-300)
    start, moving = rows.placed(rows.vectors), rows.placed(np.flatnonzero(rows.cells.moves))
    xp = namespace(start)

    def moved(position: Array) -> Array:
        vectors = xp.asarray(start, copy=True)
        vectors[moving] += unit * position
        return vectors

    position = rows.placed(np.zeros_like(asked))
    state, trace = adam.start(position), list[Step]()
    stopped: Stopped = "max steps"
    leakage = 0.0
    # Products of a few rows at a time: on a busy machine threads wait for each other far longer than they help.
    with one_thread():
        for step in range(steps):
            slope = gradient(position)
            if not xp.all(xp.isfinite(slope)):
                stopped = "diverged"
                break
            if not xp.any(slope != 0):
                stopped = "converged"
                break
            if step % TRACED_EVERY == 0:
                leakage = objective(cell_moments(moved(position), rows.cells.of_user, rows.cells.key), ridge)
            trace.append(Step(leakage, unit**2 * float((position**2).sum()) / spread, 1.0))
            state, change = adam.step(state, slope)
            position = position - change
            if project is not None:
                position = project(position)
            if progress is not None:
                progress(name, step + 1, steps)
    if progress is not None and stopped != "max steps":
        progress(name, steps, steps)
    return Moved(on_host(moved(position)), tuple(trace), stopped)
