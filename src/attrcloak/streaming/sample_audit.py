"""The check before release on a sample of users: attackers cost more than both passes, and 20,000 users tell enough."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attrcloak.auditing import AuditReport, Protocol, audit
from attrcloak.auditing.measurement import Judged
from attrcloak.data.attributes import Attribute, UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.parts import Groups
from attrcloak.progress import Progress
from attrcloak.release import MARGIN, Verdict, judge
from attrcloak.streaming.statistics import Leak


def audit_sample(
    vectors: NDArray[np.floating],
    rows: NDArray[np.int64],
    groups: Groups,
    *,
    attackers: Sequence[str],
    protocol: Protocol,
    seed: int,
    judged: Judged = "everybody",
    progress: Progress | None = None,
) -> AuditReport:
    """Attack a sample of a table.

    The moment-equation attacker is left out unless the sample is everybody: it holds for whole tables, whose moments
    were set. ``judge_sample`` looks at these moments instead.

    Args:
        vectors: (s, d_free) vectors of the sampled users.
        rows: (s,) their rows in the table.
        groups: of the whole table.
        attackers: their names.
        protocol: how they are measured; its intervals are those of the sample's size.
        seed: of splits and attackers.
        judged: "requests" attacks only those who asked, by who knows everybody, and asks who did.
        progress: called with (stage, done, total).
    """
    ids = Ids.range(len(vectors))
    of_rows = groups.of_rows(rows)
    whole = len(rows) == groups.users
    columns = {
        name: Attribute(name, classes, groups.codes[of_rows, j], groups.marks[of_rows, j])
        for j, (name, classes) in enumerate(groups.classes.items())
    }
    report = audit(
        EmbeddingTable(ids, vectors),
        UserAttributes(ids, columns),
        attackers=attackers,
        protocol=protocol if whole else replace(protocol, equations_known=()),
        judged=judged,
        seed=seed,
        progress=progress,
    )
    if whole:
        return report
    note = (
        f"audited on {len(vectors)} of {groups.users} users, drawn by a hash of their ids, every class among them; the "
        "moment-equation attacker needs the whole table and was left out"
    )
    return replace(report, notes=(*report.notes, note))


def judge_sample(report: AuditReport, leaks: Sequence[Leak], method: str) -> Verdict:
    """The verdict of the attackers, and of the moments of everybody where these were made too equal.

    Args:
        report: of the sample.
        leaks: of everybody who asked.
        method: name of the method.
    """
    verdict = judge(report, [leak.attribute for leak in leaks], method=method)
    reasons, warnings = list(verdict.reasons), list(verdict.warnings)
    for leak in leaks:
        if leak.too_equal:
            (reasons if leak.equations > MARGIN else warnings).append(f"{leak.attribute}: {leak.equality}")
    if len(reasons) == len(verdict.reasons):
        return replace(verdict, warnings=tuple(warnings))
    step = "class moments were made equal, not calibrated: use --method calibrated"
    return Verdict(False, tuple(reasons), tuple(dict.fromkeys((*verdict.next_steps, step))), tuple(warnings))
