"""The two passes and a solve against what does the same work otherwise: rows, concept-erasure, retraining."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from attrcloak.data import Cells, EmbeddingTable, Ids
from attrcloak.moments import CellKey, cell_moments
from attrcloak.recommenders.implicit_models import ALS
from attrcloak.unlearning import D2DR, LEACE, U2UR, AttrCloakDF, Barycentre
from attrcloak.unlearning.method import MomentMethod, Rows
from benchmarks.measuring import Figure, in_turn
from benchmarks.tables import named, planted

USERS, DIM, CLASSES, STEPS = 1_000_000, 64, (2, 7), 500
INTERACTIONS, ITEMS = 20, 10_000
HUNDRED, NEVER_SLOWER = "at least 100", "at least 1"


def measure() -> Iterator[Figure]:
    """Row-wise methods, concept-erasure and retraining, each over the two passes with a solve."""
    yield from rows()
    yield from concept_erasure()
    yield from retraining()


def two_passes(method: MomentMethod, vectors: np.ndarray, cells: np.ndarray, key: CellKey) -> np.ndarray:
    """Pass 1, solve, pass 2."""
    return method.solve(cell_moments(vectors, cells, key)).eraser.apply(vectors, cells)


def rows() -> Iterator[Figure]:
    """AttrCloak-DF on rows, U2U-R and D2D-R: a few steps timed and scaled, for all their steps cost the same."""
    vectors, cells, key = planted(USERS, DIM, CLASSES)
    table = named(USERS, DIM, len(key))
    descent = AttrCloakDF(solver="gradient descent", steps=STEPS)
    ours = np.array([seconds(two_passes, descent, vectors, cells, key) for _ in range(3)])
    yield Figure.of(f"AttrCloak-DF in two passes, {STEPS} steps", table, ours, unit="s")

    people = Rows(EmbeddingTable(Ids.range(USERS), vectors), Cells(key, cells), bytes(32), 0)
    by_rows: dict[str, tuple[int, Callable[[int], object]]] = {
        "AttrCloak-DF on rows": (2, lambda steps: replace(descent, space="rows", steps=steps).move(people)),
        "U2U-R": (4, lambda steps: U2UR(steps=steps).move(people)),
        "D2D-R": (1, lambda steps: D2DR(steps=steps).move(people)),
    }
    for name, (steps, run) in by_rows.items():
        # What comes before the first step is taken off, except where one step is all there is time for.
        before = min(seconds(run, 1) for _ in range(2)) if steps > 1 else 0.0
        step = (seconds(run, steps) - before) / max(steps - 1, 1)
        yield Figure.of(
            f"{name}, {STEPS} steps, over AttrCloak-DF in two passes",
            table,
            STEPS * step / ours,
            level=HUNDRED,
            note=f"{step:.3g} s a step on one BLAS thread, {max(steps - 1, 1)} timed, scaled to {STEPS}",
        )


def concept_erasure() -> Iterator[Figure]:
    """Fit and apply of LEACE (all classes of both attributes) and QuadraticEraser (14 equal classes of one attribute).

    QuadraticEraser centres on the unweighted mean of the class means, so results agree where classes are equally large.
    """
    import torch
    from concept_erasure import LeaceFitter, QuadraticFitter

    for dtype in (np.float64, np.float32):
        vectors, cells, key = planted(USERS // 14 * 14, DIM, CLASSES, dtype)
        x, labels = torch.from_numpy(vectors), torch.from_numpy(cells.astype(np.int64))
        codes = key.combinations[cells]
        one_hot = np.concatenate([np.eye(k, dtype=dtype)[codes[:, a]] for a, k in enumerate(CLASSES)], axis=1)
        z = torch.from_numpy(one_hot)
        settings = {"dtype": x.dtype, "shrinkage": False}

        def leace(x: torch.Tensor = x, z: torch.Tensor = z, settings: dict = settings) -> np.ndarray:
            fitter = LeaceFitter(DIM, z.shape[1], constrain_cov_trace=False, svd_tol=1e-6, **settings)
            return fitter.update(x, z).eraser(x).numpy()

        def quadratic(x: torch.Tensor = x, labels: torch.Tensor = labels, settings: dict = settings) -> np.ndarray:
            return QuadraticFitter(DIM, 14, **settings).update(x, labels).eraser(x, labels).numpy()

        one = CellKey(("attribute",), (tuple(map(str, range(14))),), np.arange(14)[:, None])
        yield from beside("LEACE of concept-erasure", leace, LEACE(), vectors, cells, key)
        yield from beside("QuadraticEraser", quadratic, Barycentre(ridge=0.0), vectors, cells, one)


def beside(
    name: str,
    rival: Callable[[], np.ndarray],
    method: MomentMethod,
    vectors: np.ndarray,
    cells: np.ndarray,
    key: CellKey,
) -> Iterator[Figure]:
    """The rival's seconds over ours, and how far apart the results are."""
    table = named(len(vectors), DIM, len(key), str(vectors.dtype))
    apart = float(np.abs(rival() - two_passes(method, vectors, cells, key)).max() / np.sqrt((vectors**2).mean()))
    took = in_turn({"rival": rival, "ours": lambda: two_passes(method, vectors, cells, key)}, 5)
    yield Figure.of(
        f"{name} over `{method.name}`, fit and apply",
        table,
        took["rival"] / took["ours"],
        level=NEVER_SLOWER,
        note=f"largest difference of a coordinate {apart:.1g} of the table's root mean square",
    )


def retraining() -> Iterator[Figure]:
    """One sweep of ALS on made-up interactions, scaled to the sweeps of a training, over a barycentre."""
    import implicit.cpu.als
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    items = rng.integers(0, ITEMS, USERS * INTERACTIONS, dtype=np.int32)
    bought = csr_matrix(
        (np.ones(len(items), dtype=np.float32), items, np.arange(0, len(items) + 1, INTERACTIONS)), (USERS, ITEMS)
    )
    bought.sum_duplicates()
    vectors, cells, key = planted(USERS, DIM, CLASSES)

    def sweep() -> None:
        with threadpool_limits(1, "blas"):  # the library has threads of its own
            model = implicit.cpu.als.AlternatingLeastSquares(factors=DIM, iterations=1, num_threads=0, random_state=0)
            model.fit(bought, show_progress=False)

    took = in_turn(
        {
            "sweep": sweep,
            "ours": lambda: two_passes(Barycentre(), vectors, cells, key),
            "passes": lambda: two_passes(LEACE(), vectors, cells, key),
        },
        2,
    )
    table = f"{named(USERS, DIM, len(key))}, {len(bought.data):,} interactions"
    sweeps = ALS().iterations
    for name, seconds_of in (("`barycentre`", "ours"), ("`leace`", "passes")):
        yield Figure.of(
            f"retraining ALS, {sweeps} sweeps, over {name} in two passes",
            table,
            sweeps * took["sweep"] / took[seconds_of],
            level="at least 1,000",
            note=f"{np.median(took['sweep']):.3g} s a sweep with all threads, scaled to {sweeps}",
        )


def seconds(action: Callable[..., object], *arguments: object) -> float:
    """How long it takes, once."""
    began = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - began
