"""Attacks on a sample of users: attackers cost more than both passes, and 20,000 users tell enough."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attrcloak.auditing import AuditReport, Protocol, audit
from attrcloak.auditing.measurement import Judged
from attrcloak.data.attributes import Attribute, UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.parts import Groups
from attrcloak.progress import Progress
from attrcloak.release import MARGIN, Check, Verdict, check_protocol, check_release
from attrcloak.streaming.statistics import Leak


@dataclass(frozen=True, eq=False)
class Sample:
    """Some users of a table in files, as attackers get them.

    Attributes:
        table: their vectors.
        people: their classes, and what they asked for.
        users: of the whole table.
        asked: users of the whole table who asked for something.
    """

    table: EmbeddingTable
    people: UserAttributes
    users: int
    asked: int

    @classmethod
    def of(cls, vectors: NDArray[np.floating], rows: NDArray[np.int64], groups: Groups) -> "Sample":
        """From vectors and rows in the table.

        Args:
            vectors: (s, d_free) vectors of the sampled users.
            rows: (s,) their rows in the table.
            groups: of the whole table.
        """
        ids = Ids.range(len(vectors))
        of_rows = groups.of_rows(rows)
        columns = {
            name: Attribute(name, classes, groups.codes[of_rows, j], groups.marks[of_rows, j])
            for j, (name, classes) in enumerate(groups.classes.items())
        }
        return cls(EmbeddingTable(ids, vectors), UserAttributes(ids, columns), groups.users, groups.moving)

    def protocol(self, protocol: Protocol) -> Protocol:
        """Without the moment equations unless the sample is everybody: they hold for the table whose moments were set.

        ``judged`` looks at these moments instead.
        """
        return protocol if len(self.table) == self.users else replace(protocol, equations_known=())

    def noted(self, report: AuditReport) -> AuditReport:
        """The report, saying who was attacked."""
        if len(self.table) == self.users:
            return report
        asking, known = (
            int(np.any([getattr(self.people[name], what) for name in self.people.names], axis=0).sum())
            for what in ("marks", "known")
        )
        who = "every class among them" if asking == known else f"{asking} of {self.asked} who asked among them"
        note = (
            f"audited on {len(self.table)} of {self.users} users, drawn by a hash of their ids, {who}; the "
            "moment-equation attacker needs the whole table and was left out"
        )
        return replace(report, notes=(*report.notes, note))


def audit_sample(
    sample: Sample,
    *,
    attackers: Sequence[str],
    protocol: Protocol,
    seed: int,
    judged: Judged = "everybody",
    progress: Progress | None = None,
) -> AuditReport:
    """Attack a sample of a table.

    Args:
        sample: of the table.
        attackers: their names.
        protocol: how they are measured; its intervals are those of the sample's size.
        seed: of splits and attackers.
        judged: "requests" attacks only those who asked, by who knows everybody, and asks who did.
        progress: called with (stage, done, total).
    """
    report = audit(
        sample.table, sample.people, attackers=attackers, protocol=sample.protocol(protocol), judged=judged, seed=seed,
        progress=progress,
    )  # fmt: skip
    return sample.noted(report)


def check_sample(
    sample: Sample,
    leaks: Sequence[Leak],
    method: str,
    *,
    attackers: Sequence[str],
    protocol: Protocol | None,
    seed: int,
    progress: Progress | None = None,
) -> Check:
    """The check before release: attackers on the sample, and moments of everybody where these were made too equal.

    Args:
        sample: of the new table.
        leaks: of everybody who asked.
        method: name of the method that made the table.
        attackers: their names.
        protocol: how they are measured, with intervals of the sample's size; None takes the one of ``check_protocol``.
        seed: of splits and attackers.
        progress: called with (stage, done, total).
    """
    protocol = check_protocol(sample.people, sample.people.names) if protocol is None else protocol
    found = check_release(
        sample.table, sample.people, sample.people.names, method=method, attackers=attackers,
        protocol=sample.protocol(protocol), seed=seed, affine=True, progress=progress,
    )  # fmt: skip
    audits = [None if report is None else sample.noted(report) for report in (found.audit, found.audit_by_others)]
    notes = () if audits[0] is None else audits[0].notes[-1:]
    verdict = found.verdict
    verdict = replace(verdict, warnings=tuple(dict.fromkeys((*verdict.warnings, *notes))))
    return Check(_with_moments(verdict, leaks), *audits)


def _with_moments(verdict: Verdict, leaks: Sequence[Leak]) -> Verdict:
    reasons, warnings = list(verdict.reasons), list(verdict.warnings)
    for leak in leaks:
        if leak.too_equal:
            (reasons if leak.equations > MARGIN else warnings).append(f"{leak.attribute}: {leak.equality}")
    if len(reasons) == len(verdict.reasons):
        return replace(verdict, warnings=tuple(warnings))
    step = "class moments were made equal, not calibrated: use --method calibrated"
    return Verdict(False, tuple(reasons), tuple(dict.fromkeys((*verdict.next_steps, step))), tuple(warnings))
