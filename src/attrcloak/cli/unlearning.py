"""The command unlearn: a table in memory, or sent on to be streamed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrcloak.cli import files, streaming
from attrcloak.cli.options import AsJson, Columns, Engine, IdColumn, Requests, Streamable, VectorColumn, Work, Workers
from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.whole_file import refuse_to_lose_a_way_back

if TYPE_CHECKING:
    from attrcloak.data import EmbeddingTable
    from attrcloak.release import Release
    from attrcloak.unlearning.method import UnlearningResult

_ATTACKED_QUICKLY = 20_000
"""Users that are attacked within a few minutes."""


def unlearn(
    vectors: Streamable,
    attributes: Annotated[
        str,
        typer.Option("--attributes", help="CSV, TSV or Parquet with one row a user; a folder where vectors stream."),
    ],
    output: Annotated[str | None, typer.Option("--output", "-o", help="Where the new table goes.")] = None,
    columns: Columns = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method to use; by default calibrated-flow for tables in memory of up to 10,000 users and 128 "
            "dimensions, otherwise calibrated."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, repeatable: a setting of the method.")
    ] = None,
    length: Annotated[
        str,
        typer.Option(help="unit: vectors are scored by a plain dot product, so bring all to one length; keep; auto."),
    ] = "auto",
    requests: Requests = None,
    earlier: Annotated[
        Path | None,
        typer.Option(help="CSV with user_id: users whom earlier runs moved, so that nothing is learnt from them."),
    ] = None,
    interactions: Annotated[
        str | None,
        typer.Option(help="For attrcloak-dd: CSV, TSV or Parquet with user_id,item_id, or a folder; streams."),
    ] = None,
    items: Annotated[
        str | None, typer.Option(help="For attrcloak-dd: item vectors of the same recommender, such as .npy.")
    ] = None,
    cover: Annotated[
        float,
        typer.Option(
            help="Share of the users who asked for nothing to move along, so that to move is not to have asked."
        ),
    ] = 0.0,
    eraser: Annotated[
        Path | None,
        typer.Option(
            help="Write the affine maps here, or where a method has none the original rows of moved users. A secret."
        ),
    ] = None,
    undo_file: Annotated[
        Path | None, typer.Option("--undo-file", help="Write the original rows of moved users here. A secret.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the secret key of the null draw, 16 random bytes or more (openssl rand -hex 32); one is "
            "drawn and forgotten by default."
        ),
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    seed: Annotated[int, typer.Option(help="Seed of what is random but not secret.")] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Seeds of the audit that gives the verdict; 3 by default, and up to 10 where users are few.",
            min=1,
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be done, to whom and for whom not, and do nothing.")
    ] = False,
    check: Annotated[bool, typer.Option("--audit/--no-audit", help="Audit the result and give a verdict.")] = True,
    engine: Engine = None,
    workers: Workers = None,
    work: Work = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where torch works, such as cuda or cuda:1, for tables in memory: both passes of methods that solve "
            "from moments, and the steps of u2u-r, d2d-r and attrcloak-df with space=rows; NumPy by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lower what vectors give away, write a new table, and end with a verdict; exit 3 when it is not "protected".

    Example: attrcloak unlearn users.npy --attributes people.csv --columns gender,age -o new.npy
    """
    streamed = streaming.streams(vectors, output, engine, interactions)
    if streamed and not plan:
        streaming.begin_imports(vectors, engine, workers)
    named = None if method is None else files.build_method(method, settings or [])
    if cover and eraser is not None:
        raise InvalidSettings(
            "--cover goes with --undo-file, not with --eraser: an eraser needs the list of who was moved, and who is "
            "in the cover set is written nowhere"
        )
    if output is None and not plan:
        raise typer.BadParameter("name the new table with -o, or use --plan", param_hint="--output")
    if streamed:
        chosen = named or files.build_method("calibrated", settings or [])
        streaming.refuse_what_needs_memory(undo_file, eraser, method)
        if any(setting.partition("=")[0].strip() == "slices" for setting in settings or []):
            raise NotSupported("--set slices moves rows one by one, in memory: streamed, only the affine part is done")
        given = [vectors, attributes, requests, interactions, items, output]
        files.refuse_inputs_as_outputs([key_file, *(Path(name) for name in given if name is not None)], [eraser])
        if device is not None:
            raise NotSupported(
                "--device is for a table in memory: a streamed one is bound by its files; share it among processes "
                "with --engine and --workers"
            )
        if cover:
            raise InvalidSettings("--cover draws among all users, so it needs a table in memory: give one file")
        if earlier is not None:
            raise InvalidSettings("--earlier is for learning from users who did not ask, in memory: give one file")
        sources = streaming.sources(
            vectors, attributes, output, requests, work, id_column, vector_column, columns, interactions, items
        )
        key, lengths = files.read_key(key_file), files.length_option(length)
        if plan:
            streaming.plan_streaming(
                sources, chosen, length=lengths, key=key, seed=seed, engine=engine or "auto", workers=workers,
                check=check, eraser=eraser, as_json=as_json,
            )  # fmt: skip
            return
        streaming.unlearn_streaming(
            sources,
            chosen,
            length=lengths,
            key=key,
            seed=seed,
            engine=engine or "auto",
            workers=workers,
            check=check,
            protocol=None if seeds is None else files.read_protocol("sound", "0.8", seeds),
            eraser=eraser,
            as_json=as_json,
        )
        return
    streaming.refuse_options_of_streams(workers=workers, work=work, items=items)
    table_file, new_file = Path(vectors), None if output is None else Path(output)
    people_file, requests_file = Path(attributes), None if requests is None else Path(requests)
    files.refuse_inputs_as_outputs(
        [table_file, people_file, requests_file, earlier, key_file], [new_file, eraser, undo_file]
    )
    if not plan:
        refuse_to_lose_a_way_back([eraser, undo_file])
    files.refuse_another_format(table_file, new_file)
    import numpy as np

    from attrcloak import release
    from attrcloak.data.vector_files import read_vectors, write_vectors
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import progress_bar
    from attrcloak.unlearning.null_draw import secret_generator

    table = files.keep_length(read_vectors(table_file, id_column=id_column, vector_column=vector_column), length)
    chosen = named or files.build_method(release.method_for(table).name, settings or [])
    if earlier is not None and getattr(chosen, "learned_from", "asked") == "asked":
        raise InvalidSettings(
            "--earlier names users whom nothing is learnt from, but this run learns from those who ask alone: add "
            "--set learned_from=everybody (calibrated, calibrated-dd, calibrated-flow), or leave it out"
        )
    people = files.load_people(people_file, id_column, columns, requests_file)
    moved_before = files.read_users(earlier)
    if moved_before is not None:
        files.note_strangers(moved_before, table.ids, earlier)
        people = people.without(moved_before)
    key = files.read_key(key_file)
    if cover:
        people = people.cover(
            cover, np.random.default_rng() if key is None else secret_generator(key, b"cover"), among=table.ids
        )
    if check and len(table) > _ATTACKED_QUICKLY:
        files.note(
            f"all {len(table)} users will be attacked for the verdict, which takes far longer than to move them; with "
            "--engine in-process a sample is, as for files, and --no-audit leaves it out"
        )
    if plan:
        attackers = release.CHECK_ATTACKERS if check else ()
        planned = release.plan(table, people, chosen, attackers=attackers, device=device)
        print(dump(planned.to_json()), end="") if as_json else files.show_plan(planned)
        return
    assert new_file is not None  # checked above
    with progress_bar(as_json) as progress:
        released = release.unlearn(
            table,
            people,
            chosen,
            key=key,
            seed=seed,
            check=check,
            protocol=None if seeds is None else files.read_protocol("sound", "0.8", seeds),
            progress=progress,
            device=device,
        )
    secrets = _saved_secrets(table, released.result, eraser, undo_file)
    write_vectors(released.result.table, new_file, like=table_file, id_column=id_column, vector_column=vector_column)
    files.warn_of_other_vectors(table_file, vector_column)
    for path in secrets:
        files.note(f"{path} is a secret: keep it like a key, or destroy it")
    print(dump(_unlearn_json(released)), end="") if as_json else _show(released, new_file)
    if not files.say_verdict(released.verdict):
        raise typer.Exit(3)


