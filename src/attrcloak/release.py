"""Unlearning as it is released: run a method, audit the result on held-out users, and say whether it may go out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.auditing import SOUND, AuditReport, Protocol, audit
from attrcloak.auditing.questions import ASKED
from attrcloak.auditing.report import EQUATIONS
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, NotSupported, UnknownCell
from attrcloak.moments.cell_key import NOT_MARKED
from attrcloak.moments.eraser import Eraser
from attrcloak.progress import Progress
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.calibrated_dd import CalibratedDD
from attrcloak.unlearning.method import (
    MomentMethod,
    RecommendationLoss,
    RowMethod,
    UnlearningResult,
    run,
    unit_length,
)
from attrcloak.unlearning.undo import OriginalRows

MARGIN = 0.03
"""How far from chance an attacker's balanced accuracy may lie, on either side, in a table called protected."""

CHECK_ATTACKERS = ("logistic", "mlp", "xgboost", "qda")


@dataclass(frozen=True)
class Verdict:
    """Whether the attackers of the audit are at chance, from both sides.

    Attributes:
        protected: every attacker on the vectors is, within the margin or within its interval.
        reasons: one sentence for each that is not, and for each attribute that could not be tested.
        next_steps: what to try.
        warnings: what the audit could not look at, such as classes with too few users; it protects nobody in there.
    """

    protected: bool
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "protected": self.protected,
            "reasons": list(self.reasons),
            "next_steps": list(self.next_steps),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class Release:
    """An unlearned table with the evidence for it.

    Attributes:
        result: the new table, and how it came about.
        audit: of the new table on held-out users; None when the check was left out. Where not everybody asked, only
            users who did are attacked; None, too, where they are too few to measure anything.
        verdict: None when the check was left out.
        audit_by_others: the same by attackers who know only users who did not ask; None where everybody did.
    """

    result: UnlearningResult
    audit: AuditReport | None = None
    verdict: Verdict | None = None
    audit_by_others: AuditReport | None = None

    @property
    def table(self) -> EmbeddingTable:
        """The new table."""
        return self.result.table


def judge(
    report: AuditReport, attributes: Sequence[str] | None = None, margin: float = MARGIN, method: str | None = None
) -> Verdict:
    """Protected unless an attacker is demonstrably away from chance.

    An attacker on the vectors counts against a table when its balanced accuracy lies more than ``margin`` from chance,
    above or below, and its interval excludes chance, all intervals taken simultaneously at 95 %; or when relabelling
    its answers (the adaptive attacker) brings it more than ``margin`` above chance and beyond what its interval's width
    explains. The moment equations count above chance only. An attribute without any result counts against the table
    too: what was not tested is not called protected. Classes that were left out are warned of, and so is a table that
    shows who asked: that is no class of an attribute, and hiding it is not what was asked for.

    Args:
        report: of the table.
        attributes: those that must have been tested; None takes what the report has.
        margin: how far from chance is still at chance.
        method: name of the method that made the table, so that the next steps are not what was just done.
    """
    reasons = []
    on_vectors = [result for result in report.results if result.surface == "vectors" and result.attribute != ASKED]
    normal = NormalDist()
    # One table is tested by many attackers: widen each interval so that all of them hold together (Bonferroni).
    widen = normal.inv_cdf(1 - 0.025 / max(len(on_vectors), 1)) / normal.inv_cdf(0.975)
    for result in on_vectors:
        middle = result.balanced_accuracy
        low, high = (middle + widen * (end - middle) for end in result.ci)
        what = f"{result.attribute}: {result.attacker} with {result.known:.0%} of labels known"
        numbers = f"{result.balanced_accuracy:.3f} [{low:.3f}, {high:.3f}]"
        apart = result.balanced_accuracy - result.chance
        # Below chance the moment equations do not hold: that attacker has nothing to turn round.
        counts = apart > margin if result.attacker == EQUATIONS else abs(apart) > margin
        demonstrated = counts and not low <= result.chance <= high
        if demonstrated:
            side = "above" if apart > 0 else "below"
            reasons.append(f"{what} is at {numbers}, {side} chance ({result.chance:.3f})")
        half_width = (high - low) / 2
        if result.adaptive_balanced_accuracy > result.chance + max(margin, half_width) and not demonstrated:
            reasons.append(
                f"{what} reaches {result.adaptive_balanced_accuracy:.3f} with relabelled answers, "
                f"above chance ({result.chance:.3f})"
            )
    tested = {result.attribute for result in on_vectors}
    reasons += [
        f"{name}: no attacker could be tested (too few users with a known class)"
        for name in (tested if attributes is None else attributes)
        if name not in tested
    ]
    return Verdict(
        not reasons, tuple(reasons), _next_steps(reasons, method), (*report.notes, *_shows_who_asked(report))
    )


