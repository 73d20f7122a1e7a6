"""Parts in Parquet files: lists of numbers of any of the three list types, row group by row group."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.named_columns import id_name
from attrcloak.data.vector_files import is_list, list_column, matrix_of, other_vectors
from attrcloak.errors import InvalidInput
from attrcloak.parts.location import Location
from attrcloak.parts.part import Change, Part, Written, check_type, rows_per_batch

_ROWS_PER_CHUNK = 1 << 15
"""Rows that the writer takes at once: beside each of their numbers it holds four bytes of its own."""
_IDS_PER_BATCH = 1 << 18
_READ_AT_ONCE = 1 << 23
"""Bytes of a column: few enough to stay in a processor's reach, and enough for requests over a network to be few."""


@dataclass(frozen=True)
class ParquetPart:
    """One Parquet file."""

    name: str
    location: Location
    rows: int
    dim: int
    dtype: np.dtype[Any]
    id_column: str
    vector_column: str
    frozen_columns: tuple[int, ...] = ()
    scoring: str = "unknown"
    other_vectors: tuple[str, ...] = ()

    def like(self, other: Part) -> "ParquetPart":
        """This part, which has no rows to tell it, with the columns and the scoring of another."""
        return replace(self, dim=other.dim, frozen_columns=other.frozen_columns, scoring=other.scoring)

    def ids(self, first: int) -> Iterator[Any]:
        """Batches of the id column."""
        with _opened(self.location) as file:
            for batch in self._batches(file, self.id_column, _IDS_PER_BATCH):
                yield batch.column(self.id_column)

    def vectors(self, at_least: int = 0) -> Iterator[NDArray[np.floating]]:
        """Batches (n, d)."""
        start = 0
        with _opened(self.location) as file:
            size = rows_per_batch(self.dim, self.dtype, at_least)
            for batch in self._batches(file, self.vector_column, size):
                if batch.num_rows:
                    yield self._matrix(batch, start)
                start += batch.num_rows

    def rewrite(self, target: Location, folder: Location, change: Change) -> Written:
        """Write row group by row group what is in this file, but for the vectors."""
        import pyarrow.parquet as pq

        with _opened(self.location) as file, target.replacing(folder) as sink:
            schema = _schema(file, self.vector_column)
            with pq.ParquetWriter(sink, schema, **_layout(file, self.vector_column)) as writer:
                start = 0
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    writer.write_table(
                        self._changed(file, schema, group, rows, start, change), row_group_size=max(rows, 1)
                    )
                    start += rows
            sink.close()
            return Written(sink.size, sink.sha256)

    def _changed(self, file: Any, schema: Any, group: int, rows: int, start: int, change: Change) -> Any:
        import pyarrow as pa

        numbers = np.empty((rows, self.dim), dtype=self.dtype)
        done = 0
        size = rows_per_batch(self.dim, self.dtype)
        for batch in self._batches(file, self.vector_column, size, [group]):
            if batch.num_rows:
                old = self._matrix(batch, start + done)
                numbers[done : done + len(old)] = change(start + done, old)
                done += len(old)
        others = [name for name in schema.names if name != self.vector_column]
        kept: Any = None
        if others:
            with self.location.reading():
                kept = file.read_row_group(group, columns=others, use_threads=False)
        columns = [
            _lists(numbers, schema.field(name).type) if name == self.vector_column else kept.column(name)
            for name in schema.names
        ]
        return pa.Table.from_arrays(columns, schema=schema)

    def _batches(self, file: Any, column: str, rows: int, groups: list[int] | None = None) -> Iterator[Any]:
        with self.location.reading():
            yield from file.iter_batches(rows, row_groups=groups, columns=[column], use_threads=False)

    def _matrix(self, batch: Any, start: int) -> NDArray[np.floating]:
        vectors = matrix_of(batch.column(self.vector_column), self.vector_column, start)
        if vectors.shape[1] != self.dim:
            raise InvalidInput(
                f"column {self.vector_column!r}: the vectors from row {start} on are {vectors.shape[1]} long, those "
                f"before {self.dim}; repair or drop them"
            )
        return vectors


