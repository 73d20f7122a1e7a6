"""Rows of a fixed size dealt into files, one a bucket, so that what belongs together is read together."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.parts.id_keys import Keys, uniform

ROWS_PER_BUCKET = 1 << 21
"""Rows that are sorted in memory at once."""


class Buckets:
    """Rows in ``count`` files; within a bucket they keep the order in which they were added.

    Args:
        folder: for the files; made, and empty at first.
        count: number of buckets.
        dtype: of a row.
    """

    def __init__(self, folder: Path, count: int, dtype: np.dtype[Any]) -> None:
        self.count = count
        self.folder, self._dtype = folder, dtype
        folder.mkdir()

    def add(self, bucket: NDArray[np.integer], rows: NDArray[Any]) -> None:
        """Append rows, each to its bucket in [0, count)."""
        if not len(rows):
            return
        # Numbers of 16 bits are sorted in linear time.
        short = bucket.astype(np.uint16 if self.count <= 1 << 16 else np.int64)
        order = np.argsort(short, kind="stable")
        dealt, number = rows[order], short[order]
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(rows)]
        for low, high in pairwise(edges):
            with (self.folder / str(number[low])).open("ab") as file:
                dealt[low:high].tofile(file)

    def take(self, number: int) -> NDArray[Any]:
        """The rows of a bucket, whose file is removed."""
        path = self.folder / str(number)
        if not path.exists():
            return np.empty(0, dtype=self._dtype)
        rows = np.fromfile(path, dtype=self._dtype)
        path.unlink()
        return rows

    def remove(self) -> None:
        """Delete all files."""
        shutil.rmtree(self.folder)


def bucket_of(keys: Keys, buckets: int) -> NDArray[np.uint64]:
    """(n,) the bucket of each key, by a hash: both sides of a join meet in the same one."""
    return np.asarray((uniform(keys) >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32))
