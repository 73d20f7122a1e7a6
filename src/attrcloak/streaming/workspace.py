"""The folder of a run that is not finished: what it is about, what is done, and what it must not forget."""

import fcntl
import json
import os
import secrets
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrcloak.errors import DamagedWork, InvalidInput, NotSupported
from attrcloak.json_text import dump
from attrcloak.parts import Location
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
        self.done: dict[str, dict[str, Any]] = {}

    @contextmanager
    def opened(
        self, about: Mapping[str, Any], files: Mapping[str, Mapping[str, Location]] | None = None
    ) -> "Iterator[Workspace]":
        """Begin, or go on with what was begun about the same thing; one run at a time.

        A file that was copied anew, of the same size and another time, is the same where its content is what the run
        noted of it.

        Args:
            about: settings and inputs, as plain values.
            files: the inputs, {what: {name: file}}, the table's in the order of its parts; None where there are none.

        Raises:
            InvalidInput: what was begun here is about something else; what differs is named.
            DamagedWork: the notes of what was begun cannot be read.
            NotSupported: another run is at work here.
        """
        self._refuse_other_things()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise NotSupported(f"another run is at work in {self.folder}; wait for it, or end it") from error
            if self.is_begun:
                self.refuse_another_run(about, files)
                self._drop_line_cut_short()
            else:
                with replacing(self._manifest, secret=True) as temporary:
                    temporary.write_text(dump({"schema": SCHEMA, **about}), encoding="utf-8")
            # What a kill left of files that were being written.
            for path in [*self.folder.glob(".*"), *self.folder.glob("moments*/.*")]:
                path.unlink()
            try:
                yield self
            except InvalidInput:
                # The inputs have to change, so there is nothing to go on with.
                remove_folder(self.folder)
                raise

    def refuse_another_run(
        self, about: Mapping[str, Any], files: Mapping[str, Mapping[str, Location]] | None = None
    ) -> None:
        """See that nothing is here, or what a run about the same thing left; nothing is changed.

        Args:
            about: as for ``opened``.
            files: likewise.

        Raises:
            InvalidInput, DamagedWork: as ``opened``.
        """
        self._refuse_other_things()
        if not self.is_begun:
            return
        try:
            begun = json.loads(self._manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise damaged(self._manifest, self.folder, error) from error
        self._read_journal()
        now = {"schema": SCHEMA, **json.loads(dump(about))}
        changed = self._changed_files(begun.pop("inputs", {}), now.pop("inputs", {}), files or {})
        differences = [*_differences(begun, now), *changed]
        if differences:
            raise InvalidInput(
                [
                    f"{self.folder} holds an unfinished run that differs: {'; '.join(differences[:5])}"
                    f"{'; ...' if len(differences) > 5 else ''}. Repeat that run to finish it, or remove the folder to "
                    "begin anew"
                ]
            )

    def _refuse_other_things(self) -> None:
        if self.folder.exists() and not _begun_by_a_run(self.folder):
            raise InvalidInput(
                f"{self.folder} holds other things; what is not finished goes into a folder of its own, which is "
                "removed at the end: name a new or empty one (work=), or move these away"
            )

    def _changed_files(
        self, begun: Mapping[str, Any], now: Mapping[str, Any], files: Mapping[str, Mapping[str, Location]]
    ) -> Iterator[str]:
        """What became of the input files: {what: {name: [size, time of the last change]}}."""
        for what in dict.fromkeys([*begun, *now]):
            before, after = begun.get(what, {}), now.get(what, {})
            noted = self.digests(what, files.get(what, {}))
            for name in dict.fromkeys([*before, *after]):
                if name not in after:
                    yield f"{name} of the {what} was there and is not"
                elif name not in before:
                    yield f"{name} of the {what} was not there and is"
                elif before[name][0] != after[name][0]:
                    yield f"{name} of the {what} had {before[name][0]} bytes and has {after[name][0]}"
                elif before[name] != after[name] and name not in noted:
                    yield f"{name} of the {what} was written again{_if_the_same(files[what][name], before[name])}"
                elif before[name] != after[name] and files[what][name].digest() != noted[name]:
                    yield f"{name} of the {what} was written again, with another content"

    def digests(self, what: str, names: Iterable[str]) -> dict[str, str]:
        """SHA-256 of the input files of one kind, of those that were read to the end.

        Args:
            what: which kind, such as "people"; "vectors" is the table.
            names: of the files; of a table, in the order of its parts.
        """
        if what != "vectors":
            return dict(self.done.get("joined", {}).get(what, {}))
        measured = {name: self.done.get(f"measured {number}") for number, name in enumerate(names)}
        return {name: found["sha256"] for name, found in measured.items() if found is not None}

    def _read_journal(self) -> None:
        if not self._journal.exists():
            return
        content = self._journal.read_bytes()
        try:
            for line in content[: content.rfind(b"\n") + 1].splitlines():
                entry = json.loads(line)
                self.done[entry.pop("done")] = entry
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self._journal, self.folder, error) from error

    def _drop_line_cut_short(self) -> None:
        if self._journal.exists():
            with self._journal.open("r+b") as file:
                file.truncate(file.read().rfind(b"\n") + 1)

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

    @property
    def eraser(self) -> Path:
        """The file of the maps, a secret."""
        return self.folder / "eraser.safetensors"

    def holds_eraser(self, path: Path) -> bool:
        """Whether the maps of this unfinished run are in a file already."""
        both = self.eraser.exists() and path.is_file()
        return both and self.eraser.read_bytes() == path.read_bytes()

    def copy_eraser(self, path: Path) -> None:
        """Write the maps to another file, whole or not at all."""
        with replacing(path, secret=True) as temporary:
            temporary.write_bytes(self.eraser.read_bytes())

    def moments_folder(self, step: int | None = None) -> Path:
        """The folder for moments of pass 1, or of a step of a descent."""
        return self.folder / ("moments" if step is None else f"moments-{step}")

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


