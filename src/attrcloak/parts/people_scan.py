"""People read once, batch by batch: their keys and groups go to files, the vocabulary of classes stays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import CROSS, Attribute, crossed
from attrcloak.data.named_columns import UnevenRows, id_name, missing_column, text_options
from attrcloak.data.people_files import MOST_CLASSES, attribute_of
from attrcloak.errors import InvalidInput, UnreadableFile, raise_if, strange_requests
from attrcloak.parts.id_join import Listed
from attrcloak.parts.id_keys import KeyFile, keys_of
from attrcloak.parts.location import Location
from attrcloak.parts.part import in_file

_ROWS = 1 << 18
_BLOCK = 1 << 24
_MOST_NUMBERS = 100_000
"""Distinct ages that are kept in memory until they are put in groups."""


@dataclass(frozen=True, eq=False)
class People:
    """What was read of the people.

    Attributes:
        listed: keys, and the group of each person.
        classes: names of the attributes, in order, and of their classes.
        codes: (groups, A) class codes of each group, -1 where unknown.
        id_column: where the ids were.
        columns: that were read; requests are for these.
        parts: of each attribute, positions among the columns: who asks for an intersection asks for all of them.
    """

    listed: Listed
    classes: dict[str, tuple[str, ...]]
    codes: NDArray[np.int32]
    id_column: str
    columns: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]


def scan_people(source: Location, folder: Path, id_column: str | None, columns: Sequence[str] | None) -> People:
    """Read people once; a group is one combination of classes.

    Args:
        source: CSV, TSV or Parquet, a file or a folder of them, with the same columns in each.
        folder: for the files of keys and groups.
        id_column: name of the ids; None finds them.
        columns: the attributes; None takes every other column. "gender x age" is the intersection of two columns.

    Raises:
        UnreadableFile: as ``read_people``.
        InvalidInput: as ``read_people``, duplicate ids apart, which the join finds.
    """
    files = [place for _, place in source.files()]
    names = _columns(files[0])
    key = _named(source, lambda: id_name(names, id_column))
    wanted = (
        [(name,) for name in names if name != key]
        if columns is None
        else [tuple(part.strip() for part in name.split(CROSS)) for name in columns]
    )
    wanted = list(dict.fromkeys(wanted))
    chosen = list(dict.fromkeys(name for parts in wanted for name in parts))
    problems = [f"{source.shown}: {missing_column(name, names)}" for name in dict.fromkeys(chosen) if name not in names]
    if not chosen:
        problems.append(f"{source.shown}: there is no column besides {key!r}, so there are no attributes")
    raise_if(problems)
    values = {name: _Values(name) for name in chosen}
    numbered: dict[tuple[int, ...], int] = {}
    keys, path = KeyFile(folder / "people.keys"), folder / "people.groups"
    with path.open("wb") as groups:
        for place, first_row, batch in batches_of(files, [key, *chosen]):
            try:
                keys.add(keys_of(batch.column(key), key, first_row))
                codes = [values[name].codes(batch.column(name)) for name in chosen]
            except InvalidInput as error:
                raise InvalidInput(in_file(place, error)) from error
            groups.write(_groups(codes, numbered).data.cast("B"))
    if not keys.rows:
        raise InvalidInput(f"{source.shown}: there is a header but no rows")
    attributes: list[Attribute] = []
    for name in chosen:
        try:
            attributes.append(values[name].attribute())
        except InvalidInput as error:
            problems += [f"{source.shown}: {problem}" for problem in error.problems]
    raise_if(problems)
    provisional = np.array(list(numbered), dtype=np.int64).reshape(len(numbered), len(chosen))
    # One "user" a group: the classes of intersections are those that occur.
    of_groups = {
        attribute.name: Attribute(attribute.name, attribute.classes, np.append(attribute.codes, -1)[provisional[:, j]])
        for j, attribute in enumerate(attributes)
    }
    found = [
        of_groups[parts[0]] if len(parts) == 1 else crossed([of_groups[name] for name in parts]) for parts in wanted
    ]
    classes = {attribute.name: attribute.classes for attribute in found}
    group_codes = np.stack([attribute.codes for attribute in found], axis=1)
    positions = tuple(tuple(chosen.index(name) for name in parts) for parts in wanted)
    return People(Listed(keys, path), classes, group_codes, key, tuple(chosen), positions)


def scan_requests(
    source: Location | None, users: Location | None, folder: Path, attributes: Sequence[str]
) -> Listed | None:
    """Read who asks for what, ``user_id,attribute`` with a row for each, and whose requests alone count, ``user_id``.

    Args:
        source: the requests; None where everybody asks.
        users: the users whose requests count; None is everybody.
        folder: for the files of keys and attributes.
        attributes: that may be asked for. A row's value is the position among them, and their number for ``users``.

    Returns:
        None where there is neither.

    Raises:
        InvalidInput: a column is missing, nobody is among the users, or an attribute is none of these; all are named.
    """
    if source is None and users is None:
        return None
    number = {name: position for position, name in enumerate(attributes)}
    keys, path = KeyFile(folder / "asks.keys"), folder / "asks.attributes"
    strange: set[str] = set()
    named = 0
    with path.open("wb") as asked:
        for batch in _batches_with_keys(
            source, ["user_id", "attribute"], "a list of requests has user_id,attribute", keys
        ):
            encoded = batch.column("attribute").dictionary_encode()
            texts = [str(value).strip() for value in encoded.dictionary.to_pylist()]
            strange |= {text for text in texts if text not in number}
            codes = np.array([number.get(text, 0) for text in texts] + [0], dtype=np.int32)
            chosen = codes[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
            if encoded.indices.null_count:
                strange.add("")
            asked.write(chosen.data.cast("B"))
        for batch in _batches_with_keys(users, ["user_id"], "a list of users has a column user_id", keys):
            asked.write(np.full(batch.num_rows, len(attributes), dtype=np.int32).data.cast("B"))
            named += batch.num_rows
    if users is not None and not named:
        raise InvalidInput(f"{users.shown}: names no user; list one user_id a line")
    if strange:
        assert source is not None  # somebody asked
        raise InvalidInput(strange_requests(source.shown, sorted(strange), attributes))
    return Listed(keys, path)


def _batches_with_keys(source: Location | None, columns: list[str], form: str, keys: KeyFile) -> Iterator[Any]:
    """Batches of a file or folder; the keys of their users are added."""
    files = [] if source is None else [place for _, place in source.files()]
    there = _columns(files[0]) if files else columns
    missing = sorted(set(columns) - set(there))
    if source is not None and missing:
        raise InvalidInput(f"{source.shown}: no column {', '.join(missing)}; {form}, and there are: {', '.join(there)}")
    for place, first_row, batch in batches_of(files, columns):
        try:
            keys.add(keys_of(batch.column("user_id"), "user_id", first_row))
        except InvalidInput as error:
            raise InvalidInput(in_file(place, error)) from error
        yield batch


def id_batches(source: Location, id_column: str) -> Iterator[tuple[str, int, Any]]:
    """(file, first row, ids) once more, batch by batch, to name some in a message."""
    for name, place in source.files():
        for _, first_row, batch in batches_of([place], [id_column]):
            yield name, first_row, batch.column(id_column)


class _Values:
    """The distinct values of a column so far; rows carry their numbers."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers: dict[Any, int] = {}
        self._type: Any = None
        # An age has its groups when all are known; any other column with that many values is no attribute.
        self._most = _MOST_NUMBERS if name.lower() == "age" else MOST_CLASSES

    def codes(self, column: Any) -> NDArray[np.int64]:
        """(n,) number of each value, -1 where there is none."""
        import pyarrow as pa

        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if self._type is None or pa.types.is_null(self._type):
            self._type = column.type
        if column.type != self._type and not pa.types.is_null(column.type):
            raise InvalidInput(f"column {self._name!r} is of type {column.type} here and of type {self._type} before")
        try:
            encoded = column.dictionary_encode()
        except pa.ArrowNotImplementedError as error:
            raise InvalidInput(f"an attribute column is of type {column.type}, expected text or numbers") from error
        numbers = self._numbers
        seen = [
            -1
            if value is None or value != value
            else numbers.setdefault(value, len(numbers))  # NaN differs from itself
            for value in encoded.dictionary.to_pylist()
        ]
        if len(numbers) > self._most:
            raise InvalidInput(
                f"column {self._name!r} has more distinct values than the {self._most} an attribute may have; leave it "
                "out by naming the columns to use with columns=, or put its values into groups"
            )
        rows = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray(np.array([*seen, -1], dtype=np.int64)[rows])

    def attribute(self) -> Attribute:
        """Classes, and the class of every value."""
        import pyarrow as pa

        distinct = pa.chunked_array([pa.array(list(self._numbers), type=self._type)])
        return attribute_of(self._name, distinct)


