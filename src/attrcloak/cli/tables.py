"""Commands on a table that someone already has: audit, unlearn, apply, undo."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attrcloak.cli import files, streaming
from attrcloak.errors import InvalidSettings, NotSupported

if TYPE_CHECKING:
    from attrcloak.auditing import Protocol
    from attrcloak.release import Plan, Release

Vectors = Annotated[Path, typer.Argument(help="Vectors in .npy, .npz, .parquet or .safetensors.", show_default=False)]
People = Annotated[
    Path, typer.Option("--attributes", help="CSV, TSV or Parquet with one row a user.", show_default=False)
]
Columns = Annotated[
    str | None,
    typer.Option(
        help='Attributes to use, comma-separated; all columns by default. "gender x age" is their intersection.'
    ),
]
Requests = Annotated[Path | None, typer.Option(help="CSV with user_id,attribute: only these ask. Everyone by default.")]
IdColumn = Annotated[str | None, typer.Option("--id", help="Name of the id column; user_id by default.")]
VectorColumn = Annotated[str | None, typer.Option("--vector", help="Name of the vector column, if there are several.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the new table goes.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def audit(
    vectors: Vectors,
    attributes: People,
    columns: Columns = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    original: Annotated[
        Path | None, typer.Option(help="The table before unlearning: also attack the difference.")
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(help="CSV with user_id,attribute: attack only those who asked, and ask who did."),
    ] = None,
    knows: Annotated[
        str, typer.Option(help="Whose labels attackers know: everybody's, or, with --requests, others (did not ask).")
    ] = "everybody",
    attackers: Annotated[str, typer.Option(help="Comma-separated: logistic, mlp, xgboost, qda, knn, random.")] = (
        "logistic,mlp,xgboost"
    ),
    protocol: Annotated[str, typer.Option(help="sound, or paper (one 20/80 split, plain accuracy).")] = "sound",
    known: Annotated[str, typer.Option(help="Shares of labels that attackers know, comma-separated.")] = "0.8",
    seeds: Annotated[int, typer.Option(help="Number of seeds, from --seed on.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="First seed of folds and attackers.")] = 0,
    fail_above: Annotated[
        list[str] | None,
        typer.Option(help="attribute=balanced accuracy, repeatable; exit 3 when an attacker is further from chance."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well attackers read attributes from user vectors.

    Example: attrcloak audit users.npy --attributes people.csv --columns gender,age --fail-above gender=0.55
    """
    gates = _gates(fail_above or [])
    chosen = _protocol(protocol, known, seeds)
    if knows not in ("everybody", "others"):
        raise InvalidSettings(f"--knows is {knows!r}, expected everybody or others")
    if knows == "others" and requests is None:
        raise InvalidSettings("--knows others needs --requests: without it everybody asked, and there are no others")
    from attrcloak.auditing import audit as run_audit
    from attrcloak.auditing.questions import ASKED
    from attrcloak.data.vector_files import read_vectors
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import audit_table, progress_bar, show

    table = read_vectors(vectors, id_column=id_column, vector_column=vector_column)
    people = files.load_people(attributes, id_column, columns, requests)
    before = None if original is None else read_vectors(original, id_column=id_column, vector_column=vector_column)
    people.select([name for name in gates if name != ASKED])
    with progress_bar(as_json) as progress:
        report = run_audit(
            table,
            people,
            attackers=files.names(attackers) or (),
            protocol=chosen,
            original=before,
            knows="others" if knows == "others" else "everybody",
            judged="everybody" if requests is None else "requests",
            seed=seed,
            progress=progress,
        )
    if as_json:
        print(dump(report.to_json()), end="")
    else:
        show(audit_table(report.results))
        for text in report.notes:
            files.note(f"note: {text}")
    broken = report.breaks(gates)
    for text in broken:
        files.note(f"gate not passed: {text}")
    raise typer.Exit(3 if broken else 0)


