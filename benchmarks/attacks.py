"""The attacks that remain on a calibrated table, each measured: what an attacker holds or knows beyond the new table.

    python benchmarks/attacks.py ml-1m als
    python benchmarks/attacks.py ml-1m als --method label-free --only surfaces along --data-dir DATA
    python benchmarks/attacks.py ml-1m als --attributes gender --only ensembles

Gender, age and occupation are unlearnt together, or those named. Intervals are 95 % over users, one redraw:

    surfaces       vectors, old and new, top-50 lists (seen items masked, and not), history: logistic regression
    intersection   gender x age, unlearnt only separately: logistic regression and XGBoost
    along          what a map that is the same for everybody takes from the old vector, found by regression of new on
                   old, beside the old vector itself; logistic regression, 5, 20 and 80 % known
    directions     classifiers fitted to the old vectors of users whose labels are known, put to the new vectors of the
                   others, whose old vectors nobody has; how high is high is learnt from new vectors
    told moments   moment equations whose attacker is told the exact class moments of the released table, as much as the
                   key of the draw could ever tell; beside them those of an attacker who is told nothing
    ensembles      boosted trees, a kernel machine, and a stack of both with logistic regression and QDA

80 % of labels are known where nothing else is said.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attrcloak.attackers import ATTACKERS, Attacker, moment_equation_attack
from attrcloak.auditing import SOUND, AuditReport, Protocol, audit
from attrcloak.auditing.intervals import bootstrap_interval
from attrcloak.auditing.protocols import rotations
from attrcloak.comparison import top_lists
from attrcloak.data import Attribute, EmbeddingTable, UserAttributes
from attrcloak.data.datasets import load
from attrcloak.moments import CellKey, cell_moments
from attrcloak.recommenders import train
from attrcloak.unlearning import METHODS, run
from attrcloak.unlearning.lengths import unit_length

PROTOCOL = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=999, equations_known=())
FOLDS = 3
"""Of the stack, over the users whose labels are known."""
KNOWN = (0.05, 0.2, 0.8)
Answers = Callable[[NDArray[np.bool_], NDArray[np.int64]], NDArray[np.float64]]
"""Scores (m, K) of the users who are not known, from (n,) who is and their classes."""
PARTS = ("surfaces", "intersection", "along", "directions", "moments", "ensembles")


@dataclass(frozen=True)
class Kernel:
    """Logistic regression on 1000 random features of an RBF kernel."""

    name: ClassVar[str] = "kernel"
    reads_sparse: ClassVar[bool] = False

    def fit_predict(self, train: Any, labels: Any, test: Any, classes: int, seed: int) -> NDArray[np.float64]:
        """See ``Attacker``."""
        from sklearn.kernel_approximation import RBFSampler

        mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-12
        features = RBFSampler(gamma=0.5 / train.shape[1], n_components=1000, random_state=seed)
        inside = features.fit_transform((train - mean) / deviation)
        outside = features.transform((test - mean) / deviation)
        return ATTACKERS["logistic"]().fit_predict(inside, labels, outside, classes, seed)


@dataclass(frozen=True)
class Boosted:
    """Histogram-based gradient boosting, 150 rounds, class-balanced."""

    name: ClassVar[str] = "boosted"
    reads_sparse: ClassVar[bool] = False

    def fit_predict(self, train: Any, labels: Any, test: Any, classes: int, seed: int) -> NDArray[np.float64]:
        """See ``Attacker``."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.05, class_weight="balanced", random_state=seed
        )
        scores = np.zeros((len(test), classes))
        scores[:, np.unique(labels)] = model.fit(train, labels).predict_proba(test)
        return scores


@dataclass(frozen=True)
class Stacked:
    """Logistic regression on what four attackers answer out of fold."""

    name: ClassVar[str] = "stacked"
    reads_sparse: ClassVar[bool] = False

    def fit_predict(self, train: Any, labels: Any, test: Any, classes: int, seed: int) -> NDArray[np.float64]:
        """See ``Attacker``."""
        members = (ATTACKERS["logistic"](), ATTACKERS["qda"](), Kernel(), Boosted())
        inside, outside = np.zeros((len(train), 0)), np.zeros((len(test), 0))
        for member in members:
            own = np.zeros((len(train), classes))
            for known in rotations(labels, 0.8, FOLDS, seed):
                own[~known] = member.fit_predict(train[known], labels[known], train[~known], classes, seed)
            inside = np.hstack((inside, own))
            outside = np.hstack((outside, member.fit_predict(train, labels, test, classes, seed)))
        return ATTACKERS["logistic"]().fit_predict(inside, labels, outside, classes, seed)