def _saved_secrets(
    table: "EmbeddingTable", result: "UnlearningResult", eraser: Path | None, undo_file: Path | None
) -> list[Path]:
    """Write what undoes the run; these files come before the new table, so that no table lacks its way back."""
    from attrcloak.unlearning.undo import OriginalRows

    if undo_file is not None:
        OriginalRows.of(table, result).save(undo_file)
    if eraser is not None and result.eraser is None:
        OriginalRows.of(table, result).save(eraser)
        files.note(
            f"{result.method} moves rows one by one, so {eraser} holds the original rows: undo can use it, apply cannot"
        )
    elif eraser is not None and result.eraser is not None:
        result.eraser.save(eraser)
    return [path for path in (undo_file, eraser) if path is not None]


def _show(released: "Release", output: Path) -> None:
    result = released.result
    files.note(
        f"{output}: {int(result.moved.sum())} of {len(result.table)} users moved by {result.method} in "
        f"{result.seconds:.1f} s ({result.stopped}; objective {result.objective_before:.3f} -> "
        f"{result.objective_after:.3f} nats)" + (f"; all vectors times {result.scale:.3f}" if result.scale != 1 else "")
    )
    for text in released.warnings:
        files.note(f"warning: {text}")
    if released.audit is not None:
        files.show_attacks(released.audit)
    files.show_audit_by_others(released.audit_by_others)


def _unlearn_json(released: "Release") -> dict[str, Any]:
    result = released.result
    return {
        "schema": "attrcloak/unlearn/1",
        "method": result.method,
        "settings": dict(result.settings),
        "seconds": result.seconds,
        "steps": result.steps,
        "stopped": result.stopped,
        "objective": {"before": result.objective_before, "after": result.objective_after},
        "relative_move": result.relative_move,
        "scale": result.scale,
        "users_moved": int(result.moved.sum()),
        "classes": released.census.classes,
        "asked": released.census.asked,
        "unmet": released.census.unmet,
        "elsewhere": released.census.elsewhere,
        "warnings": released.warnings,
        "input_fingerprint": result.input_fingerprint,
        "output_fingerprint": result.table.fingerprint(),
        "key_commitment": result.key_commitment,
        "audit": None if released.audit is None else released.audit.to_json(),
        "audit_by_others": None if released.audit_by_others is None else released.audit_by_others.to_json(),
        "verdict": None if released.verdict is None else released.verdict.to_json(),
    }
