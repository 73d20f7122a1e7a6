"""Who is in which group: the join of a table in parts with people and requests, by id and out of core."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.census import Census, counted, lone_cells
from attrcloak.errors import InvalidInput
from attrcloak.moments.cell_key import NOT_MARKED, CellKey
from attrcloak.parts.id_join import Noted, chunks_of, join
from attrcloak.parts.id_keys import ROWS_PER_CHUNK, KeyFile, keys_of, uniform
from attrcloak.parts.location import Location
from attrcloak.parts.misfits import refuse_misfits, refuse_silent
from attrcloak.parts.part import Part, in_file
from attrcloak.parts.people_scan import People, numbered_values, scan_people, scan_requests
from attrcloak.progress import Progress
from attrcloak.whole_file import replacing

_MOST_BITS = 64
"""Attributes, a bit each, that users may ask for; one more bit says whose requests count, where not everybody's do."""


@dataclass(frozen=True, eq=False)
class GroupRows:
    """The group of each row of a part, in a file of this machine; sent to another process, it carries the content.

    Attributes:
        file: one int32 a row.
        begin: the part's first row in it.
        rows: rows of the part.
        content: instead of a file.
    """

    file: Path | None
    begin: int
    rows: int
    content: NDArray[np.int32] | None = None

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """The groups of rows [start, stop) of the part; fewer where it ends before."""
        stop = min(stop, self.rows)
        if self.content is not None:
            return self.content[start:stop]
        assert self.file is not None  # one of both is there
        return np.fromfile(self.file, dtype=np.int32, count=max(stop - start, 0), offset=4 * (self.begin + start))

    def counts(self, groups: int) -> NDArray[np.int64]:
        """(groups,) rows of each group."""
        total = np.zeros(groups, dtype=np.int64)
        for start in range(0, self.rows, ROWS_PER_CHUNK):
            total += np.bincount(self.read(start, start + ROWS_PER_CHUNK), minlength=groups)
        return total

    def __reduce__(self) -> Any:
        return GroupRows, (None, 0, self.rows, self.read(0, self.rows))


