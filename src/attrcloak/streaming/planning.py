"""What unlearning would do to a table in files, before it does it: one look at ids, people and requests."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from attrcloak.attackers import require_attackers
from attrcloak.engines import engine_of
from attrcloak.parts import Location
from attrcloak.progress import Progress
from attrcloak.release import Plan
from attrcloak.release.planning import planned_users
from attrcloak.release.shortfalls import refuse_nothing_to_do, unaudited_classes
from attrcloak.streaming.left_alone import left_alone
from attrcloak.streaming.passes import free_columns
from attrcloak.streaming.sources import Sources, Target, about_run, open_sources, refuse_what_is_in_the_way, target_of
from attrcloak.streaming.stages import Stages
from attrcloak.streaming.workspace import has_room, refuse_leftover_of_others, temporary_workspace
from attrcloak.unlearning.method import Length, MomentMethod, RowMethod

_PREFIX = "attrcloak-plan-"


@dataclass(frozen=True, kw_only=True)
class FilesPlan(Plan):
    """What an unlearning run over files would do; nothing is done yet.

    Attributes:
        files: parts of the table.
        engine: who would run the passes.
        disk_bytes: room for the new table and the join, roughly; for attrcloak-dd without the interactions.
        writes: what would be there at the end; without a name for the new table, the maps alone.
    """

    files: int
    engine: str
    disk_bytes: int
    writes: tuple[str, ...]


def plan_files(
    sources: Sources,
    method: MomentMethod | RowMethod,
    *,
    length: Length = "auto",
    key: bytes | None = None,
    seed: int = 0,
    engine: str = "auto",
    workers: int | None = None,
    attackers: Sequence[str] = (),
    eraser_file: Path | None = None,
    progress: Progress | None = None,
) -> FilesPlan:
    """What ``unlearn_files`` would do with the same arguments, without doing it; it refuses what that would refuse.

    Ids, people and requests are read; vectors and interactions are not, but for the digest of files that were copied
    anew since an unfinished run of the same. A bucket is not looked for. What the join needs, about 60 bytes a user,
    lies in a folder that is removed at the end: where the run would work, or without an output or a folder for that
    among temporary files.

    Args:
        sources: the files; without an output, nothing is said of what is in its way.
        method: as for ``unlearn_files``.
        length: likewise.
        key: likewise; only whether an unfinished run has the same is looked at.
        seed: likewise.
        engine: likewise; started and stopped, to see that it can be.
        workers: likewise.
        attackers: of the audit that would follow; only whether they can run is looked at.
        eraser_file: where the maps would be kept.
        progress: called with (stage, rows done, rows in all).

    Raises:
        InvalidInput, InvalidSettings, MissingExtra, NotSupported: what ``unlearn_files`` would say before its passes.
    """
    require_attackers(attackers)
    opened = open_sources(sources, method, length)
    target = None if sources.output is None else target_of(sources, opened)
    if target is not None:
        refuse_leftover_of_others(target.space.folder)
        refuse_what_is_in_the_way(target, opened, eraser_file)
        target.space.refuse_another_run(about_run(sources, opened, key, seed), opened.files)
    parts, inputs = opened.parts, opened.inputs
    table, people, requests = inputs["vectors"].shown, inputs["people"].shown, inputs.get("requests")
    work = None if sources.work is None else Path(sources.work).absolute()
    beside = work if target is None else target.space.folder
    named = Path(tempfile.gettempdir()) if beside is None else beside.parent
    parent = next(place for place in (named, *named.parents) if place.is_dir())
    has_room(parent, opened.join_bytes)
    with closing(engine_of(engine, len(parts), workers)) as runner, temporary_workspace(parent, _PREFIX) as space:
        stages = Stages(parts, space, Location.of(space.folder), runner, progress)
        groups, _ = stages.join(inputs, sources.id_column, opened.columns)
        census = groups.census(by_request=requests is not None)
        warnings = left_alone(parts, groups, census, table, people, None if requests is None else requests.shown)
        name = runner.name
    refuse_nothing_to_do(census, people)
    dim = len(free_columns(parts[0]))
    return FilesPlan(
        method=opened.method.name,
        **planned_users(census, dim),
        memory_bytes=6 * 8 * census.cells * dim * dim,
        seconds=None,
        warnings=(*warnings, *unaudited_classes(census, people)),
        files=len(parts),
        engine=name,
        disk_bytes=opened.disk_bytes,
        writes=tuple(_written(target, eraser_file)),
    )


def _written(target: Target | None, eraser_file: Path | None) -> Iterator[str]:
    if target is not None:
        yield target.output.shown
        yield target.manifest.shown
    if eraser_file is not None:
        yield str(eraser_file)
