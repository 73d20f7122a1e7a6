"""The caller's own ids, and the rows they stand for. Rows are never joined by position, only by id."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Ids:
    """Unique ids in row order.

    Attributes:
        values: (n,) whole numbers (int64) or text. Ids from files may be either: a table that says 7 and a list of
            people that says "7" mean the same user.
    """

    values: NDArray[Any]

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        if values.ndim != 1:
            raise InvalidInput(f"ids have shape {values.shape}, expected one dimension")
        if values.dtype.kind in "iu":
            if values.dtype.kind == "u" and values.size and values.max() > np.iinfo(np.int64).max:
                raise InvalidInput("ids of 2^63 and more do not fit a whole number; give them as text")
            values = values.astype(np.int64)
        elif values.dtype.kind in "OUS":
            missing = sum(value is None or value != value for value in values.tolist())  # NaN alone differs from itself
            if missing:
                raise InvalidInput(f"{missing} ids are missing; drop these rows or give them an id")
            values = np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()], dtype=np.str_)
        else:
            whole = "; if all are whole, take .astype('int64')" if values.dtype.kind == "f" else ""
            raise InvalidInput(f"ids are of type {values.dtype}, expected whole numbers or text{whole}")
        values = values.copy()
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        unique, counts = np.unique(values, return_counts=True)
        if len(unique) != len(values):
            repeated = unique[counts > 1]
            shown = ", ".join(str(v) for v in repeated[:3])
            raise InvalidInput(
                f"{len(repeated)} ids occur more than once ({shown}{', ...' if len(repeated) > 3 else ''}); "
                "keep one row per id"
            )

    @classmethod
    def range(cls, count: int) -> "Ids":
        """The ids 0 .. count-1, for tables that come without ids."""
        return cls(np.arange(count, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return {value: row for row, value in enumerate(self.values.tolist())}

    @cached_property
    def _row_of_text(self) -> dict[str, int]:
        return {str(value): row for row, value in enumerate(self.values.tolist())}

    def rows(self, wanted: "Ids | NDArray[Any] | Sequence[Any] | Iterable[Any]") -> NDArray[np.int64]:
        """(m,) row of each wanted id, -1 where it is not among these ids."""
        if isinstance(wanted, Ids):
            values = wanted.values
        else:
            values = np.asarray(wanted if hasattr(wanted, "__len__") else list(wanted))
        both_numbers = values.dtype.kind in "iu" and self.values.dtype.kind in "iu"
        lookup: dict[Any, int] = self._row_of if both_numbers else self._row_of_text
        keys = values.tolist()
        if not both_numbers:
            keys = [value.decode() if isinstance(value, bytes) else str(value) for value in keys]
        return np.fromiter((lookup.get(value, -1) for value in keys), dtype=np.int64, count=len(keys))

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Ids":
        """The ids of the chosen rows, in that order."""
        return Ids(self.values[rows])

    def equals(self, other: "Ids") -> bool:
        """Whether both list the same ids in the same order."""
        return len(self) == len(other) and bool((self.rows(other) == np.arange(len(self))).all())


def read_as_floats(ids: Iterable[Any]) -> str:
    """The next step where ids that nobody has are whole numbers written as floats, such as "7.0"; "" where none is."""
    floats = [str(value) for value in ids if re.fullmatch(r"-?[0-9]+\.0+", str(value))]
    if not floats:
        return ""
    return (
        f"{floats[0]!r} is a whole number that was read and written as a float, as pandas does where one is missing; "
        "write the ids as whole numbers (.astype('Int64'))"
    )
