"""A table in three files whose users give away two attributes, and the people beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.data.interactions import Interactions
from attrcloak.engines import InProcess
from attrcloak.streaming import Sources


@dataclass(frozen=True)
class World:
    """Where the files are, and what is in them."""

    folder: Path
    vectors: np.ndarray
    ids: np.ndarray

    def sources(self, output: str = "out", **changes: Any) -> Sources:
        """Table and people of this folder, to the named output."""
        given = {"vectors": "table", "people": "people.csv", "output": output, **changes}
        return Sources(
            **{
                name: str(self.folder / value) if "/" not in value else value
                for name, value in given.items()
                if isinstance(value, str)
            },
            **{n: v for n, v in given.items() if not isinstance(v, str)},
        )

    def write(self, name: str, cuts: list[int], dtype: Any = np.float32, order: Any = None) -> None:
        """The table in files cut at these rows."""
        order = np.arange(len(self.ids)) if order is None else order
        folder = self.folder / name
        folder.mkdir()
        for low, high in pairwise(cuts):
            rows = self.vectors[order[low:high]].astype(dtype)
            lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
            table = pa.table({"user_id": self.ids[order[low:high]], "vectors": lists, "row": np.arange(low, high)})
            pq.write_table(table, folder / f"part-{low:05d}.parquet", row_group_size=250)

    def read(self, name: str) -> dict[int, np.ndarray]:
        """The vectors of every user of a table."""
        found = {}
        for path in sorted((self.folder / name).iterdir()):
            table = pq.read_table(path)
            numbers = table["vectors"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            found.update(zip(table["user_id"].to_pylist(), numbers.reshape(len(table), -1), strict=True))
        return found

    def bytes_of(self, name: str) -> dict[str, bytes]:
        """The files of a folder."""
        return {
            str(path.relative_to(self.folder / name)): path.read_bytes() for path in (self.folder / name).rglob("*")
        }


USERS, DIM = 1500, 6


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("attrcloak.parts.part.BATCH_BYTES", 1 << 12)  # 1024 rows
    rng = np.random.default_rng(0)
    gender, age = rng.choice(["F", "M", ""], USERS, p=[0.45, 0.45, 0.1]), rng.choice(["18", "25", "35"], USERS)
    vectors = rng.normal(size=(USERS, DIM))
    vectors[:, 0] += gender == "F"
    vectors[:, 1] += 0.5 * (age == "25")
    ids = np.arange(USERS) * 7 + 3
    lines = [f"{i},{g},{a}" for i, g, a in zip(ids, gender, age, strict=True)]
    (tmp_path / "people.csv").write_text("\n".join(["user_id,gender,age", *rng.permutation(lines)]) + "\n")
    made = World(tmp_path, vectors, ids)
    made.write("table", [0, 400, 1100, USERS])
    return made


ITEMS = 40


@dataclass(frozen=True)
class Taste:
    """Interactions of the users of ``world`` with items whose vectors they like."""

    items: np.ndarray
    users: np.ndarray
    liked: np.ndarray

    def interactions(self, world: World) -> Interactions:
        """In memory."""
        return Interactions.from_ids(world.ids[self.users], self.liked)


@pytest.fixture
def taste(world: World) -> Taste:
    """Files items.npy and pairs.csv beside the table."""
    rng = np.random.default_rng(1)
    items = rng.normal(size=(ITEMS, world.vectors.shape[1])).astype(np.float32)
    score = world.vectors @ items.T + rng.gumbel(size=(len(world.ids), ITEMS))
    count = rng.integers(0, 12, len(world.ids))
    chosen = np.argsort(-score, axis=1) < 0
    for row, best in enumerate(np.argsort(-score, axis=1)):
        chosen[row, best[: count[row]]] = True
    chosen[7] = True  # has seen everything, so prefers nothing
    users, liked = np.nonzero(chosen)
    order = rng.permutation(len(users))
    np.save(world.folder / "items.npy", items)
    lines = [f"{i},{u}" for u, i in zip(world.ids[users[order]], liked[order], strict=True)]
    (world.folder / "pairs.csv").write_text("\n".join(["item_id,user_id", *lines, lines[0]]) + "\n")
    return Taste(items, users[order], liked[order])


class _Tired(InProcess):
    """An engine that says of the last item of each pass that a worker died over it."""

    def map(self, function, items):
        self.again.append(items[len(items) - 1])
        return super().map(function, items)


@pytest.fixture
def tired(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Runs of that module of ``attrcloak.streaming`` have workers that die."""

    def tire(module: str) -> None:
        monkeypatch.setattr(f"attrcloak.streaming.{module}.engine_of", lambda *_: _Tired())

    return tire
