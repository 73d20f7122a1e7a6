"""AttrCloak-DD on a table in files: its steps are decided here, from moments, and taken part by part by any engine."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_moments import CellMoments
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.min_norm import leakage_weight
from attrcloak.moments.surrogate import surrogate_with_gradient
from attrcloak.parts import Groups, Location
from attrcloak.parts.interaction_join import deal_interactions
from attrcloak.parts.item_table import ItemTable
from attrcloak.streaming.descent_pass import Along, Places, Standing, advance, from_positions
from attrcloak.streaming.maps import Outcome
from attrcloak.streaming.merge_tree import MergeTree
from attrcloak.streaming.passes import free_columns
from attrcloak.streaming.sampled_loss import SampledLoss
from attrcloak.streaming.stages import Stages
from attrcloak.streaming.workspace import has_room
from attrcloak.unlearning.attrcloak_dd import FARTHEST, NEAREST, AttrCloakDD
from attrcloak.unlearning.descent import per_cell
from attrcloak.unlearning.method import Step, Stopped

_BYTES_DEALT = 10
"""Room that a byte of interactions takes while they are dealt; text and compressed files have 4 or more for each."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What follows from where everybody stands.

    Attributes:
        step: for the trace; None where the surrogate cannot be told.
        along: the step to take; None where none is.
        stopped: why none is.
    """

    step: Step | None
    along: Along | None = None
    stopped: Stopped | None = None


def decide(method: AttrCloakDD, start: CellMoments, standing: Standing, trace: Sequence[Step]) -> Decision:
    """One step of ``AttrCloakDD.move``, from moments instead of rows.

    The gradient of L^AU is A_c x + b_c in cell c, so with g the gradient of L^Rec the sums of |A x + b|^2, (A x + b) g
    and |g|^2 over all users are told by the moments of (x, g): MGDA's weight is the one of this very place and this
    very sample, though no user is looked at twice.

    Args:
        method: its settings.
        start: moments of the table as given.
        standing: of all parts.
        trace: of the steps before.
    """
    both, d = standing.both, start.dim
    moves = ~start.key.unmarked
    users = int(start.count[moves].sum())
    variance = max(start.mean_variance, 1e-300)
    rate, spread = method.learning_rate * variance * users, variance * d * max(users, 1)
    try:
        ridge = method.ridge * variance
        found = [surrogate_with_gradient(classes, ridge, method.pooling) for classes in of_vectors(both).marginals()]
    except np.linalg.LinAlgError:
        return Decision(None, stopped="diverged")
    leakage = float(np.mean([value for value, _, _ in found]))
    linear, constant = per_cell(both.key, [gradient for _, *gradient in found])  # type: ignore[misc]
    at_mean, pull = np.einsum("cij,cj->ci", linear, both.mean[:, :d]) + constant, both.mean[:, d:]
    with_itself = both.count @ (at_mean**2).sum(axis=1) + np.vdot(linear @ both.scatter[:, :d, :d], linear)
    with_pull = both.count @ (at_mean * pull).sum(axis=1) + np.vdot(linear, both.scatter[:, d:, :d])
    of_pull = both.count @ (pull**2).sum(axis=1) + np.trace(both.scatter[:, d:, d:], axis1=1, axis2=2).sum()
    bounds = (method.min_leakage_weight, 1.0) if method.weight == "mgda" else (float(method.weight),) * 2
    weight = leakage_weight(float(of_pull), float(with_pull), float(with_itself), *bounds)
    step = Step(leakage, standing.loss / max(standing.triples, 1), weight)
    far = standing.away.sum() > FARTHEST * spread
    first = trace[0].leakage if trace else leakage
    if far or not np.isfinite(leakage) or leakage > 2 * first + 1:
        return Decision(step, stopped="diverged")
    rest = 1 - weight
    length = rate * rate * (weight**2 * with_itself + 2 * weight * rest * with_pull + rest**2 * of_pull)
    if not np.isfinite(length):  # a step past what numbers can hold, which none of the passes need take
        return Decision(step, stopped="diverged")
    if length <= NEAREST**2 * spread:
        return Decision(step, stopped="converged")
    maps = Eraser(both.key, np.eye(d) - rate * weight * linear, -rate * weight * constant)
    return Decision(step, Along(maps, rate * rest))


def of_vectors(both: CellMoments) -> CellMoments:
    """The moments of the vectors alone."""
    d = both.dim // 2
    return CellMoments(both.key, both.count, both.mean[:, :d], np.ascontiguousarray(both.scatter[:, :d, :d]))


@dataclass(frozen=True, eq=False)
class Descent:
    """A descent over files, which goes on where a killed one stopped.

    What is kept of a step is a file of positions for each part and the moments of all; of two steps at most, the last
    and the one that leaked least.
    """

    stages: Stages
    groups: Groups
    method: AttrCloakDD
    start: CellMoments
    loss: SampledLoss
    places: Places

    def run(self) -> tuple[int, Standing, Stopped]:
        """The step at which the users are where they are to be, what stands there, and why it ended."""
        done, steps = self.stages.space.done, self.method.steps
        if "descended" not in done:
            self.stages.space.note("descended", **self._descend(steps))
            if self.stages.progress is not None:
                self.stages.progress(self.method.name, steps, steps)
        step = int(done["descended"]["step"])
        self._keep({step})
        return step, self._tree(step).root(), done["descended"]["stopped"]

    def _descend(self, steps: int) -> dict[str, Any]:
        space, parts, name = self.stages.space, self.stages.parts, self.method.name
        trace: list[Step] = []
        while (noted := space.done.get(f"decided {len(trace)}")) is not None:
            trace.append(Step(**noted))
        along = None
        while True:
            step = len(trace)
            best = int(np.argmin([past.leakage for past in trace])) if trace else 0
            self._keep({best, step - 1, step})
            behind = [n for n in range(len(parts)) if space.done.get(f"brought {n}", {"step": -1})["step"] < step]
            if behind and step and along is None:  # taken up again: what had been decided is decided once more
                along = decide(self.method, self.start, self._tree(step - 1).root(), trace[:-1]).along
            standing = self._bring(behind, step, along, best)
            self._keep({best, step})
            if self.stages.progress is not None:
                self.stages.progress(name, step, steps)
            if step == steps:
                return {"step": step, "stopped": "max steps", "steps": step}
            decision = decide(self.method, self.start, standing, trace)
            if decision.stopped is not None:
                end = best if decision.stopped == "diverged" else step
                return {"step": end, "stopped": decision.stopped, "steps": step + (decision.step is not None)}
            assert decision.step is not None  # of a step that is taken
            space.note(f"decided {step}", **asdict(decision.step))
            trace.append(decision.step)
            along = decision.along

    def _bring(self, behind: Sequence[int], step: int, along: Along | None, best: int) -> Standing:
        """Bring the parts that are behind to a step."""
        space, parts, tree = self.stages.space, self.stages.parts, self._tree(step)
        key = self.groups.key
        function = partial(advance, step=step, along=along, loss=self.loss, places=self.places, key=key)
        for number, found in self.stages.map(function, self.groups, behind):
            tree.write(number, found)
            space.note(f"brought {number}", step=step)
            tree.merge_from(number)
            if step and step - 1 != best:
                (self.places.at(step - 1) / parts[number].name).remove()
        return tree.root()

    def _tree(self, step: int) -> MergeTree[Standing]:
        folder = self.stages.space.moments_folder(step)
        return MergeTree(folder, len(self.stages.parts), Standing.of_arrays)

    def _keep(self, steps: set[int]) -> None:
        for folder in self.stages.space.folder.glob("moments-*"):
            step = int(folder.name.removeprefix("moments-"))
            if step not in steps:
                self.places.at(step).remove()  # first: the folder of the moments says that there may be something
                shutil.rmtree(folder)


def solve_by_descent(
    stages: Stages,
    groups: Groups,
    method: AttrCloakDD,
    start: CellMoments,
    constant: NDArray[np.bool_],
    *,
    interactions: Location,
    items: ItemTable,
    table: str,
    seed: int,
) -> Outcome:
    """Deal the interactions to the parts, once, and descend.

    Args:
        stages: of the run.
        groups: of the table's users.
        method: its settings.
        start: moments of the table as given.
        constant: (d_free,) columns that are the same for everybody who moves.
        interactions: their files.
        items: of the same recommender.
        table: what messages call the table.
        seed: of the triples.
    """
    part, staging = stages.parts[0], stages.staging
    places = Places(staging / "items", staging / "positions", staging / "writing")
    if staging.is_local:
        Path(staging.path).mkdir(mode=0o700, parents=True, exist_ok=True)  # who liked what is in there
    places.unfinished.remove()
    places.unfinished.make_folder()
    useful = _dealt(stages, groups, interactions, items, table, places)
    loss = SampledLoss.of(items.vectors, part.frozen_columns, seed=seed, users=groups.users, useful=useful)
    step, standing, stopped = Descent(stages, groups, method, start, loss, places).run()
    away = standing.away[~constant].sum()
    return Outcome(
        eraser=None,
        after=_as_written(of_vectors(standing.both), start, constant),
        change_of=partial(from_positions, at=places.at(step), constant=constant, key=groups.key),
        relative_move=float(away) / max(start.mean_variance * start.dim * groups.moving, 1e-300),
        how={
            "stopped": stopped,
            "steps": stages.space.done["descended"]["steps"],
            "key_commitment": None,
            "interactions": stages.space.done["dealt"]["counts"],
        },
    )


def _dealt(stages: Stages, groups: Groups, interactions: Location, items: ItemTable, table: str, places: Places) -> int:
    """Deal the interactions where that is not done yet; how many are useful."""
    space, folder = stages.space, stages.space.folder / "deal"
    if "dealt" not in space.done:
        if stages.staging.is_local:
            size = sum(file.stamp()[0] for _, file in interactions.files())
            state = 2 * 2 * 8 * groups.moving * len(free_columns(stages.parts[0]))
            has_room(Path(stages.staging.path), state + _BYTES_DEALT * size)
        if folder.exists():
            shutil.rmtree(folder)  # half a deal is no use
        folder.mkdir()
        places.items.remove()
        found = deal_interactions(
            interactions, stages.parts, groups, items, folder, places.items, table=table,
            unfinished=places.unfinished, progress=stages.progress,
        )  # fmt: skip
        folder.rmdir()
        space.note("dealt", counts=asdict(found))
    return int(space.done["dealt"]["counts"]["useful"])


def _as_written(moments: CellMoments, start: CellMoments, constant: NDArray[np.bool_]) -> CellMoments:
    """The moments with constant columns as they were: what a descent did to them is not written."""
    mean, scatter = np.where(constant, start.mean, moments.mean), moments.scatter.copy()
    scatter[:, constant] = scatter[:, :, constant] = 0.0
    return replace(moments, mean=mean, scatter=scatter)
