"""Pairs of user and item of a sample of users, from files of any size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput
from attrcloak.parts.id_join import numbered
from attrcloak.parts.id_keys import KeyIndex, Keys, uniform
from attrcloak.parts.interaction_join import PAIR_COLUMNS, pair_keys
from attrcloak.parts.item_table import ItemTable
from attrcloak.parts.location import Location
from attrcloak.parts.people_scan import batches_of
from attrcloak.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True, eq=False)
class SampledPairs:
    """Some users with all their items.

    Attributes:
        users: (s,) keys, each once.
        items: (s, I) a 1 for each item of a user.
        everybody: whether these are all users of the files.
    """

    users: Keys
    items: "csr_array"
    everybody: bool


def sample_pairs(source: Location, items: ItemTable, most: int, progress: Progress | None = None) -> SampledPairs:
    """The pairs of users whose ids have the smallest hashes: the same users whatever the order of files and rows.

    Memory goes with ``most`` and their items, not with the files.

    Args:
        source: CSV, TSV or Parquet with the columns user_id and item_id; a file, or a folder of them.
        items: the recommender's items.
        most: users, if there are as many.
        progress: called with (stage, files done, files).

    Raises:
        UnreadableFile: a file cannot be read.
        InvalidInput: no such columns, ids missing, no pairs, or items that are not known, counted.
    """
    kept, among = Keys(np.empty(0, np.uint64)), np.empty(0, np.int64)
    smallest, everybody = np.empty(0, np.uint64), True
    pairs = unknown = 0
    strange: list[str] = []
    for place, first_row, batch in _batches(source, progress):
        users, wanted = pair_keys(place, first_row, batch)
        item = items.rows(wanted)
        pairs, unknown = pairs + len(item), unknown + int((item < 0).sum())
        if len(strange) < 3:
            strange += [str(batch.column(PAIR_COLUMNS[1])[row]) for row in np.flatnonzero(item < 0)[:3].tolist()]
        found = np.unique(np.concatenate([smallest, uniform(users)]))
        smallest, everybody = found[:most], everybody and len(found) <= most
        # Whoever is among the smallest at the end was among them from their first pair on.
        low, high = np.concatenate([kept.low, users.low]), np.concatenate([kept.highs, users.highs])
        among = np.concatenate([among, item])
        stay = uniform(Keys(low, high)) <= smallest[-1] if len(smallest) else np.zeros(0, dtype=np.bool_)
        kept, among = Keys(low[stay], high[stay]), among[stay]
    if not pairs:
        raise InvalidInput(f"{source.shown}: there is a header but no rows")
    if unknown:
        raise InvalidInput(
            f"{source.shown}: {unknown} of {pairs} rows are of items that are not among the items "
            f"({', '.join(strange[:3])}{', ...' if unknown > 3 else ''}); a model cannot rank them: leave these rows "
            "out, or add the items"
        )
    number, count = numbered([kept])
    first = np.empty(count, dtype=np.int64)
    first[number] = np.arange(len(number))
    return SampledPairs(Keys(kept.low[first], kept.highs[first]), _matrix(number, among, count, len(items)), everybody)


def pairs_of(source: Location, users: KeyIndex, items: ItemTable, progress: Progress | None = None) -> "csr_array":
    """(s, I) a 1 for each of the items that these users have in some files; items that are not known are passed over.

    Args:
        source: as in ``sample_pairs``.
        users: to look for.
        items: the recommender's items.
        progress: called with (stage, files done, files).

    Raises:
        UnreadableFile: a file cannot be read.
        InvalidInput: no such columns, ids missing, or no row is of one of these users and a known item.
    """
    rows, columns, pairs = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for place, first_row, batch in _batches(source, progress):
        keys, wanted = pair_keys(place, first_row, batch)
        row = users.rows(keys)
        theirs = np.flatnonzero(row >= 0)
        item = items.rows(Keys(wanted.low[theirs], wanted.highs[theirs]))
        rows.append(row[theirs[item >= 0]])
        columns.append(item[item >= 0])
        pairs += len(row)
    found = _matrix(np.concatenate(rows), np.concatenate(columns), len(users), len(items))
    if not found.nnz:
        raise InvalidInput(
            f"{source.shown}: none of {pairs} rows is of one of the {len(users)} users who are looked at and a known "
            "item; are the ids those of the same model?"
        )
    return found


def _batches(source: Location, progress: Progress | None) -> Iterator[tuple[Location, int, Any]]:
    files = [place for _, place in source.files()]
    for number, place in enumerate(files):
        yield from batches_of([place], PAIR_COLUMNS)
        if progress is not None:
            progress(f"reading {source.shown}", number + 1, len(files))


def _matrix(rows: NDArray[np.int64], columns: NDArray[np.int64], users: int, items: int) -> "csr_array":
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(users, items))
    matrix.sum_duplicates()
    matrix.data[:] = 1  # however often somebody took an item
    return matrix
