"""What a table in files recommends, on a sample of its users, beside another table of the same users."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.vector_files import read_vectors
from attrcloak.engines import engine_of
from attrcloak.errors import InvalidInput, InvalidSettings, raise_if
from attrcloak.evaluation import METRICS, UtilityReport, evaluate_held_out
from attrcloak.moments.cell_moments import Matrix
from attrcloak.parts import Location, Part, is_uri, open_parts
from attrcloak.parts.id_keys import KeyIndex, keys_of
from attrcloak.parts.item_table import read_items
from attrcloak.parts.pair_sample import SampledPairs, pairs_of, sample_pairs
from attrcloak.parts.part import in_file
from attrcloak.progress import Progress
from attrcloak.streaming.passes import WORKER
from attrcloak.streaming.stages import done_again, say_done_again

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SAMPLED_USERS = 20_000
"""As many as attackers see. With one held-out item each an NDCG of .07 has an interval of 4 % of it to either side
then, and one of .27 of 1.5 %; that of a share of the original is narrower, for both are of the same users."""


@dataclass(frozen=True, eq=False)
class FilesUtility:
    """How good recommendations from a table in files are.

    Attributes:
        report: of the table, protocol "held-out".
        original: of the same users' vectors as they were; None without them.
        ratios: for each metric the report's mean over the original's, and the ends of its paired 95 % interval; empty
            without an original. NaN where the original's mean is 0, or of one user.
        everybody: whether these are all users with held-out items, not a sample.
        warnings: what was read again because a worker died, a sentence for each table.
    """

    report: UtilityReport
    original: UtilityReport | None
    ratios: Mapping[str, tuple[float, float, float]]
    everybody: bool
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values; nothing per user."""
        return {
            "schema": "attrcloak/evaluate-files/1",
            "sampled": not self.everybody,
            "vectors": _plain(self.report),
            "original": None if self.original is None else _plain(self.original),
            "ratios": {metric: list(ratio) for metric, ratio in self.ratios.items()},
            "warnings": list(self.warnings),
        }


def _plain(report: UtilityReport) -> dict[str, Any]:
    """Without classes, which were not asked for, and the seed of negatives, of which there are none."""
    return {key: value for key, value in report.to_json().items() if key not in ("per_class", "seed")}


@dataclass(frozen=True)
class _NumberedPart:
    """A part, and the number of its first row in the table."""

    part: Part
    first: int


class _Table(Protocol):
    """Where the vectors of some users are looked up."""

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def warnings(self) -> Sequence[str]: ...

    def lookup(self, index: KeyIndex, progress: Progress | None) -> tuple[NDArray[np.int64], Matrix]:
        """Rows of the index that the table has, in any order, and the vector of each (m, d)."""
        ...


@dataclass(frozen=True, eq=False)
class _InMemory:
    name: str
    table: EmbeddingTable
    warnings: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        return self.table.dim

    def lookup(self, index: KeyIndex, progress: Progress | None) -> tuple[NDArray[np.int64], Matrix]:
        import pyarrow as pa

        ids = self.table.ids.values
        rows = index.rows(keys_of(ids if ids.dtype.kind in "iu" else pa.array(ids.astype(str)), "ids"))
        return rows[rows >= 0], self.table.vectors[rows >= 0].astype(np.float64)


@dataclass(frozen=True, eq=False)
class _InFiles:
    name: str
    parts: tuple[Part, ...]
    engine: str
    workers: int | None
    warnings: list[str] = field(default_factory=list)

    @property
    def dim(self) -> int:
        return self.parts[0].dim

    def lookup(self, index: KeyIndex, progress: Progress | None) -> tuple[NDArray[np.int64], Matrix]:
        firsts = np.cumsum([0, *(part.rows for part in self.parts)])
        numbered = [_NumberedPart(part, int(first)) for part, first in zip(self.parts, firsts[:-1], strict=True)]
        rows, vectors, done = [np.empty(0, np.int64)], [np.empty((0, self.dim))], 0
        with closing(engine_of(self.engine, len(self.parts), self.workers)) as runner:
            runner.prepare(WORKER)
            for number, (found, theirs) in runner.map(partial(_lookup, index=index), numbered):
                rows.append(found)
                vectors.append(theirs)
                done += self.parts[number].rows
                if progress is not None:
                    progress(f"reading {self.name}", done, int(firsts[-1]))
        self.warnings.extend(say_done_again(done_again(runner, self.parts), self.name, len(self.parts)))
        return np.concatenate(rows), np.concatenate(vectors)


