"""Joins by key between files: which row of people belongs to each row of a table, with bounded memory."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.parts.buckets import ROWS_PER_BUCKET, Buckets, bucket_of
from attrcloak.parts.id_keys import ROWS_PER_CHUNK, KeyFile, Keys

_SPARSEST = 8
"""Ids are looked up by position where there is one in so many numbers at least."""
_MOST_COUNTED = 1_000_000
_MOST_SCATTERED = 16 * ROWS_PER_CHUNK
"""Numbers among which an id that comes again is found by its place and not by sorting: 64 MB."""


@dataclass
class Noted:
    """Keys of ids that an error is about; a million of them at most, which is enough to say so."""

    pairs: set[tuple[int, int]] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many ids."""
        return len(self.pairs)

    @property
    def counted(self) -> str:
        """How many, in words."""
        return f"at least {self.count}" if self.count >= _MOST_COUNTED else str(self.count)

    def add(self, keys: Keys) -> None:
        """Note keys."""
        if len(self.pairs) < _MOST_COUNTED:
            self.pairs |= set(zip(keys.low.tolist(), keys.highs.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Joined:
    """What a join found; the rows themselves are in the files it wrote.

    Attributes:
        in_people: ids that people list more than once.
        in_table: ids that the table has more than once.
        matched: rows of the table with a person.
        absent_asks: (A,) requests of users who are not listed, per attribute.
        absent: ids of these users.
        absent_named: ids that are not listed of the users whose requests alone count.
        elsewhere_asks: (A,) requests of users whom the table does not have, per attribute.
        elsewhere_named: ids that the table does not have of the users whose requests alone count.
    """

    in_people: Noted
    in_table: Noted
    matched: int
    absent_asks: NDArray[np.int64]
    absent: Noted
    absent_named: Noted
    elsewhere_asks: NDArray[np.int64]
    elsewhere_named: Noted


class _Asks:
    """Requests that nothing can be done about, so far: counted by attribute, and the ids noted.

    Attributes:
        asks: (A,) requests, per attribute.
        users: ids of who asks.
        named: ids of users whose requests alone count.
    """

    def __init__(self, attributes: int) -> None:
        self.asks = np.zeros(attributes, dtype=np.int64)
        self.users, self.named = Noted(), Noted()

    def add(self, asked: NDArray[np.integer], keys: Keys, *, note_users: bool) -> None:
        """Count requests; value A says that the requests of that user count.

        Args:
            asked: (m,) attributes.
            keys: (m,) of who asks.
            note_users: whether the ids of who asks are wanted, which take memory; those of users who are named always
                are.
        """
        attributes = len(self.asks)
        self.asks += np.bincount(asked, minlength=attributes + 1)[:attributes]
        self.named.add(keys.take(asked == attributes))
        if note_users:
            self.users.add(keys.take(asked < attributes))


@dataclass(frozen=True, eq=False)
class Listed:
    """People by key: ``values`` is a file of one int32 a row, the group of the person."""

    keys: KeyFile
    values: Path


def join(
    people: Listed, table: KeyFile, asks: Listed | None, attributes: int, groups: Path, marks: Path | None
) -> Joined:
    """Write for every row of the table the group of its user, and who asked for what.

    Ids that are numbers close together are looked up by position in a file. Others are dealt into buckets by hash, and
    every bucket is sorted in memory.

    Args:
        people: keys and groups.
        table: keys of the table.
        asks: keys and attributes of requests; an attribute of A says that this user's requests count.
        attributes: how many there are, A.
        groups: written: one int32 a row of the table, -1 where its user is not listed.
        marks: written where there are requests: one uint64 a row, bit j set by a request for attribute j, bit A where
            requests count.
    """
    files = [people.keys, table] + ([] if asks is None else [asks.keys])
    rows = sum(file.rows for file in files)
    width = max(file.largest for file in files) - min(file.smallest for file in files) + 1
    dense = not any(file.has_text for file in files) and width <= _SPARSEST * rows + ROWS_PER_CHUNK
    way = _by_position if dense else _by_bucket
    return way(people, table, asks, attributes, groups, marks)


def _by_position(
    people: Listed, table: KeyFile, asks: Listed | None, attributes: int, groups: Path, marks: Path | None
) -> Joined:
    files = [people.keys, table] + ([] if asks is None else [asks.keys])
    lowest = min(file.smallest for file in files)
    width = max(file.largest for file in files) - lowest + 1
    group_of = _Positions(groups.with_name("group-of-id"), width, np.dtype(np.int32))  # +1, 0 where there is nobody
    seen = _Positions(groups.with_name("seen-id"), width, np.dtype(np.uint8))
    mask_of = None if asks is None else _Positions(groups.with_name("asks-of-id"), width, np.dtype(np.uint64))
    in_people, in_table = Noted(), Noted()
    absent, elsewhere = _Asks(attributes), _Asks(attributes)
    for start, keys in people.keys.chunks():
        at = keys.low.view(np.int64) - lowest
        in_people.add(keys.take((group_of.get(at) > 0) | _comes_again(at)))
        values = np.fromfile(people.values, dtype=np.int32, count=len(keys), offset=4 * start)
        group_of.set(at, values + 1)
    if asks is not None and mask_of is not None:
        for start, keys in asks.keys.chunks():
            at = keys.low.view(np.int64) - lowest
            asked = np.fromfile(asks.values, dtype=np.int32, count=len(keys), offset=4 * start)
            nobody = group_of.get(at) == 0
            absent.add(asked[nobody], keys.take(nobody), note_users=True)
            for attribute in np.unique(asked).tolist():
                those = at[asked == attribute]
                mask_of.set(those, mask_of.get(those) | np.uint64(1 << attribute))
    matched = 0
    with groups.open("wb") as group_file, (marks or Path(os.devnull)).open("wb") as mark_file:
        for _, keys in table.chunks():
            at = keys.low.view(np.int64) - lowest
            in_table.add(keys.take((seen.get(at) > 0) | _comes_again(at)))
            seen.set(at, np.ones(len(at), dtype=np.uint8))
            found = group_of.get(at) - 1
            matched += int((found >= 0).sum())
            group_file.write(found.data.cast("B"))
            if mask_of is not None:
                mark_file.write(mask_of.get(at).data.cast("B"))
    if asks is not None:
        for start, keys in asks.keys.chunks():
            asked = np.fromfile(asks.values, dtype=np.int32, count=len(keys), offset=4 * start)
            missing = seen.get(keys.low.view(np.int64) - lowest) == 0
            elsewhere.add(asked[missing], keys.take(missing), note_users=False)
    for positions in (group_of, seen, mask_of):
        if positions is not None:
            positions.remove()
    return _joined(in_people, in_table, matched, absent, elsewhere)


def _comes_again(at: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n,) whether the same position comes once more, later in the chunk."""
    if (np.diff(at) > 0).all():
        return np.zeros(len(at), dtype=bool)
    lowest = int(at.min())
    width = int(at.max()) - lowest + 1
    turns = np.arange(len(at), dtype=np.int32)
    if width > _MOST_SCATTERED:
        again = np.zeros(len(at), dtype=bool)
        order = np.argsort(at, kind="stable")
        again[order[:-1]] = at[order[1:]] == at[order[:-1]]
        return again
    last = np.empty(width, dtype=np.int32)
    last[at - lowest] = turns  # of equal positions the last counts
    return np.asarray(last[at - lowest] != turns)


class _Positions:
    """An array in a sparse file, of which little counts as memory of this process."""

    def __init__(self, path: Path, size: int, dtype: np.dtype[np.generic]) -> None:
        self._path = path
        self._array: NDArray[Any] = np.memmap(path, dtype=dtype, mode="w+", shape=(size,))

    def get(self, at: NDArray[np.int64]) -> NDArray[Any]:
        """Values at positions, as an array of its own."""
        values = np.asarray(self._array)[at]
        self._let_go()
        return values

    def set(self, at: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Put values at positions; of equal positions the last counts."""
        self._array[at] = values
        self._let_go()

    def remove(self) -> None:
        """Delete the file."""
        del self._array
        self._path.unlink()

    def _let_go(self) -> None:
        """Pages go back to the system's cache, so that memory does not grow with the number of ids."""
        import mmap

        mapped = getattr(self._array, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _by_bucket(
    people: Listed, table: KeyFile, asks: Listed | None, attributes: int, groups: Path, marks: Path | None
) -> Joined:
    buckets = -(-max(people.keys.rows, table.rows) // ROWS_PER_BUCKET)
    folder = groups.with_name("buckets")
    folder.mkdir()
    dealt = [
        _deal(folder, "people", people.keys, people.values, buckets),
        _deal(folder, "table", table, None, buckets),
        *([] if asks is None else [_deal(folder, "asks", asks.keys, asks.values, buckets)]),
    ]
    nothing = np.empty(0, dtype=DEALT)
    found_groups = np.memmap(groups, dtype=np.int32, mode="w+", shape=(max(table.rows, 1),))
    found_marks = None if marks is None else np.memmap(marks, dtype=np.uint64, mode="w+", shape=(max(table.rows, 1),))
    in_people, in_table, matched = Noted(), Noted(), 0
    absent, elsewhere = _Asks(attributes), _Asks(attributes)
    for bucket in range(buckets):
        sources = [keys_and_values(files.take(bucket)) for files in dealt]
        (listed_keys, group), (table_keys, row) = sources[:2]
        ask_keys, asked = sources[2] if asks is not None else keys_and_values(nothing)
        number, firsts = numbered([listed_keys, table_keys, ask_keys])
        of_people, of_table, of_asks = np.split(number, [len(listed_keys), len(listed_keys) + len(table_keys)])
        in_people.add(_twice(of_people, listed_keys))
        in_table.add(_twice(of_table, table_keys))
        group_of = np.full(firsts, -1, dtype=np.int32)
        group_of[of_people] = group
        found_groups[row] = group_of[of_table]
        matched += int((group_of[of_table] >= 0).sum())
        if found_marks is not None:
            nobody = group_of[of_asks] < 0
            absent.add(asked[nobody], ask_keys.take(nobody), note_users=True)
            in_the_table = np.zeros(firsts, dtype=bool)
            in_the_table[of_table] = True
            missing = ~in_the_table[of_asks]
            elsewhere.add(asked[missing], ask_keys.take(missing), note_users=False)
            mask = np.zeros(firsts, dtype=np.uint64)
            np.bitwise_or.at(mask, of_asks, np.uint64(1) << asked.astype(np.uint64))
            found_marks[row] = mask[of_table]
    del found_groups, found_marks
    for files in dealt:
        files.remove()
    folder.rmdir()
    return _joined(in_people, in_table, matched, absent, elsewhere)


def _joined(in_people: Noted, in_table: Noted, matched: int, absent: _Asks, elsewhere: _Asks) -> Joined:
    return Joined(
        in_people, in_table, matched, absent.asks, absent.users, absent.named, elsewhere.asks, elsewhere.named
    )


DEALT = np.dtype([("low", np.uint64), ("high", np.uint64), ("value", np.int64)])


def _deal(folder: Path, name: str, keys: KeyFile, values: Path | None, buckets: int) -> Buckets:
    """Spread rows over one file a bucket, in their order; a row without a value carries its number."""
    dealt = Buckets(folder / name, buckets, DEALT)
    for start, chunk in keys.chunks():
        if values is None:
            value = np.arange(start, start + len(chunk))
        else:
            value = np.fromfile(values, dtype=np.int32, count=len(chunk), offset=4 * start)
        dealt.add(bucket_of(chunk, buckets), dealt_rows(chunk, value))
    return dealt


def dealt_rows(keys: Keys, values: NDArray[np.integer]) -> NDArray[Any]:
    """Keys with a number each, as rows of ``DEALT``."""
    rows = np.empty(len(keys), dtype=DEALT)
    rows["low"], rows["high"], rows["value"] = keys.low, keys.highs, values
    return rows


def keys_and_values(rows: NDArray[Any]) -> tuple[Keys, NDArray[np.int64]]:
    """What ``dealt_rows`` put together."""
    return Keys(rows["low"].copy(), rows["high"].copy()), rows["value"].copy()


def numbered(lists: list[Keys]) -> tuple[NDArray[np.int64], int]:
    """The number of each key among the distinct ones of all lists, and how many there are."""
    low = np.concatenate([keys.low for keys in lists])
    high = np.concatenate([keys.highs for keys in lists])
    order = np.lexsort((low, high)) if high.any() else np.argsort(low, kind="stable")
    low, high = low[order], high[order]
    new = np.ones(len(low), dtype=np.int64)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    number = np.empty(len(low), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return number, int(new.sum())


def _twice(number: NDArray[np.int64], keys: Keys) -> Keys:
    """Keys that occur more than once, each once."""
    _, first, counts = np.unique(number, return_index=True, return_counts=True)
    chosen = first[counts > 1]
    return keys.take(chosen)


def chunks_of(path: Path, dtype: type[np.generic], rows: int) -> Iterator[NDArray[np.generic]]:
    """The values of a flat file, chunk by chunk as ``KeyFile.chunks`` has them."""
    size = np.dtype(dtype).itemsize
    for start in range(0, rows, ROWS_PER_CHUNK):
        yield np.fromfile(path, dtype=dtype, count=min(ROWS_PER_CHUNK, rows - start), offset=size * start)
