"""One recommender, several methods, measured alike: what leaks, what unlearning makes of it, and what that costs."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.auditing import SOUND, AuditReport, Protocol, audit
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import Dataset
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidSettings, not_among
from attrcloak.evaluation import UtilityReport, evaluate
from attrcloak.pictures import histograms, projections
from attrcloak.progress import Progress
from attrcloak.recommenders import train
from attrcloak.recommenders.protected import PROTECTED
from attrcloak.recommenders.recommender import Recommender
from attrcloak.release import Verdict, judge
from attrcloak.unlearning import DEMONSTRATED, METHODS
from attrcloak.unlearning.method import MomentMethod, RowMethod, UnlearningResult
from attrcloak.unlearning.running import run

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SCHEMA = "attrcloak/report/1"
LIST_LENGTH = 50
"""Items in each user's list on the top-N surfaces."""

SURFACE_ATTACKERS = ("logistic",)
"""Linear attackers read lists and history as well as any, and they are wide; one seed of these beside the vectors."""

CONTROLS = ("barycentre", "leace", "mean-removal", "noise")
"""Methods shown to be compared with; one seed of their audit is enough."""

VERSIONS_OF = ("attrcloak", "numpy", "scipy", "scikit-learn", "xgboost-cpu", "xgboost", "implicit", "torch")


@dataclass(frozen=True, eq=False)
class Measured:
    """One method on one table: what attackers make of it, what it is worth, and how it came about.

    Attributes:
        audit: on vectors, and where it applies on old and new vectors, lists and history.
        utility: leave-one-out, full ranking.
        paired_ratio: NDCG@10 as a share of the original's, with a paired interval.
        verdict: whether the attackers on the vectors are at chance.
        result: None for the original.
        pictures: projections and histograms of the vectors, as plain values.
    """

    audit: AuditReport
    utility: UtilityReport
    paired_ratio: tuple[float, float, float]
    verdict: Verdict
    result: UnlearningResult | None
    pictures: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ComparisonReport:
    """All methods on one recommender.

    Attributes:
        dataset: name, counts, licence and source of the data.
        model: name, settings and served vector of the recommender.
        seed: of split, model, attackers and everything else that is not secret.
        measured: by method name, "original" first.
        seconds: wall time of everything.
    """

    dataset: Mapping[str, Any]
    model: Mapping[str, Any]
    seed: int
    measured: Mapping[str, Measured]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The content of report.json: the published fields, and under "details" what the page needs beside them."""
        return {
            "schema": SCHEMA,
            "dataset": self.dataset["name"],
            "model": self.model["name"],
            "seed": self.seed,
            "versions": versions(),
            "audits": {name: m.audit.to_json() for name, m in self.measured.items()},
            "utility": {name: m.utility.to_json() for name, m in self.measured.items()},
            "unlearning": {name: _unlearning(m.result) for name, m in self.measured.items() if m.result is not None},
            "details": {
                "dataset": dict(self.dataset),
                "model": dict(self.model),
                "seconds": self.seconds,
                "verdicts": {name: m.verdict.to_json() for name, m in self.measured.items()},
                "paired_ratio": {name: list(m.paired_ratio) for name, m in self.measured.items()},
                "pictures": {name: m.pictures for name, m in self.measured.items()},
            },
        }


def compare(
    dataset: Dataset,
    model: str = "als",
    methods: Sequence[str] = DEMONSTRATED,
    *,
    attributes: Sequence[str] | None = None,
    seed: int = 0,
    protocol: Protocol = SOUND,
    attackers: Sequence[str] | None = None,
    surfaces: bool = True,
    progress: Progress | None = None,
) -> ComparisonReport:
    """Train a recommender, audit it, run every method on it, audit and evaluate each.

    Args:
        dataset: interactions and people.
        model: "als", "bpr", "bpr-mf", "ncf" or "lightgcn".
        methods: names in ``METHODS``; those in ``DEMONSTRATED`` by default. "original" is always measured and may be
            listed too.
        attributes: which to unlearn together; all of the data set by default.
        seed: of everything that is not secret. Every method draws its own secret key and forgets it.
        protocol: of the audits; methods in ``CONTROLS`` get one seed of it, and their report says so.
        attackers: names of attackers; the audit's default otherwise.
        surfaces: also attack old and new vectors together, top-N lists with and without seen items, and raw history.
        progress: called with (stage, done, total).

    Raises:
        InvalidSettings: a method is not known; the nearest known one is suggested.
    """
    began = time.perf_counter()
    chosen = check_methods(methods)
    dataset.require_attributes()
    say = progress or (lambda stage, done, total: None)
    split = dataset.interactions.leave_one_out(seed)
    people = dataset.people.align(dataset.interactions.users)
    if attributes is not None:
        people = people.select(attributes)
    recommender = train(model, split, seed=seed, progress=progress)
    bench = _Bench(recommender, split, people, attackers, surfaces, seed, progress)
    say("comparing", 0, len(chosen) + 1)
    original = bench.measure(None, None, protocol)
    measured = {"original": original}
    loss = recommender.loss(split.train)
    for done, name in enumerate(chosen, 1):
        say("comparing", done, len(chosen) + 1)
        method: MomentMethod | RowMethod = METHODS[name]()
        result = run(method, recommender.users, people, seed=seed, recommendation=loss, progress=progress)
        measured[name] = bench.measure(result, original, replace(protocol, seeds=1) if name in CONTROLS else protocol)
    say("comparing", len(chosen) + 1, len(chosen) + 1)
    return ComparisonReport(
        dataset=dataset.describe(people.names),
        model={
            "name": recommender.name,
            "served": recommender.users.represents,
            "dimensions": recommender.users.dim,
            "settings": dict(recommender.settings),
            "seconds": recommender.seconds,
            "history": list(recommender.history),
        },
        seed=seed,
        measured=measured,
        seconds=time.perf_counter() - began,
    )


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The methods to run, "original" left out; an unknown name is an error that suggests the nearest known one."""
    chosen = tuple(dict.fromkeys(name for name in names if name != "original"))
    for name in chosen:
        if name in PROTECTED:
            raise InvalidSettings(
                f"{name!r} protects while a recommender is trained, and this command changes vectors that are trained; "
                "name it among the methods of a plan and run attrcloak compare PLAN, or attrcloak reproduce table4 "
                f"--methods original,{name}"
            )
        if name not in METHODS:
            raise InvalidSettings(not_among("there is no method", name, tuple(METHODS)))
    return chosen


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can change a number, where installed."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every method of a comparison is measured with."""

    recommender: Recommender
    split: Split
    people: UserAttributes
    attackers: Sequence[str] | None
    surfaces: bool
    seed: int
    progress: Progress | None

    def measure(self, result: UnlearningResult | None, original: Measured | None, protocol: Protocol) -> Measured:
        """Attack and evaluate one method's table.

        Args:
            result: of the method; None for the original.
            original: its measurement; None when it is what is measured.
            protocol: of the attacks on the vectors.
        """
        table = self.recommender.users if result is None else result.table
        report = audit(
            table,
            self.people,
            protocol=protocol,
            attackers=self.attackers,
            seed=self.seed,
            progress=self.progress,
        )
        if self.surfaces:
            report = self._with_other_surfaces(report, table, is_original=result is None, protocol=protocol)
        utility = evaluate(
            lambda rows: self.recommender.score(table.vectors[rows]), self.split, people=self.people, seed=self.seed
        )
        before = None if original is None else original.pictures["histograms"]
        return Measured(
            audit=report,
            utility=utility,
            paired_ratio=utility.paired_ratio(original.utility) if original is not None else (1.0, 1.0, 1.0),
            verdict=judge(report, self.people.names, method=None if result is None else result.method),
            result=result,
            pictures={
                "projection": projections(table, self.people),
                "histograms": histograms(table, self.people, before),
            },
        )

    def _with_other_surfaces(
        self, report: AuditReport, table: EmbeddingTable, *, is_original: bool, protocol: Protocol
    ) -> AuditReport:
        """The report and the attacks on old and new vectors, lists and, for the original, raw history."""
        beside = audit(
            table,
            self.people,
            protocol=replace(protocol, seeds=1, equations_known=()),
            attackers=SURFACE_ATTACKERS,
            original=None if is_original else self.recommender.users,
            lists=top_lists(self.recommender, table, self.split),
            history=self.split.train.matrix if is_original else None,
            seed=self.seed,
            progress=self.progress,
        )
        return replace(
            report,
            results=report.results + tuple(r for r in beside.results if r.surface != "vectors"),
            notes=(*report.notes, f"surfaces other than vectors: {', '.join(SURFACE_ATTACKERS)}, one seed"),
        )


