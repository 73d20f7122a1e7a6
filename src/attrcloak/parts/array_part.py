"""Parts in .npy and .safetensors files: a header, and rows of numbers at known places. Never pickle."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.named_columns import missing_column
from attrcloak.data.vector_files import vector_key
from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.parts.location import Location
from attrcloak.parts.part import Change, Part, Written, check_type, rows_per_batch

_BLOCK = 1 << 24
_SAFETENSORS_TYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # as the safetensors format has it


@dataclass(frozen=True)
class Stored:
    """An array inside a file.

    Attributes:
        dtype: of its numbers.
        shape: (n,) or (n, d).
        begin: first byte in the file.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """The byte after its last."""
        return self.begin + self.shape[0] * self.row_bytes

    def read(self, file: Any, start: int, stop: int) -> NDArray[Any]:
        """Rows of it."""
        content = file.read_at((stop - start) * self.row_bytes, self.begin + start * self.row_bytes)
        return np.frombuffer(content, dtype=self.dtype).reshape(-1, *self.shape[1:])


@dataclass(frozen=True)
class ArrayPart:
    """One file with the vectors as an array; everything else in it is copied byte for byte."""

    name: str
    location: Location
    stored: Stored
    stored_ids: Stored | None = None
    frozen_columns: tuple[int, ...] = ()
    scoring: str = "unknown"
    id_column: str | None = None
    vector_column: str | None = None
    other_vectors: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Users in it."""
        return self.stored.shape[0]

    @property
    def dim(self) -> int:
        """Columns of the vectors."""
        return self.stored.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the vectors."""
        return self.stored.dtype

    def like(self, other: Part) -> "ArrayPart":
        """This part, which has no rows to tell it, with the columns and the scoring of another."""
        stored = replace(self.stored, shape=(0, other.dim))
        return replace(self, stored=stored, frozen_columns=other.frozen_columns, scoring=other.scoring)

    def ids(self, first: int) -> Iterator[Any]:
        """Batches of the ids in the file, or the numbers of the rows where it has none."""
        step = 1 << 18
        if self.stored_ids is None:
            for start in range(0, self.rows, step):
                yield np.arange(first + start, first + min(start + step, self.rows))
            return
        with self.location.open() as file:
            for start in range(0, self.rows, step):
                yield self.stored_ids.read(file, start, min(start + step, self.rows))

    def vectors(self, at_least: int = 0) -> Iterator[NDArray[np.floating]]:
        """Batches (n, d)."""
        step = rows_per_batch(self.dim, self.dtype, at_least)
        with self.location.open() as file:
            for start in range(0, self.rows, step):
                yield self.stored.read(file, start, min(start + step, self.rows))

    def rewrite(self, target: Location, folder: Location, change: Change) -> Written:
        """Copy the file with other numbers in the place of the vectors."""
        step = rows_per_batch(self.dim, self.dtype)
        with self.location.open() as file, target.replacing(folder) as sink:
            _copy(file, sink, 0, self.stored.begin)
            for start in range(0, self.rows, step):
                old = self.stored.read(file, start, min(start + step, self.rows))
                sink.write(np.ascontiguousarray(change(start, old), dtype=self.dtype).data.cast("B"))
            _copy(file, sink, self.stored.end, file.size())
            sink.close()
            return Written(sink.size, sink.sha256)


def open_npy(name: str, location: Location, id_column: str | None, vector_column: str | None) -> ArrayPart:
    """The part in a .npy file; row i of the table is user i.

    Raises:
        UnreadableFile: empty, cut short, or with Python objects in it, which are never run.
        InvalidInput: no two dimensions, or no floating-point numbers.
    """
    with location.open() as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in read_header:
                raise ValueError(f"version {version} of the format is not known")
            shape, columns_first, dtype = read_header[version](file)
        except (ValueError, EOFError, OSError) as error:
            raise UnreadableFile(f"{location.shown}: cannot be read ({error}); is the file complete?") from error
        if dtype.hasobject:
            raise UnreadableFile(f"{location.shown}: cannot be read (it holds Python objects, which are never run)")
        stored = Stored(dtype, shape, file.tell())
        if columns_first and len(shape) == 2 and min(shape) > 1:
            raise InvalidInput(
                "the array lies column by column (Fortran order), so rows cannot be streamed; write it with "
                "np.save(path, np.ascontiguousarray(array))"
            )
        return ArrayPart(name, location, _checked(stored, file, location))


def open_safetensors(name: str, location: Location, id_column: str | None, vector_column: str | None) -> ArrayPart:
    """The part in a .safetensors file: ``vectors``, ``user_factors``, or the only tensor with two dimensions.

    Raises:
        UnreadableFile: empty, cut short, or of another kind.
        InvalidInput: no tensor of vectors, or ids that do not fit.
    """
    with location.open() as file:
        tensors = _tensors(file, location)
        key = vector_key(tensors, vector_column)
        stored = _checked(tensors[key], file, location)
        if id_column is not None and id_column not in tensors:
            raise InvalidInput(missing_column(id_column, list(tensors)))
        id_key = id_column or next((name for name in ("ids", "user_ids") if name in tensors), None)
        ids = None if id_key is None else tensors[id_key]
        if ids is not None and (ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.shape[0] != stored.shape[0]):
            raise InvalidInput(
                f"tensor {id_key!r} is of type {ids.dtype} and shape {ids.shape}, expected {stored.shape[0]} whole "
                "numbers"
            )
        part = ArrayPart(name, location, stored, ids, id_column=id_key, vector_column=key)
        if key != "user_factors":
            return part
        constant = stored.shape[1] > 1 and _ends_in_ones(file, stored)
        frozen = (stored.shape[1] - 1,) if constant else ()
        return replace(part, frozen_columns=frozen, scoring="dot+constant" if constant else "dot")


def _tensors(file: Any, location: Location) -> dict[str, Stored]:
    try:
        length = int.from_bytes(file.read_at(8, 0), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, file.size() - 8):
            raise ValueError(f"a header of {length} bytes in a file of {file.size()}")
        header = json.loads(file.read_at(length, 8))
        found = {}
        for name, entry in header.items():
            if name != "__metadata__":
                kind = entry["dtype"]
                dtype = np.dtype(_SAFETENSORS_TYPES.get(kind, "V1"))
                found[name] = Stored(dtype, tuple(entry["shape"]), 8 + length + entry["data_offsets"][0])
        return found
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
        raise UnreadableFile(f"{location.shown}: cannot be read ({error}); is the file complete?") from error


def _checked(stored: Stored, file: Any, location: Location) -> Stored:
    if stored.ndim != 2:
        raise InvalidInput(f"vectors have shape {stored.shape}, expected (users, dimensions)")
    if stored.dtype.kind == "V":
        raise InvalidInput("vectors are of a type that NumPy does not have; write them as F16, F32 or F64")
    check_type(stored.dtype)
    if file.size() < stored.end:
        raise UnreadableFile(f"{location.shown}: {stored.end - file.size()} bytes are missing; is the file complete?")
    return stored


def _ends_in_ones(file: Any, stored: Stored) -> bool:
    step = rows_per_batch(stored.shape[1], stored.dtype)
    starts = range(0, stored.shape[0], step)
    return all((stored.read(file, s, min(s + step, stored.shape[0]))[:, -1] == 1).all() for s in starts)


def _copy(file: Any, sink: Any, begin: int, end: int) -> None:
    for start in range(begin, end, _BLOCK):
        sink.write(file.read_at(min(_BLOCK, end - start), start))
