"""Commands on a table that someone already has: audit, apply, undo."""

from pathlib import Path
from typing import Annotated

import typer

from attrcloak.cli import files
from attrcloak.cli.options import AsJson, Columns, IdColumn, Output, People, Requests, VectorColumn, Vectors
from attrcloak.errors import InvalidSettings


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
    chosen = files.read_protocol(protocol, known, seeds)
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
