"""Tables of embeddings in files: .npy, .npz, .parquet and .safetensors, read and written back. Never pickle."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable, Scoring
from attrcloak.data.ids import Ids
from attrcloak.data.named_columns import check_present, id_name, missing_column, read_table, some, unique_ids
from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.whole_file import replacing

_VECTOR_KEYS = ("vectors", "user_factors")
_ID_KEYS = ("ids", "user_ids")
OTHER_VECTORS_STAY = (
    "holds lists of numbers too and stays as it was; if these are of users as well, attackers read them: leave them "
    "out, or unlearn them with --vector"
)
"""What is said of every column of ``other_vectors``."""
_KINDS = ".npy, .npz, .parquet, .safetensors"


def read_vectors(path: str | Path, *, id_column: str | None = None, vector_column: str | None = None) -> EmbeddingTable:
    """The table of embeddings in a file, by its extension.

    | file | vectors | ids |
    |---|---|---|
    | .npy | the array | 0 .. n-1 |
    | .npz | ``vectors``, ``user_factors``, or the only 2-d array | ``ids``, ``user_ids``, else 0 .. n-1 |
    | .parquet | the list column | ``user_id``, ``id`` or the like |
    | .safetensors | ``vectors``, ``user_factors``, or the only tensor with two dimensions | ``ids``, else 0 .. n-1 |

    An .npz of implicit's BPR has a last column of ones in ``user_factors``: part of the scoring, so it is frozen.

    Args:
        path: the file.
        id_column: name of the ids in the file; None finds them.
        vector_column: name of the vectors in the file; None finds them.

    Raises:
        UnreadableFile: the file is missing, empty, cut short, holds objects, or is of another kind.
        InvalidInput: what is in it is no table of embeddings; the problems found are listed.
    """
    path = Path(path)
    check_present(path)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".parquet", ".safetensors"):
        raise UnreadableFile(f"{path}: {suffix or 'no extension'} is not supported; use one of {_KINDS}")
    try:
        if suffix == ".parquet":
            return _from_parquet(read_table(path), id_column, vector_column)
        arrays = _arrays(path)
        if suffix == ".npy":
            return EmbeddingTable(Ids.range(len(arrays["vectors"])), arrays["vectors"])
        return _from_arrays(arrays, id_column, vector_column)
    except UnreadableFile:
        raise
    except InvalidInput as error:
        raise InvalidInput([f"{path}: {problem}" for problem in error.problems]) from error


def write_vectors(
    table: EmbeddingTable,
    path: str | Path,
    *,
    like: str | Path | None = None,
    id_column: str | None = None,
    vector_column: str | None = None,
) -> None:
    """Write a table in the format of the extension, whole or not at all.

    Args:
        table: what to write.
        path: the file; replaced if it is there.
        like: a file of the same format the table was read from: its names, other columns, their order and its
            metadata are kept. Parquet rows are matched by id.
        id_column: name of the ids in ``like``, as given to ``read_vectors``.
        vector_column: name of the vectors in ``like``, likewise.

    Raises:
        UnreadableFile: the extension is not supported, or ``like`` is of another format or cannot be read.
        InvalidInput: the users of a Parquet ``like`` are not the table's.
    """
    path = Path(path)
    model = None if like is None else Path(like)
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".parquet", ".safetensors"):
        raise UnreadableFile(f"{path}: {suffix or 'no extension'} is not supported; use one of {_KINDS}")
    if model is not None and model.suffix.lower() != suffix:
        raise UnreadableFile(f"{model}: is not a {suffix} file, so {path} cannot be written like it")
    vectors = np.ascontiguousarray(table.vectors)
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        content = _to_parquet(table, None if model is None else read_table(model), id_column, vector_column)
        with replacing(path) as temporary:
            pq.write_table(content, temporary)
        return
    if suffix == ".npy":
        with replacing(path) as temporary:
            np.save(temporary, vectors, allow_pickle=False)
        return
    arrays: dict[str, NDArray[Any]] = {} if model is None else _arrays(model)
    key = vector_key(arrays, vector_column) if arrays else "vectors"
    id_key = id_column or next((name for name in _ID_KEYS if name in arrays), None)
    if id_key is not None or not table.ids.equals(Ids.range(len(table))):
        arrays[id_key or "ids"] = table.ids.values
    arrays[key] = vectors
    with replacing(path) as temporary:
        if suffix == ".npz":
            np.savez(temporary, allow_pickle=False, **arrays)
            return
        from safetensors.numpy import save_file

        if arrays.get(id_key or "ids", vectors).dtype.kind == "U":
            raise InvalidInput(f"{path}: .safetensors holds numbers only, and these ids are text; write .parquet")
        save_file(arrays, temporary, metadata=None if model is None else _metadata(model))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.numpy import load_file

            try:
                return dict(load_file(path))
            except SafetensorError as error:
                raise ValueError(str(error)) from error
        # Opened here, so that it is closed even where NumPy gives up on a broken archive.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"vectors": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = "it holds Python objects, which are never run" if "pickle" in str(error) else str(error)
        raise UnreadableFile(f"{path}: cannot be read ({reason}); is the file complete and of this kind?") from error


def _metadata(path: Path) -> dict[str, str] | None:
    from safetensors import safe_open

    with safe_open(path, framework="np") as content:
        metadata: dict[str, str] | None = content.metadata()
    return metadata


def vector_key(arrays: Mapping[str, Any], wanted: str | None) -> str:
    """The name of the vectors among arrays, of which only ``ndim`` and ``shape`` are looked at."""
    if wanted is not None:
        if wanted not in arrays:
            raise InvalidInput(missing_column(wanted, list(arrays)))
        return wanted
    for name in _VECTOR_KEYS:
        if name in arrays:
            return name
    flat = [name for name, array in arrays.items() if array.ndim == 2]
    if len(flat) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise InvalidInput(
            f"{len(flat)} arrays have two dimensions ({shapes}); name that of the vectors with vector_column="
        )
    return flat[0]


def _from_arrays(arrays: dict[str, NDArray[Any]], id_column: str | None, vector_column: str | None) -> EmbeddingTable:
    key = vector_key(arrays, vector_column)
    vectors = arrays[key]
    if id_column is not None and id_column not in arrays:
        raise InvalidInput(missing_column(id_column, list(arrays)))
    id_key = id_column or next((name for name in _ID_KEYS if name in arrays), None)
    ids = Ids.range(len(vectors)) if id_key is None else Ids(arrays[id_key])
    constant = (
        key == "user_factors" and vectors.ndim == 2 and vectors.shape[1] > 1 and bool((vectors[:, -1] == 1).all())
    )
    scoring: Scoring = "dot+constant" if constant else "dot" if key == "user_factors" else "unknown"
    frozen = (vectors.shape[1] - 1,) if constant else ()
    represents = "user factors" if key == "user_factors" else "user embeddings"
    return EmbeddingTable(ids, vectors, represents=represents, frozen_columns=frozen, scoring=scoring)


def list_column(table: Any, wanted: str | None) -> str:
    """The name of the vectors in a pyarrow table, of which only names and types are looked at."""
    if wanted is not None:
        if wanted not in table.column_names:
            raise InvalidInput(missing_column(wanted, table.column_names))
        return wanted
    lists = [field.name for field in table.schema if is_list(field.type)]
    if len(lists) > 1 and "vectors" in lists:
        return "vectors"
    if len(lists) != 1:
        raise InvalidInput(
            f"{len(lists)} columns hold lists ({', '.join(lists) or 'columns: ' + ', '.join(table.column_names)}); "
            "name that of the vectors with vector_column="
        )
    return str(lists[0])


def other_vectors(schema: Any, name: str) -> tuple[str, ...]:
    """The other columns of a pyarrow schema that hold lists of floating-point numbers, as vectors do."""
    import pyarrow as pa

    return tuple(
        field.name
        for field in schema
        if field.name != name and is_list(field.type) and pa.types.is_floating(field.type.value_type)
    )


def is_list(kind: Any) -> bool:
    """Whether a type of pyarrow is one of its three of lists."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _from_parquet(table: Any, id_column: str | None, vector_column: str | None) -> EmbeddingTable:
    import pyarrow as pa

    if table.num_rows == 0:
        raise InvalidInput("the file has columns but no rows")
    problems: list[str] = []
    ids, vectors = None, None
    try:
        key = id_name(table.column_names, id_column)
        ids = unique_ids(table[key], key)
    except InvalidInput as error:
        problems += error.problems
    try:
        name = list_column(table, vector_column)
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        vectors = matrix_of(column, name)
    except InvalidInput as error:
        problems += error.problems
    if problems:
        raise InvalidInput(problems)
    assert ids is not None  # otherwise there is a problem
    assert vectors is not None
    return EmbeddingTable(ids, vectors)


