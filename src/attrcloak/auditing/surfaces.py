"""What an attacker may hold: vectors, old and new vectors, lists, history."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import raise_if

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VECTORS = "vectors"
DELTA = "delta"
HISTORY = "history"
COMPONENTS = 64
"""Columns a sparse surface is brought to for attackers that need dense ones."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The features one attacker sees.

    Attributes:
        name: as in reports.
        dense: (n, d) features.
        sparse: (n, items) the same before it was brought to d columns; None for vectors.
    """

    name: str
    dense: NDArray[np.floating]
    sparse: Any = None

    def features(self, reads_sparse: bool) -> Any:
        """What an attacker gets: the sparse matrix if there is one and it reads it, else the dense one."""
        return self.sparse if reads_sparse and self.sparse is not None else self.dense


def surfaces(
    table: EmbeddingTable,
    order: NDArray[np.int64],
    original: EmbeddingTable | None,
    lists: "Mapping[str, csr_array] | None",
    history: "csr_array | None",
) -> list[Surface]:
    """All surfaces over the users ``order``; each problem with their shapes or ids is reported.

    Args:
        table: the new vectors.
        order: (n,) rows of the table, in the order wanted.
        original: the old vectors of the same users, joined by id: features (new, new - old).
        lists: by name, (users, items) with an entry for each item in a user's list, rows as in the table.
        history: (users, items) with an entry for each interaction, rows as in the table.

    Raises:
        InvalidInput: another number of users, or an old table without some of them.
    """
    sparse = dict(lists or {}) | ({} if history is None else {HISTORY: history})
    problems = [
        f"surface {name!r} has {matrix.shape[0]} users, the table has {len(table)}; rows must be the table's"
        for name, matrix in sparse.items()
        if matrix.shape[0] != len(table)
    ]
    problems += [f"a list cannot be called {name!r}" for name in lists or {} if name in (VECTORS, DELTA, HISTORY)]
    found = [Surface(VECTORS, table.free[order])]
    if original is not None:
        rows = original.ids.rows(table.ids)
        absent = int((rows < 0).sum())
        if absent:
            problems.append(f"{absent} of {len(table)} users of the table are not in the original one")
        elif original.free_columns.size != table.free_columns.size:
            problems.append(
                f"the original table has {original.free_columns.size} columns, not {table.free_columns.size}"
            )
        else:
            old = original.free[rows[order]]
            found.append(Surface(DELTA, np.hstack((found[0].dense, found[0].dense - old))))
    raise_if(problems)
    for name, matrix in sparse.items():
        rows_in_order = matrix.tocsr()[order].astype(np.float32)
        found.append(Surface(name, _components(rows_in_order), rows_in_order))
    return found


def _components(matrix: "csr_array") -> NDArray[np.float64]:
    """(n, at most COMPONENTS) principal components, labels unseen, of the rows brought to length 1."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import svds

    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scaled = (diags_array(1 / np.maximum(lengths, 1e-12)) @ matrix).astype(np.float64)
    count = min(COMPONENTS, min(scaled.shape) - 1)
    if count < 1:
        return np.asarray(scaled.toarray())
    left, values, _ = svds(scaled, k=count, v0=np.ones(min(scaled.shape)), solver="arpack")
    return np.asarray(left * values)
