"""Unlearning of a table in files: two passes by any engine, resumable, the new table there whole or not at all."""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attrcloak.attackers import require_attackers
from attrcloak.auditing import AuditReport, Protocol
from attrcloak.engines import engine_of
from attrcloak.moments.blas_threads import one_thread
from attrcloak.moments.eraser import Eraser
from attrcloak.parts import Part
from attrcloak.progress import Progress
from attrcloak.release import CHECK_ATTACKERS, Check, Verdict
from attrcloak.release.shortfalls import refuse_nothing_to_do
from attrcloak.streaming.descent import solve_by_descent
from attrcloak.streaming.kept_maps import KeptMaps
from attrcloak.streaming.left_alone import left_alone
from attrcloak.streaming.maps import scaled, solve_maps
from attrcloak.streaming.passes import WORKER
from attrcloak.streaming.sample_audit import Sample, check_sample
from attrcloak.streaming.sources import Sources, about_run, open_sources, refuse_what_is_in_the_way, target_of
from attrcloak.streaming.stages import Stages, done_again, say_done_again
from attrcloak.streaming.statistics import Leak, leaks
from attrcloak.streaming.workspace import SCHEMA, Workspace, remove_folder, remove_leftover
from attrcloak.unlearning.attrcloak_dd import AttrCloakDD
from attrcloak.unlearning.method import Length, MomentMethod, RowMethod


@dataclass(frozen=True, eq=False)
class StreamedRelease:
    """A table that was unlearned in files, with the evidence.

    Attributes:
        manifest: what ``OUTPUT.manifest.json`` says: settings, inputs and outputs with their digests, counts.
        eraser: the maps; a secret. None for methods that move users one by one.
        leaks: surrogates of everybody who asked, before, after and by chance; none where some users alone go back.
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
    protocol: Protocol | None = None,
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
        protocol: how they are measured; None takes the one of ``check_protocol``, by the number of users in the sample.
        eraser_file: where the maps are to be kept, of methods that have them; they are there before the new table is.
        progress: called with (stage, rows done, rows in all).

    Raises:
        NotSupported: a method that needs rows, AttrCloakDD without interactions and items, or unit length where scores
            depend on length.
        InvalidInput: files that cannot be used; a work folder of another run; an output or maps that are there already.
        DamagedWork: what was done before a kill was changed since; nobody can go on with it.
        WorkerLost: the engine's workers died too often; call again to go on.
        MissingExtra: an attacker or the engine needs what is not installed; nothing was begun.
    """
    began = time.perf_counter()
    if check:
        require_attackers(attackers)
    opened = open_sources(sources, method, length)
    method, parts, inputs, kept = opened.method, opened.parts, opened.inputs, opened.kept
    place, people, requests = inputs["vectors"], inputs["people"], inputs.get("requests")
    target = target_of(sources, opened)
    output, staging, space = target.output, target.staging, target.space
    output.require_bucket()
    remove_leftover(space.folder)
    refuse_what_is_in_the_way(target, opened, eraser_file)
    about = about_run(sources, opened, key, seed)
    with closing(engine_of(engine, len(parts), workers)) as runner, space.opened(about, opened.files):
        runner.prepare(WORKER)
        stages = Stages(parts, space, staging, runner, progress)
        groups, sampled = stages.join(inputs, sources.id_column, opened.columns)
        if kept is not None:
            kept.under(groups.key, groups.users_of_cells)  # who has no map is said before a pass is made
        census = groups.census(by_request=requests is not None)
        refuse_nothing_to_do(census, people.shown, by_kept_maps=kept is not None)
        sampled = sampled if check else sampled[:0]
        measured = stages.measure(groups, opened.scaling == "unit")
        constant = measured.low == measured.high
        moments, common = scaled(measured, opened.scaling, kept)
        if isinstance(method, AttrCloakDD):
            assert opened.items is not None  # checked with the method
            outcome = solve_by_descent(
                stages, groups, method, moments, constant,
                interactions=inputs["interactions"], items=opened.items, table=place.shown, seed=seed,
            )  # fmt: skip
        else:
            fingerprint = _fingerprint(space, parts)
            outcome = solve_maps(
                stages, method, moments, constant, common_length=common,
                scaling=opened.scaling, key=key, silent=groups.silent, fingerprint=fingerprint,
            )  # fmt: skip
        asked = None if requests is None else requests.shown
        warnings = left_alone(parts, groups, census, place.shown, people.shown, asked, by_kept_maps=kept is not None)
        # What moments tell takes as long as a part and no look at the files. On one thread, as the pass has the others.
        with one_thread(scipy_too=False), ThreadPoolExecutor(1) as beside:
            # Users who go back alone are too few to tell anything of, and nothing of those who stay.
            telling = None if sources.users else beside.submit(leaks, measured.moments, moments, outcome.after, seed)
            written, vectors = stages.move(groups, sampled, outcome.change_of)
            found = () if telling is None else telling.result()
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
            "classes": census.classes,
            "asked": census.asked,
            "unmet": census.unmet,
            "elsewhere": census.elsewhere,
            "dimensions": moments.dim,
            "cells": len(moments.key),
            "relative_move": outcome.relative_move,
            "maps": _fingerprint_of_maps(method, outcome.eraser),
            "common_length": common if opened.scaling == "unit" else None,
            "leaks": [leak.to_json() for leak in found],
            "warnings": list(warnings),
            "verdict": None if checked is None else checked.verdict.to_json(),
            "inputs": _with_digests(about["inputs"], space),
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


def _fingerprint_of_maps(method: object, eraser: Eraser | None) -> str | None:
    """Of the maps as their file has them: kept ones have more cells than these users need."""
    if isinstance(method, KeptMaps):
        return method.fingerprint_after
    return None if eraser is None else eraser.fingerprint


def _fingerprint(space: Workspace, parts: Sequence[Part]) -> str:
    digests = "".join(space.done[f"measured {number}"]["sha256"] for number in range(len(parts)))
    return hashlib.sha256(digests.encode()).hexdigest()


def _with_digests(inputs: dict[str, Any], space: Workspace) -> dict[str, Any]:
    digests = {what: space.digests(what, files) for what, files in inputs.items()}
    return {
        what: {name: {"size": stamp[0], "sha256": digests[what][name]} for name, stamp in files.items()}
        for what, files in inputs.items()
    }
