"""The users of a table in numbers, before they move: by class, by what they ask for, and who asks in vain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.ids import Ids
from attrcloak.moments.cell_key import CellKey


@dataclass(frozen=True)
class Census:
    """The users of a table, counted.

    Attributes:
        users: of the table.
        moving: users who ask for at least one attribute of which their class is known.
        cells: combinations of classes that occur, with that of users who do not move.
        lone_cells: cells with a single user who moves, in words: "gender=F, age=56".
        unknown: users of whom no class is known, listed or not.
        by_request: whether there is a list of requests; without one everybody asks for everything.
        classes: for each attribute, the users of each class.
        asked: likewise, those of them who ask for it.
        unmet: for each attribute, users who ask for it and whose class is not known.
        elsewhere: for each attribute, requests of users whom the table does not have.
    """

    users: int
    moving: int
    cells: int
    lone_cells: tuple[str, ...]
    unknown: int
    by_request: bool
    classes: Mapping[str, Mapping[str, int]]
    asked: Mapping[str, Mapping[str, int]]
    unmet: Mapping[str, int]
    elsewhere: Mapping[str, int]

    @classmethod
    def of(cls, people: UserAttributes, ids: Ids, attributes: Sequence[str] | None = None) -> "Census":
        """Of a table in memory.

        Args:
            people: attributes and requests, joined by id.
            ids: the users of the table.
            attributes: which count; all by default.

        Raises:
            InvalidInput: none of the table's users is listed, or there is no such attribute.
        """
        people = people if attributes is None else people.select(attributes)
        here = people.align(ids)
        cells = here.cells()
        absent = ids.rows(people.ids) < 0
        columns = here.columns.items()
        return cls(
            users=len(ids),
            moving=int(cells.moves.sum()),
            cells=len(cells.key),
            lone_cells=lone_cells(cells.key, np.bincount(cells.of_user, minlength=len(cells.key))),
            unknown=int((~np.any([column.known for _, column in columns], axis=0)).sum()),
            by_request=any(column.marked is not None for _, column in columns),
            classes={name: counted(column.classes, column.codes[column.known]) for name, column in columns},
            asked={name: counted(column.classes, column.codes[column.marks]) for name, column in columns},
            unmet={name: int((column.asks & ~column.known).sum()) for name, column in columns},
            elsewhere={
                name: 0 if column.marked is None else int((column.marked & absent).sum())
                for name, column in people.columns.items()
            },
        )


def lone_cells(key: CellKey, users: NDArray[np.integer]) -> tuple[str, ...]:
    """The cells with a single user who moves, in words.

    Args:
        key: the cells.
        users: (C,) users of each.
    """
    return tuple(map(key.describe, key.combinations[(users == 1) & ~key.unmarked]))


def counted(
    classes: Sequence[str], codes: NDArray[np.integer], users: NDArray[np.integer] | None = None
) -> dict[str, int]:
    """The users of each class.

    Args:
        classes: their names.
        codes: a class each, all of them known.
        users: how many users each code is of; None is one.
    """
    counts = np.bincount(codes, users, minlength=len(classes))
    return dict(zip(classes, counts.astype(np.int64).tolist(), strict=True))
