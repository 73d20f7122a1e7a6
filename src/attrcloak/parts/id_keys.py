"""Ids as 128-bit keys of a fixed size, so that tables of them can lie in files and be joined there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.named_columns import WHOLE_NUMBER, no_id_type, some
from attrcloak.errors import InvalidInput

Words = NDArray[np.uint64]
ROWS_PER_CHUNK = 1 << 20

_LONG_NUMBER = r"^-?[1-9][0-9]{18}$"
_TEXT = np.uint64(1 << 63)


@dataclass(frozen=True, eq=False)
class Keys:
    """Keys of ids. A whole number is its own key, so it can be told from the key; text has a 127-bit hash.

    7 and "7" have the same key, as they are the same user wherever ids are compared.

    Attributes:
        low: (n,) the number itself as two's complement, or half of the hash.
        high: (n,) 0 for whole numbers, else the other half with its top bit set; None where all are whole numbers.
    """

    low: Words
    high: Words | None = None

    def __len__(self) -> int:
        return len(self.low)

    @property
    def highs(self) -> Words:
        """``high``, zeros where it is None."""
        return np.zeros(len(self.low), dtype=np.uint64) if self.high is None else self.high

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Keys":
        """The keys of some rows, in that order."""
        return Keys(self.low[rows], None if self.high is None else self.high[rows])


def keys_of(column: Any, name: str, first_row: int = 0) -> Keys:
    """The keys of a batch of ids.

    Args:
        column: (n,) NumPy whole numbers, or an arrow array.
        name: of the column, for messages.
        first_row: the row number of the first, for messages.

    Raises:
        InvalidInput: ids are missing, counted with their first rows, or of a type that is no id.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, np.ndarray):
        return Keys(_whole(column))
    if column.null_count:
        rows = np.flatnonzero(pc.is_null(column).to_numpy(zero_copy_only=False)) + first_row
        raise InvalidInput(
            f"column {name!r}: {len(rows)} rows have no id (rows {some(rows)}); drop these rows or give them an id"
        )
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_integer(column.type):
        return Keys(_whole(column.to_numpy(zero_copy_only=False)))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InvalidInput(no_id_type(name, column.type))
    whole = pc.match_substring_regex(column, WHOLE_NUMBER)
    if pc.all(whole).as_py() is not False:
        return Keys(_whole(column.cast(pa.int64()).to_numpy(zero_copy_only=False)))
    is_whole = whole.to_numpy(zero_copy_only=False)
    low, high = _hashed(column)
    low[is_whole] = _whole(column.filter(whole).cast(pa.int64()).to_numpy(zero_copy_only=False))
    high[is_whole] = 0
    # Nineteen digits fit 64 bits or not; a column of numbers has those that do.
    for row in np.flatnonzero(pc.match_substring_regex(column, _LONG_NUMBER).to_numpy(zero_copy_only=False)):
        value = int(column[row].as_py())
        if -(1 << 63) <= value < 1 << 63:
            low[row], high[row] = value % (1 << 64), 0
    return Keys(low, high)


def uniform(keys: Keys) -> Words:
    """(n,) 64 bits that look random and depend on the id alone: by them a sample of users is drawn."""
    return mixed(mixed(keys.low) ^ keys.highs)


@dataclass(frozen=True, eq=False)
class KeyIndex:
    """Which row each id is in, for few enough of them for memory.

    An id of which there is a hash but no equal key is not taken for another. Two different ids of one hash count as
    ``repeated``: among a million ids that happens once in some 40 million tables.

    Attributes:
        hashes: (n,) of the ids, sorted.
        order: (n,) the row of each.
        keys: of the ids, in the order of the hashes.
    """

    hashes: Words
    order: NDArray[np.int64]
    keys: Keys

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def of(cls, keys: Keys) -> "KeyIndex":
        """Of the keys of rows 0, 1, 2, ..."""
        hashes = uniform(keys)
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order, Keys(keys.low[order], keys.highs[order]))

    @property
    def repeated(self) -> int:
        """Rows whose hash occurs in an earlier one."""
        return len(self.hashes) - len(np.unique(self.hashes))

    def rows(self, wanted: Keys) -> NDArray[np.int64]:
        """(m,) row of each wanted id, -1 where there is no such id."""
        if not len(self):
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.hashes, uniform(wanted)), len(self) - 1)
        same = (self.keys.low[at] == wanted.low) & (self.keys.highs[at] == wanted.highs)
        return np.where(same, self.order[at], -1)


