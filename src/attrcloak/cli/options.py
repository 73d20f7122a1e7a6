"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

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
Requests = Annotated[str | None, typer.Option(help="CSV with user_id,attribute: only these ask. Everyone by default.")]
IdColumn = Annotated[str | None, typer.Option("--id", help="Name of the id column; user_id by default.")]
VectorColumn = Annotated[str | None, typer.Option("--vector", help="Name of the vector column, if there are several.")]
Output = Annotated[str, typer.Option("--output", "-o", help="Where the new table goes.", show_default=False)]
Streamable = Annotated[
    str,
    typer.Argument(
        help="Vectors in .npy, .npz, .parquet or .safetensors; a folder or a URI is streamed.", show_default=False
    ),
]
Engine = Annotated[
    str | None,
    typer.Option(help="Stream, run by auto, in-process, pool, ray or spark. Folders and URIs always stream."),
]
Workers = Annotated[int | None, typer.Option(help="Processes of the engine; all cores by default.", min=1)]
Work = Annotated[
    Path | None,
    typer.Option(help="New or empty folder for what is not finished, where output is a URI; beside it otherwise."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
