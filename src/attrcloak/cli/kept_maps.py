"""Commands on what an earlier run left: apply (its maps, to other users) and undo (back to the old vectors)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrcloak.cli import files, streaming
from attrcloak.cli.options import Engine, IdColumn, Output, Requests, Streamable, VectorColumn, Work, Workers
from attrcloak.errors import NotSupported

if TYPE_CHECKING:
    from attrcloak.data import EmbeddingTable
    from attrcloak.moments.eraser import Eraser


def apply(
    vectors: Streamable,
    eraser: Annotated[Path, typer.Option(help="Eraser written by unlearn.", show_default=False)],
    output: Output,
    attributes: Annotated[
        str | None,
        typer.Option(
            help="CSV, TSV or Parquet with one row a user; a folder where vectors stream; not needed with --everybody."
        ),
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    requests: Requests = None,
    everybody: Annotated[
        bool,
        typer.Option("--everybody", help="Move all users, class known or not: for erasers with one map for everybody."),
    ] = False,
    engine: Engine = None,
    workers: Workers = None,
    work: Work = None,
) -> None:
    """Move the users of another table by a fitted eraser. Audit the result: maps fitted on some can fail on others.

    With --everybody no attributes are needed.

    Example: attrcloak apply more.npy --attributes more.csv --eraser map.safetensors -o moved.npy
    """
    from attrcloak.moments.eraser import Eraser

    if everybody and requests is not None:
        raise typer.BadParameter("moves all users, so a list of requests says nothing", param_hint="--everybody")
    if attributes is None and not everybody:
        raise typer.BadParameter("say who is in which class, or use --everybody", param_hint="--attributes")
    if streaming.streams(vectors, output, engine):
        if attributes is None or everybody:
            raise NotSupported(
                "--everybody moves a table in memory: give one file without --engine, or in its place name the people "
                "(--attributes)"
            )
        maps = Eraser.load(eraser)
        _stream(
            maps, vectors, attributes, output, requests, work, id_column, vector_column, engine, workers, back=False
        )
    else:
        streaming.refuse_options_of_streams(workers=workers, work=work)
        table_file, new_file, people_file = Path(vectors), Path(output), _path(attributes)
        files.refuse_inputs_as_outputs([table_file, people_file, eraser, _path(requests)], [new_file])
        files.refuse_another_format(table_file, new_file)
        from attrcloak.data.vector_files import read_vectors, write_vectors
        from attrcloak.release import apply_eraser, apply_to_everybody

        maps = Eraser.load(eraser)
        table = read_vectors(table_file, id_column=id_column, vector_column=vector_column)
        if people_file is None or everybody:
            moved = apply_to_everybody(maps, table)
        else:
            columns = ",".join(maps.key.attributes)
            moved = apply_eraser(maps, table, files.load_people(people_file, id_column, columns, _path(requests)))
        write_vectors(moved, new_file, like=table_file, id_column=id_column, vector_column=vector_column)
        files.note(_how_many_moved(table, moved))
    files.note(f"{output}: written; audit it before it is used")


def undo(
    vectors: Streamable,
    eraser: Annotated[Path, typer.Option(help="Eraser or undo file written by unlearn.", show_default=False)],
    output: Output,
    attributes: Annotated[
        str | None, typer.Option(help="The people as they were at unlearn; needed with an eraser.")
    ] = None,
    id_column: IdColumn = None,
    vector_column: VectorColumn = None,
    requests: Annotated[str | None, typer.Option(help="The requests as they were at unlearn.")] = None,
    users: Annotated[
        str | None,
        typer.Option(
            help="CSV with a column user_id: only these, who withdrew; everybody else stays as is. All by default."
        ),
    ] = None,
    engine: Engine = None,
    workers: Workers = None,
    work: Work = None,
) -> None:
    """Take unlearning back: exactly with an undo file, up to rounding with an eraser.

    Example: attrcloak undo new.npy --eraser undo.safetensors -o old.npy
    """
    from attrcloak.moments.eraser import Eraser
    from attrcloak.unlearning.undo import SCHEMA, OriginalRows, read_secret

    has_rows = read_secret(eraser)[0].get("schema") == SCHEMA
    if not has_rows and attributes is None:
        raise typer.BadParameter("an eraser needs the people to know whom to move back", param_hint="--attributes")
    if streaming.streams(vectors, output, engine):
        if attributes is None or has_rows:
            raise NotSupported(
                "an undo file is for one file in memory, without --engine; a streamed table goes back by its eraser "
                "(--eraser, with --attributes and --requests as they were)"
            )
        _stream(
            Eraser.load(eraser), vectors, attributes, output, requests, work, id_column, vector_column, engine, workers,
            users=users, back=True,
        )  # fmt: skip
    else:
        streaming.refuse_options_of_streams(workers=workers, work=work)
        table_file, new_file, people_file = Path(vectors), Path(output), _path(attributes)
        files.refuse_inputs_as_outputs([table_file, people_file, eraser, _path(requests), _path(users)], [new_file])
        files.refuse_another_format(table_file, new_file)
        from attrcloak.data.vector_files import read_vectors, write_vectors
        from attrcloak.release import undo as run_undo

        table = read_vectors(table_file, id_column=id_column, vector_column=vector_column)
        only = files.read_users(_path(users))
        if people_file is None or has_rows:
            restored = run_undo(OriginalRows.load(eraser), table, users=only)
        else:
            maps = Eraser.load(eraser)
            people = files.load_people(people_file, id_column, ",".join(maps.key.attributes), _path(requests))
            restored = run_undo(maps, table, people, users=only)
        write_vectors(restored, new_file, like=table_file, id_column=id_column, vector_column=vector_column)
        files.note(_how_many_moved(table, restored))
    files.note(f"{output}: written")


def _how_many_moved(before: "EmbeddingTable", after: "EmbeddingTable") -> str:
    moved = int((before.vectors != after.vectors).any(axis=1).sum())
    doubt = "" if moved else "; is it the table that these maps or rows are for?"
    return f"{moved} of {len(after)} users have another vector now{doubt}"


def _stream(
    maps: "Eraser",
    vectors: str,
    attributes: str,
    output: str,
    requests: str | None,
    work: Path | None,
    id_column: str | None,
    vector_column: str | None,
    engine: str | None,
    workers: int | None,
    *,
    users: str | None = None,
    back: bool,
) -> None:
    columns = ",".join(maps.key.attributes)
    where = streaming.sources(
        vectors, attributes, output, requests, work, id_column, vector_column, columns, users=users
    )
    streaming.move_by_kept_maps(where, maps, engine, workers, back=back)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