class KeyFile:
    """Keys in a file, in the order they were added; each chunk is read when it is asked for.

    Attributes:
        rows: how many.
        has_text: whether any id is not a whole number.
        smallest: of the whole numbers before any text.
        largest: likewise.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._high_path = path, path.with_name(path.name + ".high")
        path.write_bytes(b"")
        self.has_text = False
        self.rows = 0
        self.smallest, self.largest = np.iinfo(np.int64).max, np.iinfo(np.int64).min

    def add(self, keys: Keys) -> None:
        """Append."""
        if not len(keys):
            return
        _append(self._path, keys.low)
        if keys.high is not None and not self.has_text:
            self.has_text = True
            with self._high_path.open("wb") as file:
                file.truncate(8 * self.rows)  # all before were whole numbers
        if self.has_text:
            _append(self._high_path, keys.highs)
        else:
            numbers = keys.low.view(np.int64)
            self.smallest = min(self.smallest, int(numbers.min()))
            self.largest = max(self.largest, int(numbers.max()))
        self.rows += len(keys)

    def chunks(self) -> Iterator[tuple[int, Keys]]:
        """(first row, keys), chunk by chunk."""
        for start in range(0, self.rows, ROWS_PER_CHUNK):
            yield start, self.read(start, min(start + ROWS_PER_CHUNK, self.rows))

    def read(self, start: int, stop: int) -> Keys:
        """The keys of rows [start, stop)."""
        low = np.fromfile(self._path, dtype=np.uint64, count=stop - start, offset=8 * start)
        high = None
        if self.has_text:
            high = np.fromfile(self._high_path, dtype=np.uint64, count=stop - start, offset=8 * start)
        return Keys(low, high)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink()
        self._high_path.unlink(missing_ok=True)


def _append(path: Path, words: Words) -> None:
    with path.open("ab") as file:
        file.write(words.data.cast("B"))


def _whole(numbers: NDArray[Any]) -> Words:
    if numbers.dtype.kind == "u" and numbers.size and numbers.max() > np.iinfo(np.int64).max:
        raise InvalidInput("ids of 2^63 and more do not fit a whole number; give them as text")
    return np.ascontiguousarray(numbers, dtype=np.int64).view(np.uint64)


def _hashed(column: Any) -> tuple[Words, Words]:
    """Two independent 64-bit hashes of every text, eight bytes at a time over the whole batch.

    Each half is one-to-one on texts of up to eight bytes of the same length.
    """
    import pyarrow as pa

    texts = column.cast(pa.large_string())
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    begins, lengths = ends[:-1] - ends[0], np.diff(ends)
    size = int(ends[-1] - ends[0])
    padded = np.zeros(size + 8, dtype=np.uint8)
    if size:
        padded[:size] = np.frombuffer(content, dtype=np.uint8)[ends[0] : ends[-1]]
    words: Words = np.ndarray((size + 1,), dtype="<u8", buffer=padded, strides=(1,))
    low = mixed(lengths.astype(np.uint64))
    high = mixed(~lengths.astype(np.uint64))
    for done in range(0, int(lengths.max(initial=0)), 8):
        rows = np.flatnonzero(lengths > done)
        left = np.minimum(lengths[rows] - done, 8).astype(np.uint64)
        word = words[begins[rows] + done] & (~np.uint64(0) >> (np.uint64(64) - np.uint64(8) * left))
        low[rows] = mixed(low[rows] ^ word)
        high[rows] = mixed((high[rows] + np.uint64(0x9E3779B97F4A7C15)) ^ (word * np.uint64(0xD6E8FEB86659FD93)))
    return low, high | _TEXT


def mixed(words: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), one-to-one; sums and products wrap around."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(words ^ (words >> np.uint64(31)))