def _shows_who_asked(report: AuditReport) -> list[str]:
    found = [result for result in report.results if result.surface == "vectors" and result.attribute == ASKED]
    telling = [result for result in found if result.ci[0] > result.chance + MARGIN]
    if not telling:
        return []
    best = max(telling, key=lambda result: result.balanced_accuracy)
    return [
        f"the table shows who asked: {best.attacker} tells it with balanced accuracy {best.balanced_accuracy:.3f} "
        f"[{best.ci[0]:.3f}, {best.ci[1]:.3f}]; a cover set (UserAttributes.cover, --cover) moves others along"
    ]


NEXT_STEPS = (
    (("below chance", "moment-equation"), "class moments were made equal, not calibrated: use --method calibrated"),
    (
        ("xgboost", "mlp", "knn", "qda"),
        "an attacker that sees more than two moments still finds the classes: use --method calibrated, and "
        "--length unit if the vectors are scored by a plain dot product",
    ),
    (
        ("logistic",),
        "a linear attacker still finds the classes: raise the strength (attrcloak-df: --set min_leakage_weight=0.99) "
        "or use --method calibrated",
    ),
    (("no attacker",), "merge small classes, or leave the attribute out and say so"),
)
"""Words that occur in reasons, and what to try then."""

CALIBRATED_NEXT_STEPS = (
    (
        ("moment-equation",),
        "there are few users for so many equations: merge small classes, unlearn fewer attributes at once, or use a "
        "table with fewer dimensions",
    ),
    (
        ("xgboost", "mlp", "knn", "qda", "logistic"),
        "classes still differ in shape: use more slices (--set slices=60), and --length unit if the vectors are scored "
        "by a plain dot product",
    ),
    (("no attacker",), "merge small classes, or leave the attribute out and say so"),
)
"""The same for a table that was made by the calibrated method."""


def _next_steps(reasons: Sequence[str], method: str | None) -> tuple[str, ...]:
    text = " ".join(reasons)
    steps = CALIBRATED_NEXT_STEPS if method in (Calibrated.name, CalibratedDD.name) else NEXT_STEPS
    return tuple(step for words, step in steps if any(word in text for word in words))


def unlearn(
    table: EmbeddingTable,
    people: UserAttributes,
    method: MomentMethod | RowMethod,
    *,
    attributes: Sequence[str] | None = None,
    key: bytes | None = None,
    seed: int = 0,
    recommendation: RecommendationLoss | None = None,
    check: bool = True,
    attackers: Sequence[str] = CHECK_ATTACKERS,
    protocol: Protocol = SOUND,
    progress: Progress | None = None,
    device: str | None = None,
) -> Release:
    """Run a method on a table and, unless told otherwise, audit the result on users held out from the attackers.

    Args:
        table: the vectors; not changed.
        people: attributes and marks, joined by id.
        method: a method value, such as ``Calibrated()``.
        attributes: which to unlearn; all by default.
        key: secret key of the null draw; None draws a fresh one that is forgotten on return.
        seed: of what is random but not secret, attackers included.
        recommendation: the recommender's loss, for methods that use interactions.
        check: audit the result and give a verdict.
        attackers: names of the attackers of that audit.
        protocol: of that audit.
        progress: called with (stage, done, total).
        device: where torch runs the two passes, such as "cuda"; None is NumPy. See ``attrcloak.unlearning.run``.

    Returns:
        The result, with audit and verdict. ``verdict.protected`` speaks of these attackers only, and where not
        everybody asked of those who did: attackers who know a share of everybody, and attackers who know only users
        who did not ask, whose vectors are as they were.
    """
    names = tuple(attributes) if attributes is not None else people.names
    result = run(
        method, table, people, attributes=names, key=key, seed=seed, recommendation=recommendation, progress=progress,
        device=device,
    )  # fmt: skip
    if not check:
        return Release(result)
    measure = partial(
        audit, result.table, people, attributes=names, attackers=attackers, protocol=protocol, seed=seed,
        progress=progress,
    )  # fmt: skip
    aligned = people.align(table.ids)
    if all((aligned[name].known == aligned[name].marks).all() for name in names):
        report = measure()
        return Release(result, report, judge(report, names, method=result.method))
    try:
        report = measure(judged="requests")
    except InvalidInput as error:
        untested = Verdict(False, tuple(error.problems), FEW_REQUESTS)
        return Release(result, None, untested)
    verdict = judge(report, names, method=result.method)
    try:
        by_others = measure(judged="requests", knows="others")
    except InvalidInput as error:
        missing = tuple(f"attackers who know only users who did not ask: {problem}" for problem in error.problems)
        return Release(result, report, replace(verdict, warnings=verdict.warnings + missing))
    tested = [name for name in names if any(found.attribute == name for found in by_others.results)]
    second = judge(by_others, tested, method=result.method)
    return Release(result, report, _both(verdict, second), by_others)