@dataclass(frozen=True, eq=False)
class Groups:
    """The groups of a table's users: one combination of classes and of what was asked for.

    Attributes:
        classes: names of the A attributes, in order, and of their classes.
        codes: (G, A) class codes of each group, -1 where unknown.
        marks: (G, A) whether its users ask for the attribute; only where the class is known.
        counts: (G,) users of the table in each.
        rows_file: one int32 a row of the table, in the order of its parts.
        offsets: first row of each part, and the number of rows at the end.
        unmet: for each attribute, users of the table who ask for it and whose class is not known; 0 where the
            requests of some users alone count, for these were met before.
        elsewhere: for each column of the people, requests of users whom the table does not have; likewise.
    """

    classes: dict[str, tuple[str, ...]]
    codes: NDArray[np.int32]
    marks: NDArray[np.bool_]
    counts: NDArray[np.int64]
    rows_file: Path
    offsets: tuple[int, ...]
    unmet: dict[str, int]
    elsewhere: dict[str, int]

    @property
    def users(self) -> int:
        """Rows of the table."""
        return self.offsets[-1]

    @cached_property
    def marked_codes(self) -> NDArray[np.int32]:
        """(G, A) class codes, -1 where unknown or not asked for."""
        return np.where(self.marks, self.codes, NOT_MARKED).astype(np.int32)

    @cached_property
    def key(self) -> CellKey:
        """The cells that occur in the table."""
        occurs = self.counts > 0
        return CellKey.of(tuple(self.classes), tuple(self.classes.values()), self.marked_codes[occurs])[0]

    @cached_property
    def cell_of_group(self) -> NDArray[np.int32]:
        """(G,) cell of each group; 0 for groups that do not occur."""
        cells = np.zeros(len(self.counts), dtype=np.int32)
        occurs = self.counts > 0
        cells[occurs] = self.key.locate(self.marked_codes[occurs])
        return cells

    @property
    def users_of_cells(self) -> NDArray[np.int64]:
        """(C,) users of the table in each cell."""
        return np.bincount(self.cell_of_group, self.counts, minlength=len(self.key)).astype(np.int64)

    @property
    def silent(self) -> list[bool]:
        """For each attribute, whether there are users who did not ask for it and whose class is known."""
        return [bool(self.counts[they].any()) for they in ((self.codes != NOT_MARKED) & ~self.marks).T]

    @property
    def moving(self) -> int:
        """Users who asked for something."""
        return int(self.counts[(self.marked_codes != NOT_MARKED).any(axis=1)].sum())

    def census(self, by_request: bool) -> Census:
        """The users of the table in numbers; ``by_request`` says whether there is a list of requests."""
        unknown = (self.codes == NOT_MARKED).all(axis=1)
        codes = dict(zip(self.classes, self.codes.T, strict=True))
        marks = dict(zip(self.classes, self.marks.T, strict=True))
        known = {name: column != NOT_MARKED for name, column in codes.items()}
        return Census(
            users=self.users,
            moving=self.moving,
            cells=len(self.key),
            lone_cells=lone_cells(self.key, self.users_of_cells),
            unknown=int(self.counts[unknown].sum()),
            by_request=by_request,
            classes={
                name: counted(labels, codes[name][known[name]], self.counts[known[name]])
                for name, labels in self.classes.items()
            },
            asked={
                name: counted(labels, codes[name][marks[name]], self.counts[marks[name]])
                for name, labels in self.classes.items()
            },
            unmet=self.unmet,
            elsewhere=self.elsewhere,
        )

    def rows(self, part: int) -> "GroupRows":
        """The group of each row of a part."""
        begin, end = self.offsets[part], self.offsets[part + 1]
        return GroupRows(self.rows_file, begin, end - begin)

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """(s,) group of some rows of the table."""
        groups = np.memmap(self.rows_file, dtype=np.int32, mode="r")
        return np.asarray(groups[rows])

    def save(self, path: Path) -> None:
        """Write all but the rows as JSON, whole or not at all."""
        content = {
            "classes": {name: list(names) for name, names in self.classes.items()},
            "codes": self.codes.tolist(),
            "marks": self.marks.tolist(),
            "counts": self.counts.tolist(),
            "offsets": list(self.offsets),
            "unmet": self.unmet,
            "elsewhere": self.elsewhere,
        }
        with replacing(path, secret=True) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, rows_file: Path) -> "Groups":
        """Read what ``save`` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        attributes = len(content["classes"])
        return cls(
            {name: tuple(names) for name, names in content["classes"].items()},
            np.array(content["codes"], dtype=np.int32).reshape(-1, attributes),
            np.array(content["marks"], dtype=bool).reshape(-1, attributes),
            np.array(content["counts"], dtype=np.int64),
            rows_file,
            tuple(content["offsets"]),
            content["unmet"],
            content["elsewhere"],
        )


def join_people(
    parts: Sequence[Part],
    source: Location,
    requests: Location | None,
    folder: Path,
    *,
    table: str,
    users: Location | None = None,
    id_column: str | None = None,
    columns: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Groups, NDArray[np.int64]]:
    """The group of every row of a table, joined by id, and a sample of rows.

    Memory does not grow with the number of users; files in ``folder`` take about 30 bytes for each while this runs.

    Args:
        parts: the table.
        source: people, as ``read_people`` reads them; a file or a folder.
        requests: who asks for what; None marks everybody whose class is known.
        folder: for files, an empty one of this run.
        table: what messages call the table.
        users: whose requests alone count, each of whom has to ask for something; None is everybody.
        id_column: name of the ids in both; None finds them.
        columns: the attributes; None takes every other column.
        progress: called with (stage, done, total).

    Returns:
        The groups, and the numbers of the rows that ``sample`` chose, in an order that depends on ids alone.

    Raises:
        UnreadableFile: a file cannot be read.
        InvalidInput: ids missing or repeated, nobody of the table is listed, users who ask are not listed, a column is
            no attribute, or one of ``users`` is not in the table or asks for nothing.
    """
    given_up = Event()
    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(table_keys, parts, folder / "table.keys", progress, given_up)
        try:
            people = scan_people(source, folder, id_column, columns)
            most = _MOST_BITS if users is None else _MOST_BITS - 1
            if (requests is not None or users is not None) and len(people.columns) > most:
                raise InvalidInput(
                    f"{source.shown}: {len(people.columns)} attributes, and requests can be for {most} at most; name "
                    "those to use with columns="
                )
            asks = scan_requests(requests, users, folder, people.columns)
            keys, offsets = reading.result()
        except BaseException:
            given_up.set()  # or whoever waits for the error, or presses Ctrl-C, waits until all ids are read
            raise
    found, marks = folder / "table.groups", None if asks is None else folder / "table.marks"
    joined = join(people.listed, keys, asks, len(people.columns), found, marks)
    refuse_misfits(joined, people, source, parts, table, keys.rows, requests, users)
    elsewhere = dict(zip(people.columns, joined.elsewhere_asks.tolist(), strict=True))
    groups, silent = _finished(
        people, keys, offsets, found, marks, folder / "rows",
        dict.fromkeys(people.columns, 0) if users is not None else elsewhere,
        by_request=requests is not None, of_some=users is not None,
    )  # fmt: skip
    if users is not None:
        refuse_silent(silent, users)
    chosen = _sample(groups, keys)
    for file in (people.listed.keys, keys, *([asks.keys] if asks else [])):
        file.remove()
    for path in (people.listed.values, found, *([asks.values] if asks else []), *([marks] if marks else [])):
        path.unlink()
    return groups, chosen


def table_keys(
    parts: Sequence[Part], path: Path, progress: Progress | None, given_up: Event | None = None
) -> tuple[KeyFile, tuple[int, ...]]:
    """The keys of all rows in a file, and the first row of each part with the number of rows at the end.

    Args:
        parts: the table.
        path: of the file.
        progress: called with (stage, done, total).
        given_up: set by another thread when nobody wants the keys any more; then they are those of some rows.
    """
    keys, offsets = KeyFile(path), [0]
    total = sum(part.rows for part in parts)
    for part in parts:
        first = offsets[-1]
        try:
            for batch in part.ids(first):
                if given_up is not None and given_up.is_set():
                    return keys, tuple(offsets)
                keys.add(keys_of(batch, part.id_column or "ids", keys.rows - first))
        except InvalidInput as error:
            raise InvalidInput(in_file(part.location, error)) from error
        offsets.append(keys.rows)
        if progress is not None:
            progress("reading ids", keys.rows, total)
    return keys, tuple(offsets)


def _finished(
    people: People,
    keys: KeyFile,
    offsets: tuple[int, ...],
    found: Path,
    marks: Path | None,
    path: Path,
    elsewhere: dict[str, int],
    *,
    by_request: bool,
    of_some: bool,
) -> tuple[Groups, Noted]:
    """Number the combinations of classes and marks that occur; the first group is that of users who are not listed.

    Where requests of some users alone count, their bit follows those of the columns. Those of them who ask for nothing
    that can be done are noted beside the groups.
    """
    attributes = people.codes.shape[1]
    of_users = np.uint64(1 << len(people.columns) if of_some else 0)
    bits = np.full(attributes, of_users, dtype=np.uint64)
    if by_request:
        bits |= np.array([sum(1 << column for column in parts) for parts in people.parts], dtype=np.uint64)
    silent = Noted()
    numbered: dict[tuple[int, ...], int] = {(-1,) * attributes + (0,) * attributes: 0}
    counts, unmet = np.zeros(1, dtype=np.int64), np.zeros(attributes, dtype=np.int64)
    asked = iter(()) if marks is None else chunks_of(marks, np.uint64, keys.rows)
    with path.open("wb") as file:
        for group in chunks_of(found, np.int32, keys.rows):
            masks, mask_number = np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.int64)
            if marks is not None:
                masks, mask_number = np.unique(next(asked), return_inverse=True)
            bound = (len(people.codes) + 1) * len(masks)
            pairs, inverse = numbered_values((group.astype(np.int64) + 1) * len(masks) + mask_number, bound)
            of_group = np.concatenate([np.full((1, attributes), -1, dtype=np.int32), people.codes])[pairs // len(masks)]
            asks = (masks[pairs % len(masks)][:, None] & bits) == bits  # without requests everybody asks for everything
            users_of_pairs = np.bincount(inverse, minlength=len(pairs))
            if not of_some:
                unmet += users_of_pairs @ (asks & (of_group < 0))
            else:
                named = (masks[pairs % len(masks)] & of_users) > 0
                in_vain = (named & ~(asks & (of_group >= 0)).any(axis=1))[inverse]
                begin = file.tell() // group.itemsize
                silent.add(keys.read(begin, begin + len(group)).take(in_vain))
            combinations = np.concatenate([of_group, asks & (of_group >= 0)], axis=1).tolist()
            numbers = [numbered.setdefault(tuple(row), len(numbered)) for row in combinations]
            final = np.array(numbers, dtype=np.int32)[inverse]
            counts = np.pad(counts, (0, len(numbered) - len(counts))) + np.bincount(final, minlength=len(numbered))
            file.write(final.data.cast("B"))
    table = np.array(list(numbered), dtype=np.int32)
    codes, wanted = table[:, :attributes], table[:, attributes:].astype(bool)
    of_attributes = dict(zip(people.classes, unmet.tolist(), strict=True))
    return Groups(people.classes, codes, wanted, counts, path, offsets, of_attributes, elsewhere), silent


MOST_SAMPLED = 20_000


def _sample(groups: Groups, keys: KeyFile) -> NDArray[np.int64]:
    """Rows of about 20,000 users whose class is known: half of them evenly, half so that no class is too small.

    Where some asked and some did not, those of a class who asked are a class of their own here: attacks are on them.
    A user is chosen by a hash of the id, so neither the order of rows nor the cut into files matters.
    """
    known = (groups.codes >= 0).any(axis=1)
    evenly = np.where(known, MOST_SAMPLED / 2 / max(int(groups.counts[known].sum()), 1), 0.0)
    # (G, A) from 0: unknown, then 2 k + 1 of class k who did not ask, 2 k + 2 who did.
    kinds = np.where(groups.codes >= 0, 2 * groups.codes + groups.marks + 1, 0)
    users_of_kinds = [np.bincount(kind, groups.counts) for kind in kinds.T]
    floor = MOST_SAMPLED / 2 / max(sum(int((users[1:] > 0).sum()) for users in users_of_kinds), 1)
    by_class = np.zeros(len(kinds))
    for kind, users in zip(kinds.T, users_of_kinds, strict=True):
        rate = floor / np.maximum(users, 1)
        rate[0] = 0.0
        by_class = np.maximum(by_class, rate[kind])
    limit = np.minimum(evenly + by_class, 1.0)
    rows, places = [], []
    for (start, chunk), group in zip(keys.chunks(), chunks_of(groups.rows_file, np.int32, keys.rows), strict=True):
        place = uniform(chunk)
        chosen = np.flatnonzero((place >> np.uint64(11)) * 2.0**-53 < limit[group])
        rows.append(chosen + start)
        places.append(place[chosen])
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(rows)[order]
