"""What it takes to take unlearning back: the original rows of the users who moved."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, UnreadableFile
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
    """

    ids: Ids
    vectors: NDArray[np.floating]

    @classmethod
    def of(cls, table: EmbeddingTable, result: UnlearningResult) -> "OriginalRows":
        """The rows of ``table`` that differ in the result: those who asked, and everybody where lengths were scaled."""
        changed = (table.vectors != result.table.vectors).any(axis=1)
        return cls(table.ids.take(changed), table.vectors[changed])

    def restore(self, table: EmbeddingTable) -> EmbeddingTable:
        """Put the rows back; users of the table that are not in here stay as they are.

        Raises:
            InvalidInput: a user is missing in the table, or the table has another width.
        """
        if self.vectors.shape[1] != table.dim:
            raise InvalidInput(f"the undo file holds {self.vectors.shape[1]} dimensions, the table has {table.dim}")
        rows = table.ids.rows(self.ids)
        if (rows < 0).any():
            raise InvalidInput(f"{int((rows < 0).sum())} of {len(rows)} users of the undo file are not in the table")
        vectors = table.vectors.copy()
        vectors[rows] = self.vectors.astype(vectors.dtype)
        return replace(table, vectors=vectors)

    def save(self, path: Path) -> None:
        """Write to safetensors, whole or not at all, readable by the owner only."""
        from safetensors.numpy import save

        header = {
            "schema": SCHEMA,
            "secret": "the vectors before unlearning",
            "ids": json.dumps(self.ids.values.tolist()),
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
        return cls(Ids(np.array(json.loads(header["ids"]))), tensors["vectors"])


def read_secret(path: Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Header and arrays of a safetensors file, for telling an eraser from original rows."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UnreadableFile(f"{path} cannot be read as an eraser or an undo file: {error}") from error