FEW_REQUESTS = (
    "too few users asked for an audit of them: wait for more requests, or move others along with a cover set (--cover)",
)


BY_OTHERS = (
    "users who did not ask teach attackers what chance would explain among few: use --method calibrated, which takes "
    "all from the draw then, or move others along with a cover set (--cover)",
)


def _both(verdict: Verdict, by_others: Verdict) -> Verdict:
    """Protected from attackers of either knowledge; the second's reasons say which they are."""
    return Verdict(
        verdict.protected and by_others.protected,
        verdict.reasons + tuple(f"{reason}, knowing only users who did not ask" for reason in by_others.reasons),
        tuple(dict.fromkeys(verdict.next_steps + (BY_OTHERS if by_others.reasons else ()) + by_others.next_steps)),
        tuple(dict.fromkeys(verdict.warnings + by_others.warnings)),
    )


@dataclass(frozen=True)
class Plan:
    """What an unlearning run would do; nothing is done yet.

    Attributes:
        users: users of the table.
        moving: users who asked for at least one attribute.
        dimensions: free columns of the table.
        cells: combinations of classes that occur.
        lone_cells: cells with a single user; their maps give that user's vector away.
        small_classes: per attribute the classes with fewer users than dimensions, and their counts.
        memory_bytes: peak memory of moments, maps and both tables, roughly.
        seconds: rough time of both passes and the solve on this machine, without the audit.
    """

    users: int
    moving: int
    dimensions: int
    cells: int
    lone_cells: int
    small_classes: Mapping[str, Mapping[str, int]]
    memory_bytes: int
    seconds: float
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def plan(
    table: EmbeddingTable,
    people: UserAttributes,
    method: MomentMethod | RowMethod,
    *,
    attributes: Sequence[str] | None = None,
) -> Plan:
    """What ``unlearn`` would do on this table, without doing it."""
    people = people.align(table.ids)
    cells = people.cells(attributes)
    d = len(table.free_columns)
    counts = np.bincount(cells.of_user, minlength=len(cells.key))[~cells.key.unmarked]
    small: dict[str, dict[str, int]] = {}
    warnings = []
    for name in cells.key.attributes:
        column = people[name]
        marked = np.bincount(column.codes[column.marks], minlength=len(column.classes))
        few = {label: int(n) for label, n in zip(column.classes, marked, strict=True) if 0 < n < d}
        if few:
            small[name] = few
            warnings.append(f"{name}: {len(few)} classes have fewer users than the table has dimensions ({d})")
        unknown = int((~column.known).sum())
        if unknown:
            warnings.append(f"{name}: {unknown} users have no known class; they do not move and are not audited")
        if (marked > 0).sum() == 1:
            warnings.append(f"{name}: only one class occurs, so there is nothing to tell apart")
    steps = int(getattr(method, "steps", 1))
    products = 4 * len(table) * d * d + 12 * steps * len(cells.key) * d**3
    return Plan(
        users=len(table),
        moving=int(cells.moves.sum()),
        dimensions=d,
        cells=len(cells.key),
        lone_cells=int((counts == 1).sum()),
        small_classes=small,
        memory_bytes=int(2 * table.vectors.nbytes + 2 * 8 * len(table) * d + 6 * 8 * len(cells.key) * d * d),
        seconds=products / _multiplications_per_second(d),
        warnings=tuple(warnings),
    )


def _multiplications_per_second(d: int) -> float:
    block = np.ones((4096, d))
    began = time.perf_counter()
    for _ in range(4):
        block.T @ block
    return 4 * block.size * d / max(time.perf_counter() - began, 1e-6)


