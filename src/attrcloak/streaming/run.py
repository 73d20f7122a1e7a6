"""Unlearning of a table in files: two passes by any engine, resumable, the new table there whole or not at all."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from attrcloak import __version__
from attrcloak.auditing import SOUND, AuditReport, Protocol
from attrcloak.engines import engine_of
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported, raise_if
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.eraser import Eraser, Scaling
from attrcloak.parts import Location, Part, open_parts, refuse_containing, refuse_nesting
from attrcloak.parts.item_table import ItemTable, read_items
from attrcloak.progress import Progress
from attrcloak.release import CHECK_ATTACKERS, Check, Verdict
from attrcloak.streaming.descent import solve_by_descent
from attrcloak.streaming.kept_maps import KeptMaps
from attrcloak.streaming.left_alone import left_alone, single_classes
from attrcloak.streaming.maps import scaled, solve_maps
from attrcloak.streaming.passes import WORKER
from attrcloak.streaming.sample_audit import Sample, check_sample
from attrcloak.streaming.stages import Stages, done_again, say_done_again
from attrcloak.streaming.statistics import Leak, leaks
from attrcloak.streaming.workspace import SCHEMA, Workspace, has_room, remove_folder, remove_leftover
from attrcloak.unlearning import METHODS
from attrcloak.unlearning.attrcloak_dd import AttrCloakDD
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.lengths import frozen_length
from attrcloak.unlearning.method import Length, MomentMethod, RowMethod
from attrcloak.unlearning.running import key_commitment, nothing_to_unlearn
from attrcloak.whole_file import refuse_to_lose_a_way_back

_JOIN_BYTES_PER_USER = 60


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files of a run.

    Attributes:
        vectors: file or folder, local or a URI.
        people: likewise.
        output: what the new table is to be called: a file when ``vectors`` is one, else a folder.
        requests: who asks for what; None lets everybody ask whose class is known.
        work: folder of this machine for what is not finished; by default beside a local output.
        id_column: name of the ids in vectors and people; None finds them.
        vector_column: name of the vectors; None finds them.
        columns: the attributes; None takes every other column of the people.
        interactions: file or folder with user_id and item_id, for attrcloak-dd.
        items: the vectors of the same recommender's items, likewise; those of Parquet have their ids in item_id, row i
            of a .npy file is item i.
    """

    vectors: str
    people: str
    output: str
    requests: str | None = None
    work: str | None = None
    id_column: str | None = None
    vector_column: str | None = None
    columns: tuple[str, ...] | None = None
    interactions: str | None = None
    items: str | None = None


@dataclass(frozen=True, eq=False)
class StreamedRelease:
    """A table that was unlearned in files, with the evidence.

    Attributes:
        manifest: what ``OUTPUT.manifest.json`` says: settings, inputs and outputs with their digests, counts.
        eraser: the maps; a secret. None for methods that move users one by one.
        leaks: surrogates of everybody who asked, before, after and by chance.
        check: attacks on a sample, and the verdict; None when it was left out.
        warnings: what was left as it was, and what was done again because a worker died, a sentence each.
    """

    manifest: dict[str, Any]
    eraser: Eraser | None
    leaks: tuple[Leak, ...]
    check: Check | None
    warnings: tuple[str, ...]

    @property
    def audit(self) -> AuditReport | None:
        """Of the sample; where only some asked, of those who did."""
        return None if self.check is None else self.check.audit

    @property
    def verdict(self) -> Verdict | None:
        """Whether the table may go out."""
        return None if self.check is None else self.check.verdict


