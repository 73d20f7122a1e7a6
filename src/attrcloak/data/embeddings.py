"""A table of embeddings: one vector a user, under the owner's own ids."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, raise_if

FLOATS = (np.float16, np.float32, np.float64)
"""The types that vectors may have."""

Scoring = Literal["dot", "dot+constant", "unknown"]
"""How a vector becomes a ranking. With "dot" the length of a user's vector does not change that user's ranking; with
"dot+constant" frozen columns enter the score, so it does; "unknown" is a bare table."""


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """User embeddings as they are served.

    Attributes:
        ids: n unique ids.
        vectors: (n, d) finite, float16, float32 or float64; read-only. The type is kept by every method.
        represents: which vector of the model this is, in words, such as "ALS user factors".
        frozen_columns: columns that are part of the scoring and not of the user (implicit BPR's constant 1). No method
            moves them and no attacker is shown them.
        scoring: how the vectors become a ranking.
    """

    ids: Ids
    vectors: NDArray[np.floating]
    represents: str = "user embeddings"
    frozen_columns: tuple[int, ...] = ()
    scoring: Scoring = "unknown"

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2:
            raise InvalidInput(f"vectors have shape {vectors.shape}, expected (users, dimensions)")
        problems = []
        if vectors.dtype.kind in "iu":
            vectors = vectors.astype(np.float32)
        elif vectors.dtype not in FLOATS:
            problems.append(another_type(vectors.dtype))
        if len(self.ids) != len(vectors):
            problems.append(f"{len(self.ids)} user ids for {len(vectors)} vectors")
        if vectors.size == 0:
            problems.append(f"the table is empty: {vectors.shape[0]} users with {vectors.shape[1]} dimensions")
        if not problems:
            bad = ~np.isfinite(vectors).all(axis=1)
            if bad.any():
                rows = np.flatnonzero(bad)
                shown = ", ".join(str(self.ids.values[row]) for row in rows[:3])
                problems.append(
                    f"{len(rows)} vectors hold NaN or infinity (users {shown}{', ...' if len(rows) > 3 else ''}); "
                    "did the model not train to the end? Repair or drop these users"
                )
        outside = [column for column in self.frozen_columns if not 0 <= column < vectors.shape[1]]
        if outside:
            problems.append(f"frozen columns {outside} are outside the table's {vectors.shape[1]} columns")
        raise_if(problems)
        vectors = vectors.view()
        vectors.setflags(write=False)
        object.__setattr__(self, "vectors", vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Number of columns, frozen ones included."""
        return int(self.vectors.shape[1])

    @property
    def free_columns(self) -> NDArray[np.int64]:
        """The columns a method may move and an attacker may read."""
        return np.setdiff1d(np.arange(self.dim), np.asarray(self.frozen_columns, dtype=np.int64))

    @property
    def free(self) -> NDArray[np.float64]:
        """(n, d_free) the free columns in float64: what methods and attackers work on."""
        vectors = self.vectors if not self.frozen_columns else self.vectors[:, self.free_columns]
        return vectors.astype(np.float64)

    def with_free(self, moved: NDArray[np.floating], changed: NDArray[np.bool_] | None = None) -> "EmbeddingTable":
        """A new table with the free columns replaced; rows not ``changed`` stay bit-identical.

        Args:
            moved: (n, d_free) new values.
            changed: (n,) rows to take from ``moved``; None takes all.
        """
        vectors = self.vectors.copy()
        rows = np.flatnonzero(np.ones(len(self), dtype=bool) if changed is None else changed)
        vectors[np.ix_(rows, self.free_columns)] = moved[rows].astype(vectors.dtype)
        return replace(self, vectors=vectors)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "EmbeddingTable":
        """The chosen rows, in that order."""
        return replace(self, ids=self.ids.take(rows), vectors=self.vectors[rows])

    def fingerprint(self) -> str:
        """SHA-256 over ids, type, shape and values: the same table has the same fingerprint on every machine."""
        digest = hashlib.sha256()
        digest.update(f"{self.vectors.dtype.str}{self.vectors.shape}".encode())
        digest.update("\x00".join(str(value) for value in self.ids.values.tolist()).encode())
        digest.update(np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()


def another_type(dtype: np.dtype[Any]) -> str:
    """The message for vectors of a type that is not worked with."""
    if dtype.newbyteorder("=") in FLOATS:
        return f"vectors of type {dtype} lie in the byte order of other machines; write array.astype({dtype.name!r})"
    return f"vectors are of type {dtype}, expected float16, float32 or float64; write array.astype('float32')"
