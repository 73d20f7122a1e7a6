"""Requests over time: protection of those who asked when 1, 10, 50 or 100 % of users ask, and what it costs whom.

    python benchmarks/requests.py ml-1m als
    python benchmarks/requests.py ml-1m als --shares 0.01 --cover 0.1 --methods calibrated --data-dir DATA
    python benchmarks/requests.py ml-1m als --shares 0.5 --batches 5
    python benchmarks/requests.py ml-1m als --methods calibrated label-free --fit everybody

Each redraw (seed) trains a recommender, draws who asks (for all attributes named) and a secret key anew. Means over the
redraws with half of their 95 % interval (Student's t). What is printed for each method and share:

    others    balanced accuracy less chance on those who asked, attackers trained on users who did not (shares of labels
              known: 5, 20, 80 %); where everybody asked, trained on a share of everybody
    everyone  the same, trained on 80 % of everybody
    asked     balanced accuracy less chance of telling who asked, from the new table, and from old and new together
    NDCG@10   as a share of the original's, of those who asked and of those who did not
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from attrcloak.auditing import SOUND, AuditReport, audit
from attrcloak.data import EmbeddingTable, UserAttributes
from attrcloak.data.datasets import load
from attrcloak.errors import InvalidInput
from attrcloak.evaluation import evaluate
from attrcloak.experiments.tables import interval
from attrcloak.recommenders import train
from attrcloak.release import apply_eraser
from attrcloak.unlearning import METHODS, Calibrated, run

PROTOCOL = replace(SOUND, known=(0.05, 0.2, 0.8), seeds=1, permutations=99, resamples=99, equations_known=())
FEWEST = 10
"""Users of a class below which it is left out; as few as the audit allows, since at 1 % hardly a class has 20."""


def main() -> None:
    """Print one block a share and method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--redraws", type=int, default=3)
    parser.add_argument("--shares", nargs="*", type=float, default=[0.01, 0.1, 0.5, 1.0])
    parser.add_argument("--methods", nargs="*", default=["calibrated", "attrcloak-df", "leace", "label-free"])
    parser.add_argument("--attributes", nargs="*", default=["gender", "age"])
    parser.add_argument("--attackers", nargs="*", default=["logistic", "qda"])
    parser.add_argument("--cover", type=float, default=0.0, help="share of the others to move along")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--batches", type=int, default=1, help="requests arrive in so many parts, one run for each")
    parser.add_argument(
        "--fit",
        choices=["requests", "everybody"],
        default="requests",
        help="everybody: the known classes of users who did not ask, and whom no batch moved yet, are learnt from too",
    )
    wanted = parser.parse_args()
    if wanted.cover and wanted.batches > 1:
        parser.error("a cover set of one batch may hold users of another; use --cover or --batches")
    dataset = load(wanted.dataset, wanted.data_dir)
    found: dict[tuple[float, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seed in range(wanted.redraws):
        split = dataset.interactions.leave_one_out(seed)
        people = dataset.people.align(dataset.interactions.users).select(wanted.attributes)
        recommender = train(wanted.model, split, seed=seed)
        items, users = recommender.items, recommender.users
        rng = np.random.default_rng(seed)
        before = evaluate(lambda rows, users=users, items=items: users.vectors[rows] @ items.T, split)
        for share in wanted.shares:
            who = rng.choice(len(users), size=round(share * len(users)), replace=False)
            asked = people.mark(dict.fromkeys(wanted.attributes, users.ids.take(who)))
            parts = [
                people.mark(dict.fromkeys(wanted.attributes, users.ids.take(part)))
                for part in np.array_split(who, wanted.batches)
            ]
            if wanted.cover and share < 1:
                parts = [asked.cover(wanted.cover, rng)]
            for name in wanted.methods:
                table = users
                for number, part in enumerate(parts):
                    method = METHODS[name]()
                    if wanted.fit == "everybody" and isinstance(method, Calibrated):
                        earlier = np.concatenate([[], *np.array_split(who, wanted.batches)[:number]]).astype(int)
                        learning = replace(method, learned_from="everybody")
                        table = run(learning, table, part.without(users.ids.take(earlier)), seed=seed).table
                    elif wanted.fit == "everybody":
                        eraser = run(method, table, people, seed=seed).eraser
                        if eraser is None:
                            parser.error(f"{name} leaves no eraser to apply")
                        table = apply_eraser(eraser, table, part)
                    else:
                        table = run(method, table, part, seed=seed).table
                after = evaluate(lambda rows, table=table, items=items: table.vectors[rows] @ items.T, split)
                cell = found[share, name]
                for key, value in leakage(table, users, asked, wanted.attackers, seed, share < 1).items():
                    cell[key].append(value)
                mask = np.isin(before.rows, who)
                for key, group in (("NDCG@10 asked", mask), ("NDCG@10 others", ~mask)):
                    if group.any():
                        old, new = (report.per_user["ndcg@10"][group].mean() for report in (before, after))
                        cell[key].append(float(new / old))
                print(f"redraw {seed}: {share:.0%} asked, {name} done", flush=True)
    for (share, name), cell in found.items():
        print(f"\n{share:.0%} asked, {name}, cover {wanted.cover:.0%}, {wanted.batches} batch(es)")
        for key, values in cell.items():
            print(f"  {key:38} {summary(values)}")


def leakage(
    table: EmbeddingTable, original: EmbeddingTable, asked: UserAttributes, attackers: list[str], seed: int, some: bool
) -> dict[str, float]:
    """Balanced accuracy less chance, by what was known and attacked. What has too few users is left out."""
    found = {}
    for knows in ("others", "everybody") if some else ("everybody",):
        protocol = PROTOCOL if knows == "others" or not some else replace(PROTOCOL, known=(0.8,))
        try:
            report = audit(
                table,
                asked,
                attackers=attackers,
                protocol=protocol,
                original=original if knows == "others" else None,
                knows=knows,
                judged="requests",
                min_users=FEWEST,
                seed=seed,
            )
        except InvalidInput:
            continue
        found.update(named(report, knows if some else "everyone"))
    return found


def named(report: AuditReport, knows: str) -> dict[str, float]:
    """Leakage by a line's name: attributes from the vectors, and who asked from vectors and delta."""
    lines = {}
    for result in report.results:
        if result.attribute == "asked":
            where = "new table" if result.surface == "vectors" else "old and new"
            lines[f"asked, {where} {result.attacker} {result.known:.0%}"] = result.balanced_accuracy - result.chance
        elif result.surface == "vectors":
            lines[f"{result.attribute} {result.attacker} {result.known:.0%}, {knows}"] = (
                result.balanced_accuracy - result.chance
            )
    return lines


def summary(values: list[float]) -> str:
    """Mean and half of its interval over the redraws, and how many there were."""
    if len(values) < 2:
        return f"{values[0]:+.3f} (one redraw)"
    low, high = interval(values)
    return f"{np.mean(values):+.3f} ± {(high - low) / 2:.3f} ({len(values)})"


if __name__ == "__main__":
    main()