def main() -> None:
    """Print one line an attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="calibrated")
    parser.add_argument("--attributes", nargs="*", default=["gender", "age", "occupation"])
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    seed = asked.seed
    dataset = load(asked.dataset, asked.data_dir)
    split = dataset.interactions.leave_one_out(seed)
    people = dataset.people.align(dataset.interactions.users).select(asked.attributes)
    recommender = train(asked.model, split, seed=seed)
    old = recommender.users
    result = run(METHODS[asked.method](), old, people, seed=seed)
    new = result.table
    for title, table, before in (("original", old, None), (asked.method, new, old)):
        lists = top_lists(recommender, table, split) if "surfaces" in asked.only else None
        if "surfaces" in asked.only:
            history = split.train.matrix if before is None else None
            show(f"surfaces, {title}", read(table, people, seed, original=before, lists=lists, history=history))
        if "intersection" in asked.only:
            crossed = people.cross("gender", "age").select(["gender x age"])
            show(f"intersection, {title}", read(table, crossed, seed, attackers=("logistic", "xgboost")))
    if "along" in asked.only:
        scaled = unit_length(old)[0] if result.scaling == "unit" else old
        for title, vectors in (("old", scaled.free), ("along the move", along(scaled.free, new.free))):
            report = read(EmbeddingTable(old.ids, vectors), people, seed, protocol=replace(PROTOCOL, known=KNOWN))
            show(f"along, {title}, {vectors.shape[1]} dimensions", report)
    if "directions" in asked.only:
        scaled = unit_length(old)[0] if result.scaling == "unit" else old
        for name, known in itertools.product(people.names, KNOWN):
            for title, vectors in (("original", scaled.free), (asked.method, new.free)):
                middle, low, high = by_directions(scaled.free, vectors, people[name], known, seed)
                print(f"directions, {title}: {name} {known:.0%} known {middle:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    if "moments" in asked.only:
        for name in people.names:
            for known, told in itertools.product((0.2, 0.5, 0.8), (False, True)):
                middle, low, high = equations(new.free, people[name], known, told, seed)
                word = "told moments" if told else "told nothing"
                print(f"{word}: {name} {known:.0%} known {middle:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    if "ensembles" in asked.only:
        for attacker in (Kernel(), Boosted(), Stacked()):
            show("ensembles", read(new, people, seed, attackers=(attacker,)))


def read(
    table: EmbeddingTable,
    people: UserAttributes,
    seed: int,
    *,
    attackers: tuple[str | Attacker, ...] = ("logistic",),
    protocol: Protocol = PROTOCOL,
    **surfaces: Any,
) -> AuditReport:
    """The audit of this page."""
    return audit(table, people, protocol=protocol, attackers=attackers, seed=seed, **surfaces)


def along(old: NDArray[np.floating], new: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n, r) what the move takes from each old vector: its linear part, in the r directions in which anybody moved."""
    moved, centred = new - old, old - old.mean(axis=0)
    _, lengths, directions = np.linalg.svd(moved - moved.mean(axis=0), full_matrices=False)
    inside = moved @ directions[lengths > 1e-4 * lengths[0]].T  # float32 rounding aside
    return np.asarray(centred @ np.linalg.lstsq(centred, inside - inside.mean(axis=0), rcond=None)[0])


def by_directions(
    old: NDArray[np.floating], new: NDArray[np.floating], column: Attribute, known: float, seed: int
) -> tuple[float, float, float]:
    """Balanced accuracy, with its interval over users, of reading new vectors in the directions that old ones gave."""

    def answers(inside: NDArray[np.bool_], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        classes = len(column.classes)
        logistic = ATTACKERS["logistic"]()
        # What the classifier of the old vectors thinks of a new one, before it is cut into classes.
        scores = logistic.fit_predict(old[inside], codes[inside], new, classes, seed)
        thought = np.log(np.maximum(scores, 1e-300))
        return logistic.fit_predict(thought[inside], codes[inside], thought[~inside], classes, seed)

    return judged(answers, column, known, seed)


def show(title: str, report: AuditReport) -> None:
    """One line a result: from both sides, and after relabelling."""
    for r in report.results:
        print(
            f"{title}: {r.attribute} {r.attacker} on {r.surface}, {r.known:.0%} known, {r.balanced_accuracy:.3f} "
            f"[{r.ci[0]:.3f}, {r.ci[1]:.3f}], relabelled {r.adaptive_balanced_accuracy:.3f}, chance {r.chance:.3f}",
            flush=True,
        )


def equations(
    vectors: NDArray[np.floating], column: Attribute, known: float, told: bool, seed: int
) -> tuple[float, float, float]:
    """Balanced accuracy of the moment equations with its interval over users."""
    key, cells = CellKey.of((column.name,), (column.classes,), column.codes[:, None])
    target = cell_moments(vectors, cells, key).marginal(0) if told else None

    def answers(inside: NDArray[np.bool_], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        return moment_equation_attack(vectors, codes, inside, len(column.classes), target=target)

    return judged(answers, column, known, seed)


def judged(answers: Answers, column: Attribute, known: float, seed: int) -> tuple[float, float, float]:
    """Balanced accuracy with its 95 % interval over users, everybody attacked who is not known."""
    codes, classes = column.codes.astype(np.int64), len(column.classes)
    right = np.full((1, len(codes)), np.nan)
    for inside in rotations(codes, known, max(1, round(1 / (1 - known))), seed):
        right[0, ~inside] = answers(inside, codes).argmax(axis=1) == codes[~inside]
    present = [k for k in range(classes) if (codes == k).any()]
    middle = float(np.mean([np.nanmean(right[0, codes == k]) for k in present]))
    low, high = bootstrap_interval(right, codes, classes, 999, np.random.default_rng(seed))
    return middle, low, high


if __name__ == "__main__":
    main()
