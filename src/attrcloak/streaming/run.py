"""Unlearning of a table in files: two passes by any engine, resumable, the new table there whole or not at all."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from attrcloak import __version__
from attrcloak.auditing import SOUND, AuditReport, Protocol
from attrcloak.engines import engine_of
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.moments.cell_moments import CellMoments
from attrcloak.moments.eraser import Eraser, Scaling
from attrcloak.parts import Location, Part, open_parts
from attrcloak.parts.location import refuse_nesting
from attrcloak.progress import Progress
from attrcloak.release import CHECK_ATTACKERS, Verdict
from attrcloak.streaming.passes import Measured, ready
from attrcloak.streaming.sample_audit import audit_sample, judge_sample
from attrcloak.streaming.stages import Stages
from attrcloak.streaming.statistics import Leak, common_scale, leaks, relative_move
from attrcloak.streaming.workspace import SCHEMA, Workspace, has_room, remove_folder, remove_leftover
from attrcloak.unlearning import METHODS
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.method import (
    Length,
    MomentMethod,
    RowMethod,
    Solution,
    frozen_length,
    key_commitment,
    nothing_to_unlearn,
)
from attrcloak.unlearning.null_moments import solve_calibrated

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
    """

    vectors: str
    people: str
    output: str
    requests: str | None = None
    work: str | None = None
    id_column: str | None = None
    vector_column: str | None = None
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class StreamedRelease:
    """A table that was unlearned in files, with the evidence.

    Attributes:
        manifest: what ``OUTPUT.manifest.json`` says: settings, inputs and outputs with their digests, counts.
        eraser: the maps; a secret.
        leaks: surrogates of everybody who asked, before, after and by chance.
        audit: of a sample; None when the check was left out.
        verdict: None when the check was left out.
    """

    manifest: dict[str, Any]
    eraser: Eraser
    leaks: tuple[Leak, ...]
    audit: AuditReport | None
    verdict: Verdict | None


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
    progress: Progress | None = None,
) -> StreamedRelease:
    """Unlearn a table that need not fit in memory, and write it in the same files, layout and order.

    Run again after a kill, the same call goes on where it stopped and ends in the same bytes.

    Args:
        sources: the files.
        method: a method that needs moments only; ``Calibrated`` is used in its affine form, its null drawn from
            moments.
        length: "unit" says that vectors are scored by a plain dot product, so bring all to one length; "keep"; "auto"
            goes by the table.
        key: secret key of the null draw. None draws one; it is in the work folder until the maps are there.
        seed: of what is random but not secret.
        engine: "auto", "in-process", "pool", "ray" or "spark".
        workers: processes or cores.
        check: attack a sample of the new table and give a verdict.
        attackers: names of these attackers.
        protocol: how they are measured.
        progress: called with (stage, rows done, rows in all).

    Raises:
        NotSupported: a method that needs rows, or unit length where scores depend on length.
        InvalidInput: files that cannot be used; a work folder of another run; an output that is there already.
        WorkerLost: the engine's workers died too often; call again to go on.
    """
    began = time.perf_counter()
    method = _affine(method)
    place = Location.of(sources.vectors)
    parts = open_parts(place, sources.id_column, sources.vector_column)
    people, output = Location.of(sources.people), Location.of(sources.output)
    requests = None if sources.requests is None else Location.of(sources.requests)
    refuse_nesting([at for at in (place, people, requests) if at is not None], output)
    scaling = _scaling(method, parts[0], length)
    staging = output.beside(f"{output.name}.partial")
    space = Workspace(_work_folder(sources, output, staging))
    remove_leftover(space.folder)
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
        "columns": None if sources.columns is None else list(sources.columns),
        "id_column": sources.id_column,
        "vector_column": sources.vector_column,
        "inputs": {
            what: {name: list(file.stamp()) for name, file in at.files()}
            for what, at in (("vectors", place), ("people", people), ("requests", requests))
            if at is not None
        },
    }
    if key is not None:
        about["key_commitment"] = key_commitment(key)
    with closing(engine_of(engine, len(parts), workers)) as runner, space.opened(about):
        runner.prepare(ready)
        stages = Stages(parts, space, staging, runner, progress)
        groups, sampled = stages.join(people, requests, place.shown, sources.id_column, sources.columns)
        if not groups.moving:
            raise nothing_to_unlearn(groups.users, tuple(groups.classes))
        sampled = sampled if check else sampled[:0]
        measured = stages.measure(groups, scaling == "unit")
        constant = measured.low == measured.high
        moments, common = _scaled(measured, scaling)

        def solve() -> tuple[Eraser, dict[str, Any]]:
            secret = space.secret_key() if key is None else key
            solution = _solve(method, moments, secret)
            eraser = _finished(solution.eraser, moments, constant, parts[0])
            provenance = {"method": method.name, "settings": repr(method), "input": _fingerprint(space, parts)}
            eraser = replace(eraser, scaling=scaling, common_length=common, provenance=provenance)
            committed = key_commitment(secret) if getattr(method, "uses_key", False) else None
            return eraser, {"stopped": solution.stopped, "steps": len(solution.trace), "key_commitment": committed}

        eraser, how = stages.solve(solve)
        written, vectors = stages.move(groups, sampled, eraser)
        found = leaks(measured.moments, moments, eraser, seed)
        report = verdict = None
        if check:
            report = audit_sample(
                vectors, sampled, groups, attackers=attackers, protocol=protocol, seed=seed, progress=progress
            )
            verdict = judge_sample(report, found, method.name)
        manifest = {
            "schema": SCHEMA,
            **about,
            **how,
            "users": groups.users,
            "moved": groups.moving,
            "dimensions": moments.dim,
            "cells": len(moments.key),
            "relative_move": relative_move(moments, eraser),
            "common_length": common if scaling == "unit" else None,
            "leaks": [leak.to_json() for leak in found],
            "inputs": _with_digests(about["inputs"], space, parts),
            "outputs": {part.name: asdict(file) for part, file in zip(parts, written, strict=True)},
            "engine": runner.name,
            "seconds": time.perf_counter() - began,
        }
        stages.finish(output, not place.is_folder, manifest)
        remove_folder(space.folder)
        if staging.exists:
            staging.remove()
    return StreamedRelease(manifest, eraser, found, report, verdict)