def open_parquet(name: str, location: Location, id_column: str | None, vector_column: str | None) -> ParquetPart:
    """The part in a Parquet file; only its footer and first vectors are read.

    Raises:
        UnreadableFile: cut short, or of another kind.
        InvalidInput: no column of ids or vectors, or of a type that is none.
    """
    import pyarrow as pa

    problems: list[str] = []
    with _opened(location) as file:
        schema = file.schema_arrow
        if len(set(schema.names)) != len(schema.names):
            raise InvalidInput("two columns have the same name; rename one")
        key = vectors = None
        try:
            key = id_name(schema.names, id_column)
        except InvalidInput as error:
            problems += error.problems
        try:
            vectors = list_column(schema.empty_table(), vector_column)
        except InvalidInput as error:
            problems += error.problems
        if key is None or vectors is None:
            raise InvalidInput(problems)
        kind = schema.field(vectors).type
        if not is_list(kind):
            raise InvalidInput(f"column {vectors!r} is of type {kind}, expected lists of numbers")
        if not pa.types.is_floating(kind.value_type):
            raise InvalidInput(
                f"column {vectors!r} holds lists of {kind.value_type}, expected float16, float32 or float64"
            )
        dtype = np.dtype(kind.value_type.to_pandas_dtype())
        check_type(dtype)
        rows = file.metadata.num_rows
        if pa.types.is_fixed_size_list(kind):
            dim = kind.list_size
        else:
            dim = 0
            if rows:
                with location.reading():
                    first = next(iter(file.iter_batches(1, columns=[vectors], use_threads=False)))
                dim = matrix_of(first.column(vectors), vectors).shape[1]
        if rows and not dim:
            raise InvalidInput(f"column {vectors!r}: the vectors have no numbers in them")
        others = other_vectors(schema, vectors)
        return ParquetPart(name, location, rows, dim, dtype, key, vectors, other_vectors=others)


@contextmanager
def _opened(location: Location) -> Iterator[Any]:
    """A Parquet file for reading."""
    import pyarrow.parquet as pq

    with location.open() as source:
        with location.reading():
            # Read ahead in full, a row group would be in memory twice; in one piece, most of the time in the kernel
            # would be spent on new memory for it.
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_READ_AT_ONCE, page_checksum_verification=True)
        with file:
            yield file


def _schema(file: Any, vector_column: str) -> Any:
    """The schema as it was written: a list's field may be called "item" there, while reading calls it "element"."""
    import pyarrow as pa

    schema = file.schema_arrow
    stored = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if stored is None:
        return schema
    field = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored))).field(vector_column)
    return schema.set(schema.get_field_index(vector_column), field)


def _layout(file: Any, vector_column: str) -> dict[str, Any]:
    """What of a file's layout its footer tells, as settings of pyarrow's writer.

    New vectors get no dictionary: their numbers hardly ever repeat, so it would be filled, written, and given up.
    """
    metadata = file.metadata
    layout: dict[str, Any] = {
        "version": metadata.format_version,
        "store_schema": b"ARROW:schema" in (metadata.metadata or {}),
    }
    if not metadata.num_row_groups:
        return layout
    group = metadata.row_group(0)
    columns = [group.column(position) for position in range(group.num_columns)]
    codecs = {column.path_in_schema: column.compression for column in columns}
    layout["compression"] = {
        path: "NONE" if codec == "UNCOMPRESSED" else codec.removesuffix("_RAW") for path, codec in codecs.items()
    }
    encodings = {column.path_in_schema: set(column.encodings) for column in columns}
    dictionaries = [
        path
        for path, used in encodings.items()
        if used & {"RLE_DICTIONARY", "PLAIN_DICTIONARY"} and not path.startswith(f"{vector_column}.list.")
    ]
    layout["use_dictionary"] = dictionaries or False
    special = {
        path: next(iter(found))
        for path, used in encodings.items()
        if path not in dictionaries and (found := {name for name in used if name.startswith(("DELTA", "BYTE_STREAM"))})
    }
    if special:
        layout["column_encoding"] = special
    with_statistics = [column.path_in_schema for column in columns if column.is_stats_set]
    layout["write_statistics"] = with_statistics or False
    layout["write_page_index"] = any(column.has_offset_index for column in columns)
    layout["use_compliant_nested_type"] = not any(path.endswith(".list.item") for path in codecs)
    sorting = group.sorting_columns
    if sorting:
        layout["sorting_columns"] = sorting
    return layout


def _lists(numbers: NDArray[np.floating], kind: Any) -> Any:
    """The matrix (n, d) as a column of a list type, in chunks whose offsets fit 32 bits."""
    import pyarrow as pa

    chunks = []
    dim = numbers.shape[1]
    step = min(_ROWS_PER_CHUNK, max((1 << 31) // max(dim, 1) - 1, 1))
    for start in range(0, len(numbers), step):
        chunk = numbers[start : start + step]
        values = pa.array(chunk.reshape(-1), type=kind.value_type)
        if pa.types.is_fixed_size_list(kind):
            chunks.append(pa.FixedSizeListArray.from_arrays(values, type=kind))
            continue
        large = pa.types.is_large_list(kind)
        offsets = pa.array(np.arange(0, chunk.size + 1, dim, dtype=np.int64 if large else np.int32))
        build = pa.LargeListArray if large else pa.ListArray
        chunks.append(build.from_arrays(offsets, values, type=kind))
    return pa.chunked_array(chunks, type=kind)
