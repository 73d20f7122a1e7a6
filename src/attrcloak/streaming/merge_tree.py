"""What was found in each part, merged along a fixed tree of files: the same bits in every order, nothing twice."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments
from attrcloak.streaming.workspace import damaged
from attrcloak.whole_file import replacing

Arrays = Mapping[str, NDArray[Any]]


class Mergeable(Protocol):
    """What a part yields: it merges with that of another part, and is a few arrays in a file."""

    def merge(self, other: Self) -> Self:
        """Both together."""
        ...

    def arrays(self) -> Arrays:
        """All of it as named arrays."""
        ...


Node = TypeVar("Node", bound=Mergeable)


class MergeTree(Generic[Node]):
    """A node of the tree is a file. When both halves of a node are there, it takes their place.

    So no part can count twice, and the sums are the same to the last bit in every order.

    Args:
        folder: of the files; secrets, for its owner only.
        parts: leaves of the tree.
        load: a node from its arrays.
    """

    def __init__(self, folder: Path, parts: int, load: Callable[[Arrays], Node]) -> None:
        self._folder, self._parts, self._load = folder, parts, load
        folder.mkdir(exist_ok=True)

    def write(self, part: int, found: Node) -> None:
        """Keep what was found in a part; found again, it takes the place of the first."""
        self._write(0, part, found)

    def merge_from(self, part: int) -> None:
        """Merge a part that is known to be finished with its neighbours, as far as these are there."""
        self._merge_up(0, part)

    def _merge_up(self, level: int, index: int) -> None:
        while (width := -(-self._parts // (1 << level))) > 1:
            pair = (index & ~1, index | 1)
            nodes = [self._path(level, i) for i in pair if i < width]
            if not all(node.exists() for node in nodes):
                return
            halves = [self._read(node) for node in nodes]
            whole = halves[0] if len(halves) == 1 else halves[0].merge(halves[1])
            level, index = level + 1, index // 2
            self._write(level, index, whole)
            for node in nodes:
                node.unlink()

    def root(self) -> Node:
        """All parts together; every one has been written."""
        level = max(self._parts - 1, 0).bit_length()
        for path in sorted(self._folder.glob("*.npz")):  # a kill may have come between two halves and their sum
            at, index = map(int, path.stem.split("-"))
            if path.exists() and any(self._path(up, index >> (up - at)).exists() for up in range(at + 1, level + 1)):
                path.unlink()
        for part in range(self._parts):
            if self._path(0, part).exists():
                self._merge_up(0, part)
        for low in range(1, level):
            for path in sorted(self._folder.glob(f"{low}-*.npz")):
                if path.exists():
                    self._merge_up(low, int(path.stem.split("-")[1]))
        return self._read(self._path(level, 0))

    def _path(self, level: int, index: int) -> Path:
        return self._folder / f"{level}-{index}.npz"

    def _write(self, level: int, index: int, found: Node) -> None:
        arrays: Any = found.arrays()
        with replacing(self._path(level, index), secret=True) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)

    def _read(self, path: Path) -> Node:
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return self._load(dict(file))
        except (BadZipFile, OSError, ValueError, KeyError, EOFError) as error:
            raise damaged(path, self._folder.parent, error) from error


def key_arrays(key: CellKey) -> Arrays:
    """The cells of a key, for a node."""
    names = json.dumps([list(key.attributes), [list(classes) for classes in key.classes]])
    return {"names": np.array(names), "combinations": key.combinations}


def key_of(arrays: Arrays) -> CellKey:
    """The key that ``key_arrays`` wrote."""
    attributes, classes = json.loads(str(arrays["names"]))
    return CellKey(tuple(attributes), tuple(map(tuple, classes)), arrays["combinations"])


def moment_arrays(name: str, moments: CellMoments) -> Arrays:
    """Moments without their key, for a node that has several of one key."""
    return {f"{name}_count": moments.count, f"{name}_mean": moments.mean, f"{name}_scatter": moments.scatter}


def moments_of(name: str, key: CellKey, arrays: Arrays) -> CellMoments:
    """The moments that ``moment_arrays`` wrote."""
    return CellMoments(key, arrays[f"{name}_count"], arrays[f"{name}_mean"], arrays[f"{name}_scatter"])
