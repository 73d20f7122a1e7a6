"""Tables in files that need not fit in memory, for ``unlearn``, ``apply``, ``undo``, ``audit`` and ``evaluate``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from attrcloak.cli import files
from attrcloak.errors import InvalidSettings, NotSupported

if TYPE_CHECKING:
    from attrcloak.auditing import Protocol
    from attrcloak.moments.eraser import Eraser
    from attrcloak.streaming import Sources, StreamedRelease
    from attrcloak.unlearning.method import Length, MomentMethod, RowMethod


def streams(vectors: str, output: str | None, engine: str | None, interactions: str | None = None) -> bool:
    """Whether a table is to be streamed: a folder, a URI, or because an engine or interactions are named."""
    from attrcloak.parts import is_uri

    return (
        engine is not None
        or interactions is not None
        or is_uri(vectors)
        or is_uri(output or "")
        or Path(vectors).is_dir()
    )


def begin_imports(vectors: str, engine: str | None, workers: int | None) -> None:
    """Where a pool will run, import what its workers need beside what this process imports for itself."""
    from attrcloak.engines import import_for_workers, named

    folder = Path(vectors)
    files = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 1
    if named(engine or "auto", files, workers) == "pool":
        import_for_workers("attrcloak.streaming.worker")


def refuse_what_needs_memory(undo_file: Path | None, eraser: Path | None, method: str | None) -> None:
    """Raise NotSupported for options that hold the table in memory."""
    if undo_file is not None:
        raise NotSupported(
            "--undo-file would hold every vector that moves, and that is the table you have: keep it, or use --eraser"
        )
    if eraser is not None and method == "attrcloak-dd":
        raise NotSupported(
            "attrcloak-dd moves users one by one, so there are no maps for --eraser; to undo it, keep the old table"
        )


def refuse_options_of_streams(**given: object) -> None:
    """Raise InvalidSettings for options that say how to stream, where a table is read into memory."""
    if any(value is not None for value in given.values()):
        names = [f"--{name}" for name in given]
        raise InvalidSettings(
            f"{', '.join(names[:-1])} and {names[-1]} are for tables that are streamed; name an --engine, such as auto"
        )


def sources(
    vectors: str,
    people: str,
    output: str | None,
    requests: str | None,
    work: Path | None,
    id_column: str | None,
    vector_column: str | None,
    columns: str | None,
    interactions: str | None = None,
    items: str | None = None,
    users: str | None = None,
) -> "Sources":
    """The files of a run; what is not finished of one to a URI lies in the working folder, unless said otherwise."""
    from attrcloak.parts import is_uri
    from attrcloak.streaming import Sources

    if work is None and output is not None and is_uri(output):
        work = Path(output.partition("?")[0].rstrip("/").rpartition("/")[2] + ".partial")
    return Sources(
        vectors=vectors,
        people=people,
        output=output,
        requests=requests,
        work=None if work is None else str(work),
        id_column=id_column,
        vector_column=vector_column,
        columns=files.names(columns),
        interactions=interactions,
        items=items,
        users=users,
    )


def plan_streaming(
    sources: "Sources",
    method: "MomentMethod | RowMethod",
    *,
    length: "Length",
    key: bytes | None,
    seed: int,
    engine: str,
    workers: int | None,
    check: bool,
    eraser: Path | None,
    as_json: bool,
) -> None:
    """Say what a run would do, and do nothing."""
    from attrcloak.json_text import dump
    from attrcloak.release import CHECK_ATTACKERS
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.streaming import plan_files

    with progress_bar(as_json) as progress:
        planned = plan_files(
            sources, method, length=length, key=key, seed=seed, engine=engine, workers=workers,
            attackers=CHECK_ATTACKERS if check else (), eraser_file=eraser, progress=progress,
        )  # fmt: skip
    if as_json:
        print(dump(planned.to_json()), end="")
        return
    files.show_plan(planned)
    print(
        f"{planned.files} files would be read by {planned.engine}; the run takes about "
        f"{planned.disk_bytes / 1e6:.0f} MB of disk"
    )
    if planned.writes:
        print(f"would write {', '.join(planned.writes)}")


def unlearn_streaming(
    sources: "Sources",
    method: "MomentMethod | RowMethod",
    *,
    length: "Length",
    key: bytes | None,
    seed: int,
    engine: str,
    workers: int | None,
    check: bool,
    protocol: "Protocol | None",
    eraser: Path | None,
    as_json: bool,
) -> None:
    """Run, say what came out, and exit with 3 when attackers still read attributes."""
    from attrcloak.json_text import dump
    from attrcloak.parts import Location, refuse_nesting
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.streaming import unlearn_files

    if eraser is not None:
        refuse_nesting([Location.of(sources.vectors), Location.of(sources.people)], Location.of(eraser))

    with progress_bar(as_json) as progress:
        released = unlearn_files(
            sources,
            method,
            length=length,
            key=key,
            seed=seed,
            engine=engine,
            workers=workers,
            check=check,
            protocol=protocol,
            eraser_file=eraser,
            progress=progress,
        )
    if eraser is not None and released.eraser is not None:
        files.note(f"{eraser} is a secret: keep it like a key, or destroy it")
    if as_json:
        print(dump(_json(released)), end="")
    else:
        _say(str(sources.output), released, f" ({released.manifest['stopped']})")
        if released.audit is not None:
            files.show_attacks(released.audit)  # what else there is to say, the verdict says
        if released.check is not None:
            files.show_audit_by_others(released.check.audit_by_others)
    if not files.say_verdict(released.verdict):
        raise typer.Exit(3)


def audit_streaming(
    vectors: str,
    people: str,
    *,
    requests: str | None,
    id_column: str | None,
    vector_column: str | None,
    columns: str | None,
    attackers: Sequence[str],
    protocol: "Protocol",
    seed: int,
    engine: str,
    workers: int | None,
    work: Path | None,
    gates: dict[str, float],
    as_json: bool,
) -> list[str]:
    """Attack a sample of a table in files, say what was found, and return a sentence for each gate not passed."""
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.streaming import audit_files

    with progress_bar(as_json) as progress:
        found = audit_files(
            vectors,
            people,
            requests=requests,
            id_column=id_column,
            vector_column=vector_column,
            columns=files.names(columns),
            attackers=attackers,
            protocol=protocol,
            seed=seed,
            engine=engine,
            workers=workers,
            work=None if work is None else str(work),
            gates=tuple(gates),
            progress=progress,
        )
    broken = found.breaks(gates)
    if as_json:
        print(dump(found.to_json()), end="")
        return broken
    files.show_audit(found.report)
    for text in found.warnings:
        files.note(f"warning: {text}")
    for leak in found.leaks:
        files.note(
            f"{leak.attribute}: surrogate of all users {leak.after:.4f} nats; with labels dealt out at random 95 % of "
            f"tables lie below {leak.chance:.4f} (p {leak.p_after:.2f})"
        )
        if leak.too_equal:
            files.note(f"warning: {leak.attribute}: {leak.equality}")
    return broken


def evaluate_streaming(
    vectors: str,
    items: str,
    held_out: str,
    *,
    seen: str | None,
    original: str | None,
    users: int | None,
    id_column: str | None,
    vector_column: str | None,
    engine: str,
    workers: int | None,
    as_json: bool,
) -> None:
    """Rank items for a sample of users, and say how good the ranking is, beside that of another table."""
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.streaming import SAMPLED_USERS, evaluate_files

    with progress_bar(as_json) as progress:
        found = evaluate_files(
            vectors,
            items,
            held_out,
            seen=seen,
            original=original,
            users=users or SAMPLED_USERS,
            id_column=id_column,
            vector_column=vector_column,
            engine=engine,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print(dump(found.to_json()), end="")
        return
    for text in found.warnings:
        files.note(f"warning: {text}")
    of_whom = "all" if found.everybody else "a sample, drawn by a hash of their ids,"
    files.note(f"{of_whom} of the users with held-out items: {found.report.users} with one not seen before")
    for metric, value in found.report.values.items():
        low, high = found.report.ci[metric]
        line = f"{metric} {value:.4f} [{low:.4f}, {high:.4f}] ({found.report.protocol}, {found.report.users} users)"
        if found.original is not None:
            ratio, least, most = found.ratios[metric]
            share = f"share {ratio:.3f} [{least:.3f}, {most:.3f}]" if ratio == ratio else "no share of that"
            line += f", original {found.original.values[metric]:.4f}, {share}"
        print(line)


def move_by_kept_maps(
    sources: "Sources", eraser: "Eraser", engine: str | None, workers: int | None, *, back: bool
) -> None:
    """Move a table in files by maps that are there already, and say how many moved.

    Args:
        sources: the files.
        eraser: the maps as they were fitted.
        engine: who runs the passes.
        workers: processes or cores.
        back: whether to undo them. A manifest beside the table says what was done to it.
    """
    from attrcloak.parts import Location
    from attrcloak.release.kept_maps import way_back
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.streaming import KeptMaps, moved_already, other_than_at_the_run, unlearn_files

    table, people = Location.of(sources.vectors), Location.of(sources.people)
    asked = None if sources.requests is None else Location.of(sources.requests)
    of_some = None if sources.users is None else eraser.fingerprint
    maps = KeptMaps(way_back(eraser), of_some) if back else KeptMaps(eraser)
    against = other_than_at_the_run(table, people, asked, eraser) if back else moved_already(table, eraser)
    for text in against:
        files.note(f"warning: {text}")
    with progress_bar() as progress:
        released = unlearn_files(
            sources, maps, engine=engine or "auto", workers=workers, check=False, progress=progress
        )
    _say(str(sources.output), released)


def _say(output: str, released: "StreamedRelease", how: str = "") -> None:
    from attrcloak.parts import Location

    said = released.manifest
    files.note(
        f"{output}: {said['moved']} of {said['users']} users moved by {said['method']} in {said['seconds']:.1f} s"
        f"{how}; {Location.of(output).shown}.manifest.json has the digests"
    )
    equal = [f"{leak.attribute}: {leak.equality}" for leak in released.leaks if leak.too_equal]
    for text in [*released.warnings, *(equal if released.verdict is None else [])]:
        files.note(f"warning: {text}")
    for leak in released.leaks:
        files.note(
            f"{leak.attribute}: surrogate {leak.before:.4f} -> {leak.after:.4f} nats; with labels dealt out at random "
            f"95 % of tables lie below {leak.chance:.4f} (p {leak.p_before:.2f} -> {leak.p_after:.2f})"
        )


def _json(released: "StreamedRelease") -> dict[str, Any]:
    by_others = None if released.check is None else released.check.audit_by_others
    return {
        "schema": "attrcloak/unlearn-files/1",
        "manifest": released.manifest,
        "audit": None if released.audit is None else released.audit.to_json(),
        "audit_by_others": None if by_others is None else by_others.to_json(),
        "verdict": None if released.verdict is None else released.verdict.to_json(),
    }
