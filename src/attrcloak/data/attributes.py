"""What is known about people, who asked for what, and the cells that follow from both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.cells import Cells
from attrcloak.data.ids import Ids, read_as_floats
from attrcloak.data.named_columns import some
from attrcloak.errors import InvalidInput, raise_if
from attrcloak.moments.cell_key import NOT_MARKED, CellKey

UNKNOWN = -1
CROSS = " x "
"""Between the names of attributes, and between those of their classes, in an intersection: "gender x age"."""


@dataclass(frozen=True, eq=False)
class Attribute:
    """One attribute of a list of users.

    Attributes:
        name: such as "gender".
        classes: names of the K classes; a code is an index into them.
        codes: (n,) class of each user in [0, K), -1 where unknown.
        marked: (n,) users who ask to have it removed, class known or not; None where there is no list of requests and
            everybody asks.
    """

    name: str
    classes: tuple[str, ...]
    codes: NDArray[np.int32]
    marked: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        codes = np.array(self.codes, dtype=np.int32)
        marked = None if self.marked is None else np.array(self.marked, dtype=bool)
        problems = []
        if codes.ndim != 1 or (marked is not None and marked.shape != codes.shape):
            marks = "" if marked is None else f" and marks {marked.shape}"
            problems.append(f"attribute {self.name!r}: codes {codes.shape}{marks} must be (users,)")
        outside = int(((codes < UNKNOWN) | (codes >= len(self.classes))).sum())
        if outside:
            problems.append(f"attribute {self.name!r}: {outside} class codes are outside [-1, {len(self.classes)})")
        if len(set(self.classes)) != len(self.classes):
            problems.append(f"attribute {self.name!r}: two classes have the same name")
        raise_if(problems)
        codes.setflags(write=False)
        if marked is not None:
            marked.setflags(write=False)
        object.__setattr__(self, "classes", tuple(str(name) for name in self.classes))
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "marked", marked)

    @classmethod
    def from_values(cls, name: str, values: Sequence[Any], classes: Sequence[str] | None = None) -> "Attribute":
        """From one value a user; None, NaN and empty text are unknown. Classes default to the sorted values."""
        texts = [_text(value) for value in values]
        names = list(classes) if classes is not None else _in_order({text for text in texts if text})
        code_of = {text: code for code, text in enumerate(names)}
        strange = {text for text in texts if text and text not in code_of}
        if strange:
            raise InvalidInput(
                f"attribute {name!r}: {len(strange)} values are not among its classes: {', '.join(sorted(strange)[:5])}"
            )
        return cls(name, tuple(names), np.array([code_of.get(text, UNKNOWN) for text in texts], dtype=np.int32))

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) users whose class is known."""
        return np.asarray(self.codes != UNKNOWN, dtype=np.bool_)

    @property
    def asks(self) -> NDArray[np.bool_]:
        """(n,) users who ask to have it removed, also those whose class is not known, for whom nothing can be done."""
        return np.ones(len(self.codes), dtype=np.bool_) if self.marked is None else self.marked

    @property
    def marks(self) -> NDArray[np.bool_]:
        """(n,) users whose class is known and who ask to have it removed."""
        return self.known & self.asks

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K,) users of each class."""
        return np.bincount(self.codes[self.known], minlength=len(self.classes))


def crossed(parts: Sequence[Attribute]) -> Attribute:
    """The intersection of attributes of the same users: known where all parts are, asked for by who asks for all.

    Raises:
        InvalidInput: fewer than two different attributes.
    """
    names = [part.name for part in parts]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise InvalidInput(f"an intersection needs two or more different attributes, got {', '.join(names)}")
    known = np.all([part.known for part in parts], axis=0)
    combinations, codes = np.unique(
        np.stack([part.codes for part in parts], axis=1)[known], axis=0, return_inverse=True
    )
    classes = tuple(
        CROSS.join(part.classes[code] for part, code in zip(parts, row, strict=True)) for row in combinations.tolist()
    )
    of_user = np.full(len(known), UNKNOWN, dtype=np.int32)
    of_user[known] = codes.reshape(-1)
    everybody = all(part.marked is None for part in parts)
    return Attribute(
        CROSS.join(names), classes, of_user, None if everybody else np.all([part.asks for part in parts], axis=0)
    )


@dataclass(frozen=True, eq=False)
class UserAttributes:
    """Attributes of people, joined to tables by id and never by position.

    Attributes:
        ids: n unique user ids.
        columns: the attributes by name, each over the same n users.
    """

    ids: Ids
    columns: Mapping[str, Attribute]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", dict(self.columns))
        raise_if(
            [
                f"attribute {name!r} has {len(column.codes)} users, expected {len(self.ids)}"
                for name, column in self.columns.items()
                if len(column.codes) != len(self.ids)
            ]
        )

    @classmethod
    def from_values(cls, ids: Ids | Sequence[Any] | NDArray[Any], **values: Sequence[Any]) -> "UserAttributes":
        """From one sequence of values an attribute: ``UserAttributes.from_values(ids, gender=["F", "M"])``."""
        ids = ids if isinstance(ids, Ids) else Ids(np.asarray(ids))
        return cls(ids, {name: Attribute.from_values(name, column) for name, column in values.items()})

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attributes, in order."""
        return tuple(self.columns)

    def __getitem__(self, name: str) -> Attribute:
        if name not in self.columns:
            raise InvalidInput(f"there is no attribute {name!r}; there are: {', '.join(self.columns) or 'none'}")
        return self.columns[name]

    def select(self, names: Sequence[str]) -> "UserAttributes":
        """Only the named attributes, in that order; every unknown name is reported."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InvalidInput(
                f"there is no attribute {', '.join(map(repr, missing))}; there are: {', '.join(self.columns) or 'none'}"
            )
        return UserAttributes(self.ids, {name: self.columns[name] for name in names})

    def align(self, ids: Ids) -> "UserAttributes":
        """The same attributes over the users of a table, in its order; users not listed here are unknown.

        Raises:
            InvalidInput: not one of the table's users is listed here.
        """
        rows = self.ids.rows(ids)
        if len(ids) and not (rows >= 0).any():
            raise InvalidInput(
                f"none of the {len(ids)} users of the table is among the {len(self)} listed people (table: "
                f"{_examples(ids)}; people: {_examples(self.ids)}); "
                + (read_as_floats([*ids.values[:3], *self.ids.values[:3]]) or "is the id column the right one?")
            )
        absent = rows < 0
        columns = {
            name: replace(
                column,
                codes=np.where(absent, UNKNOWN, column.codes[rows]),
                marked=None if column.marked is None else np.where(absent, False, column.marked[rows]),
            )
            for name, column in self.columns.items()
        }
        return UserAttributes(ids, columns)

    def mark(self, requests: Mapping[str, Ids | Sequence[Any] | NDArray[Any]]) -> "UserAttributes":
        """Only the listed users ask, each for the attribute they are listed under; attributes not listed: nobody asks.

        Raises:
            InvalidInput: an attribute or a user is not known here; all are counted.
        """
        self.select(tuple(requests))
        problems, columns = [], {}
        for name, column in self.columns.items():
            wanted = requests.get(name, np.array([], dtype=np.int64))
            wanted = wanted.values if isinstance(wanted, Ids) else np.asarray(wanted)
            rows = self.ids.rows(wanted)
            if (rows < 0).any():
                absent = wanted[rows < 0]
                problems.append(
                    f"attribute {name!r}: {len(absent)} of {len(rows)} users who ask are not listed ({some(absent)}); "
                    + (read_as_floats(absent[:3]) or "drop these requests, or list the users")
                )
            marked = np.zeros(len(self), dtype=bool)
            marked[rows[rows >= 0]] = True
            columns[name] = replace(column, marked=marked)
        raise_if(problems)
        return UserAttributes(self.ids, columns)

    def only(self, users: Ids) -> "UserAttributes":
        """Of those who asked, only these users still do.

        Raises:
            InvalidInput: one of them is not known here, or asked for nothing; all are counted.
        """
        rows = self.ids.rows(users)
        absent = users.values[rows < 0]
        if len(absent):
            raise InvalidInput(f"{len(absent)} of the {len(rows)} users named are not listed ({some(absent)})")
        asked = np.any([column.marks for column in self.columns.values()], axis=0)
        silent = users.values[~asked[rows]]
        if len(silent):
            raise InvalidInput(
                f"{len(silent)} of the {len(rows)} users named asked for nothing, or their class is not known, so "
                f"nothing was done to them ({some(silent)})"
            )
        kept = np.zeros(len(self), dtype=bool)
        kept[rows] = True
        return UserAttributes(
            self.ids, {name: replace(column, marked=column.marks & kept) for name, column in self.columns.items()}
        )

    def without(self, users: Ids | Sequence[Any] | NDArray[Any]) -> "UserAttributes":
        """Forget the classes of users whom earlier runs moved: their vectors no longer show them as the others' do, so
        nothing is to be learnt from them.

        A class that its user asks to have removed now is kept, or there would be nothing to do for them; listed ids
        that have no row here are passed over.
        """
        gone = np.zeros(len(self), dtype=bool)
        rows = self.ids.rows(users)
        gone[rows[rows >= 0]] = True
        columns = {
            name: replace(column, codes=np.where(gone & ~column.marks, UNKNOWN, column.codes))
            for name, column in self.columns.items()
        }
        return UserAttributes(self.ids, columns)

    def cross(self, *names: str) -> "UserAttributes":
        """Add the intersection of attributes as an attribute of its own, last: ``cross("gender", "age")`` adds
        "gender x age" with classes such as "F x 25-34".

        Attributes that are each at chance can still be read together. The intersection is known of users of whom all
        parts are, and wanted removed by those who asked for all parts; only combinations that occur become classes.
        Small ones are treated like any small class: see ``merge_classes`` and ``drop_classes``.

        Raises:
            InvalidInput: fewer than two different attributes, or one that is not known here.
        """
        columns = self.select(names).columns
        return UserAttributes(self.ids, {**self.columns, CROSS.join(names): crossed([columns[name] for name in names])})

    def cover(self, share: float, rng: np.random.Generator, among: Ids | None = None) -> "UserAttributes":
        """Mark a random share of the users who asked for nothing as if they had, so that to have moved is not to have
        asked.

        Each is marked for what some user drawn from those who asked is marked for, as far as their own class is
        known; whoever knows none of the classes needed is passed over.

        Args:
            share: of the users who asked for nothing and have a known class, in [0, 1].
            rng: draws them. It must be as secret as the list of who asked: whoever can repeat it takes the cover off.
            among: the users of a table, so that nobody is drawn who is not in it; None is everybody listed here.

        Raises:
            InvalidInput: the share is outside [0, 1], or nobody asked, so there is nobody to cover.
        """
        if not 0 <= share <= 1:
            raise InvalidInput(f"the share of users to cover with is {share}, expected a number from 0 to 1")
        columns = list(self.columns.values())
        marks = np.stack([column.marks for column in columns], axis=1)
        known = np.stack([column.known for column in columns], axis=1)
        if among is not None:
            self.align(among)  # says so where none of them is listed
        rows = np.arange(len(self)) if among is None else self.ids.rows(among)
        rows = rows[rows >= 0]
        asked = rows[marks[rows].any(axis=1)]
        if not len(asked):
            raise InvalidInput("nobody asked for anything, so there is nobody to cover")
        free = rows[known[rows].any(axis=1) & ~marks[rows].any(axis=1)]
        drawn = rng.choice(free, size=round(share * len(free)), replace=False)
        asks = np.stack([column.asks for column in columns], axis=1)
        asks[drawn] |= marks[rng.choice(asked, size=len(drawn))] & known[drawn]
        return UserAttributes(
            self.ids,
            {column.name: replace(column, marked=asks[:, place]) for place, column in enumerate(columns)},
        )

    def merge_classes(self, name: str, classes: Sequence[str], into: str) -> "UserAttributes":
        """Join several classes of an attribute into one, for classes too small to work with."""
        column = self[name]
        strange = [label for label in classes if label not in column.classes]
        if strange:
            raise InvalidInput(f"attribute {name!r} has no class {', '.join(map(repr, strange))}")
        names = [label for label in column.classes if label not in classes and label != into] + [into]
        new_code = np.array(
            [names.index(into if label in classes else label) for label in column.classes] + [UNKNOWN], dtype=np.int32
        )
        merged = replace(column, classes=tuple(names), codes=new_code[column.codes])
        return UserAttributes(self.ids, {**self.columns, name: merged})

    def drop_classes(self, name: str, min_users: int) -> "UserAttributes":
        """Make the classes with fewer than ``min_users`` users unknown."""
        column = self[name]
        keep = [label for label, count in zip(column.classes, column.counts, strict=True) if count >= min_users]
        codes = [keep.index(label) if label in keep else UNKNOWN for label in column.classes]
        new_code = np.array([*codes, UNKNOWN], dtype=np.int32)
        kept = replace(column, classes=tuple(keep), codes=new_code[column.codes])
        return UserAttributes(self.ids, {**self.columns, name: kept})

    def marked_codes(self, names: Sequence[str] | None = None) -> NDArray[np.int32]:
        """(n, A) class codes, -1 where the class is unknown or the user did not ask."""
        chosen = [self[name] for name in (self.names if names is None else names)]
        if not chosen:
            return np.empty((len(self), 0), dtype=np.int32)
        codes = [np.where(column.marks, column.codes, NOT_MARKED) for column in chosen]
        return np.stack(codes, axis=1).astype(np.int32)

    def cells(self, names: Sequence[str] | None = None) -> Cells:
        """The cell of every user over the named attributes (all by default)."""
        chosen = self.names if names is None else tuple(names)
        key, of_user = CellKey.of(chosen, [self[name].classes for name in chosen], self.marked_codes(chosen))
        known = [self[name].codes for name in chosen]
        return Cells(key, of_user, np.stack(known, axis=1) if known else None)


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN of any type is the one value that differs from itself
        return ""
    return str(value).strip()


def _in_order(texts: set[str]) -> list[str]:
    """Sorted, by number where every text is one ("1", "18", "25"), so that binned ages come out in order."""
    try:
        return sorted(texts, key=float)
    except ValueError:
        return sorted(texts)


def _examples(ids: Ids) -> str:
    return ", ".join(repr(value) for value in ids.values[:3].tolist())
