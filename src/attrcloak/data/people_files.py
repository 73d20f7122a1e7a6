"""Lists of people and their attributes, from CSV, TSV and Parquet files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attrcloak.data.ages import AGE_EDGES, group_codes, group_names
from attrcloak.data.attributes import UNKNOWN, Attribute, UserAttributes
from attrcloak.data.named_columns import id_name, missing_column, read_table, some, unique_ids
from attrcloak.errors import InvalidInput, raise_if

_MOST_AGES_KEPT = 12
MOST_CLASSES = 200


def read_people(
    path: str | Path,
    *,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
) -> UserAttributes:
    """Attributes of people, one row a user; empty fields are unknown.

    A numeric column named "age" with more than 12 distinct values is put into the seven groups under 18, 18-24,
    25-34, 35-44, 45-49, 50-55 and 56+.

    Args:
        path: .csv, .tsv or .parquet with a header.
        id_column: the column of ids; None takes user_id, userid, id, user or uid, whichever is there first.
        columns: the attributes; None takes every other column.
        bins: column to the rising lower bounds of its groups but the first: ``{"age": (30, 60)}``.

    Raises:
        UnreadableFile: the file is missing, empty, cut short or of another kind.
        InvalidInput: columns that are missing or no attribute, ids that are missing or repeated; all are listed.
    """
    path = Path(path)
    return people_of(read_table(path), str(path), id_column=id_column, columns=columns, bins=bins)


def people_of(
    table: Any,
    source: str,
    *,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    bins: Mapping[str, Sequence[float]] | None = None,
) -> UserAttributes:
    """The same from a pyarrow table; ``source`` names it in messages."""
    names = list(table.column_names)
    problems: list[str] = []
    key, ids = None, None
    try:
        key = id_name(names, id_column)
        ids = unique_ids(table[key], key)
    except InvalidInput as error:
        problems += error.problems
    if table.num_rows == 0:
        problems.append("the file has a header but no rows")
    chosen = [name for name in names if name != key] if columns is None else list(columns)
    bins = bins or {}
    problems += [missing_column(name, names) for name in dict.fromkeys([*chosen, *bins]) if name not in names]
    attributes = {}
    for name in chosen:
        if name in names:
            try:
                attributes[name] = attribute_of(name, table[name], bins.get(name))
            except InvalidInput as error:
                problems += error.problems
    raise_if([f"{source}: {problem}" for problem in problems])
    assert ids is not None  # otherwise there is a problem
    return UserAttributes(ids, attributes)


def attribute_of(name: str, column: Any, edges: Sequence[float] | None = None) -> Attribute:
    """The attribute in a pyarrow column; ``edges`` are the rising lower bounds of its groups but the first."""
    texts = _texts(column)
    # Distinct values are few, so all work per value happens on them and the rows only carry codes.
    encoded = texts.combine_chunks().dictionary_encode()
    values = [value.strip() for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = np.array([_number(value) for value in values] + [np.nan])
    if edges is None and name.lower() == "age" and len(set(values) - {""}) > _MOST_AGES_KEPT:
        strange = [value for value, number in zip(values, numbers, strict=False) if value and np.isnan(number)]
        edges = None if strange else AGE_EDGES
    if edges is not None:
        strange = [value for value, number in zip(values, numbers, strict=False) if value and np.isnan(number)]
        problems = []
        if strange:
            problems.append(f"column {name!r}: {len(strange)} values are no numbers ({some(np.array(strange))})")
        if not len(edges) or (np.diff(np.asarray(edges, dtype=np.float64)) <= 0).any():
            problems.append(f"bins of {name!r} must be rising lower bounds, got {list(edges)}")
        raise_if(problems)
        return Attribute(name, group_names(edges), group_codes(numbers, edges)[codes])
    by_value = Attribute.from_values(name, values)
    if len(by_value.classes) > MOST_CLASSES:
        raise InvalidInput(
            f"column {name!r} has {len(by_value.classes)} distinct values, more than the {MOST_CLASSES} an attribute "
            "may have; leave it out by naming the columns to use with columns=, or put its values into groups"
        )
    return Attribute(name, by_value.classes, np.append(by_value.codes, UNKNOWN)[codes])


def _texts(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
        whole = pc.all(pc.equal(pc.floor(column), column)).as_py()
        column = column.cast(pa.int64()) if whole else column  # 25.0 is how tables with gaps write 25
    try:
        return column.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(f"an attribute column is of type {column.type}, expected text or numbers") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
