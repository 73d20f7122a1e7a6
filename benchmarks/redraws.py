"""Calibrated over full redraws: recommender, secret key, folds and attackers are drawn anew for each seed.

python benchmarks/redraws.py ml-1m als 5            means and spreads over five redraws
python benchmarks/redraws.py ml-1m bpr 5 DATA       the same with the data set in the folder DATA
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from attrcloak.auditing import SOUND, audit
from attrcloak.data.datasets import load
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import train
from attrcloak.unlearning import Calibrated, run

ATTACKERS = ("logistic", "mlp", "xgboost", "qda", "knn")
PROTOCOL = replace(SOUND, known=(0.8,), seeds=1, equations_known=(0.2, 0.5, 0.8), permutations=99, resamples=199)


def main(name: str, model: str, redraws: str = "5", folder: str | None = None) -> None:
    """Print leakage (balanced accuracy less chance) and NDCG@10 as a share of the original's."""
    dataset = load(name, None if folder is None else Path(folder))
    leakage: dict[tuple[str, str, float], list[float]] = {}
    ratios = []
    for seed in range(int(redraws)):
        split = dataset.interactions.leave_one_out(seed)
        people = dataset.people.align(dataset.interactions.users)
        recommender = train(model, split, seed=seed)
        items = recommender.items
        table = run(Calibrated(), recommender.users, people, seed=seed).table
        before, after = (
            evaluate(lambda rows, vectors=each.vectors, items=items: vectors[rows] @ items.T, split)
            for each in (recommender.users, table)
        )
        ratios.append(after.paired_ratio(before)[0])
        for found in audit(table, people, protocol=PROTOCOL, attackers=ATTACKERS, seed=seed).results:
            key = (found.attribute, found.attacker, found.known)
            leakage.setdefault(key, []).append(found.balanced_accuracy - found.chance)
        print(f"redraw {seed}: NDCG@10 {ratios[-1]:.3f} of {before.values['ndcg@10']:.4f}", flush=True)
    print(f"NDCG@10: mean {np.mean(ratios):.3f} of the original's")
    for (attribute, attacker, known), values in leakage.items():
        worst = max(values, key=abs)
        print(f"{attribute:12} {attacker:16} {known:.0%} known: mean {np.mean(values):+.3f}, farthest {worst:+.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
