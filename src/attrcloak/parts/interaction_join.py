"""Interactions dealt to the parts of a table by user, once and out of core."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput, raise_if
from attrcloak.parts.buckets import ROWS_PER_BUCKET, Buckets, bucket_of
from attrcloak.parts.groups import Groups, table_keys
from attrcloak.parts.id_join import DEALT, dealt_rows, keys_and_values, numbered
from attrcloak.parts.id_keys import KeyFile, Keys, keys_of, uniform
from attrcloak.parts.item_table import ItemTable
from attrcloak.parts.location import Location
from attrcloak.parts.part import Part, in_file
from attrcloak.parts.people_scan import batches_of
from attrcloak.parts.user_items import UserItems, UserItemsFile
from attrcloak.progress import Progress

PAIR_COLUMNS = ["user_id", "item_id"]
_BYTES_PER_INTERACTION = 4
"""At least so many in any file, compressed or not; it only decides how many buckets there are."""
_PLACED = np.dtype([("row", np.int64), ("item", np.int32)])


@dataclass(frozen=True)
class Dealt:
    """What was found in the interactions.

    Attributes:
        interactions: rows in the files.
        repeated: of them, pairs of user and item that were there before; they count once.
        useful: distinct pairs of users who have not seen every item; only those teach a ranking anything.
    """

    interactions: int
    repeated: int
    useful: int


@dataclass
class _Unknown:
    """Ids that are not where they should be: how many rows, and which.

    Attributes:
        rows: interactions with such an id.
        ids: their distinct hashes, a million at most.
    """

    rows: int
    ids: set[int]

    def add(self, keys: Keys) -> None:
        self.rows += len(keys)
        if len(self.ids) < 1_000_000:
            self.ids |= set(np.unique(uniform(keys)).tolist())


def deal_interactions(
    source: Location,
    parts: Sequence[Part],
    groups: Groups,
    items: ItemTable,
    folder: Path,
    target: Location,
    *,
    table: str,
    unfinished: Location,
    progress: Progress | None = None,
) -> Dealt:
    """Write for every part the items of its users who move: ``target / part.users``, ``.ends`` and ``.items``.

    Two rounds of buckets: by a hash of the user's id, to learn the row; then by row, to put each user's items together.
    Memory grows with neither; files in ``folder`` take about 40 bytes an interaction while this runs.

    Args:
        source: CSV, TSV or Parquet with the columns user_id and item_id; a file, or a folder of them.
        parts: the table.
        groups: of its users.
        items: the recommender's items.
        folder: for files of this run, an empty one on this machine.
        target: folder for what is written.
        table: what messages call the table.
        unfinished: folder for files that are not complete, on the file system of ``target``.
        progress: called with (stage, done, total).

    Raises:
        UnreadableFile: a file cannot be read.
        InvalidInput: no such columns, ids missing, no interactions, or users or items that are not known, counted with
            three of their ids.
    """
    rows, offsets = table_keys(parts, folder / "table.keys", None)
    files = [place for _, place in source.files()]
    guess = sum(place.stamp()[0] for place in files) // _BYTES_PER_INTERACTION
    by_user = Buckets(folder / "by-user", max(rows.rows, guess) // ROWS_PER_BUCKET + 1, DEALT)
    strange_items, interactions = _Unknown(0, set()), 0
    for place, first_row, batch in batches_of(files, PAIR_COLUMNS):
        users, wanted = pair_keys(place, first_row, batch)
        item = items.rows(wanted)
        missing = item < 0
        if missing.any():
            strange_items.add(Keys(wanted.low[missing], wanted.highs[missing]))
        by_user.add(bucket_of(users, by_user.count), dealt_rows(users, item))
        interactions += len(users)
    if not interactions:
        raise InvalidInput(f"{source.shown}: there is a header but no interactions")
    ranges = _Ranges.of(offsets, interactions)
    by_row = Buckets(folder / "by-row", len(ranges.starts), _PLACED)
    strange_users = _place(by_user, rows, by_row, ranges, progress)
    by_user.remove()
    raise_if(
        [
            f"{source.shown}: {unknown.rows} of {interactions} interactions are of {len(unknown.ids)} {what}s that are "
            f"not {where} ({_shown(unknown, files, what)}); leave these rows out, or add the {what}s"
            for what, unknown, where in (
                ("user", strange_users, f"in {table}"),
                ("item", strange_items, "among the items"),
            )
            if unknown.rows
        ]
    )
    useful = repeated = 0
    for number, part in enumerate(parts):
        with UserItemsFile(target, part.name).writing(unfinished) as sink:
            for at in ranges.of_part(number):
                start, stop = ranges.bounds(at)
                pairs = by_row.take(at)
                pair = _distinct((pairs["row"] - start) * len(items) + pairs["item"])
                user, item = np.divmod(pair, len(items))
                counts = np.bincount(user, minlength=stop - start)
                teaches = counts < len(items)  # who has seen all items prefers none to another
                repeated += len(pairs) - len(pair)
                useful += int(counts[teaches].sum())
                group = groups.rows(number).read(start - offsets[number], stop - offsets[number])
                moves = ~groups.key.unmarked[groups.cell_of_group[group]]
                chosen = (moves & teaches)[user]
                ends = np.cumsum(np.where(teaches, counts, 0)[moves])
                starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])
                sink.add(UserItems(uniform(rows.read(start, stop))[moves], starts, item[chosen].astype(np.int32)))
                if progress is not None:
                    progress("dealing interactions", stop, rows.rows)
    by_row.remove()
    rows.remove()
    return Dealt(interactions, repeated, useful)


def pair_keys(place: Location, first_row: int, batch: Any) -> tuple[Keys, Keys]:
    """The keys of users and items in a batch of ``PAIR_COLUMNS``.

    Raises:
        InvalidInput: ids are missing or no ids, with the file and the first rows.
    """
    try:
        users, items = (keys_of(batch.column(name), name, first_row) for name in PAIR_COLUMNS)
    except InvalidInput as error:
        raise InvalidInput(in_file(place, error)) from error
    return users, items


@dataclass(frozen=True, eq=False)
class _Ranges:
    """The rows of a table in ranges that lie within a part and have about ``ROWS_PER_BUCKET`` interactions each.

    Attributes:
        starts: first row of each range.
        end: the number of rows.
        first: the first range of each part, and the number of ranges at the end.
    """

    starts: NDArray[np.int64]
    end: int
    first: NDArray[np.int64]

    @classmethod
    def of(cls, offsets: Sequence[int], interactions: int) -> "_Ranges":
        width = min(max(offsets[-1] * ROWS_PER_BUCKET // interactions, 1), ROWS_PER_BUCKET)
        of_parts = [np.arange(low, high, width) for low, high in itertools.pairwise(offsets)]
        first = np.cumsum([0, *map(len, of_parts)])
        return cls(np.concatenate(of_parts), offsets[-1], first)

    def of_part(self, number: int) -> range:
        return range(self.first[number], self.first[number + 1])

    def bounds(self, at: int) -> tuple[int, int]:
        # The range that begins where this one ends may belong to the next part; empty parts have none.
        stop = self.starts[at + 1] if at + 1 < len(self.starts) else self.end
        return int(self.starts[at]), int(stop)


def _place(by_user: Buckets, rows: KeyFile, by_row: Buckets, ranges: _Ranges, progress: Progress | None) -> _Unknown:
    """Give interactions the row of their user, bucket by bucket, and deal them by row; return who has none."""
    by_id = Buckets(by_user.folder.with_name("rows"), by_user.count, DEALT)
    for start, chunk in rows.chunks():
        by_id.add(bucket_of(chunk, by_id.count), dealt_rows(chunk, np.arange(start, start + len(chunk))))
    unknown = _Unknown(0, set())
    for bucket in range(by_user.count):
        (of_table, row), (keys, item) = (keys_and_values(dealt.take(bucket)) for dealt in (by_id, by_user))
        number, distinct = numbered([of_table, keys])
        row_of = np.full(distinct, -1, dtype=np.int64)
        row_of[number[: len(row)]] = row
        placed = np.empty(len(keys), dtype=_PLACED)
        placed["row"], placed["item"] = row_of[number[len(row) :]], item
        missing = placed["row"] < 0
        if missing.any():
            unknown.add(Keys(keys.low[missing], keys.highs[missing]))
        placed = placed[~missing]
        by_row.add(np.searchsorted(ranges.starts, placed["row"], side="right") - 1, placed)
        if progress is not None:
            progress("finding users", bucket + 1, by_user.count)
    by_id.remove()
    return unknown


def _shown(unknown: _Unknown, files: Sequence[Location], what: str) -> str:
    """Three of the ids as they are written; hashes do not tell, so the column is read again."""
    wanted = np.fromiter(unknown.ids, dtype=np.uint64, count=len(unknown.ids))
    found: dict[int, str] = {}
    for _, _, batch in batches_of(files, [f"{what}_id"]):
        ids = batch.column(f"{what}_id")
        hashes = uniform(keys_of(ids, f"{what}_id"))
        for row in np.flatnonzero(np.isin(hashes, wanted)).tolist():
            if len(found) < 3:
                found.setdefault(int(hashes[row]), str(ids[row]))
    return ", ".join(sorted(found.values())) + (", ..." if len(unknown.ids) > 3 else "")


def _distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ascending, each once. ``np.unique`` hashes: 2.6 s of 2,000,000 numbers, where sorting them takes 0.04 s."""
    ordered = np.sort(numbers)
    return ordered[np.diff(ordered, prepend=-1) > 0]
