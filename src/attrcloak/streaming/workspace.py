"""The folder of a run that is not finished: what it is about, what is done, and what it must not forget."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from attrcloak.errors import InvalidInput, NotSupported, UnreadableFile
from attrcloak.json_text import dump
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments
from attrcloak.streaming.passes import Measured
from attrcloak.whole_file import replacing

SCHEMA = "attrcloak/manifest/1"


class Workspace:
    """A folder that only its owner can look into; moments, key and eraser in it are secrets.

    ``manifest.json`` says what the run is about and is never changed. ``journal.jsonl`` gets a line for everything that
    is finished; a line that a kill cut short does not count.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = folder / "manifest.json"
        self._journal = folder / "journal.jsonl"
        self._nodes = folder / "moments"
        self.done: dict[str, dict[str, Any]] = {}

    @contextmanager
    def opened(self, about: Mapping[str, Any]) -> "Iterator[Workspace]":
        """Begin, or go on with what was begun about the same thing; one run at a time.

        Args:
            about: settings and inputs, as plain values.

        Raises:
            InvalidInput: what was begun here is about something else; what differs is named.
            NotSupported: another run is at work here.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise NotSupported(f"another run is at work in {self.folder}; wait for it, or end it") from error
            self._begin(json.loads(dump(about)))
            self._nodes.mkdir(exist_ok=True)
            # What a kill left of files that were being written.
            for path in [*self.folder.glob(".*"), *self._nodes.glob(".*")]:
                path.unlink()
            try:
                yield self
            except InvalidInput:
                # The inputs have to change, so there is nothing to go on with.
                remove_folder(self.folder)
                raise

    def _begin(self, about: dict[str, Any]) -> None:
        if not self._manifest.exists():
            with replacing(self._manifest, secret=True) as temporary:
                temporary.write_text(dump({"schema": SCHEMA, **about}), encoding="utf-8")
            return
        try:
            begun = json.loads(self._manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableFile(
                f"{self._manifest} cannot be read: {error}; remove {self.folder} to begin anew"
            ) from error
        differences = list(_differences(begun, {"schema": SCHEMA, **about}))
        if differences:
            raise InvalidInput(
                [
                    f"{self.folder} holds an unfinished run that differs: {'; '.join(differences[:5])}"
                    f"{'; ...' if len(differences) > 5 else ''}. Repeat that run to finish it, or remove the folder to "
                    "begin anew"
                ]
            )
        if self._journal.exists():
            content = self._journal.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                with self._journal.open("r+b") as file:
                    file.truncate(len(whole))
            for line in whole.splitlines():
                entry = json.loads(line)
                self.done[entry.pop("done")] = entry

    @property
    def is_begun(self) -> bool:
        """Whether there is an unfinished run."""
        return self._manifest.exists()

    @property
    def lacks_names_only(self) -> bool:
        """Whether all is written, and the output has got its name or is about to."""
        return self._journal.exists() and b'{"done": "complete"}' in self._journal.read_bytes()

    def note(self, done: str, **what: Any) -> None:
        """Write down that something is finished."""
        with self._journal.open("ab") as file:
            file.write((json.dumps({"done": done, **what}) + "\n").encode())
        self.done[done] = what

    def secret_key(self) -> bytes:
        """The key of this run, drawn once and kept in a file for its owner until ``forget_key``."""
        path = self.folder / "key"
        if not path.exists():
            with replacing(path, secret=True) as temporary:
                temporary.write_bytes(secrets.token_bytes(32))
        return path.read_bytes()

    def forget_key(self) -> None:
        """Remove the key; what it was needed for is done."""
        (self.folder / "key").unlink(missing_ok=True)

    def add_moments(self, part: int, parts: int, found: Measured) -> None:
        """Keep what was measured of a part, and merge along a fixed tree, whatever order parts arrive in.

        A node of the tree is a file. When both halves of a node are there, it takes their place; so no part can count
        twice, and the sums are the same to the last bit in every order.
        """
        self._write_node(0, part, found)
        assert found.seen is not None  # of one part
        self.note(f"measured {part}", sha256=found.seen.sha256, stamp=list(found.seen.stamp))
        self._merge_up(0, part, parts)

    def _merge_up(self, level: int, index: int, parts: int) -> None:
        while (width := -(-parts // (1 << level))) > 1:
            pair = (index & ~1, index | 1)
            nodes = [self._node(level, i) for i in pair if i < width]
            if not all(node.exists() for node in nodes):
                return
            halves = [_load(node) for node in nodes]
            whole = halves[0] if len(halves) == 1 else halves[0].merge(halves[1])
            level, index = level + 1, index // 2
            self._write_node(level, index, whole)
            for node in nodes:
                node.unlink()

    def moments(self, parts: int) -> Measured:
        """All parts together; every one has been added."""
        level = max(parts - 1, 0).bit_length()
        for path in sorted(self._nodes.iterdir()):  # a kill may have come between two halves and their sum
            at, index = map(int, path.stem.split("-"))
            if path.exists() and any(self._node(up, index >> (up - at)).exists() for up in range(at + 1, level + 1)):
                path.unlink()
        for part in range(parts):
            if self._node(0, part).exists():
                self._merge_up(0, part, parts)
        for low in range(1, level):
            for path in sorted(self._nodes.glob(f"{low}-*.npz")):
                if path.exists():
                    self._merge_up(low, int(path.stem.split("-")[1]), parts)
        return _load(self._node(level, 0))

    def _node(self, level: int, index: int) -> Path:
        return self._nodes / f"{level}-{index}.npz"

    def _write_node(self, level: int, index: int, found: Measured) -> None:
        arrays = {"squares": np.array(found.squares), "low": found.low, "high": found.high}
        for name, moments in (("given", found.moments), ("unit", found.unit)):
            if moments is not None:
                arrays |= {
                    f"{name}_count": moments.count,
                    f"{name}_mean": moments.mean,
                    f"{name}_scatter": moments.scatter,
                }
        key = found.moments.key
        names = json.dumps([list(key.attributes), [list(classes) for classes in key.classes]])
        with replacing(self._node(level, index), secret=True) as temporary:
            np.savez(temporary, allow_pickle=False, names=np.array(names), combinations=key.combinations, **arrays)


def _load(path: Path) -> Measured:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    attributes, classes = json.loads(str(arrays["names"]))
    key = CellKey(tuple(attributes), tuple(map(tuple, classes)), arrays["combinations"])

    def moments(name: str) -> CellMoments:
        return CellMoments(key, arrays[f"{name}_count"], arrays[f"{name}_mean"], arrays[f"{name}_scatter"])

    unit = moments("unit") if "unit_count" in arrays else None
    return Measured(moments("given"), unit, float(arrays["squares"]), arrays["low"], arrays["high"])


def _differences(begun: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in [*begun, *(key for key in now if key not in begun)]:
            yield from _differences(begun.get(key), now.get(key), f"{where}{'.' if where else ''}{key}")
    elif begun != now:
        yield f"{where} was {_short(begun)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def remove_folder(folder: Path) -> None:
    """Remove a work folder, the secrets in it first. Killed on the way, it is no work folder any more."""
    leftover = folder.with_name(f"{folder.name}.removed")
    folder.rename(leftover)
    remove_leftover(folder)


def remove_leftover(folder: Path) -> None:
    """Remove what a kill left of a work folder that was being removed."""
    import shutil

    leftover = folder.with_name(f"{folder.name}.removed")
    if leftover.exists():
        for name in ("key", "eraser.safetensors"):
            (leftover / name).unlink(missing_ok=True)
        shutil.rmtree(leftover)


def has_room(folder: Path, needed: int) -> None:
    """Say before the work begins when a disk has not room enough.

    Raises:
        InvalidInput: it has not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    system = os.statvfs(there)
    free = system.f_bavail * system.f_frsize
    if free < needed:
        raise InvalidInput(
            f"{folder}: about {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; make room or choose "
            "another place"
        )