def matrix_of(column: Any, name: str, first_row: int = 0) -> NDArray[Any]:
    """(n, d) from a pyarrow array of lists; ``first_row`` is added to the row numbers in messages."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_list(column.type):
        raise InvalidInput(f"column {name!r} is of type {column.type}, expected lists of numbers")
    if column.null_count:
        rows = np.flatnonzero(pc.is_null(column).to_numpy(zero_copy_only=False)) + first_row
        raise InvalidInput(f"column {name!r}: {len(rows)} rows have no vector (rows {some(rows)}); drop or fill them")
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    width = int(np.bincount(lengths).argmax())
    rows = np.flatnonzero(lengths != width) + first_row
    if len(rows):
        raise InvalidInput(
            f"column {name!r}: {len(rows)} rows are not {width} long like the rest (rows {some(rows)}); "
            "repair or drop them"
        )
    numbers = column.flatten()
    if not (pa.types.is_floating(numbers.type) or pa.types.is_integer(numbers.type)):
        raise InvalidInput(f"column {name!r} holds lists of {numbers.type}, expected numbers")
    if numbers.null_count:
        rows = np.unique(np.flatnonzero(pc.is_null(numbers).to_numpy(zero_copy_only=False)) // width) + first_row
        raise InvalidInput(f"column {name!r}: {len(rows)} rows have gaps in their vector (rows {some(rows)})")
    return np.asarray(numbers.to_numpy(zero_copy_only=False)).reshape(len(column), width)


def _to_parquet(table: EmbeddingTable, like: Any, id_column: str | None, vector_column: str | None) -> Any:
    import pyarrow as pa

    if like is None:
        numbers = pa.array(np.ascontiguousarray(table.vectors).reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(numbers, table.dim)
        return pa.table({"user_id": pa.array(table.ids.values), "vectors": lists})
    key, name = id_name(like.column_names, id_column), list_column(like, vector_column)
    rows = table.ids.rows(unique_ids(like[key], key))
    if len(rows) != len(table) or (rows < 0).any():
        raise InvalidInput(
            f"the table's {len(table)} users are not the {len(rows)} of the file it is to be written like "
            f"({int((rows < 0).sum())} of those are not in the table)"
        )
    position = like.schema.get_field_index(name)
    field = like.schema.field(position)
    numbers = pa.array(np.ascontiguousarray(table.vectors[rows]).reshape(-1)).cast(field.type.value_type)
    fixed = pa.FixedSizeListArray.from_arrays(numbers, table.dim)
    return like.set_column(position, field, fixed.cast(field.type))
