"""Unlearning as it is released: run a method, audit the result on held-out users, and say whether it may go out."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial

from attrcloak.attackers import require_attackers
from attrcloak.auditing import SOUND, AuditReport, Protocol, audit
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.census import Census
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import InvalidInput
from attrcloak.progress import Progress
from attrcloak.release.planning import method_for
from attrcloak.release.shortfalls import PEOPLE, refuse_nothing_to_do, shortfalls_in_memory
from attrcloak.release.verdict import COVER_SET, Verdict, either, judge
from attrcloak.unlearning.method import MomentMethod, RecommendationLoss, RowMethod, UnlearningResult
from attrcloak.unlearning.running import run

CHECK_ATTACKERS = ("logistic", "mlp", "xgboost", "qda")
_USERS_AND_SEEDS = 20_000
"""Users times seeds for which other folds and seeds give a balanced accuracy of two classes that differs by .003."""
_MOST_SEEDS = 10


def check_protocol(people: UserAttributes, names: Sequence[str]) -> Protocol:
    """How the check before release attacks a table: 80 % of labels known, by three seeds, or more of few users.

    What other folds and seeds find of the same table differs by about .45 / sqrt(users times seeds) (standard
    deviation, two classes), and a verdict has to leave room for that: three seeds of 1,200 users differ by .008. Users
    are those of known class, whether they asked or not: where few ask, no number of seeds makes up for there being few.

    Args:
        people: over the users of the table.
        names: the attributes; the one whose class is known of fewest users decides.
    """
    users = min(int(people[name].known.sum()) for name in names)
    seeds = min(-(-_USERS_AND_SEEDS // max(users, 1)), _MOST_SEEDS)
    return replace(SOUND, known=(0.8,), seeds=max(seeds, SOUND.seeds))


@dataclass(frozen=True, eq=False)
class Release:
    """An unlearned table with the evidence for it.

    Attributes:
        result: the new table, and how it came about.
        audit: of the new table on held-out users; None when the check was left out. Where not everybody asked, only
            users who did are attacked; None, too, where they are too few to measure anything.
        verdict: None when the check was left out.
        audit_by_others: the same by attackers who know only users who did not ask; None where everybody did.
        census: users of the table by class and by what they ask for, and the requests that could not be met.
        warnings: requests that could not be met, and classes too small, a sentence each.
    """

    result: UnlearningResult
    audit: AuditReport | None = None
    verdict: Verdict | None = None
    audit_by_others: AuditReport | None = None
    _: KW_ONLY
    census: Census
    warnings: tuple[str, ...] = ()

    @property
    def table(self) -> EmbeddingTable:
        """The new table."""
        return self.result.table


def unlearn(
    table: EmbeddingTable,
    people: UserAttributes,
    method: MomentMethod | RowMethod | None = None,
    *,
    attributes: Sequence[str] | None = None,
    key: bytes | None = None,
    seed: int = 0,
    recommendation: RecommendationLoss | None = None,
    check: bool = True,
    attackers: Sequence[str] = CHECK_ATTACKERS,
    protocol: Protocol | None = None,
    progress: Progress | None = None,
    device: str | None = None,
) -> Release:
    """Run a method on a table and, unless told otherwise, audit the result on users held out from the attackers.

    Args:
        table: the vectors; not changed.
        people: attributes and marks, joined by id.
        method: a method value, such as ``Calibrated()``; None takes the one of ``method_for``, by the table's size.
        attributes: which to unlearn; all by default.
        key: secret key of the null draw; None draws a fresh one that is forgotten on return.
        seed: of what is random but not secret, attackers included.
        recommendation: the recommender's loss, for methods that use interactions.
        check: audit the result and give a verdict.
        attackers: names of the attackers of that audit.
        protocol: of that audit; None takes the one of ``check_protocol``, by the number of users.
        progress: called with (stage, done, total).
        device: where torch works, such as "cuda"; None is NumPy. See ``attrcloak.unlearning.run``.

    Returns:
        The result, with audit and verdict. ``verdict.protected`` speaks of these attackers only, and where not
        everybody asked of those who did: attackers who know a share of everybody, and attackers who know only users
        who did not ask, whose vectors are as they were.
    """
    if check:
        require_attackers(attackers)
    names = tuple(attributes) if attributes is not None else people.names
    method = method_for(table) if method is None else method
    census = Census.of(people, table.ids, names)
    refuse_nothing_to_do(census, PEOPLE)
    result = run(
        method, table, people, attributes=names, key=key, seed=seed, recommendation=recommendation, progress=progress,
        device=device,
    )  # fmt: skip
    warnings = shortfalls_in_memory(census, len(table.free_columns), method)
    if not check:
        return Release(result, census=census, warnings=warnings)
    checked = check_release(
        result.table, people, names, method=result.method, attackers=attackers, protocol=protocol, seed=seed,
        progress=progress,
    )  # fmt: skip
    return Release(result, checked.audit, checked.verdict, checked.audit_by_others, census=census, warnings=warnings)


@dataclass(frozen=True, eq=False)
class Check:
    """The check before release of one table.

    Attributes:
        verdict: of both audits.
        audit: where not everybody asked, only users who did are attacked; None where they are too few to measure
            anything.
        audit_by_others: the same by attackers who know only users who did not ask; None where everybody did.
    """

    verdict: Verdict
    audit: AuditReport | None
    audit_by_others: AuditReport | None = None


def check_release(
    table: EmbeddingTable,
    people: UserAttributes,
    names: Sequence[str],
    *,
    method: str,
    attackers: Sequence[str] = CHECK_ATTACKERS,
    protocol: Protocol | None = None,
    seed: int = 0,
    affine: bool = False,
    progress: Progress | None = None,
) -> Check:
    """Attack an unlearned table, where only some asked those who did, and judge it.

    Attributes whose classes are known and that nobody asked for are not judged; a warning says so.

    Args:
        table: the new vectors.
        people: attributes and marks, joined by id.
        names: attributes that were unlearned.
        method: name of the method that made the table.
        attackers: names of the attackers.
        protocol: how they are measured; None takes the one of ``check_protocol``.
        seed: of splits and attackers.
        affine: whether the method could move users by one affine map a class only; the next steps go by it.
        progress: called with (stage, done, total).
    """
    aligned = people.align(table.ids)
    alone = [name for name in names if aligned[name].known.any() and not aligned[name].marks.any()]
    if alone and len(alone) < len(names):
        found = check_release(
            table, people, [name for name in names if name not in alone], method=method, attackers=attackers,
            protocol=protocol, seed=seed, affine=affine, progress=progress,
        )  # fmt: skip
        said = tuple(f"nobody asked for {name}: nothing was done about it, and it was not judged" for name in alone)
        return replace(found, verdict=replace(found.verdict, warnings=(*said, *found.verdict.warnings)))
    protocol = check_protocol(aligned, names) if protocol is None else protocol
    measure = partial(
        audit, table, people, attributes=names, attackers=attackers, protocol=protocol, seed=seed, progress=progress
    )
    verdict_of = partial(judge, method=method, affine=affine)
    if all((aligned[name].known == aligned[name].marks).all() for name in names):
        report = measure()
        return Check(verdict_of(report, names), report)
    try:
        report = measure(judged="requests")
    except InvalidInput as error:
        return Check(Verdict(False, tuple(error.problems), FEW_REQUESTS), None)
    verdict = verdict_of(report, names)
    try:
        # The moment equations are solved over those who asked, whoever else is known, so they have had their say.
        by_others = measure(judged="requests", knows="others", protocol=replace(protocol, equations_known=()))
    except InvalidInput as error:
        missing = tuple(f"attackers who know only users who did not ask: {problem}" for problem in error.problems)
        return Check(replace(verdict, warnings=verdict.warnings + missing), report)
    tested = [name for name in names if any(found.attribute == name for found in by_others.results)]
    second = verdict_of(by_others, tested)
    return Check(either(verdict, second, method), report, by_others)


FEW_REQUESTS = (
    "too few users asked for an audit of them: wait for more requests, or move others along with a cover set "
    f"({COVER_SET})",
)