def unlearn_files(
    sources: Sources,
    method: MomentMethod | RowMethod,
    *,
    length: Length = "auto",
    key: bytes | None = None,
    seed: int = 0,
    engine: str = "auto",
    workers: int | None = None,
    check: bool = True,
    attackers: Sequence[str] = CHECK_ATTACKERS,
    protocol: Protocol = SOUND,
    eraser_file: Path | None = None,
    progress: Progress | None = None,
) -> StreamedRelease:
    """Unlearn a table that need not fit in memory, and write it in the same files, layout and order.

    Run again after a kill, the same call goes on where it stopped and ends in the same bytes.

    Args:
        sources: the files.
        method: a method that needs moments only, or ``KeptMaps`` of an eraser that is there already. ``Calibrated`` is
            used in its affine form, its null drawn from moments. ``AttrCloakDD`` takes a pass for each step, and needs
            the interactions and items of ``sources``.
        length: "unit" says that vectors are scored by a plain dot product, so bring all to one length; "keep"; "auto"
            goes by the table.
        key: secret key of the null draw. None draws one; it is in the work folder until the maps are there.
        seed: of what is random but not secret.
        engine: "auto", "in-process", "pool", "ray" or "spark".
        workers: processes or cores.
        check: attack a sample of the new table and give a verdict.
        attackers: names of these attackers.
        protocol: how they are measured.
        eraser_file: where the maps are to be kept, of methods that have them; they are there before the new table is.
        progress: called with (stage, rows done, rows in all).

    Raises:
        NotSupported: a method that needs rows, AttrCloakDD without interactions and items, or unit length where scores
            depend on length.
        InvalidInput: files that cannot be used; a work folder of another run; an output or maps that are there already.
        DamagedWork: what was done before a kill was changed since; nobody can go on with it.
        WorkerLost: the engine's workers died too often; call again to go on.
    """
    began = time.perf_counter()
    method = _streamable(method, sources)
    place = Location.of(sources.vectors)
    parts = open_parts(place, sources.id_column, sources.vector_column)
    people, output = Location.of(sources.people), Location.of(sources.output)
    requests, interactions, items_place = (
        None if named is None else Location.of(named)
        for named in (sources.requests, sources.interactions, sources.items)
    )
    inputs = {
        what: at
        for what, at in (
            ("vectors", place), ("people", people), ("requests", requests),
            ("interactions", interactions), ("items", items_place),
        )
        if at is not None
    }  # fmt: skip
    refuse_nesting([*inputs.values()], output)
    if not place.is_folder and output.suffix != place.suffix:
        raise InvalidInput(
            f"{output.shown} has not the ending of {place.shown}; give it {place.suffix}, for it will be such a file"
        )
    output.require_bucket()
    items = _items(items_place, parts[0])
    kept, columns = None, sources.columns
    if isinstance(method, KeptMaps):
        kept, columns = method.eraser, method.columns_for(parts[0], sources.columns)
    scaling = _scaling(method, parts[0], length)
    staging = output.beside(f"{output.name}.partial")
    space = Workspace(_work_folder(sources, output, staging))
    refuse_containing(Location.of(space.folder), [*inputs.values(), output])
    refuse_nesting([*inputs.values()], Location.of(space.folder))
    remove_leftover(space.folder)
    if eraser_file is not None:
        _check_eraser_file(eraser_file, [*inputs.values(), output, staging, Location.of(space.folder)], output)
        if not space.holds_eraser(eraser_file):
            refuse_to_lose_a_way_back([eraser_file])
    if staging.exists and not space.is_begun and Path(staging.path) != space.folder:
        raise InvalidInput(f"{staging.shown} is there already, and no run in {space.folder} left it; remove it")
    if output.exists and not space.lacks_names_only:
        raise InvalidInput(f"{output.shown} is there already; remove it or give the output another name")
    if output.is_local and not space.is_begun:
        size = sum(part.location.stamp()[0] for part in parts)
        has_room(Path(staging.path), size + _JOIN_BYTES_PER_USER * sum(part.rows for part in parts))
    about: dict[str, Any] = {
        "version": __version__,
        "method": method.name,
        "settings": asdict(method) if is_dataclass(method) and not isinstance(method, type) else {"repr": repr(method)},
        "scaling": scaling,
        "seed": seed,
        "key": "drawn" if key is None else "given",
        "columns": None if columns is None else list(columns),
        "id_column": sources.id_column,
        "vector_column": sources.vector_column,
        "inputs": {what: {name: list(file.stamp()) for name, file in at.files()} for what, at in inputs.items()},
    }
    if key is not None:
        about["key_commitment"] = key_commitment(key)
    with closing(engine_of(engine, len(parts), workers)) as runner, space.opened(about):
        runner.prepare(WORKER)
        stages = Stages(parts, space, staging, runner, progress)
        groups, sampled = stages.join(inputs, sources.id_column, columns)
        if kept is not None:
            kept.under(groups.key, groups.users_of_cells)  # who has no map is said before a pass is made
        if not groups.moving:
            raise nothing_to_unlearn(groups.users, tuple(groups.classes))
        alike = single_classes(groups, people.shown)
        raise_if(alike if kept is None and len(alike) == len(groups.classes) else [])
        sampled = sampled if check else sampled[:0]
        with ThreadPoolExecutor(1) as beside:
            if not runner.in_this_process:
                beside.submit(import_module, "scipy.linalg")  # for the solve, while others measure
            measured = stages.measure(groups, scaling == "unit")
        constant = measured.low == measured.high
        moments, common = scaled(measured, scaling, kept)
        if isinstance(method, AttrCloakDD):
            assert interactions is not None  # checked with the method
            assert items is not None
            outcome = solve_by_descent(
                stages, groups, method, moments, constant,
                interactions=interactions, items=items, table=place.shown, seed=seed,
            )  # fmt: skip
        else:
            fingerprint = _fingerprint(space, parts)
            outcome = solve_maps(
                stages, method, moments, constant, common_length=common,
                scaling=scaling, key=key, silent=groups.silent, fingerprint=fingerprint,
            )  # fmt: skip
        warnings = left_alone(parts, groups, place.shown, people.shown, None if requests is None else requests.shown)
        # What moments tell takes as long as a part and no look at the files. On one thread, as the pass has the others.
        with one_thread(), ThreadPoolExecutor(1) as beside:
            telling = beside.submit(leaks, measured.moments, moments, outcome.after, seed)
            written, vectors = stages.move(groups, sampled, outcome.change_of)
            found = telling.result()
        checked = None
        if check:
            checked = check_sample(
                Sample.of(vectors, sampled, groups), found, method.name, attackers=attackers, protocol=protocol,
                seed=seed, progress=progress,
            )  # fmt: skip
        again = done_again(runner, parts)
        warnings += tuple(say_done_again(again, place.shown, len(parts)))
        filled = next(part for part in parts if part.rows)
        manifest = {
            "schema": SCHEMA,
            **about,
            "columns": list(groups.classes),
            "id_column": filled.id_column,
            "vector_column": filled.vector_column,
            **outcome.how,
            "users": groups.users,
            "moved": groups.moving,
            "unmet": groups.unmet,
            "dimensions": moments.dim,
            "cells": len(moments.key),
            "relative_move": outcome.relative_move,
            "maps": _fingerprint_of_maps(method, outcome.eraser),
            "common_length": common if scaling == "unit" else None,
            "leaks": [leak.to_json() for leak in found],
            "warnings": list(warnings),
            "verdict": None if checked is None else checked.verdict.to_json(),
            "inputs": _with_digests(about["inputs"], space, parts),
            "outputs": {part.name: asdict(file) for part, file in zip(parts, written, strict=True)},
            "engine": runner.name,
            "done_again": len(again),
            "seconds": time.perf_counter() - began,
        }
        if eraser_file is not None and outcome.eraser is not None:
            space.copy_eraser(eraser_file)  # before the table has its name, so that none lacks its way back
        stages.finish(output, not place.is_folder, manifest)
        remove_folder(space.folder)
        if staging.exists:
            staging.remove()
    return StreamedRelease(manifest, outcome.eraser, found, checked, warnings)


