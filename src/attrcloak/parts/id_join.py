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


@dataclass
class Noted:
    """Keys of ids that an error is about; a million of them at most, which is enough to say so."""

    pairs: set[tuple[int, int]] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many ids."""
        return len(self.pairs)

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
        elsewhere_asks: (A,) requests of users whom the table does not have, per attribute.
    """

    in_people: Noted
    in_table: Noted
    matched: int
    absent_asks: NDArray[np.int64]
    absent: Noted
    elsewhere_asks: NDArray[np.int64]


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
        asks: keys and attributes of requests.
        attributes: how many there are.
        groups: written: one int32 a row of the table, -1 where its user is not listed.
        marks: written where there are requests: one uint64 a row, bit j set by a request for attribute j.
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
    in_people, in_table, of_nobody = Noted(), Noted(), Noted()
    for start, keys in people.keys.chunks():
        at = keys.low.view(np.int64) - lowest
        _note_repeated(in_people, at, group_of.get(at) > 0, lowest)
        values = np.fromfile(people.values, dtype=np.int32, count=len(keys), offset=4 * start)
        group_of.set(at, values + 1)
    absent = np.zeros(attributes, dtype=np.int64)
    if asks is not None and mask_of is not None:
        for start, keys in asks.keys.chunks():
            at = keys.low.view(np.int64) - lowest
            asked = np.fromfile(asks.values, dtype=np.int32, count=len(keys), offset=4 * start)
            nobody = group_of.get(at) == 0
            absent += np.bincount(asked[nobody], minlength=attributes)
            of_nobody.add(Keys(keys.low[nobody]))
            for attribute in range(attributes):
                those = at[asked == attribute]
                mask_of.set(those, mask_of.get(those) | np.uint64(1 << attribute))
    matched = 0
    with groups.open("wb") as group_file, (marks or Path(os.devnull)).open("wb") as mark_file:
        for _, keys in table.chunks():
            at = keys.low.view(np.int64) - lowest
            _note_repeated(in_table, at, seen.get(at) > 0, lowest)
            seen.set(at, np.ones(len(at), dtype=np.uint8))
            found = group_of.get(at) - 1
            matched += int((found >= 0).sum())
            group_file.write(found.data.cast("B"))
            if mask_of is not None:
                mark_file.write(mask_of.get(at).data.cast("B"))
    elsewhere = np.zeros(attributes, dtype=np.int64)
    if asks is not None:
        for start, keys in asks.keys.chunks():
            asked = np.fromfile(asks.values, dtype=np.int32, count=len(keys), offset=4 * start)
            elsewhere += np.bincount(asked[seen.get(keys.low.view(np.int64) - lowest) == 0], minlength=attributes)
    for positions in (group_of, seen, mask_of):
        if positions is not None:
            positions.remove()
    return Joined(in_people, in_table, matched, absent, of_nobody, elsewhere)


def _note_repeated(repeated: Noted, at: NDArray[np.int64], before: NDArray[np.bool_], lowest: int) -> None:
    """Note ids that were there before or are there twice now; only a list out of order needs sorting to tell."""
    again = at[before]
    if not (np.diff(at) > 0).all():
        ordered = np.sort(at)
        again = np.concatenate([again, ordered[1:][ordered[1:] == ordered[:-1]]])
    if len(again):
        repeated.add(Keys((np.unique(again) + lowest).view(np.uint64)))


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
    in_people, in_table, of_nobody, matched = Noted(), Noted(), Noted(), 0
    absent, elsewhere = np.zeros((2, attributes), dtype=np.int64)
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
            absent += np.bincount(asked[nobody], minlength=attributes)
            of_nobody.add(Keys(ask_keys.low[nobody], ask_keys.highs[nobody]))
            in_the_table = np.zeros(firsts, dtype=bool)
            in_the_table[of_table] = True
            elsewhere += np.bincount(asked[~in_the_table[of_asks]], minlength=attributes)
            mask = np.zeros(firsts, dtype=np.uint64)
            np.bitwise_or.at(mask, of_asks, np.uint64(1) << asked.astype(np.uint64))
            found_marks[row] = mask[of_table]
    del found_groups, found_marks
    for files in dealt:
        files.remove()
    folder.rmdir()
    return Joined(in_people, in_table, matched, absent, of_nobody, elsewhere)


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
    return Keys(keys.low[chosen], keys.highs[chosen])


def chunks_of(path: Path, dtype: type[np.generic], rows: int) -> Iterator[NDArray[np.generic]]:
    """The values of a flat file, chunk by chunk as ``KeyFile.chunks`` has them."""
    size = np.dtype(dtype).itemsize
    for start in range(0, rows, ROWS_PER_CHUNK):
        yield np.fromfile(path, dtype=dtype, count=min(ROWS_PER_CHUNK, rows - start), offset=size * start)
