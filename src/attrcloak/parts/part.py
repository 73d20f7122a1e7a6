"""A table in parts: files that are read in batches and written anew with only the vectors changed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import FLOATS, another_type
from attrcloak.errors import MOST_NAMED, InvalidInput, UnreadableFile, raise_if
from attrcloak.parts.location import Location

BATCH_BYTES = 1 << 23
"""Vectors that are looked at together, in bytes: what was just read is still near a core when it is used, and two
processes take half the memory and less time than with four times as much. Rows of a common cell still make a tile."""
LARGEST_BATCH = 8
"""A batch may be so many times that, where something has to be done once a batch."""

Change = Callable[[int, NDArray[np.floating]], NDArray[np.floating]]
"""(first row, vectors (n, d)) -> new vectors of the same shape and type."""


@dataclass(frozen=True)
class Written:
    """A part that was written.

    Attributes:
        size: in bytes.
        sha256: of the file.
    """

    size: int
    sha256: str


class Part(Protocol):
    """One file of a table.

    Attributes:
        name: its name inside the table's folder.
        location: the file.
        rows: users in it.
        dim: columns of the vectors.
        dtype: type of the vectors.
        frozen_columns: columns that are part of the scoring and not of the user.
        scoring: how vectors become a ranking.
        id_column: where the ids are; None where rows are numbered.
        vector_column: where the vectors are; None in a file of nothing else.
        other_vectors: other columns of a Parquet file that hold lists of floating-point numbers.
    """

    @property
    def name(self) -> str: ...
    @property
    def location(self) -> Location: ...
    @property
    def rows(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def frozen_columns(self) -> tuple[int, ...]: ...
    @property
    def scoring(self) -> str: ...
    @property
    def id_column(self) -> str | None: ...
    @property
    def vector_column(self) -> str | None: ...
    @property
    def other_vectors(self) -> tuple[str, ...]: ...

    def like(self, other: "Part") -> "Part":
        """This part, which has no rows to tell it, with the columns and the scoring of another."""
        ...

    def ids(self, first: int) -> Iterator[Any]:
        """Batches of ids: NumPy whole numbers, or arrow arrays as they are in the file.

        Args:
            first: the number of the part's first row in the whole table, for tables without ids.
        """
        ...

    def vectors(self, at_least: int = 0) -> Iterator[NDArray[np.floating]]:
        """Batches (n, d) in the order of the rows.

        Args:
            at_least: rows in a batch that make it worth its while.
        """
        ...

    def rewrite(self, target: Location, folder: Location, change: Change) -> Written:
        """Write the part with other vectors: same names, types, order, other columns, layout.

        Args:
            target: the new file.
            folder: for the file while it is not complete; on the same file system.
            change: the new vectors.
        """
        ...


def open_parts(table: Location, id_column: str | None = None, vector_column: str | None = None) -> tuple[Part, ...]:
    """The parts of a table, in the order of their names, all of one kind, width and type.

    Args:
        table: a file, or a folder with any number of them.
        id_column: name of the ids in the files; None finds them.
        vector_column: name of the vectors in the files; None finds them.

    Raises:
        UnreadableFile: nothing there, files of another kind, or files cut short.
        InvalidInput: files that differ in what must be the same, with all that do.
    """
    from attrcloak.parts.array_part import open_npy, open_safetensors
    from attrcloak.parts.parquet_part import open_parquet

    readers: dict[str, Callable[..., Part]] = {
        ".parquet": open_parquet,
        ".npy": open_npy,
        ".safetensors": open_safetensors,
    }
    files = table.files()
    suffixes = sorted({file.suffix for _, file in files})
    strange = [name for name, file in files if file.suffix not in readers]
    if strange:
        some = ", ".join(strange[:MOST_NAMED]) + (", ..." if len(strange) > MOST_NAMED else "")
        raise UnreadableFile(
            f"{table.shown}: {len(strange)} of {len(files)} files are of a kind that cannot be streamed "
            f"({some}); use {', '.join(readers)}"
        )
    if len(suffixes) > 1:
        raise InvalidInput(f"{table.shown} holds files of several kinds ({', '.join(suffixes)}); keep them apart")
    parts: list[Part] = []
    found: dict[str, list[Location]] = {}
    for name, location in files:
        try:
            parts.append(readers[suffixes[0]](name, location, id_column, vector_column))
        except InvalidInput as error:
            for text in _without_file(location, error):
                found.setdefault(text, []).append(location)
    problems = [_in_files(text, places) for text, places in found.items()]
    if problems and parts and parts[0].id_column is not None:
        names = f"ids in {parts[0].id_column!r} and vectors in {parts[0].vector_column!r}"
        problems.append(f"{parts[0].location.shown} can be read, with {names}")
    raise_if(problems)
    _check_agreement(table, parts)
    if not any(part.rows for part in parts):
        raise InvalidInput(f"{table.shown}: there are no rows")
    filled = next(part for part in parts if part.rows)
    return tuple(part if part.rows else part.like(filled) for part in parts)


def in_file(location: Location, error: InvalidInput) -> list[str]:
    """The problems of an error, each with the name of the file."""
    return [_in_files(text, [location]) for text in _without_file(location, error)]


def _without_file(location: Location, error: InvalidInput) -> list[str]:
    """The problems of an error without the name of the file, which those of its reader have and others have not."""
    return [text.removeprefix(f"{location.shown}: ") for text in error.problems]


def _in_files(text: str, places: list[Location]) -> str:
    """A problem of one file or of several."""
    shown = ", ".join(place.shown for place in places[:MOST_NAMED])
    if len(places) == 1:
        return f"{shown}: {text}"
    return f"{len(places)} files ({shown}{', ...' if len(places) > MOST_NAMED else ''}): {text}"


def rows_per_batch(dim: int, dtype: np.dtype[Any], at_least: int = 0) -> int:
    """As many rows as fit in ``BATCH_BYTES``, at least 1024, and more where asked for, to ``LARGEST_BATCH`` times."""
    usual = max(BATCH_BYTES // max(dim * dtype.itemsize, 1), 1024)
    return min(max(usual, at_least), LARGEST_BATCH * usual)


def check_type(dtype: np.dtype[Any]) -> None:
    """Raise InvalidInput unless vectors of that type can be streamed."""
    if dtype not in FLOATS:
        raise InvalidInput(another_type(dtype))


def _check_agreement(table: Location, parts: list[Part]) -> None:
    filled = [part for part in parts if part.rows] or parts
    problems = []
    for what, words in (
        ("id_column", "column of their ids"),
        ("vector_column", "column of their vectors"),
        ("dim", "width of their vectors"),
        ("dtype", "type of their vectors"),
        ("frozen_columns", "frozen columns of their vectors"),
        ("scoring", "scoring of their vectors"),
    ):
        values = {part.name: getattr(part, what) for part in filled}
        first = values[filled[0].name]
        others = [f"{name} ({value})" for name, value in values.items() if value != first]
        if others:
            problems.append(
                f"{table.shown}: {len(others)} of {len(filled)} files differ in the {words} from {filled[0].name} "
                f"({first}): {', '.join(others[:MOST_NAMED])}{', ...' if len(others) > MOST_NAMED else ''}; a folder "
                "is one table: move the files of others out, or write them alike"
            )
    raise_if(problems)
