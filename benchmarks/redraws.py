"""Calibrated over full redraws: recommender, secret key, folds and attackers are drawn anew for each seed.

    python benchmarks/redraws.py ml-1m als
    python benchmarks/redraws.py ml-1m bpr --attributes gender --data-dir DATA

Means with 95 % intervals over the redraws (Student's t), each interval by itself.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from attrcloak.auditing import SOUND, audit
from attrcloak.data.datasets import load
from attrcloak.evaluation import evaluate
from attrcloak.experiments.tables import interval
from attrcloak.recommenders import train
from attrcloak.unlearning import Calibrated, run

ATTACKERS = ("logistic", "mlp", "xgboost", "qda", "knn")
PROTOCOL = replace(SOUND, known=(0.8,), seeds=1, equations_known=(0.2, 0.5, 0.8), permutations=99, resamples=199)


def main() -> None:
    """Print leakage (balanced accuracy less chance) and NDCG@10 as a share of the original's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--redraws", type=int, default=5)
    parser.add_argument("--attributes", nargs="*", help="unlearnt together and attacked; all by default")
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    dataset = load(asked.dataset, asked.data_dir)
    leakage: dict[tuple[str, str, float], list[float]] = {}
    ratios = []
    for seed in range(asked.redraws):
        split = dataset.interactions.leave_one_out(seed)
        people = dataset.people.align(dataset.interactions.users)
        recommender = train(asked.model, split, seed=seed)
        items = recommender.items
        table = run(Calibrated(), recommender.users, people, attributes=asked.attributes, seed=seed).table
        before, after = (
            evaluate(lambda rows, vectors=each.vectors, items=items: vectors[rows] @ items.T, split)
            for each in (recommender.users, table)
        )
        ratios.append(after.paired_ratio(before)[0])
        report = audit(table, people, protocol=PROTOCOL, attackers=ATTACKERS, attributes=asked.attributes, seed=seed)
        for found in report.results:
            key = (found.attribute, found.attacker, found.known)
            leakage.setdefault(key, []).append(found.balanced_accuracy - found.chance)
        print(f"redraw {seed}: NDCG@10 {ratios[-1]:.3f} of {before.values['ndcg@10']:.4f}", flush=True)
    print(f"NDCG@10 of the original's: {summary(ratios)}")
    for (attribute, attacker, known), values in leakage.items():
        print(f"{attribute:12} {attacker:16} {known:.0%} known: {summary(values)}")


def summary(values: list[float]) -> str:
    """Mean, 95 % interval and the value farthest from 0."""
    low, high = interval(values)
    return f"{np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}], farthest {max(values, key=abs):+.3f}"


if __name__ == "__main__":
    main()
