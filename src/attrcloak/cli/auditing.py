"""The command audit: how well attackers read attributes from a table that somebody already has."""

from pathlib import Path
from typing import Annotated

import typer

from attrcloak.cli import files, streaming
from attrcloak.cli.options import AsJson, Columns, Engine, IdColumn, Streamable, VectorColumn, Workers
from attrcloak.errors import InvalidSettings, NotSupported


def audit(
    vectors: Streamable,
    attributes: Annotated[
        str,
        typer.Option(
            "--attributes",
            help="CSV, TSV or Parquet with one row a user; a folder where vectors stream.",
            show_default=False,
        ),
    ],
    columns: Columns = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    original: Annotated[
        Path | None, typer.Option(help="The table before unlearning: also attack the difference.")
    ] = None,
    requests: Annotated[
        str | None,
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
    engine: Engine = None,
    workers: Workers = None,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder to put what a streamed table needs in; that of temporary files by default."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how well attackers read attributes from user vectors.

    Of a folder, or with an engine, a sample of about 20,000 users is attacked, and the moments are of everybody.

    Example: attrcloak audit users.npy --attributes people.csv --columns gender,age --fail-above gender=0.55
    """
    gates = _gates(fail_above or [])
    chosen = files.read_protocol(protocol, known, seeds)
    if knows not in ("everybody", "others"):
        raise InvalidSettings(f"--knows is {knows!r}, expected everybody or others")
    if knows == "others" and requests is None:
        raise InvalidSettings("--knows others needs --requests: without it everybody asked, and there are no others")
    if streaming.streams(vectors, None, engine):
        if original is not None or knows == "others":
            raise NotSupported(
                "--original and --knows others are for tables in memory: put a sample of users into one file, the same "
                "of both tables"
            )
        broken = streaming.audit_streaming(
            vectors,
            attributes,
            requests=requests,
            id_column=id_column,
            vector_column=vector_column,
            columns=columns,
            attackers=files.names(attackers) or (),
            protocol=chosen,
            seed=seed,
            engine=engine or "auto",
            workers=workers,
            work=work,
            gates=gates,
            as_json=as_json,
        )
        raise typer.Exit(_exit_code(broken))
    streaming.refuse_options_of_streams(workers=workers, work=work)
    from attrcloak.auditing import audit as run_audit
    from attrcloak.auditing.questions import ASKED
    from attrcloak.data.vector_files import read_vectors
    from attrcloak.json_text import dump
    from attrcloak.reporting.terminal import progress_bar

    table = read_vectors(Path(vectors), id_column=id_column, vector_column=vector_column)
    people = files.load_people(Path(attributes), id_column, columns, None if requests is None else Path(requests))
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
        files.show_audit(report)
    raise typer.Exit(_exit_code(report.breaks(gates)))


def _exit_code(broken: list[str]) -> int:
    """3 where gates are not passed, with a message for each."""
    for text in broken:
        files.note(f"gate not passed: {text}")
    return 3 if broken else 0


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
