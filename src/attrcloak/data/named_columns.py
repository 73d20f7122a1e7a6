"""Tables with named columns from CSV, TSV and Parquet files, checked once as they come in."""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.ids import Ids
from attrcloak.errors import MOST_NAMED, InvalidInput, UnreadableFile, not_there

# Whole numbers written the usual way: "7" is one, "007" and "+7" are text.
WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"


_LONGEST_SHOWN = 80


def read_table(path: Path, delimiter: str | None = None) -> Any:
    """The pyarrow table of a file; every column of a CSV or TSV file is text, empty fields are null.

    Raises:
        UnreadableFile: missing, empty, cut short, or of a kind that is not supported.
    """
    check_present(path)
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            import pyarrow.parquet as pq

            return pq.read_table(path)
        if suffix in (".csv", ".tsv", ".tab", ".txt") or delimiter:
            return _read_text(path, delimiter or ("," if suffix == ".csv" else "\t"))
    except (OSError, ValueError) as error:  # pyarrow's own errors derive from these
        raise UnreadableFile(cannot_be_read(path, error)) from error
    raise UnreadableFile(f"{path}: {suffix or 'no extension'} is not supported; use .csv, .tsv or .parquet")


def check_present(path: Path) -> None:
    """Raise UnreadableFile when there is no such file, or nothing in it."""
    if path.is_dir():
        raise UnreadableFile(
            f"{path} is a folder, and what is held in memory is read from one file; name that, or stream the table "
            "(engine=)"
        )
    if not path.is_file():
        raise UnreadableFile(not_there(path, path))
    if path.stat().st_size == 0:
        raise UnreadableFile(f"{path}: the file is empty")


def _read_text(path: Path, delimiter: str) -> Any:
    import pyarrow.csv as pacsv

    with path.open(encoding="utf-8-sig", newline="") as lines:
        first = lines.readline()
    uneven = UnevenRows()
    table = pacsv.read_csv(path, **text_options(first, delimiter, uneven))
    uneven.refuse(str(path))
    return table


class UnevenRows:
    """Rows of a CSV or TSV file with more or fewer fields than its header, which pyarrow hands over and passes over."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[str] = []

    def __call__(self, row: Any) -> str:
        """Take a row that is uneven."""
        self._count += 1
        if len(self._first) < MOST_NAMED:
            line = row.text.partition("\n")[0][:_LONGEST_SHOWN]  # after a quote that is left open, all that follows
            self._first.append(f"{line!r} has {row.actual_columns} of {row.expected_columns}")
        return "skip"

    def refuse(self, source: str) -> None:
        """Raise UnreadableFile when there was one; ``source`` is the file."""
        if self._count:
            more = ", ..." if self._count > len(self._first) else ""
            raise UnreadableFile(
                f"{source}: {self._count} rows have more or fewer fields than the header ({', '.join(self._first)}"
                f"{more}); put fields with a comma in quotes, close quotes, or drop these rows; is the file complete?"
            )


def text_options(header: str, delimiter: str, uneven: UnevenRows) -> dict[str, Any]:
    """How pyarrow is to read a CSV or TSV file with that first line: every column is text, empty fields are null."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    if delimiter == "," and "," not in header and ";" in header:
        delimiter = ";"
    names = next(csv.reader([header], delimiter=delimiter))
    return {
        "parse_options": pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=uneven),
        "convert_options": pacsv.ConvertOptions(
            column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=["", "NaN", "nan"]
        ),
    }


def missing_column(name: str, names: Sequence[str]) -> str:
    """The sentence for a column that is not there: the ones that are, and the nearest."""
    near = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    suggestion = next((f"; did you mean {known!r}?" for known in names if near and known.lower() == near[0]), "")
    return f"there is no column {name!r}; there are: {', '.join(names) or 'none'}{suggestion}"


def id_name(names: Sequence[str], wanted: str | None) -> str:
    """The id column: the wanted one, else the first of user_id, userid, id, user, uid that is there."""
    if wanted is not None:
        if wanted not in names:
            raise InvalidInput(
                f"{missing_column(wanted, names)}; one name of ids holds for all files of a command, so where they "
                "differ rename the column in one"
            )
        return wanted
    by_lower = {name.lower().lstrip("#"): name for name in reversed(names)}
    for candidate in ("user_id", "userid", "id", "user", "uid"):
        if candidate in by_lower:
            return by_lower[candidate]
    raise InvalidInput(missing_column("user_id", names) + "; name the column of the ids with id_column=")


def id_values(column: Any, name: str) -> NDArray[Any]:
    """Ids of a pyarrow column: whole numbers where all are, else text.

    Raises:
        InvalidInput: null ids, counted with their first rows, or a type that is no id.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count:
        rows = np.flatnonzero(pc.is_null(column).to_numpy(zero_copy_only=False))
        raise InvalidInput(
            f"column {name!r}: {len(rows)} rows have no id (rows {some(rows)}); drop these rows or give them an id"
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InvalidInput(no_id_type(name, column.type))
    if len(column) and pc.all(pc.match_substring_regex(column, WHOLE_NUMBER)).as_py():
        return np.asarray(column.cast(pa.int64()).to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.str_)


def no_id_type(name: str, kind: Any) -> str:
    """The message for a column of ids whose pyarrow type is that of no id."""
    import pyarrow as pa

    whole = "; if all are whole, write them as such (pandas: .astype('int64'))" if pa.types.is_floating(kind) else ""
    return f"column {name!r} is of type {kind}; ids are whole numbers or text{whole}"


def unique_ids(column: Any, name: str) -> Ids:
    """The ids of a column in which every user stands once."""
    try:
        return Ids(id_values(column, name))
    except InvalidInput as error:
        problems = [text if name in text else f"column {name!r}: {text}" for text in error.problems]
        raise InvalidInput(problems) from error


def some(values: NDArray[Any]) -> str:
    """The first three values, for messages."""
    return ", ".join(str(value) for value in values[:3].tolist()) + (", ..." if len(values) > 3 else "")


def cannot_be_read(shown: str | Path, error: Exception) -> str:
    """The message for a file that a library cannot read, with what may mend it."""
    reason = first_line(error)
    if isinstance(error, PermissionError):
        mend = "have its owner let you read it"
    elif "utf-8" in reason.lower() or "utf8" in reason.lower():
        mend = "save it as UTF-8"
    else:
        mend = "is the file complete?"
    return f"{shown}: cannot be read ({reason}); {mend}"


def first_line(error: Exception) -> str:
    """Of what a library says of its error; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