def _streamable(method: MomentMethod | RowMethod, sources: Sources) -> MomentMethod | Calibrated | AttrCloakDD:
    """The method in a form that streams."""
    names = [name for name, kind in METHODS.items() if kind is Calibrated or hasattr(kind, "solve")]
    if isinstance(method, AttrCloakDD):
        if sources.interactions is None or sources.items is None:
            raise NotSupported(
                "attrcloak-dd needs the interactions and the items of the recommender (--interactions, --items); "
                f"methods that can do without: {', '.join(names)}"
            )
        return method
    if sources.interactions is not None or sources.items is not None:
        raise InvalidSettings(
            f"interactions and items are for attrcloak-dd, and {method.name} would not look at them; leave them out or "
            "choose --method attrcloak-dd"
        )
    if type(method) is Calibrated:  # those derived from it move row by row
        return replace(method, slices=0)
    if isinstance(method, MomentMethod):
        return method
    raise NotSupported(
        f"{method.name} moves rows one by one and cannot stream; methods that can: {', '.join(names)}, and "
        "attrcloak-dd with interactions. Choose one, or unlearn a file that fits in memory, without --engine"
    )


def _items(place: Location | None, part: Part) -> ItemTable | None:
    """The items, of the width of the users."""
    if place is None:
        return None
    items = read_items(place)
    width = items.vectors.shape[1]
    if width != part.dim:
        raise InvalidInput(
            f"{place.shown}: items have {width} dimensions and users {part.dim}; give the items of the same recommender"
        )
    return items


