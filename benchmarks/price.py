"""How much of the recommendations that unlearning costs comes back to who knows the labels: the price of independence.

    python benchmarks/price.py ml-1m als
    python benchmarks/price.py ml-1m bpr --redraws 3

After unlearning, the old vectors are predicted from the new ones by least squares, on other users than those whose are
predicted: from the new vectors alone, with the labels beside them, and with labels dealt out to the wrong users. What
comes back with the labels and not without them went with what the vectors said of labels; what does not come back was
lost on the way. Other methods may lose less of the first: only what is linear in vectors, labels and their products is
told apart, and a map that turned each class for nothing would come back, too.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from redraws import summary
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from attrcloak.data.datasets import load
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import train
from attrcloak.unlearning import METHODS, run
from attrcloak.unlearning.lengths import unit_length

_PENALTY = 0.1
"""Of the squared coefficients of products of vectors and labels, in variances of these, times the number of users."""
_SMALL = 1e-4
"""The same of those of vectors and of labels."""


def main() -> None:
    """Print NDCG@10 as a share of the original's, leave-one-out, full ranking, mean and interval over redraws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--method", choices=("calibrated", "calibrated-flow"), default="calibrated-flow")
    parser.add_argument("--redraws", type=int, default=5)
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    dataset = load(asked.dataset, asked.data_dir)
    shares: dict[str, list[float]] = {}
    for seed in range(asked.redraws):
        split = dataset.interactions.leave_one_out(seed)
        people = dataset.people.align(dataset.interactions.users)
        recommender = train(asked.model, split, seed=seed)
        before, items = recommender.users, recommender.items
        table = run(METHODS[asked.method](), before, people, seed=seed).table
        # A dot product does not rank by a user's length, but least squares weigh by it: old vectors of their own
        # lengths would be predicted towards those of the most active, which sells better, unlearned or not.
        old = unit_length(before)[0].free if before.scoring == "dot" else before.free
        labels = one_hot(people.marked_codes())
        wrong = labels[np.random.default_rng(seed).permutation(len(labels))]
        found = {
            "as released": table.free,
            "from new vectors alone": predicted(table.free, old, None, seed),
            "with labels given back": predicted(table.free, old, labels, seed),
            "with the labels of others": predicted(table.free, old, wrong, seed),
        }
        everybody = np.ones(len(before), dtype=bool)
        original, *others = (
            evaluate(lambda rows, vectors=each.vectors, items=items: vectors[rows] @ items.T, split)
            for each in (before, *(before.with_free(free, everybody) for free in found.values()))
        )
        for name, after in zip(found, others, strict=True):
            shares.setdefault(name, []).append(after.paired_ratio(original)[0])
        print(f"redraw {seed}: " + ", ".join(f"{name} {values[-1]:.3f}" for name, values in shares.items()), flush=True)
    for name, values in shares.items():
        print(f"NDCG@10 of the original's, {name}: {summary(values)}")


def one_hot(codes: NDArray[np.int32]) -> NDArray[np.float64]:
    """(n, C) whether a user is of each class of every attribute, less the share of the class."""
    columns = [column == k for column in codes.T for k in range(column.max() + 1)]
    return np.stack(columns, axis=1) - np.mean(columns, axis=1)


def predicted(
    new: NDArray[np.floating], old: NDArray[np.floating], labels: NDArray[np.float64] | None, seed: int
) -> NDArray[np.float64]:
    """(n, d) old vectors, every user's by least squares over the users of four other folds."""
    parts, penalties = [new - new.mean(axis=0)], [_SMALL]
    if labels is not None:
        parts += [labels, (parts[0][:, None, :] * labels[:, :, None]).reshape(len(new), -1)]
        penalties += [_SMALL, _PENALTY]
    # Ridge has one penalty for all: what is to have a larger one is made smaller.
    scaled = [part / np.maximum(part.std(axis=0), 1e-9) / np.sqrt(p) for part, p in zip(parts, penalties, strict=True)]
    features, found = np.concatenate(scaled, axis=1), np.empty_like(old, dtype=np.float64)
    for fit, rest in KFold(5, shuffle=True, random_state=seed).split(features):
        model = Ridge(alpha=float(len(fit))).fit(features[fit], (old - new)[fit])
        found[rest] = new[rest] + model.predict(features[rest])
    return found


if __name__ == "__main__":
    main()
