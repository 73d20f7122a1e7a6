"""Who interacted with what, part by part: the items of each user of a part who moves, in flat files."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.parts.array_part import Stored
from attrcloak.parts.id_keys import Words
from attrcloak.parts.location import Location

_USERS, _ENDS, _ITEMS = "users", "ends", "items"
_TYPES: dict[str, np.dtype[Any]] = {_USERS: np.dtype("<u8"), _ENDS: np.dtype("<i8"), _ITEMS: np.dtype("<i4")}


@dataclass(frozen=True, eq=False)
class UserItems:
    """The items of some users of a part.

    Attributes:
        users: (k,) a hash of each user's id; the same in every cut of the table into files.
        starts: (k + 1,) where each user's items begin, and where the last one's end.
        items: rows of the items, ascending within a user, each once.
    """

    users: Words
    starts: NDArray[np.int64]
    items: NDArray[np.int32]

    def slice(self, first: int, last: int) -> "UserItems":
        """Users [first, last)."""
        starts = self.starts[first : last + 1]
        return UserItems(self.users[first:last], starts - starts[0], self.items[starts[0] : starts[-1]])


@dataclass(frozen=True)
class UserItemsFile:
    """The items of all users of a part who move, in the order of its rows.

    Attributes:
        folder: where the three files of each part are.
        name: of the part.
    """

    folder: Location
    name: str

    def _place(self, what: str) -> Location:
        return self.folder / f"{self.name}.{what}"

    @contextmanager
    def writing(self, unfinished: Location) -> "Iterator[UserItemsSink]":
        """Files to append to; they get their names when the block ends well.

        Args:
            unfinished: folder for what is not complete, on the same file system.
        """
        with ExitStack() as stack:
            yield UserItemsSink({what: stack.enter_context(self._place(what).replacing(unfinished)) for what in _TYPES})

    def read(self, first: int, last: int) -> UserItems:
        """Users [first, last), counted among those who move."""
        users = self._read(_USERS, first, last)
        ends = self._read(_ENDS, max(first - 1, 0), last)
        starts = ends if first else np.concatenate([np.zeros(1, dtype=np.int64), ends])
        return UserItems(users, starts - starts[0], self._read(_ITEMS, int(starts[0]), int(starts[-1])))

    def _read(self, what: str, first: int, last: int) -> NDArray[Any]:
        with self._place(what).open() as file:
            return Stored(_TYPES[what], (last,), 0).read(file, first, last)


class UserItemsSink:
    """Appends users with their items to the files of a part."""

    def __init__(self, sinks: dict[str, Any]) -> None:
        self._sinks = sinks
        self._end = 0

    def add(self, block: UserItems) -> None:
        """Append users."""
        columns: dict[str, NDArray[Any]] = {
            _USERS: block.users,
            _ENDS: block.starts[1:] + self._end,
            _ITEMS: block.items,
        }
        for what, values in columns.items():
            self._sinks[what].write(np.ascontiguousarray(values, dtype=_TYPES[what]).data.cast("B"))
        self._end += int(block.starts[-1])
