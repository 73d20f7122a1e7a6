"""What reports draw of a table: projections and histograms, as plain values.

Only coordinates along two directions and histogram counts leave here, never vectors or ids.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable

PLOTTED_USERS = 400
HISTOGRAM_BINS = 24
SHOWN_DIMENSIONS = 4


def projections(table: EmbeddingTable, people: UserAttributes) -> dict[str, Any]:
    """For each attribute, users by class along the two directions that separate its classes best."""
    vectors = table.free
    rng = np.random.default_rng(0)
    drawn: dict[str, Any] = {}
    for name in people.names:
        attribute = people[name]
        shown = rng.permutation(np.flatnonzero(attribute.known))[:PLOTTED_USERS]
        plane = _separating_plane(vectors, attribute.codes, len(attribute.classes))
        points = (vectors[shown] - vectors.mean(axis=0)) @ plane
        drawn[name] = {
            "classes": list(attribute.classes),
            "codes": attribute.codes[shown].tolist(),
            "points": np.round(points, 4).tolist(),
        }
    return drawn


def histograms(
    table: EmbeddingTable, people: UserAttributes, original: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """For each attribute, single dimensions of its two largest classes: counts, means and deviations.

    Args:
        table: the vectors.
        people: attributes, rows as in the table.
        original: the histograms of the table before: the same dimensions are taken. By default those in which the two
            classes differ most.
    """
    vectors = table.free
    drawn: dict[str, Any] = {}
    for name in people.names:
        attribute = people[name]
        largest = np.argsort(-attribute.counts)[: min(2, np.count_nonzero(attribute.counts))]
        apart = _standardised_gap(vectors, attribute.codes, largest)
        dimensions = (
            np.argsort(-apart, kind="stable")[:SHOWN_DIMENSIONS].tolist()
            if original is None
            else [shape["dimension"] for shape in original[name]]
        )
        drawn[name] = [_shape(vectors[:, dimension], dimension, attribute, largest) for dimension in dimensions]
    return drawn


def _shape(values: NDArray[np.float64], dimension: int, attribute: Any, classes: NDArray[np.int64]) -> dict[str, Any]:
    low, high = np.percentile(values, [0.5, 99.5])
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    members = {attribute.classes[k]: values[attribute.codes == k] for k in classes}
    return {
        "dimension": dimension,
        "edges": np.round(edges, 4).tolist(),
        "density": {label: _density(of, edges) for label, of in members.items()},
        "mean": {label: float(of.mean()) for label, of in members.items()},
        "std": {label: float(of.std()) for label, of in members.items()},
    }


def _separating_plane(vectors: NDArray[np.float64], codes: NDArray[np.int32], classes: int) -> NDArray[np.float64]:
    """(d, 2) the two whitened directions along which class means differ most, filled up with the widest of the rest."""
    known = codes >= 0
    centred = vectors[known] - vectors[known].mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred / len(centred) + 1e-9 * np.eye(vectors.shape[1]))
    whiten = directions / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
    white = centred @ whiten
    means = np.stack([white[codes[known] == k].mean(axis=0) for k in range(classes) if (codes[known] == k).any()])
    weights = np.sqrt([(codes[known] == k).sum() for k in range(classes) if (codes[known] == k).any()])
    _, strength, axes = np.linalg.svd(means * weights[:, None], full_matrices=False)
    chosen = axes[: min(2, int((strength > 1e-9).sum()))]
    if len(chosen) < 2:
        rest = np.eye(vectors.shape[1])[::-1] - (np.eye(vectors.shape[1])[::-1] @ chosen.T) @ chosen
        chosen = np.concatenate([chosen, rest[: 2 - len(chosen)]])
    return np.asarray(whiten @ chosen.T)


def _standardised_gap(
    vectors: NDArray[np.float64], codes: NDArray[np.int32], pair: NDArray[np.int64]
) -> NDArray[np.float64]:
    one, other = (vectors[codes == k] for k in pair[:2]) if len(pair) > 1 else (vectors, vectors)
    return np.asarray(np.abs(one.mean(axis=0) - other.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-12))


def _density(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[float]:
    counts, _ = np.histogram(values, edges)
    shares: list[float] = np.round(counts / max(counts.sum(), 1), 5).tolist()
    return shares