def damaged(path: Path, folder: Path, what: object) -> DamagedWork:
    """What to raise when a file of an unfinished run is not as the run left it."""
    return DamagedWork(f"{path} cannot be read: {what}; remove {folder} to begin anew")


def _if_the_same(file: Location, before: Sequence[int]) -> str:
    """What to do about a file whose content was not noted yet: whoever copied it knows whether it is the same."""
    if not file.is_local:
        return ""
    seconds, nanoseconds = divmod(before[1], 10**9)
    time = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
    return f"; if its content is as it was, give it back its time: touch -d {time} {shlex.quote(file.path)}"


def _differences(begun: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in [*begun, *(key for key in now if key not in begun)]:
            yield from _differences(begun.get(key), now.get(key), f"{where}{'.' if where else ''}{key}")
    elif begun != now:
        yield f"{where} was {_short(begun)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _begun_by_a_run(folder: Path) -> bool:
    """Whether a folder is one that a run may fill and remove: empty, or one in which a run began."""
    if not folder.is_dir():
        return False
    manifest = folder / "manifest.json"
    if not manifest.exists():
        # A kill may come between the lock and the manifest.
        return all(path.name == "lock" or path.name.startswith(".manifest.json.") for path in folder.iterdir())
    try:
        return bool(json.loads(manifest.read_text(encoding="utf-8"))["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return (folder / "journal.jsonl").exists()  # the manifest was damaged: opening it says so


def remove_folder(folder: Path) -> None:
    """Remove a work folder, the secrets in it first. Killed on the way, it is no work folder any more."""
    remove_leftover(folder)
    folder.rename(_leftover(folder))
    remove_leftover(folder)


def refuse_leftover_of_others(folder: Path) -> None:
    """Raise InvalidInput for what no run left under the name that a work folder has while it is removed."""
    leftover = _leftover(folder)
    if leftover.exists() and not _begun_by_a_run(leftover):
        raise InvalidInput(f"{leftover} is in the way of {folder}, and no run left it; give it another name")


def remove_leftover(folder: Path) -> None:
    """Remove what a kill left of a work folder that was being removed, and nothing that is no such folder.

    Raises:
        InvalidInput: there is something else of that name.
    """
    import shutil

    refuse_leftover_of_others(folder)
    leftover = _leftover(folder)
    if not leftover.exists():
        return
    for name in ("key", "eraser.safetensors"):
        (leftover / name).unlink(missing_ok=True)
    # The manifest goes last: as long as it is there, the rest is known to be of a run.
    for path in leftover.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "manifest.json":
            path.unlink()
    (leftover / "manifest.json").unlink(missing_ok=True)
    leftover.rmdir()


@contextmanager
def temporary_workspace(parent: Path, prefix: str) -> "Iterator[Workspace]":
    """A workspace about nothing, removed at the end: for what is not resumed. What killed runs left of such goes too.

    Args:
        parent: where its folder lies, which is there.
        prefix: of that folder's name; it holds nothing but the workspace, ``work``.
    """
    remove_abandoned(parent, prefix)  # who is in which class is nothing to leave lying about
    with (
        tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder,
        Workspace(Path(folder) / "work").opened({}) as space,
    ):
        yield space


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove folders of that name that hold nothing but a workspace, ``work``, about nothing, whose run was killed.

    Runs that can be taken up again are about something.
    """
    import shutil

    for folder in parent.glob(f"{prefix}*"):
        try:
            if folder.is_symlink() or [path.name for path in folder.iterdir()] != ["work"]:
                continue
            about = json.loads((folder / "work" / "manifest.json").read_text(encoding="utf-8"))
            with (folder / "work" / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if about == {"schema": SCHEMA}:
                    shutil.rmtree(folder)
        except (OSError, ValueError):  # at work, somebody else's, or not a folder of ours
            continue


def _leftover(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.removed")


def has_room(folder: Path, needed: int) -> None:
    """Say before the work begins when a disk has not room enough, or takes nothing.

    Raises:
        InvalidInput: so it is.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise InvalidInput(f"{there} cannot be written to; choose another place")
    system = os.statvfs(there)
    free = system.f_bavail * system.f_frsize
    if free < needed:
        raise InvalidInput(
            f"{folder}: about {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; make room or choose "
            "another place"
        )
