"""Calibrated over full redraws: recommender, secret key, folds and attackers are drawn anew for each seed.

    python benchmarks/redraws.py ml-1m als
    python benchmarks/redraws.py ml-1m bpr --method calibrated-dd
    python benchmarks/redraws.py ml-1m bpr --attributes gender --data-dir DATA

Means with 95 % intervals over the redraws (Student's t): of each number by itself, and for the attacks also so wide
that all of them hold together (Bonferroni). Where the method scaled all vectors by one factor, for their weight against
item biases, NDCG@10 is also put beside that of the original vectors scaled alike.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from attrcloak.auditing import SOUND, audit
from attrcloak.data.datasets import load
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import train
from attrcloak.unlearning import METHODS, run

ATTACKERS = ("logistic", "mlp", "xgboost", "qda", "knn")
PROTOCOL = replace(SOUND, known=(0.8,), seeds=1, equations_known=(0.2, 0.5, 0.8), permutations=99, resamples=199)


def main() -> None:
    """Print leakage (balanced accuracy less chance) and NDCG@10 as a share of the original's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--method", choices=("calibrated", "calibrated-dd", "calibrated-flow"), default="calibrated")
    parser.add_argument("--redraws", type=int, default=5)
    parser.add_argument("--attributes", nargs="*", help="unlearnt together and attacked; all by default")
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    dataset = load(asked.dataset, asked.data_dir)
    leakage: dict[tuple[str, str, float], list[float]] = {}
    ratios, scaled_ratios = [], []
    for seed in range(asked.redraws):
        split = dataset.interactions.leave_one_out(seed)
        people = dataset.people.align(dataset.interactions.users)
        recommender = train(asked.model, split, seed=seed)
        items = recommender.items
        result = run(
            METHODS[asked.method](),
            recommender.users,
            people,
            attributes=asked.attributes,
            seed=seed,
            recommendation=recommender.loss(split.train),
        )
        table, before = result.table, recommender.users
        scaled = before.with_free(result.scale * before.free, np.ones(len(before), dtype=bool))
        as_it_was, scaled_alike, after = (
            evaluate(lambda rows, vectors=each.vectors, items=items: vectors[rows] @ items.T, split)
            for each in (before, scaled, table)
        )
        ratios.append(after.paired_ratio(as_it_was)[0])
        scaled_ratios.append(after.paired_ratio(scaled_alike)[0])
        report = audit(table, people, protocol=PROTOCOL, attackers=ATTACKERS, attributes=asked.attributes, seed=seed)
        for found in report.results:
            key = (found.attribute, found.attacker, found.known)
            leakage.setdefault(key, []).append(found.balanced_accuracy - found.chance)
        print(f"redraw {seed}: NDCG@10 {ratios[-1]:.3f} of {as_it_was.values['ndcg@10']:.4f}", flush=True)
    print(f"NDCG@10 of the original's: {summary(ratios)}")
    print(f"NDCG@10 of that of the original scaled alike: {summary(scaled_ratios)}")
    for (attribute, attacker, known), values in leakage.items():
        print(f"{attribute:12} {attacker:16} {known:.0%} known: {summary(values, together=len(leakage))}")


def summary(values: list[float], together: int = 1) -> str:
    """Mean, 95 % interval, the one that holds for ``together`` numbers at once, and the value farthest from 0."""
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    alone, all_at_once = (error * student.ppf(1 - 0.025 / n, len(values) - 1) for n in (1, together))
    wide = f", all at once +- {all_at_once:.3f}" if together > 1 else ""
    return f"{mean:+.3f} +- {alone:.3f}{wide}, farthest {max(values, key=abs):+.3f}"


if __name__ == "__main__":
    main()