def unlearn(
    vectors: Annotated[
        str,
        typer.Argument(
            help="Vectors in .npy, .npz, .parquet or .safetensors; a folder or a URI is streamed.", show_default=False
        ),
    ],
    attributes: Annotated[
        str,
        typer.Option("--attributes", help="CSV, TSV or Parquet with one row a user; a folder where vectors stream."),
    ],
    output: Annotated[str | None, typer.Option("--output", "-o", help="Where the new table goes.")] = None,
    columns: Columns = None,
    method: Annotated[str, typer.Option(help="Method to use.")] = "calibrated",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, repeatable: a setting of the method.")
    ] = None,
    length: Annotated[
        str,
        typer.Option(help="unit: vectors are scored by a plain dot product, so bring all to one length; keep; auto."),
    ] = "auto",
    requests: Annotated[
        str | None, typer.Option(help="CSV with user_id,attribute: only these ask. Everyone by default.")
    ] = None,
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
        Path | None, typer.Option(help="Write the affine maps here (methods that have them). A secret.")
    ] = None,
    undo_file: Annotated[
        Path | None, typer.Option("--undo-file", help="Write the original rows of moved users here. A secret.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Secret key of the null draw; a fresh one is drawn and forgotten by default.")
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    seed: Annotated[int, typer.Option(help="Seed of what is random but not secret.")] = 0,
    seeds: Annotated[int, typer.Option(help="Seeds of the audit that gives the verdict.", min=1)] = 3,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done, and do nothing.")] = False,
    check: Annotated[bool, typer.Option("--audit/--no-audit", help="Audit the result and give a verdict.")] = True,
    engine: Annotated[
        str | None,
        typer.Option(help="Stream, run by auto, in-process, pool, ray or spark. Folders and URIs always stream."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes of the engine; all cores by default.", min=1)] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what is not finished, where output is a URI; beside it otherwise.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where torch runs the two passes, such as cuda or cuda:1, for methods that solve from moments and "
            "tables in memory; NumPy runs them by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lower what vectors give away, write a new table, and end with a verdict; exit 3 when it is not "protected".

    Example: attrcloak unlearn users.npy --attributes people.csv --columns gender,age -o new.npy
    """
    chosen = files.build_method(method, settings or [])
    if cover and eraser is not None:
        raise InvalidSettings(
            "--cover goes with --undo-file, not with --eraser: an eraser needs the list of who was moved, and who is "
            "in the cover set is written nowhere"
        )
    if output is None and not plan:
        raise typer.BadParameter("name the new table with -o, or use --plan", param_hint="--output")
    if streaming.streams(vectors, output, engine, interactions):
        streaming.refuse_what_needs_memory(plan, undo_file, eraser, method)
        if device is not None:
            raise NotSupported(
                "--device is for a table in memory: a streamed one is bound by its files; share it among processes "
                "with --engine and --workers"
            )
        if cover:
            raise InvalidSettings("--cover draws among all users, so it needs a table in memory: give one file")
        if earlier is not None:
            raise InvalidSettings("--earlier is for learning from users who did not ask, in memory: give one file")
        streaming.unlearn_streaming(
            streaming.sources(
                vectors, attributes, str(output), requests, work, id_column, vector_column, columns, interactions, items
            ),
            chosen,
            length=files.length_option(length),
            key=files.read_key(key_file),
            seed=seed,
            engine=engine or "auto",
            workers=workers,
            check=check,
            protocol=_protocol("sound", "0.8", seeds),
            eraser=eraser,
            as_json=as_json,
        )
        return
    if workers is not None or work is not None or items is not None:
        raise InvalidSettings(
            "--workers, --work and --items are for tables that are streamed; name an --engine, such as auto"
        )
    table_file, new_file = Path(vectors), None if output is None else Path(output)
    people_file, requests_file = Path(attributes), None if requests is None else Path(requests)
    files.refuse_inputs_as_outputs(
        [table_file, people_file, requests_file, earlier, key_file], [new_file, eraser, undo_file]
    )
    files.refuse_another_format(table_file, new_file)
    import numpy as np

    from attrcloak import release
    from attrcloak.data.vector_files import read_vectors, write_vectors
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import audit_table, progress_bar, show
    from attrcloak.unlearning.null_draw import secret_generator
    from attrcloak.unlearning.undo import OriginalRows

    table = files.keep_length(read_vectors(table_file, id_column=id_column, vector_column=vector_column), length)
    people = files.load_people(people_file, id_column, columns, requests_file)
    moved_before = files.read_users(earlier)
    if moved_before is not None:
        people = people.without(moved_before)
    key = files.read_key(key_file)
    if cover:
        people = people.align(table.ids).cover(
            cover, np.random.default_rng() if key is None else secret_generator(key, b"cover")
        )
    if plan:
        planned = release.plan(table, people, chosen)
        print(dump(planned.to_json()), end="") if as_json else _show_plan(planned)
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
            protocol=_protocol("sound", "0.8", seeds),
            progress=progress,
            device=device,
        )
    result, secrets = released.result, []
    if undo_file is not None:
        OriginalRows.of(table, result).save(undo_file)
        secrets.append(undo_file)
    if eraser is not None:
        if result.eraser is None:
            OriginalRows.of(table, result).save(eraser)
            files.note(
                f"{method} moves rows one by one, so {eraser} holds the original rows: undo can use it, apply cannot"
            )
        else:
            result.eraser.save(eraser)
        secrets.append(eraser)
    write_vectors(result.table, new_file, like=table_file, id_column=id_column, vector_column=vector_column)
    for path in secrets:
        files.note(f"{path} is a secret: keep it like a key, or destroy it")
    if as_json:
        print(dump(_unlearn_json(released)), end="")
    else:
        files.note(
            f"{output}: {int(result.moved.sum())} of {len(table)} users moved by {method} in {result.seconds:.1f} s "
            f"({result.stopped}; objective {result.objective_before:.3f} -> {result.objective_after:.3f} nats)"
        )
        if released.audit is not None:
            show(audit_table(released.audit.results))
        if released.audit_by_others is not None:
            files.note("the same by attackers who know only users who did not ask:")
            show(audit_table(released.audit_by_others.results))
    if not files.say_verdict(released.verdict):
        raise typer.Exit(3)


def apply(
    vectors: Vectors,
    eraser: Annotated[Path, typer.Option(help="Eraser written by unlearn.", show_default=False)],
    output: Output,
    attributes: Annotated[
        Path | None, typer.Option(help="CSV, TSV or Parquet with one row a user; not needed with --everybody.")
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    requests: Requests = None,
    everybody: Annotated[
        bool,
        typer.Option("--everybody", help="Move all users, class known or not: for erasers with one map for everybody."),
    ] = False,
) -> None:
    """Move the users of another table by a fitted eraser. Audit the result: maps fitted on some can fail on others.

    With --everybody no attributes are needed.

    Example: attrcloak apply more.npy --attributes more.csv --eraser map.safetensors -o moved.npy
    """
    files.refuse_inputs_as_outputs([vectors, attributes, eraser, requests], [output])
    files.refuse_another_format(vectors, output)
    from attrcloak.data.vector_files import read_vectors, write_vectors
    from attrcloak.moments.eraser import Eraser
    from attrcloak.release import apply_eraser, apply_to_everybody

    if everybody and requests is not None:
        raise typer.BadParameter("moves all users, so a list of requests says nothing", param_hint="--everybody")
    maps = Eraser.load(eraser)
    table = read_vectors(vectors, id_column=id_column, vector_column=vector_column)
    if everybody:
        moved = apply_to_everybody(maps, table)
    elif attributes is None:
        raise typer.BadParameter("say who is in which class, or use --everybody", param_hint="--attributes")
    else:
        people = files.load_people(attributes, id_column, ",".join(maps.key.attributes), requests)
        moved = apply_eraser(maps, table, people)
    write_vectors(moved, output, like=vectors, id_column=id_column, vector_column=vector_column)
    files.note(f"{output}: written; audit it before it is used")


def undo(
    vectors: Vectors,
    eraser: Annotated[Path, typer.Option(help="Eraser or undo file written by unlearn.", show_default=False)],
    output: Output,
    attributes: Annotated[
        Path | None, typer.Option(help="The people as they were at unlearn; needed with an eraser.")
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    requests: Annotated[Path | None, typer.Option(help="The requests as they were at unlearn.")] = None,
    users: Annotated[
        Path | None, typer.Option(help="CSV with a column user_id: only these, who withdrew. All by default.")
    ] = None,
) -> None:
    """Take unlearning back: exactly with an undo file, up to rounding with an eraser.

    Example: attrcloak undo new.npy --eraser undo.safetensors -o old.npy
    """
    files.refuse_inputs_as_outputs([vectors, attributes, eraser, requests, users], [output])
    files.refuse_another_format(vectors, output)
    from attrcloak.data.vector_files import read_vectors, write_vectors
    from attrcloak.moments.eraser import Eraser
    from attrcloak.release import undo as run_undo
    from attrcloak.unlearning.undo import SCHEMA, OriginalRows, read_secret

    table = read_vectors(vectors, id_column=id_column, vector_column=vector_column)
    only = files.read_users(users)
    if read_secret(eraser)[0].get("schema") == SCHEMA:
        restored = run_undo(OriginalRows.load(eraser), table, users=only)
    else:
        maps = Eraser.load(eraser)
        if attributes is None:
            raise typer.BadParameter("an eraser needs the people to know whom to move back", param_hint="--attributes")
        people = files.load_people(attributes, id_column, ",".join(maps.key.attributes), requests)
        restored = run_undo(maps, table, people, users=only)
    write_vectors(restored, output, like=vectors, id_column=id_column, vector_column=vector_column)
    files.note(f"{output}: written")


def _gates(texts: list[str]) -> dict[str, float]:
    gates = {}
    for text in texts:
        name, separator, limit = text.partition("=")
        try:
            gates[name] = float(limit)
        except ValueError:
            separator = ""
        if not separator or not 0 <= gates[name] <= 1:
            raise typer.BadParameter(
                f"{text!r}: write attribute=balanced accuracy, such as gender=0.55", param_hint="--fail-above"
            )
    return gates


def _protocol(name: str, known: str, seeds: int) -> "Protocol":
    from dataclasses import replace

    from attrcloak.auditing import PAPER, SOUND

    if name not in ("sound", "paper"):
        raise InvalidSettings(f"--protocol is {name!r}, expected sound or paper")
    if name == "paper":
        return PAPER
    try:
        shares = tuple(float(part) for part in known.split(","))
    except ValueError as error:
        raise InvalidSettings(f"--known is {known!r}, expected shares such as 0.8 or 0.05,0.2,0.8") from error
    return replace(SOUND, known=shares, seeds=seeds)


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
        "users_moved": int(result.moved.sum()),
        "input_fingerprint": result.input_fingerprint,
        "output_fingerprint": result.table.fingerprint(),
        "key_commitment": result.key_commitment,
        "audit": None if released.audit is None else released.audit.to_json(),
        "audit_by_others": None if released.audit_by_others is None else released.audit_by_others.to_json(),
        "verdict": None if released.verdict is None else released.verdict.to_json(),
    }


def _show_plan(planned: "Plan") -> None:
    print(
        f"{planned.moving} of {planned.users} users would move, in {planned.cells} cells of "
        f"{planned.dimensions} dimensions\n"
        f"{planned.lone_cells} cells have a single user (their maps give that user's vector away)\n"
        f"about {planned.memory_bytes / 1e6:.0f} MB of memory and {planned.seconds:.1f} s, without the audit"
    )
    for name, classes in planned.small_classes.items():
        print(f"{name}: fewer users than dimensions in " + ", ".join(f"{label} ({n})" for label, n in classes.items()))
    for text in planned.warnings:
        print(f"warning: {text}")
