"""Which combination of classes a user belongs to: the cell, the unit everything is computed per."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput, UnknownCell

NOT_MARKED = -1
"""The class code of an attribute that is unknown, or that the user did not ask to have removed."""


@dataclass(frozen=True, eq=False)
class CellKey:
    """The cells of a table, one row a cell.

    A cell is one combination of classes over all attributes, with "unknown or not marked" (-1) as a class of its
    own. A user is in exactly one cell; users in the cell of all -1 asked for nothing and never move.

    Attributes:
        attributes: names of the A attributes, in order.
        classes: for each attribute the names of its classes; a code is an index into them.
        combinations: (C, A) class codes, each -1 or in [0, len(classes[a])), rows unique and sorted.
    """

    attributes: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    combinations: NDArray[np.int32]

    def __post_init__(self) -> None:
        problems = []
        combinations = np.ascontiguousarray(self.combinations, dtype=np.int32)
        if combinations.ndim != 2 or combinations.shape[1] != len(self.attributes):
            problems.append(f"combinations have shape {combinations.shape}, expected (cells, {len(self.attributes)})")
        elif len(np.unique(combinations, axis=0)) != len(combinations):
            problems.append("the same combination of classes is listed twice")
        if len(self.classes) != len(self.attributes):
            problems.append(f"{len(self.classes)} lists of classes for {len(self.attributes)} attributes")
        if problems:
            raise InvalidInput(problems)
        combinations.setflags(write=False)
        object.__setattr__(self, "combinations", combinations)

    @classmethod
    def of(
        cls, attributes: Sequence[str], classes: Sequence[Sequence[str]], codes: NDArray[np.integer]
    ) -> tuple["CellKey", NDArray[np.int32]]:
        """Build the key of the cells that occur, and each user's cell.

        Args:
            attributes: names of the A attributes.
            classes: class names of each attribute.
            codes: (n, A) class code of each user, -1 where unknown or not marked.

        Returns:
            The key, and (n,) the cell of each user in [0, C).
        """
        combinations, cells = _distinct_rows(np.asarray(codes, dtype=np.int32))
        return cls(tuple(attributes), tuple(tuple(names) for names in classes), combinations), cells

    def __len__(self) -> int:
        return len(self.combinations)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Number of classes K_j of each attribute."""
        return tuple(len(names) for names in self.classes)

    @cached_property
    def unmarked(self) -> NDArray[np.bool_]:
        """(C,) True for the cell in which no attribute is marked (at most one)."""
        return np.asarray((self.combinations == NOT_MARKED).all(axis=1))

    def same_meaning(self, other: "CellKey") -> bool:
        """Whether codes mean the same in both keys (attributes and class names agree, in order)."""
        return self.attributes == other.attributes and self.classes == other.classes

    def locate(self, codes: NDArray[np.integer], users: NDArray[np.integer] | None = None) -> NDArray[np.int32]:
        """The cell of each user, for codes that mean the same as this key's.

        Args:
            codes: (n, A) class codes, -1 where unknown or not marked. Users with no mark need no cell in the key.
            users: (n,) for how many each row stands, which messages count; one each by default.

        Returns:
            (n,) cell of each user in [0, C), or -1 for users with no mark where the key has no such cell.

        Raises:
            UnknownCell: a combination is not in the key; the message names it and counts its users.
        """
        wanted, inverse = _distinct_rows(np.asarray(codes, dtype=np.int32))
        known = {tuple(row): cell for cell, row in enumerate(self.combinations.tolist())}
        found = np.array([known.get(tuple(row), -1) for row in wanted.tolist()], dtype=np.int32)
        counts = np.bincount(inverse, users, minlength=len(wanted)).astype(np.int64)
        missing = [
            f"{self.describe(row)} ({_users(count)})"
            for row, cell, count in zip(wanted, found, counts, strict=True)
            if cell < 0 and (row != NOT_MARKED).any()
        ]
        if missing:
            raise _not_seen("combinations of classes" if len(missing) > 1 else "combination of classes", missing)
        return found[inverse]

    def locate_cells(self, other: "CellKey", users: NDArray[np.integer]) -> NDArray[np.int32]:
        """The cell in this key of each cell of another over the same attributes, classes matched by their names.

        Args:
            other: such as that of other users, among whom other classes occur or come in another order.
            users: (C_other,) users in each of its cells, for messages; a cell without any may be unknown here.

        Returns:
            (C_other,) cell in [0, C), or -1 for the cell with no mark and for cells without users that are unknown.

        Raises:
            UnknownCell: a class or a combination of classes is not in this key; all are named and their users counted.
        """
        codes = np.full(other.combinations.shape, NOT_MARKED, dtype=np.int32)
        strange = []
        occurs = np.asarray(users) > 0
        for column, (name, mine, theirs) in enumerate(zip(self.attributes, self.classes, other.classes, strict=True)):
            code_of = {label: code for code, label in enumerate(mine)}
            for code, label in enumerate(theirs):
                has_it = other.combinations[:, column] == code
                codes[has_it, column] = code_of.get(label, NOT_MARKED)
                if label not in code_of and occurs[has_it].any():
                    strange.append(f"{name}={label} ({_users(int(np.asarray(users)[has_it].sum()))})")
        if strange:
            raise _not_seen("classes" if len(strange) > 1 else "class", strange)
        cells = np.full(len(other), -1, dtype=np.int32)
        cells[occurs] = self.locate(codes[occurs], np.asarray(users)[occurs])
        return cells

    def describe(self, combination: Sequence[int] | NDArray[np.integer]) -> str:
        """A combination in words, for messages: ``gender=F, age=25-34, occupation=–``."""
        parts = (
            f"{attribute}={'–' if code == NOT_MARKED else names[int(code)]}"
            for attribute, names, code in zip(self.attributes, self.classes, combination, strict=True)
        )
        return ", ".join(parts)


def _users(count: int) -> str:
    return f"{count} {'user' if count == 1 else 'users'}"


def _not_seen(what: str, found: Sequence[str]) -> UnknownCell:
    return UnknownCell(
        f"{len(found)} {what} {'was' if len(found) == 1 else 'were'} not seen when the eraser was fitted: "
        f"{', '.join(found[:5])}{', ...' if len(found) > 5 else ''}. Refit with these users, or merge their classes "
        "into ones that were seen."
    )


def _distinct_rows(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct rows (C, A), sorted, and (n,) which of them each row is: ``np.unique(axis=0)`` in linear time."""
    rank = np.zeros(len(codes), dtype=np.int64)
    for column in codes.T if len(codes) else ():
        least = int(column.min())
        rank = _ranks(rank * (int(column.max()) - least + 1) + (column - least))
    example = np.empty(int(rank.max(initial=-1)) + 1, dtype=np.int64)
    example[rank] = np.arange(len(codes))
    return codes[example], rank.astype(np.int32)


def _ranks(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each number, all >= 0, among the distinct ones in order."""
    if numbers.max() > 8 * len(numbers) + 1024:
        return np.unique(numbers, return_inverse=True)[1]
    occurs = np.bincount(numbers) > 0
    return (np.cumsum(occurs) - 1)[numbers]