def _affine(method: MomentMethod | RowMethod) -> MomentMethod | Calibrated:
    """The method in the form that needs moments only."""
    if isinstance(method, Calibrated):
        return replace(method, slices=0)
    if isinstance(method, MomentMethod):
        return method
    names = [name for name, kind in METHODS.items() if kind is Calibrated or hasattr(kind, "solve")]
    raise NotSupported(
        f"{method.name} moves rows one by one and cannot stream; methods that can: {', '.join(names)}. Choose one of "
        "these, or unlearn a file that fits in memory, without --engine"
    )


def _scaling(method: MomentMethod | Calibrated, part: Part, length: Length) -> Scaling:
    scoring = part.scoring
    if length == "unit" and not part.frozen_columns:
        scoring = "dot"
    elif length == "keep" and scoring == "dot":
        scoring = "unknown"
    wanted: Length = getattr(method, "length", "keep")
    if wanted == "unit" and (part.frozen_columns or scoring == "dot+constant"):
        raise frozen_length("user factors")
    return "unit" if wanted == "unit" or (wanted == "auto" and scoring == "dot") else "none"


def _work_folder(sources: Sources, output: Location, staging: Location) -> Path:
    if sources.work is not None:
        return Path(sources.work).absolute()
    if not output.is_local:
        raise InvalidSettings(
            f"{output.shown} is not on this machine; name a local folder for what is not finished (--work)"
        )
    return Path(staging.path)


def _scaled(measured: Measured, scaling: Scaling) -> tuple[CellMoments, float]:
    """The moments that the maps are solved for, and the common length."""
    if measured.unit is None or scaling == "none":
        return measured.moments, 1.0
    unit = measured.unit
    common = float(np.sqrt(measured.squares / max(unit.users, 1))) or 1.0
    return replace(unit, mean=common * unit.mean, scatter=common**2 * unit.scatter), common


def _solve(method: MomentMethod | Calibrated, moments: CellMoments, key: bytes) -> Solution:
    # On one thread, so that a run that is taken up again gives the same bits.
    with threadpool_limits(limits=1, user_api="blas"):
        return solve_calibrated(method, moments, key) if isinstance(method, Calibrated) else method.solve(moments)


def _finished(eraser: Eraser, moments: CellMoments, constant: NDArray[np.bool_], part: Part) -> Eraser:
    """The maps in one scale with what is scored beside them, and with constant columns left alone."""
    if part.scoring == "dot+constant" and not moments.key.unmarked.any():
        scale = common_scale(moments, eraser)
        eraser = replace(eraser, matrices=scale * eraser.matrices, offsets=scale * eraser.offsets)
    matrices = np.where(constant[:, None], np.eye(len(constant)), eraser.matrices)
    return replace(eraser, matrices=matrices, offsets=np.where(constant, 0.0, eraser.offsets))


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