def _lookup(place: _NumberedPart, index: KeyIndex) -> tuple[NDArray[np.int64], Matrix]:
    """Rows of the index that a part has, and their vectors; ids are read first, vectors only where there are any."""
    part, at, rows, start = place.part, [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    try:
        for batch in part.ids(place.first):
            found = index.rows(keys_of(batch, part.id_column or "row", start))
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
        InvalidSettings: no users are asked for, or an engine that is not known.
        WorkerLost: the engine's workers died too often.
    """
    if users < 1:
        raise InvalidSettings(f"a sample of {users} users shows nothing; take at least 1")
    engine_of(engine, 1, workers).close()  # a name that is not known is told before anything is read
    tables = [
        _opened(name, id_column, vector_column, engine, workers)
        for name in (vectors, *([] if original is None else [original]))
    ]
    item_table = read_items(Location.of(items))
    width = item_table.vectors.shape[1]
    raise_if(
        [
            f"{table.name} has {table.dim} dimensions and {items} has {width}; give the items of the same recommender"
            for table in tables
            if table.dim != width
        ]
    )
    sample = sample_pairs(Location.of(held_out), item_table, users, progress)
    index = KeyIndex.of(sample.users)
    # A pass of its own: who is in the sample is known once all who took something have been seen.
    known = _nothing(sample) if seen is None else pairs_of(Location.of(seen), index, item_table, progress)

    def reported(table: _Table) -> UtilityReport:
        found = _in_order(table, index, progress)
        of_items = item_table.vectors.T
        return evaluate_held_out(lambda rows: found[rows] @ of_items, known, sample.items, progress=progress)

    report, *before = [reported(table) for table in tables]
    ratios = {metric: _ratio(report, before[0], metric) for metric in METRICS} if before else {}
    warnings = tuple(text for table in tables for text in table.warnings)
    return FilesUtility(report, before[0] if before else None, ratios, sample.everybody, warnings)


def _opened(name: str, id_column: str | None, vector_column: str | None, engine: str, workers: int | None) -> _Table:
    if name.lower().endswith(".npz") and not is_uri(name):
        return _InMemory(name, read_vectors(Path(name), id_column=id_column, vector_column=vector_column))
    return _InFiles(name, open_parts(Location.of(name), id_column, vector_column), engine, workers)


def _in_order(table: _Table, index: KeyIndex, progress: Progress | None) -> Matrix:
    """(s, d) the vectors of all users of the index, in its order."""
    rows, vectors = table.lookup(index, progress)
    times = np.bincount(rows, minlength=len(index))
    missing, repeated = int((times == 0).sum()), int((times > 1).sum())
    raise_if(
        [
            text
            for number, text in (
                (missing, f"{missing} of {len(times)} users with held-out items have no vector in {table.name}; leave "
                          "their items out, or evaluate the table of the model they belong to"),
                (repeated, f"{repeated} of {len(times)} users have more than one vector in {table.name}; keep one"),
            )
            if number
        ]
    )  # fmt: skip
    return vectors[np.argsort(rows)]


def _nothing(sample: SampledPairs) -> "csr_array":
    return sample.items * np.float32(0)


def _ratio(report: UtilityReport, original: UtilityReport, metric: str) -> tuple[float, float, float]:
    # One user has no interval, and nothing has no share.
    if report.users < 2 or original.values[metric] == 0:
        return np.nan, np.nan, np.nan
    return report.paired_ratio(original, metric)
