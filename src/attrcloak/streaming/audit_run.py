"""The audit of a table in files: one pass for the moments of everybody and the vectors of a sample to attack."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from attrcloak.auditing import DEFAULT_ATTACKERS, SOUND, AuditReport, Protocol
from attrcloak.auditing.questions import ASKED
from attrcloak.data.named_columns import missing_column
from attrcloak.engines import engine_of
from attrcloak.errors import InvalidInput, raise_if
from attrcloak.parts import Location, open_parts
from attrcloak.progress import Progress
from attrcloak.streaming.passes import WORKER, free_columns, measure
from attrcloak.streaming.sample_audit import Sample, audit_sample
from attrcloak.streaming.stages import Stages, by_part, done_again, say_done_again
from attrcloak.streaming.statistics import Leak, leaks
from attrcloak.streaming.workspace import temporary_workspace

_PREFIX = "attrcloak-audit-"


@dataclass(frozen=True, eq=False)
class FilesAudit:
    """What an audit of a table in files found.

    Attributes:
        report: of the attackers, on a sample.
        leaks: moments of everybody whose class is known, or who asked; ``before`` and ``after`` are the same.
        users: rows of the table.
        classes: of each attribute.
        warnings: what was read again because a worker died, in a sentence.
    """

    report: AuditReport
    leaks: tuple[Leak, ...]
    users: int
    classes: dict[str, int]
    warnings: tuple[str, ...] = ()

    def breaks(self, limits: Mapping[str, float]) -> list[str]:
        """A sentence for each gate that is not passed, by an attacker on the sample or by the moments of everybody.

        Args:
            limits: attribute to the largest distance that its balanced accuracy may have, as a balanced accuracy.
        """
        by_moments = [
            f"{leak.attribute}: {leak.equality}; limit {limits[leak.attribute]:.3f}"
            for leak in self.leaks
            if leak.too_equal
            and leak.attribute in limits
            and 1 / max(self.classes[leak.attribute], 1) + leak.equations > limits[leak.attribute]
        ]
        return [*self.report.breaks(limits), *by_moments]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        tables = [
            {
                "attribute": leak.attribute,
                "surrogate": leak.after,
                "chance": leak.chance,
                "p": leak.p_after,
                "too_equal": list(leak.too_equal),
                "equations": leak.equations,
            }
            for leak in self.leaks
        ]
        return {
            "schema": "attrcloak/audit-files/1", "users": self.users, "leaks": tables, "audit": self.report.to_json(),
            "warnings": list(self.warnings),
        }  # fmt: skip


def audit_files(
    vectors: str,
    people: str,
    *,
    requests: str | None = None,
    id_column: str | None = None,
    vector_column: str | None = None,
    columns: Sequence[str] | None = None,
    attackers: Sequence[str] = DEFAULT_ATTACKERS,
    protocol: Protocol = SOUND,
    seed: int = 0,
    engine: str = "auto",
    workers: int | None = None,
    work: str | None = None,
    gates: Sequence[str] = (),
    progress: Progress | None = None,
) -> FilesAudit:
    """Attack a sample of about 20,000 users, and look at the moments of everybody.

    The sample is drawn by a hash of ids, half of it evenly and half so that no class is too small; its intervals are
    those of its size. Nothing is kept: this is one pass, and not resumed.

    Args:
        vectors: file or folder, local or a URI.
        people: likewise.
        requests: who asked for what: attack only these. None attacks everybody whose class is known.
        id_column: name of the ids in vectors and people; None finds them.
        vector_column: name of the vectors; None finds them.
        columns: the attributes; None takes every other column of the people.
        attackers: their names.
        protocol: how they are measured.
        seed: of folds, attackers and random labels.
        engine: "auto", "in-process", "pool", "ray" or "spark".
        workers: processes or cores.
        work: local folder for what the join needs, about 30 bytes a user; the system's for temporary files by default.
        gates: attributes that have to be there.
        progress: called with (stage, rows done, rows in all).

    Raises:
        UnreadableFile: a file cannot be read.
        InvalidInput: files that cannot be used; nobody's class is known; a gate on an attribute that is not there.
        WorkerLost: the engine's workers died too often.
    """
    table = Location.of(vectors)
    parts = open_parts(table, id_column, vector_column)
    inputs = {"vectors": table, "people": Location.of(people)}
    if requests is not None:
        inputs["requests"] = Location.of(requests)
    parent = Path(work or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    with closing(engine_of(engine, len(parts), workers)) as runner, temporary_workspace(parent, _PREFIX) as space:
        runner.prepare(WORKER)
        stages = Stages(parts, space, Location.of(space.folder), runner, progress)
        groups, sampled = stages.join(inputs, id_column, columns)
        known = (*groups.classes, *([] if requests is None else [ASKED]))
        raise_if([f"{people}: {missing_column(name, tuple(groups.classes))}" for name in gates if name not in known])
        if not groups.moving:
            raise InvalidInput(
                f"none of {groups.users} users has a known class of {', '.join(groups.classes)}, or asked, so there is "
                "nothing to attack"
            )
        mine, local = by_part(sampled, groups)
        taken = np.empty((len(sampled), len(free_columns(parts[0]))))
        moments = None
        function = partial(measure, key=groups.key, unit=False, digest=False)
        for number, found in stages.map(function, groups, range(len(parts)), stage="reading", sampled=local):
            taken[mine[number]] = found.sampled
            moments = found.moments if moments is None else moments.merge(found.moments)
        assert moments is not None  # a table has parts
        report = audit_sample(
            Sample.of(taken, sampled, groups), attackers=attackers, protocol=protocol, seed=seed,
            judged="everybody" if requests is None else "requests", progress=progress,
        )  # fmt: skip
    classes = {name: len(of_attribute) for name, of_attribute in groups.classes.items()}
    again = say_done_again(done_again(runner, parts), table.shown, len(parts))
    return FilesAudit(report, leaks(moments, moments, moments, seed), groups.users, classes, tuple(again))