def apply_eraser(
    eraser: Eraser, table: EmbeddingTable, people: UserAttributes, *, users: Ids | None = None
) -> EmbeddingTable:
    """Move the users of a table by a fitted eraser; those who did not ask stay bit-identical.

    A class-conditional map fitted on some users can *raise* leakage for others: audit the result, or refit. An eraser
    with one map for everybody serves all who ask for any of its attributes, whatever their classes.

    Args:
        eraser: what was fitted.
        table: the vectors.
        people: attributes and marks, joined by id.
        users: move only these of those who asked; all of them by default.

    Raises:
        UnknownCell: a class or a combination of classes that the eraser was not fitted on; named, with its count.
        InvalidInput: an attribute of the eraser is missing among the people, or the widths differ.
    """
    people = people.select(eraser.key.attributes).align(table.ids)
    if users is not None:
        people = people.only(users)
    if _one_map(eraser):
        asked = np.any([column.marks for column in people.columns.values()], axis=0)
        return _with_one_map(eraser, table, asked)
    codes = np.full((len(table), len(eraser.key.attributes)), NOT_MARKED, dtype=np.int32)
    strange = []
    for column, (name, classes) in enumerate(zip(eraser.key.attributes, eraser.key.classes, strict=True)):
        attribute = people[name]
        code_of = {label: code for code, label in enumerate(classes)}
        translated = np.array([code_of.get(label, -2) for label in attribute.classes] + [NOT_MARKED], dtype=np.int32)
        codes[:, column] = np.where(attribute.marks, translated[attribute.codes], NOT_MARKED)
        for code, label in enumerate(attribute.classes):
            count = int((attribute.marks & (attribute.codes == code)).sum())
            if label not in code_of and count:
                strange.append(f"{name}={label} ({count} users)")
    if strange:
        raise UnknownCell(
            f"{len(strange)} classes were not seen when the eraser was fitted: {', '.join(strange)}. "
            "Refit with these users, or merge their classes into ones that were seen."
        )
    cells = eraser.locate(codes)
    if len(table.free_columns) != eraser.dim:
        raise InvalidInput(f"the eraser is for {eraser.dim} dimensions, the table has {len(table.free_columns)}")
    scaled = unit_length(table, eraser.common_length)[0] if eraser.scaling == "unit" else table
    return scaled.with_free(eraser.apply(scaled.free, cells), (codes != NOT_MARKED).any(axis=1))


def apply_to_everybody(eraser: Eraser, table: EmbeddingTable) -> EmbeddingTable:
    """Move every user of a table by an eraser that has one map for all, whether their class is known or not.

    Raises:
        NotSupported: the maps of the cells differ, so a user's class decides which one is theirs.
        InvalidInput: the widths differ.
    """
    if not _one_map(eraser):
        raise NotSupported(
            f"this eraser has a map of its own for each of {int((~eraser.key.unmarked).sum())} combinations of classes,"
            " so it needs to know who is in which; methods with one map for everybody are leace and label-free"
        )
    return _with_one_map(eraser, table, np.ones(len(table), dtype=bool))


def _one_map(eraser: Eraser) -> bool:
    fitted = ~eraser.key.unmarked
    matrices, offsets = eraser.matrices[fitted], eraser.offsets[fitted]
    return bool((matrices == matrices[:1]).all() and (offsets == offsets[:1]).all())


def _with_one_map(eraser: Eraser, table: EmbeddingTable, moves: NDArray[np.bool_]) -> EmbeddingTable:
    if len(table.free_columns) != eraser.dim:
        raise InvalidInput(f"the eraser is for {eraser.dim} dimensions, the table has {len(table.free_columns)}")
    scaled = unit_length(table, eraser.common_length)[0] if eraser.scaling == "unit" else table
    cells = np.where(moves, np.flatnonzero(~eraser.key.unmarked)[0], -1).astype(np.int32)
    return scaled.with_free(eraser.apply(scaled.free, cells), moves)


def undo(
    how: Eraser | OriginalRows,
    table: EmbeddingTable,
    people: UserAttributes | None = None,
    *,
    users: Ids | None = None,
) -> EmbeddingTable:
    """Take unlearning back: exactly from the original rows, up to rounding from an eraser.

    Args:
        how: what was kept of the run.
        table: the unlearned table.
        people: attributes and marks as they were at the run; an eraser needs them.
        users: take it back for these alone, such as those who withdrew their request; everybody else stays
            bit-identical. None is everybody.

    Raises:
        NotSupported: a map has no inverse, or lengths were scaled and are not in the eraser.
        InvalidInput: an eraser without people, or rows or users that do not fit the table.
    """
    if isinstance(how, OriginalRows):
        return how.restore(table, users)
    if people is None:
        raise InvalidInput("an eraser needs the people it was fitted on, to know whom to move back by which map")
    if how.scaling == "unit":
        raise NotSupported(
            "this eraser first brought all vectors to one length and does not hold the lengths; use the undo file"
        )
    return apply_eraser(how.inverse(), table, people, users=users)
