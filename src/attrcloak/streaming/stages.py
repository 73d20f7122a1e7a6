"""The stages of a run over files, each of which goes on where a killed run stopped."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from attrcloak.engines import Engine
from attrcloak.errors import MOST_NAMED
from attrcloak.json_text import dump
from attrcloak.moments.eraser import Eraser
from attrcloak.parts import Groups, Location, Part, Written, join_people
from attrcloak.parts.part import Change
from attrcloak.progress import Progress
from attrcloak.streaming.merge_tree import MergeTree
from attrcloak.streaming.passes import Measured, Report, Seen, Task, free_columns, measure, move
from attrcloak.streaming.workspace import Workspace, damaged

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Tasks(Sequence[Task]):
    """Tasks that are made when they are asked for, so that thousands of parts do not lie in memory."""

    parts: Sequence[Part]
    numbers: Sequence[int]
    groups: Groups
    sampled: Sequence[NDArray[np.int64]] | None
    seen: Callable[[int], Seen | None]
    report: Report | None

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Task: ...
    @overload
    def __getitem__(self, at: slice) -> list[Task]: ...
    def __getitem__(self, at: int | slice) -> Task | list[Task]:
        if isinstance(at, slice):
            return [self[position] for position in range(*at.indices(len(self)))]
        number = self.numbers[at]
        rows, cells = self.groups.rows(number), self.groups.cell_of_group
        sampled = np.empty(0, dtype=np.int64) if self.sampled is None else self.sampled[number]
        return Task(self.parts[number], rows, cells, sampled, self.seen(number), self.report)


@dataclass(frozen=True, eq=False)
class Stages:
    """What all stages of one run share.

    Attributes:
        parts: of the table.
        space: where what is finished is written down.
        staging: folder beside the output, on its file system, for new parts.
        engine: who runs the passes.
        progress: called with (stage, rows done, rows in all).
    """

    parts: tuple[Part, ...]
    space: Workspace
    staging: Location
    engine: Engine
    progress: Progress | None = None

    def join(
        self,
        inputs: Mapping[str, Location],
        id_column: str | None,
        columns: Sequence[str] | None,
    ) -> tuple[Groups, NDArray[np.int64]]:
        """The group of every row, and the sampled rows; digests of all inputs but the table are noted on the way."""
        folder = self.space.folder / "join"
        saved, rows, sample = files = folder / "groups.json", folder / "rows", folder / "sample.npy"
        if "joined" not in self.space.done:
            if folder.exists():
                shutil.rmtree(folder)  # half a join is no use
            folder.mkdir()
            groups, sampled = join_people(
                self.parts, inputs["people"], inputs.get("requests"), folder, table=inputs["vectors"].shown,
                users=inputs.get("users"), id_column=id_column, columns=columns, progress=self.progress,
            )  # fmt: skip
            np.save(sample, sampled, allow_pickle=False)
            groups.save(saved)
            digests = {
                what: {name: file.digest() for name, file in place.files()}
                for what, place in inputs.items()
                if what != "vectors"  # pass 1 takes theirs
            }
            self.space.note("joined", **digests, joined={path.name: _digest(path) for path in files})
        for path in files:
            self._check(path, self.space.done["joined"]["joined"][path.name])
        return Groups.load(saved, rows), np.load(sample, allow_pickle=False)

    def measure(self, groups: Groups, unit: bool) -> Measured:
        """Pass 1: the moments of all parts together."""
        function = partial(measure, key=groups.key, unit=unit)
        tree = MergeTree(self.space.moments_folder(), len(self.parts), Measured.of_arrays)
        for number, found in self.map(function, groups, self.lacking("measured"), stage="pass 1: measuring"):
            tree.write(number, found)
            assert found.seen is not None  # of one part
            self.space.note(f"measured {number}", sha256=found.seen.sha256, stamp=list(found.seen.stamp))
            tree.merge_from(number)
        return tree.root()

    def solve(self, solve: Callable[[], tuple[Eraser, dict[str, Any]]]) -> tuple[Eraser, dict[str, Any]]:
        """The maps, computed once; afterwards the key of the run is not needed any more."""
        path = self.space.eraser
        if "solved" not in self.space.done:
            began = time.perf_counter()
            eraser, how = solve()
            eraser.save(path)
            self.space.note("solved", **how, seconds=time.perf_counter() - began, eraser=_digest(path))
        self.space.forget_key()
        how = dict(self.space.done["solved"])
        self._check(path, how.pop("eraser"))
        return Eraser.load(path), how

    def move(
        self, groups: Groups, sampled: NDArray[np.int64], change_of: Callable[[Task], Change]
    ) -> tuple[list[Written], NDArray[np.float64]]:
        """Pass 2: what was written of every part, and the new vectors of the sampled rows."""
        table, writing = self.staging / "table", self.staging / "writing"
        if "complete" not in self.space.done:
            writing.remove()
            for number, part in enumerate(self.parts):
                self._doubt(number, table / part.name)
        for place in (table, writing):
            place.make_folder()
        samples = self.space.folder / "samples"
        samples.mkdir(exist_ok=True)
        mine, local = by_part(sampled, groups)
        function = partial(move, change_of=change_of, table=table, folder=writing)
        for number, done in self.map(function, groups, self.lacking("moved"), stage="pass 2: writing", sampled=local):
            np.save(samples / f"{number}.npy", done.sampled, allow_pickle=False)
            self.space.note(f"moved {number}", size=done.written.size, sha256=done.written.sha256)
        vectors = np.empty((len(sampled), len(free_columns(self.parts[0]))))
        for number, at in enumerate(mine):
            path = samples / f"{number}.npy"
            try:
                vectors[at] = np.load(path, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise damaged(path, self.space.folder, error) from error
        return [Written(**self.space.done[f"moved {number}"]) for number in range(len(self.parts))], vectors

    def _check(self, path: Path, digest: str) -> None:
        if not path.is_file() or _digest(path) != digest:
            raise damaged(path, self.space.folder, "it is not as it was written")

    def _doubt(self, number: int, file: Location) -> None:
        """Take back that a part was written when its file is not there as it was."""
        done = self.space.done.get(f"moved {number}")
        if done is not None and (not file.exists or file.digest() != done["sha256"]):
            del self.space.done[f"moved {number}"]

    def finish(self, output: Location, single: bool, manifest: dict[str, Any]) -> None:
        """Give the new table its name, then write the manifest beside it."""
        self.space.note("complete")
        table = self.staging / "table"
        if single or output.is_local:
            source = table / self.parts[0].name if single else table
            if source.exists and not output.exists:
                source.move(output)
        else:  # an object store has no folders to rename
            for part in self.parts:
                if (table / part.name).exists:
                    (table / part.name).move(output / part.name)
        # On an object store the manifest comes last, and says that all is there.
        place = output.beside(f"{output.name}.manifest.json")
        with place.replacing(self.staging / "writing") as sink:
            sink.write(dump(manifest).encode())

    def _seen(self, number: int) -> Seen | None:
        found = self.space.done.get(f"measured {number}")
        return None if found is None else Seen(found["sha256"], tuple(found["stamp"]))

    def lacking(self, done: str) -> list[int]:
        """Numbers of the parts for which this is not written down yet."""
        return [number for number in range(len(self.parts)) if f"{done} {number}" not in self.space.done]

    def map(
        self,
        function: Callable[[Task], Result],
        groups: Groups,
        numbers: Sequence[int],
        *,
        stage: str | None = None,
        sampled: Sequence[NDArray[np.int64]] | None = None,
    ) -> Iterator[tuple[int, Result]]:
        """(number, result) of these parts, as they are done; rows count as progress where the stage has a name."""
        total = groups.users
        finished = total - sum(self.parts[number].rows for number in numbers)
        inside = 0

        def tell(rows: int) -> None:
            nonlocal inside
            inside += rows
            if self.progress is not None and stage is not None and finished + inside < total:
                self.progress(stage, finished + inside, total)

        report = tell if self.engine.in_this_process else None
        tasks = Tasks(self.parts, numbers, groups, sampled, self._seen, report)
        tell(0)
        for position, result in self.engine.map(function, tasks):
            number = numbers[position]
            yield number, result
            finished, inside = finished + self.parts[number].rows, 0
            tell(0)
        if self.progress is not None and stage is not None:
            self.progress(stage, total, total)


def _digest(path: Path) -> str:
    """SHA-256 of a file of this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def done_again(engine: Engine, parts: Sequence[Part]) -> list[str]:
    """The names of the parts that ran once more because a worker died, in the order of the table."""
    names = {item.part.name for item in engine.again}
    return [part.name for part in parts if part.name in names]


def say_done_again(names: Sequence[str], table: str, parts: int) -> list[str]:
    """The sentence for parts that were done again, if there are any.

    Args:
        names: of these parts.
        table: what messages call the table.
        parts: how many it has.
    """
    if not names:
        return []
    shown = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return [
        f"{table}: {len(names)} of {parts} files were done again after a worker died ({shown}); what came out "
        "is the same. Was it killed for lack of memory? Fewer workers take less"
    ]


def by_part(sampled: NDArray[np.int64], groups: Groups) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """For every part: which of the sampled rows of the table are in it, and their rows there."""
    order = np.argsort(sampled, kind="stable")
    edges = np.searchsorted(sampled[order], groups.offsets)
    mine = [order[low:high] for low, high in pairwise(edges)]
    return mine, [sampled[at] - first for at, first in zip(mine, groups.offsets, strict=False)]