def top_lists(recommender: Recommender, table: EmbeddingTable, split: Split) -> "dict[str, csr_array]":
    """Each user's top items as an attacker sees them who gets lists only.

    Returns:
        (users, items) 0/1 matrices: "top-n masked" without the items a user has seen, as most services show them (so
        that the mask itself tells the history), and "top-n unmasked", what the vectors alone would recommend.
    """
    from scipy.sparse import csr_array

    users, items = len(table), len(recommender.items)
    length = min(LIST_LENGTH, items)
    columns: dict[str, list[NDArray[np.int64]]] = {"top-n masked": [], "top-n unmasked": []}
    seen = split.train.matrix
    for start in range(0, users, 1024):
        scores = np.array(recommender.score(table.vectors[start : start + 1024]), dtype=np.float32)
        columns["top-n unmasked"].append(np.argpartition(-scores, length - 1, axis=1)[:, :length])
        rows, known = seen[start : start + 1024].nonzero()
        scores[rows, known] = -np.inf
        columns["top-n masked"].append(np.argpartition(-scores, length - 1, axis=1)[:, :length])
    indptr = np.arange(users + 1) * length
    ones = np.ones(users * length, dtype=np.float32)
    return {
        name: csr_array((ones, np.concatenate(parts).reshape(-1), indptr), shape=(users, items))
        for name, parts in columns.items()
    }


def _unlearning(result: UnlearningResult) -> dict[str, Any]:
    return {
        "seconds": result.seconds,
        "steps": result.steps,
        "stopped": result.stopped,
        "objective": {"before": result.objective_before, "after": result.objective_after},
        "relative_move": result.relative_move,
        "scale": result.scale,
        "settings": dict(result.settings),
        "scaling": result.scaling,
        "input_fingerprint": result.input_fingerprint,
        "output_fingerprint": result.table.fingerprint(),
        "key_commitment": result.key_commitment,
        "users_moved": int(result.moved.sum()),
        "trace": [asdict(step) for step in result.trace],
    }
