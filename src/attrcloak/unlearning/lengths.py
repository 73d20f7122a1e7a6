"""Vectors of one length: length tells activity, and activity tells attributes."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import NotSupported
from attrcloak.moments.cell_moments import Matrix


def unit_length(
    table: EmbeddingTable, common_length: float | None = None
) -> tuple[EmbeddingTable, NDArray[np.float64], float]:
    """Bring every vector to one length; zero vectors stay zero.

    With plain dot-product scoring no user's ranking changes, and length itself tells activity.

    Args:
        table: the vectors.
        common_length: the length to bring them to; the table's root mean square length by default.

    Returns:
        The scaled table, (n,) the lengths before, and the common length, in units of the embedding.

    Raises:
        NotSupported: length is part of the score: the table has frozen columns or is scored with a constant.
    """
    if table.frozen_columns or table.scoring == "dot+constant":
        raise frozen_length(table.represents)
    lengths = np.linalg.norm(table.vectors.astype(np.float64), axis=1)
    common = common_length or float(np.sqrt(np.mean(lengths**2))) or 1.0
    if np.abs(lengths[lengths > 0] - common).max(initial=0.0) <= 4 * np.finfo(table.vectors.dtype).eps * common:
        # Already done: dividing again would shake the last bit of users who asked for nothing.
        return table, lengths, common
    scaled = table.vectors * (common / np.where(lengths > 0, lengths, 1.0))[:, None]
    return replace(table, vectors=scaled.astype(table.vectors.dtype)), lengths, common


def frozen_length(represents: str) -> NotSupported:
    """What to raise when vectors of one length are asked for where length is part of the score."""
    return NotSupported(
        f"{represents}: frozen columns enter the score, so changing a vector's length would change that "
        "user's ranking; set length to 'keep'"
    )


def one_length(vectors: Matrix) -> float | None:
    """The length of all vectors, None where they differ."""
    lengths = np.linalg.norm(vectors, axis=1)
    longest = float(lengths.max(initial=0.0))
    # Zero vectors have no direction and stay where they are; float32 tables keep six digits.
    return longest if longest > 0 and np.ptp(lengths[lengths > 0]) <= 1e-5 * longest else None


def at_length(vectors: Matrix, length: float | None) -> Matrix:
    """The vectors brought to a length; as they are without one."""
    if length is None:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors * (length / np.where(lengths > 0, lengths, 1.0)))