def _scaling(method: MomentMethod | Calibrated | AttrCloakDD, part: Part, length: Length) -> Scaling:
    scoring = part.scoring
    if length == "unit" and not part.frozen_columns:
        scoring = "dot"
    elif length == "keep" and scoring == "dot":
        scoring = "unknown"
    wanted: Length = getattr(method, "length", "keep")
    if wanted == "unit" and (part.frozen_columns or scoring == "dot+constant"):
        raise frozen_length("user factors")
    return "unit" if wanted == "unit" or (wanted == "auto" and scoring == "dot") else "none"


def _fingerprint_of_maps(method: object, eraser: Eraser | None) -> str | None:
    """Of the maps as their file has them: kept ones have more cells than these users need."""
    maps = method.eraser if isinstance(method, KeptMaps) else eraser
    return None if maps is None else maps.fingerprint


def _check_eraser_file(path: Path, taken: list[Location], output: Location) -> None:
    """The maps go where nothing of this run lies, is written or is removed, and there is a folder for them."""
    place = Location.of(str(path))
    refuse_nesting(taken, place)
    manifest = output.beside(f"{output.name}.manifest.json")
    if manifest.path == place.path and manifest.filesystem.equals(place.filesystem):
        raise InvalidInput(f"{path} is the manifest of this run; give the maps another name")
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"{path}: the folder {path.absolute().parent} does not exist; make it first")


def _work_folder(sources: Sources, output: Location, staging: Location) -> Path:
    if sources.work is not None:
        return Path(sources.work).absolute()
    if not output.is_local:
        raise InvalidSettings(
            f"{output.shown} is not on this machine; name a local folder for what is not finished (--work)"
        )
    return Path(staging.path)


def _fingerprint(space: Workspace, parts: Sequence[Part]) -> str:
    digests = "".join(space.done[f"measured {number}"]["sha256"] for number in range(len(parts)))
    return hashlib.sha256(digests.encode()).hexdigest()


def _with_digests(inputs: dict[str, Any], space: Workspace, parts: Sequence[Part]) -> dict[str, Any]:
    digests = {**space.done["joined"]}
    digests["vectors"] = {part.name: space.done[f"measured {n}"]["sha256"] for n, part in enumerate(parts)}
    return {
        what: {name: {"size": stamp[0], "sha256": digests[what][name]} for name, stamp in files.items()}
        for what, files in inputs.items()
    }
