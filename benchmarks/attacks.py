"""The attacks that remain on a calibrated table, each measured: what an attacker holds or knows beyond the new table.

    python benchmarks/attacks.py ml-1m als
    python benchmarks/attacks.py ml-1m als --method label-free --ensembles "" --data-dir DATA

Gender, age and occupation are unlearnt together, or those named. Intervals are 95 % over users, one redraw:

    surfaces       vectors, old and new, top-50 lists (seen items masked, and not), history: logistic regression
    intersection   gender x age, unlearnt only separately: logistic regression and XGBoost
    told moments   moment equations whose attacker is told the exact class moments of the released table, as much as the
                   key of the draw could ever tell; beside them those of an attacker who is told nothing
    ensembles      boosted trees, a kernel machine, and a stack of both with logistic regression and QDA

80 % of labels are known where nothing else is said.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attrcloak.attackers import ATTACKERS, moment_equation_attack
from attrcloak.auditing import SOUND, AuditReport, audit
from attrcloak.auditing.intervals import bootstrap_interval
from attrcloak.auditing.protocols import rotations
from attrcloak.comparison import top_lists
from attrcloak.data import Attribute
from attrcloak.data.datasets import load
from attrcloak.moments import CellKey, cell_moments
from attrcloak.recommenders import train
from attrcloak.unlearning import METHODS, run

PROTOCOL = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=999, equations_known=())
FOLDS = 5


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
    """Histogram-based gradient boosting, 300 rounds, class-balanced."""

    name: ClassVar[str] = "boosted"
    reads_sparse: ClassVar[bool] = False

    def fit_predict(self, train: Any, labels: Any, test: Any, classes: int, seed: int) -> NDArray[np.float64]:
        """See ``Attacker``."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            max_iter=300, learning_rate=0.05, class_weight="balanced", random_state=seed
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


ENSEMBLES = {"boosted": Boosted, "kernel": Kernel, "stacked": Stacked}


def main() -> None:
    """Print one line an attack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="calibrated")
    parser.add_argument("--attributes", nargs="*", default=["gender", "age", "occupation"])
    parser.add_argument("--ensembles", nargs="*", default=list(ENSEMBLES), choices=[*ENSEMBLES, ""])
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    dataset = load(asked.dataset, asked.data_dir)
    split = dataset.interactions.leave_one_out(asked.seed)
    people = dataset.people.align(dataset.interactions.users).select(asked.attributes)
    recommender = train(asked.model, split, seed=asked.seed)
    old = recommender.users
    new = run(METHODS[asked.method](), old, people, seed=asked.seed).table
    for title, table, before in (("original", old, None), (asked.method, new, old)):
        report = audit(
            table,
            people,
            protocol=PROTOCOL,
            attackers=["logistic"],
            original=before,
            lists=top_lists(recommender, table, split),
            history=split.train.matrix if before is None else None,
            seed=asked.seed,
        )
        show(f"surfaces, {title}", report)
        if {"gender", "age"} <= set(people.names):
            crossed = people.cross("gender", "age").select(["gender x age"])
            show(
                f"intersection, {title}",
                audit(table, crossed, protocol=PROTOCOL, attackers=["logistic", "xgboost"], seed=asked.seed),
            )
    for name in people.names:
        for known in (0.2, 0.5, 0.8):
            for told in (False, True):
                middle, low, high = equations(new.free, people[name], known, told, asked.seed)
                word = "told moments" if told else "told nothing"
                print(f"{word}: {name} {known:.0%} known {middle:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    chosen = [ENSEMBLES[name]() for name in asked.ensembles if name]
    if chosen:
        show("ensembles", audit(new, people, protocol=PROTOCOL, attackers=chosen, seed=asked.seed))


def show(title: str, report: AuditReport) -> None:
    """One line a result: from both sides, and after relabelling."""
    for r in report.results:
        print(
            f"{title}: {r.attribute} {r.attacker} on {r.surface} {r.balanced_accuracy:.3f} "
            f"[{r.ci[0]:.3f}, {r.ci[1]:.3f}], relabelled {r.adaptive_balanced_accuracy:.3f}, chance {r.chance:.3f}",
            flush=True,
        )


def equations(
    vectors: NDArray[np.floating], column: Attribute, known: float, told: bool, seed: int
) -> tuple[float, float, float]:
    """Balanced accuracy of the moment equations with its interval over users."""
    codes, classes = column.codes.astype(np.int64), len(column.classes)
    key, cells = CellKey.of((column.name,), (column.classes,), codes[:, None])
    target = cell_moments(vectors, cells, key).marginal(0) if told else None
    splits = rotations(codes, known, max(1, round(1 / (1 - known))), seed)
    right = np.full((1, len(codes)), np.nan)
    for split in splits:
        scores = moment_equation_attack(vectors, codes, split, classes, target=target)
        right[0, ~split] = scores.argmax(axis=1) == codes[~split]
    present = [k for k in range(classes) if (codes == k).any()]
    middle = float(np.mean([np.nanmean(right[0, codes == k]) for k in present]))
    low, high = bootstrap_interval(right, codes, classes, 999, np.random.default_rng(seed))
    return middle, low, high


if __name__ == "__main__":
    main()
