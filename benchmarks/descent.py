"""What AttrCloak-DF costs in moment space and on rows, as ratios within one run.

    python benchmarks/descent.py [--users 1000000] [--steps 500]

Moment space is timed at 10,000 users and at ``--users``, with the same 14 cells; rows are timed for a few steps and
scaled, because all their steps cost the same. The passes over the table are timed apart from the solve.
"""

import argparse
import time

import numpy as np

from attrcloak.moments import CellKey, cell_moments
from attrcloak.unlearning import AttrCloakDF
from attrcloak.unlearning.descent import Objectives, RowSpace, gradient_descent

DIM, CLASSES, FEW_STEPS = 64, (2, 7), 2


def table(users: int) -> tuple[np.ndarray, np.ndarray, CellKey]:
    """Normal vectors with a linear leak, and the 14 cells of two attributes."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, k, users) for k in CLASSES], axis=1)
    vectors = rng.normal(size=(users, DIM)) + 0.3 * codes[:, [0]]
    key, cells = CellKey.of(("gender", "age"), [[str(i) for i in range(k)] for k in CLASSES], codes)
    return vectors, cells, key


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--users", type=int, default=1_000_000)
    options.add_argument("--steps", type=int, default=500)
    chosen = options.parse_args()
    method = AttrCloakDF(steps=chosen.steps)
    solve = {}
    for users in (10_000, chosen.users):
        vectors, cells, key = table(users)
        began = time.perf_counter()
        moments = cell_moments(vectors, cells, key)
        first = time.perf_counter() - began
        method.solve(moments)
        solve[users] = time.perf_counter() - began - first
        print(f"{users:>9,} users, {len(key)} cells: pass 1 {first:.2f} s, {chosen.steps} steps {solve[users]:.2f} s")
    variance = moments.mean_variance
    objectives = Objectives(method.ridge * variance, 0.0, 1 / (variance * DIM * chosen.users))
    rows = RowSpace(vectors, cells, key)
    rate = method.learning_rate * variance * chosen.users
    began = time.perf_counter()
    gradient_descent(rows, objectives, steps=FEW_STEPS, rate=rate, bounds=(0.9, 1.0))
    few = time.perf_counter() - began
    whole = few / FEW_STEPS * chosen.steps
    print(f"rows at {chosen.users:,} users: {few / FEW_STEPS:.2f} s a step, {whole:.0f} s for {chosen.steps}")
    print(f"solve at {chosen.users:,} over solve at 10,000: {solve[chosen.users] / solve[10_000]:.2f}")
    print(f"rows over moments (pass 1 and solve): {whole / (first + solve[chosen.users]):.0f}")


if __name__ == "__main__":
    main()
