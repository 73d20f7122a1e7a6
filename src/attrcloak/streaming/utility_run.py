"""What a table in files recommends, on a sample of its users, beside another table of the same users."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.vector_files import read_vectors
from attrcloak.engines import Engine, engine_of
from attrcloak.errors import InvalidInput, InvalidSettings, raise_if
from attrcloak.evaluation import METRICS, UtilityReport, evaluate_held_out
from attrcloak.parts import Location, Part, is_uri, open_parts
from attrcloak.parts.id_keys import KeyIndex, keys_of
from attrcloak.parts.item_table import ItemTable, read_items
from attrcloak.parts.pair_sample import SampledPairs, pairs_of, sample_pairs
from attrcloak.parts.part import in_file
from attrcloak.progress import Progress
from attrcloak.streaming.passes import ready

SAMPLED_USERS = 20_000
"""As many as attackers see; NDCG of so many has an interval of about a hundredth of its value."""


@dataclass(frozen=True, eq=False)
class FilesUtility:
    """How good recommendations from a table in files are.

    Attributes:
        report: of the table, protocol "held-out".
        original: of the same users' vectors as they were; None without them.
        ratios: for each metric the report's mean over the original's, and the ends of its paired 95 % interval; empty
            without an original. NaN where the original's mean is 0.
        everybody: whether these are all users with held-out items, not a sample.
    """

    report: UtilityReport
    original: UtilityReport | None
    ratios: Mapping[str, tuple[float, float, float]]
    everybody: bool

    def to_json(self) -> dict[str, Any]:
        """As plain values; nothing per user."""
        return {
            "schema": "attrcloak/evaluate-files/1",
            "sampled": not self.everybody,
            "vectors": self.report.to_json(),
            "original": None if self.original is None else self.original.to_json(),
            "ratios": {metric: list(ratio) for metric, ratio in self.ratios.items()},
        }


@dataclass(frozen=True)
class _Place:
    """A part, and the number of its first row in the table."""

    part: Part
    first: int


def evaluate_files(
    vectors: str,
    items: str,
    held_out: str,
    *,
    seen: str | None = None,
    original: str | None = None,
    users: int = SAMPLED_USERS,
    id_column: str | None = None,
    vector_column: str | None = None,
    engine: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> FilesUtility:
    """Rank all items for a sample of users, and look for what they took after the training.

    The sample is drawn by a hash of ids, so it is the same for every table; its intervals are those of its size. The
    score is the dot product of all columns. Memory goes with the sample and the items, not with the files.

    Args:
        vectors: file or folder, local or a URI; .npz too, which is read whole.
        items: item vectors of the same recommender: Parquet with item_id, or .npy, of which row i is item i.
        held_out: CSV, TSV or Parquet with user_id and item_id, a file or a folder: what users took later.
        seen: the same of the training: these items are not recommended. None recommends whatever scores highest.
        original: the table before, to compare with.
        users: most users of the sample.
        id_column: name of the ids in the tables; None finds them.
        vector_column: name of the vectors; None finds them.
        engine: "auto", "in-process", "pool", "ray" or "spark".
        workers: processes or cores.
        progress: called with (stage, done, total).

    Raises:
        UnreadableFile: a file cannot be read.
        InvalidInput: files that cannot be used, or do not fit together: users of the sample without a vector, items
            that are not known, or of another width than the users, all with their numbers.
        InvalidSettings: no users are asked for.
        WorkerLost: the engine's workers died too often.
    """
    if users < 1:
        raise InvalidSettings(f"a sample of {users} users shows nothing; take at least 1")
    item_table = read_items(Location.of(items))
    sample = sample_pairs(Location.of(held_out), item_table, users)
    index = KeyIndex.of(sample.users)
    # Two passes over the pairs: who is in the sample is known once all have been read.
    before = _none_like(sample) if seen is None else pairs_of(Location.of(seen), index, item_table)

    def reported(table: str) -> UtilityReport:
        found = _vectors_of(table, index, id_column, vector_column, engine, workers, progress)
        _check_width(table, found, items, item_table)
        of_items = item_table.vectors.T
        return evaluate_held_out(lambda rows: found[rows] @ of_items, before, sample.items, progress=progress)

    report = reported(vectors)
    as_it_was = None if original is None else reported(original)
    ratios = {} if as_it_was is None else {metric: _ratio(report, as_it_was, metric) for metric in METRICS}
    return FilesUtility(report, as_it_was, ratios, sample.everybody)


def _ratio(report: UtilityReport, original: UtilityReport, metric: str) -> tuple[float, float, float]:
    if original.values[metric] == 0:
        return np.nan, np.nan, np.nan
    return report.paired_ratio(original, metric)


def _none_like(sample: SampledPairs) -> Any:
    from scipy.sparse import csr_array

    return csr_array(sample.items.shape, dtype=np.float32)


def _check_width(table: str, vectors: NDArray[np.float64], items: str, item_table: ItemTable) -> None:
    if vectors.shape[1] != item_table.vectors.shape[1]:
        raise InvalidInput(
            f"{table} has {vectors.shape[1]} dimensions and {items} has {item_table.vectors.shape[1]}; give the items "
            "of the same recommender"
        )


def _vectors_of(
    table: str,
    users: KeyIndex,
    id_column: str | None,
    vector_column: str | None,
    engine: str,
    workers: int | None,
    progress: Progress | None,
) -> NDArray[np.float64]:
    """(s, d) the vectors of the users of the index, in its order."""
    vectors: NDArray[np.float64]
    if table.endswith(".npz") and not is_uri(table):
        known = read_vectors(Path(table))
        rows, vectors = _of_table(known, users)
        _check_found(table, np.bincount(rows, minlength=len(users)))
        return vectors[np.argsort(rows)]
    parts = open_parts(Location.of(table), id_column, vector_column)
    firsts = np.cumsum([0, *(part.rows for part in parts)])
    places = [_Place(part, int(first)) for part, first in zip(parts, firsts[:-1], strict=True)]
    vectors, times = np.empty((len(users), parts[0].dim)), np.zeros(len(users), dtype=np.int64)
    with closing(engine_of(engine, len(parts), workers)) as runner:
        runner.prepare(ready)
        _collect(runner, places, users, vectors, times, int(firsts[-1]), progress)
    _check_found(table, times)
    return vectors


def _collect(
    runner: Engine,
    places: list[_Place],
    users: KeyIndex,
    vectors: NDArray[np.float64],
    times: NDArray[np.int64],
    total: int,
    progress: Progress | None,
) -> None:
    done = 0
    for number, (rows, found) in runner.map(partial(_wanted, users=users), places):
        vectors[rows] = found
        np.add.at(times, rows, 1)
        done += places[number].part.rows
        if progress is not None:
            progress("reading", done, total)


def _wanted(place: _Place, users: KeyIndex) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which users of the index a part has, and their vectors."""
    part, at, rows, start = place.part, [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    try:
        for batch in part.ids(place.first):
            found = users.rows(keys_of(batch, part.id_column or "row", start))
            here = np.flatnonzero(found >= 0)
            at.append(here + start)
            rows.append(found[here])
            start += len(batch)
    except InvalidInput as error:
        raise InvalidInput(in_file(part.location, error)) from error
    wanted, start = np.concatenate(at), 0
    vectors = np.empty((len(wanted), part.dim))
    if len(wanted):
        for batch in part.vectors():
            low, high = np.searchsorted(wanted, [start, start + len(batch)])
            vectors[low:high] = batch[wanted[low:high] - start]
            start += len(batch)
    return np.concatenate(rows), vectors


def _of_table(table: EmbeddingTable, users: KeyIndex) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which users of the index a table in memory has, and their vectors."""
    import pyarrow as pa

    ids = table.ids.values
    found = users.rows(keys_of(ids if ids.dtype.kind in "iu" else pa.array(ids.astype(str)), "ids"))
    here = np.flatnonzero(found >= 0)
    return found[here], table.vectors[here].astype(np.float64)


def _check_found(table: str, times: NDArray[np.int64]) -> None:
    missing, repeated = int((times == 0).sum()), int((times > 1).sum())
    raise_if(
        [
            text
            for number, text in (
                (missing, f"{missing} of {len(times)} users with held-out items have no vector in {table}; leave "
                          "their items out, or evaluate the table of the model they belong to"),
                (repeated, f"{repeated} of {len(times)} users have more than one vector in {table}; keep one"),
            )
            if number
        ]
    )  # fmt: skip
