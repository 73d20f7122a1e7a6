"""Made-up tables with a linear leak."""

import math
from collections.abc import Sequence

import numpy as np

from attrcloak.moments import CellKey, Eraser


def planted(
    users: int, dim: int = 64, classes: Sequence[int] = (2, 7), dtype: type = np.float32
) -> tuple[np.ndarray, np.ndarray, CellKey]:
    """Normal vectors whose first column tells the first attribute, and the cells of everybody.

    Args:
        users: number of rows.
        dim: number of columns.
        classes: number of classes of each attribute; all combinations occur, as many cells as their product.
        dtype: of the vectors.
    """
    rng = np.random.default_rng(0)
    cell_count = math.prod(classes)
    cells = rng.permutation(np.arange(users, dtype=np.int32) % cell_count)
    combinations = np.stack(np.unravel_index(np.arange(cell_count), classes), axis=1)
    key = CellKey(
        tuple(f"attribute {a}" for a in range(len(classes))),
        tuple(tuple(map(str, range(k))) for k in classes),
        combinations,
    )
    vectors = np.empty((users, dim), dtype)
    for start in range(0, users, 1 << 16):
        rows = slice(start, start + (1 << 16))
        vectors[rows] = rng.standard_normal(vectors[rows].shape, dtype=np.float32)
        vectors[rows, 0] += combinations[cells[rows], 0]
    return vectors, cells, key


def some_eraser(key: CellKey, dim: int) -> Eraser:
    """An eraser that moves everybody, of no meaning."""
    rng = np.random.default_rng(1)
    return Eraser(key, rng.normal(size=(len(key), dim, dim)), rng.normal(size=(len(key), dim)))


def named(users: int, dim: int, cells: int, dtype: str = "float32") -> str:
    """A table in words."""
    return f"{users:,} x {dim} {dtype}, {cells:,} cells"
