"""Is the check before release right on tables that nobody tuned on?

    python benchmarks/verdicts.py
    python benchmarks/verdicts.py --method calibrated --tables 8
    python benchmarks/verdicts.py --dataset ml-100k --models als bpr ncf lightgcn --tables 2

Each table, made up or the users of a model trained here, is unlearnt and checked as a release is, and then attacked
anew with other seeds, as many as the check takes. A table that is called protected while an attacker is more than the
margin above chance is what must not be; one that is refused at chance costs its owner another try.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from attrcloak import release
from attrcloak.auditing import audit
from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.data.datasets import load
from attrcloak.recommenders import MODELS, train
from attrcloak.unlearning import METHODS

KINDS = ("linear", "variance", "signs of two", "cluster", "tails", "signs of three", "mixed", "none")
ATTACKERS = ("logistic", "xgboost", "qda")


def main() -> None:
    """Print a line for each table, and how often the verdict was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=tuple(METHODS), default="calibrated-flow")
    parser.add_argument("--tables", type=int, default=24, help="made-up ones, or seeds of each model")
    parser.add_argument("--dataset", help="the users of models trained on it, in place of made-up tables")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=["als"])
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    tables = protected = raised = 0
    made = map(made_up, range(asked.tables)) if asked.dataset is None else trained(asked)
    for number, (kind, table, people) in enumerate(made):
        began = time.perf_counter()
        released = release.unlearn(table, people, METHODS[asked.method](), seed=number)
        protocol = replace(release.check_protocol(people.align(table.ids), people.names), resamples=99, permutations=99)
        found = audit(released.table, people, protocol=protocol, attackers=ATTACKERS, seed=777 + number).results
        apart = {
            f"{result.attacker} on {result.attribute}": result.balanced_accuracy - result.chance
            for result in found
            if result.attacker in ATTACKERS
        }
        highest = max(apart, key=lambda name: apart[name])
        farthest = max(apart, key=lambda name: abs(apart[name]))
        assert released.verdict is not None  # it was asked for
        wrong = released.verdict.protected and apart[highest] > release.MARGIN
        tables, protected, raised = tables + 1, protected + released.verdict.protected, raised + wrong
        print(
            f"{number:2} {kind:14} {len(table)} x {table.dim}: "
            f"{'protected' if released.verdict.protected else 'refused'}{' WRONGLY' if wrong else ''}; "
            f"farthest {apart[farthest]:+.3f} ({farthest}), highest {apart[highest]:+.3f} ({highest}); "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
    print(f"{tables} tables, {protected} called protected, {raised} of these with an attacker above the margin")


def trained(asked: argparse.Namespace) -> Iterator[tuple[str, EmbeddingTable, UserAttributes]]:
    """The users of every model and seed, with all attributes of the data set."""
    dataset = load(asked.dataset, asked.data_dir)
    people = dataset.people.align(dataset.interactions.users)
    for model in asked.models:
        for seed in range(asked.tables):
            yield (
                f"{model}, seed {seed}",
                train(model, dataset.interactions.leave_one_out(seed), seed=seed).users,
                people,
            )


def made_up(number: int) -> tuple[str, EmbeddingTable, UserAttributes]:
    """A table with a leak of one kind about "group", and a weak linear one about "side"."""
    rng = np.random.default_rng(1000 + number)
    n, d = int(rng.choice([1200, 2500, 4000])), int(rng.choice([12, 24, 48]))
    classes = int(rng.choice([2, 3, 6]))
    shares = np.maximum(rng.dirichlet(np.full(classes, 2.0)), 0.03)
    group = rng.choice(classes, n, p=shares / shares.sum())
    side = rng.choice(2, n, p=[0.3, 0.7])
    kind, shape = KINDS[number % len(KINDS)], rng.choice(3)
    x = rng.standard_t(4, size=(n, d)) if shape == 1 else rng.normal(size=(n, d))
    if shape == 2:
        x *= np.exp(0.4 * rng.normal(size=(n, 1)))
    x *= np.linspace(1.5, 0.3, d)
    if kind in ("linear", "mixed"):
        x += 1.6 * rng.normal(size=(classes, d))[group] / np.sqrt(d)
    if kind in ("variance", "mixed"):
        x[:, :3] *= (1 + 0.5 * group / (classes - 1))[:, None]
    if kind in ("signs of two", "mixed"):
        other = (np.sign(x[:, 0] * x[:, 1]) != np.where(group % 2 == 0, 1, -1)) & (rng.random(n) < 0.5)
        x[other, 1] *= -1
    if kind == "signs of three":
        other = (np.sign(x[:, 0] * x[:, 1] * x[:, 2]) != np.where(group % 2 == 0, 1, -1)) & (rng.random(n) < 0.7)
        x[other, 2] *= -1
    if kind == "cluster":
        weights = rng.dirichlet(np.full(8, 0.5), classes)
        x += 1.5 * rng.normal(size=(8, d))[[rng.choice(8, p=weights[k]) for k in group]]
    if kind == "tails":
        first = group == 0
        x[first] *= np.where(rng.random((first.sum(), 1)) < 0.1, 3, 0.75)
    x += 0.5 * np.outer(side - 0.7, rng.normal(size=d))
    people = UserAttributes.from_values(Ids.range(n), group=[f"c{k}" for k in group], side=[f"s{k}" for k in side])
    scoring = "dot" if number // len(KINDS) % 2 == 0 else "unknown"
    return kind, EmbeddingTable(Ids.range(n), x.astype(np.float32), "made up", scoring=scoring), people


if __name__ == "__main__":
    main()
