"""What it takes to take unlearning back: the original rows of the users who moved."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.data.named_columns import some
from attrcloak.errors import InvalidInput, UnreadableFile, not_there
from attrcloak.unlearning.method import UnlearningResult
from attrcloak.whole_file import replacing

SCHEMA = "attrcloak/original-rows/1"


@dataclass(frozen=True, eq=False)
class OriginalRows:
    """The vectors of the users that unlearning changed, as they were. **A secret**: it contradicts the unlearning.

    Exact for every method, also for those that leave no eraser. Keep it like a key, and destroy it when the time to
    change one's mind is over.

    Attributes:
        ids: the users.
        vectors: (m, d) their vectors before.
        common_length: the length all vectors of the new table were brought to; None where lengths were kept.
    """

    ids: Ids
    vectors: NDArray[np.floating]
    common_length: float | None = None

    @classmethod
    def of(cls, table: EmbeddingTable, result: UnlearningResult) -> "OriginalRows":
        """The rows of ``table`` that differ in the result: those who asked, and everybody where lengths were scaled."""
        changed = (table.vectors != result.table.vectors).any(axis=1)
        common_length = result.common_length if result.scaling == "unit" else None
        return cls(table.ids.take(changed), table.vectors[changed], common_length)

    def restore(self, table: EmbeddingTable, users: Ids | None = None) -> EmbeddingTable:
        """Put the rows back; users of the table that are not in here stay as they are.

        Args:
            table: the table after unlearning, or a later one of the same users.
            users: only these. Where all vectors were brought to one length they come back at that length, like the
                vector of somebody who never asked; their own length would show who withdrew.

        Raises:
            InvalidInput: a user is missing in the table or in here, or the table has another width.
        """
        if users is not None:
            return self._of(users).restore(table)
        if self.vectors.shape[1] != table.dim:
            raise InvalidInput(
                f"the table has {table.dim} dimensions, and the undo file {self.vectors.shape[1]}: it is of another "
                "table; give the two of one recommender"
            )
        rows = table.ids.rows(self.ids)
        if (rows < 0).any():
            raise InvalidInput(f"{int((rows < 0).sum())} of {len(rows)} users of the undo file are not in the table")
        vectors = table.vectors.copy()
        vectors[rows] = self.vectors.astype(vectors.dtype)
        return replace(table, vectors=vectors)

    def _of(self, users: Ids) -> "OriginalRows":
        rows = self.ids.rows(users)
        absent = users.values[rows < 0]
        if len(absent):
            raise InvalidInput(
                f"{len(absent)} of the {len(rows)} users named are not in the undo file ({some(absent)}): that run did "
                "not move them; leave them out, or take the undo file of the run that did"
            )
        vectors = self.vectors[rows]
        if self.common_length is not None:
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors = (vectors * (self.common_length / np.where(lengths > 0, lengths, 1.0))).astype(vectors.dtype)
        return OriginalRows(self.ids.take(rows), vectors)

    def save(self, path: Path) -> None:
        """Write to safetensors, whole or not at all, readable by the owner only."""
        from safetensors.numpy import save

        header = {
            "schema": SCHEMA,
            "secret": "the vectors before unlearning",
            "ids": json.dumps(self.ids.values.tolist()),
            "common_length": json.dumps(self.common_length),
        }
        with replacing(path, secret=True) as temporary:
            temporary.write_bytes(save({"vectors": np.ascontiguousarray(self.vectors)}, metadata=header))

    @classmethod
    def load(cls, path: Path) -> "OriginalRows":
        """Read what ``save`` wrote.

        Raises:
            UnreadableFile: missing, cut short, or of another kind.
        """
        header, tensors = read_secret(path)
        if header.get("schema") != SCHEMA:
            raise UnreadableFile(
                f"{path} does not hold original rows ({SCHEMA}); its schema is {header.get('schema')!r}"
            )
        # Files of before 0.2 do not say; their rows come back as they were.
        common_length = json.loads(header.get("common_length", "null"))
        return cls(Ids(np.array(json.loads(header["ids"]))), tensors["vectors"], common_length)


def read_secret(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Header and arrays of a safetensors file, for telling an eraser from original rows."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise UnreadableFile(not_there(path, path))
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UnreadableFile(f"{path} cannot be read as an eraser or an undo file: {error}") from error