def _groups(codes: list[NDArray[np.int64]], numbered: dict[tuple[int, ...], int]) -> NDArray[np.int32]:
    """(n,) number of each row's combination; new ones are added in the order they come."""
    packed = np.zeros(len(codes[0]), dtype=np.int64)
    size = 1
    for column in codes:
        width = int(column.max(initial=-1)) + 2
        size *= width
        if size >= 1 << 62:
            break
        packed = packed * width + column + 1
    if size >= 1 << 62:
        combinations, inverse = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    else:
        found, inverse = numbered_values(packed, size)
        first = np.empty(len(found), dtype=np.int64)
        first[inverse] = np.arange(len(packed))  # any row will do
        combinations = np.stack([column[first] for column in codes], axis=1)
    numbers = [numbered.setdefault(tuple(row), len(numbered)) for row in combinations.tolist()]
    return np.array(numbers, dtype=np.int32)[inverse.reshape(-1)]


def numbered_values(values: NDArray[np.int64], bound: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct values in [0, bound), sorted, and (n,) the number of each; counted where sorting would take longer."""
    if bound > max(len(values), 1 << 16):
        found, numbers = np.unique(values, return_inverse=True)
        return found, numbers.reshape(-1)
    found = np.flatnonzero(np.bincount(values, minlength=bound))
    number_of = np.empty(bound, dtype=np.int64)
    number_of[found] = np.arange(len(found))
    return found, number_of[values]


def _columns(place: Location) -> list[str]:
    import pyarrow.parquet as pq

    with place.reading(), place.open() as file:
        if _is_parquet(place):
            return list(pq.read_schema(file).names)
        return list(_text_reader(place, file, UnevenRows()).schema.names)


def batches_of(files: Sequence[Location], columns: list[str]) -> Iterator[tuple[Location, int, Any]]:
    """(file, first row, record batch) of these columns; every file has to have them."""
    import pyarrow.parquet as pq

    for place in files:
        uneven = UnevenRows()
        with place.reading(), place.open() as file:
            if _is_parquet(place):
                parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
                names = parquet.schema_arrow.names
                reader: Any = None
            else:
                reader = _text_reader(place, file, uneven)
                names = reader.schema.names
            raise_if([f"{place.shown}: {missing_column(name, names)}" for name in columns if name not in names])
            first_row = 0
            for batch in reader if reader is not None else parquet.iter_batches(_ROWS, columns=columns):
                yield place, first_row, batch
                first_row += batch.num_rows
        uneven.refuse(place.shown)


def _text_reader(place: Location, file: Any, uneven: UnevenRows) -> Any:
    import pyarrow.csv as pacsv

    if not file.size():
        raise UnreadableFile(f"{place.shown}: the file is empty")
    header = file.read_at(min(file.size(), 1 << 16), 0).decode("utf-8-sig", errors="replace").splitlines()[0]
    file.seek(0)
    options = text_options(header, "," if place.path.lower().endswith(".csv") else "\t", uneven)
    return pacsv.open_csv(file, read_options=pacsv.ReadOptions(block_size=_BLOCK), **options)


def _is_parquet(place: Location) -> bool:
    suffix = place.name.rpartition(".")[2].lower()
    if suffix not in ("parquet", "pq", "csv", "tsv", "tab", "txt"):
        raise UnreadableFile(f"{place.shown}: .{suffix} is not supported; use .csv, .tsv or .parquet")
    return suffix in ("parquet", "pq")


def _named(source: Location, find: Any) -> str:
    try:
        return str(find())
    except InvalidInput as error:
        raise InvalidInput([f"{source.shown}: {problem}" for problem in error.problems]) from error
