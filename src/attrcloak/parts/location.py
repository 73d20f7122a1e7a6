"""Where files are: on this machine, or on any file system that pyarrow can reach."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrcloak.data.named_columns import cannot_be_read, first_line
from attrcloak.errors import InvalidInput, UnreadableFile, not_there

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Location:
    """A file or folder on a pyarrow file system; it can be sent to other processes.

    Attributes:
        filesystem: of pyarrow.
        path: on that file system, without a slash at the end.
        shown: what messages call it.
    """

    filesystem: Any
    path: str
    shown: str

    @classmethod
    def of(cls, text: str | Path) -> "Location":
        """From a local path, or a URI such as ``s3://bucket/folder``.

        Raises:
            UnreadableFile: a URI of a kind that is not known, or that cannot be reached.
        """
        import pyarrow as pa
        from pyarrow import fs

        if not is_uri(str(text)):
            return cls(fs.LocalFileSystem(), str(Path(text).absolute()), str(text))
        # Names and keys for a store may stand before the @ and after the question mark.
        shown = re.sub(r"//[^/@]*@", "//", str(text).partition("?")[0].rstrip("/"))
        try:
            filesystem, path = fs.FileSystem.from_uri(str(text))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise UnreadableFile(f"{shown}: cannot be reached ({first_line(error)})") from error
        return cls(filesystem, path.rstrip("/"), shown)

    @property
    def is_local(self) -> bool:
        """Whether this is a path on this machine."""
        return bool(self.filesystem.type_name == "local")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of the name in small letters, such as ".parquet"; "" where there is none."""
        stem, dot, ending = self.name.rpartition(".")
        return f".{ending.lower()}" if dot and stem else ""

    def __truediv__(self, name: str) -> "Location":
        return Location(self.filesystem, f"{self.path}/{name}", f"{self.shown}/{name}")

    def beside(self, name: str) -> "Location":
        """Another name in the same folder."""
        folder, slash, _ = self.path.rpartition("/")
        shown, _, _ = self.shown.rpartition("/")
        return Location(self.filesystem, f"{folder}{slash}{name}", f"{shown}/{name}" if shown else name)

    @property
    def exists(self) -> bool:
        """Whether there is a file or folder."""
        return bool(self._info().type.name != "NotFound")

    @property
    def is_folder(self) -> bool:
        """Whether there is a folder."""
        return bool(self._info().type.name == "Directory")

    def _info(self) -> Any:
        try:
            return self.filesystem.get_file_info(self.path)
        except OSError as error:
            raise UnreadableFile(f"{self.shown}: cannot be reached ({first_line(error)})") from error

    def require_bucket(self) -> None:
        """See that an object store has the bucket of this place, making it where the URI allows that.

        Raises:
            UnreadableFile: there is none, or the store cannot be reached.
        """
        bucket = self.path.partition("/")[0]  # empty where paths begin at a root
        if self.is_local or not bucket:
            return
        try:
            if self.filesystem.get_file_info(bucket).type.name == "NotFound":
                self.filesystem.create_dir(bucket)
        except OSError as error:
            raise UnreadableFile(
                f"{self.shown}: there is no bucket {bucket!r}; create it first, or add "
                f"allow_bucket_creation=true to the URI ({first_line(error)})"
            ) from error

    def stamp(self) -> tuple[int, int]:
        """Size in bytes and time of the last change in ns: what tells, without reading, that a file is another."""
        info = self._info()
        return int(info.size or 0), int(info.mtime_ns or 0)

    def files(self) -> "list[tuple[str, Location]]":
        """(name, file) of the file itself, or of all in the folder and below, sorted by name.

        Names that begin with a dot or an underscore are left out, as Spark, Hive and others do.

        Raises:
            UnreadableFile: there is nothing.
        """
        from pyarrow import fs

        info = self._info()
        if info.type.name == "NotFound":
            raise UnreadableFile(self._not_there())
        if info.type.name != "Directory":
            return [(self.name, self)]
        below = self.filesystem.get_file_info(fs.FileSelector(self.path, recursive=True))
        names = sorted(entry.path[len(self.path) + 1 :] for entry in below if entry.is_file)
        names = [name for name in names if not any(part[0] in "._" for part in name.split("/"))]
        if not names:
            raise UnreadableFile(
                f"{self.shown}: the folder holds no files (names that begin with . or _ do not count); name the one "
                "that has them"
            )
        return [(name, self / name) for name in names]

    def _not_there(self) -> str:
        if self.is_local:
            return not_there(self.shown, Path(self.path), "file or folder")
        return f"{self.shown}: there is no such file or folder; check the bucket and the name"

    def open(self) -> Any:
        """A pyarrow file to read from."""
        try:
            return self.filesystem.open_input_file(self.path)
        except OSError as error:
            raise UnreadableFile(f"{self.shown}: cannot be read ({first_line(error)})") from error

    @contextmanager
    def reading(self) -> "Iterator[None]":
        """What pyarrow cannot read of this file becomes an error that names it.

        Nothing is written inside, which can fail too; a generator that reads may hand out what it read from inside.
        """
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            raise UnreadableFile(cannot_be_read(self.shown, error)) from error

    def digest(self) -> str:
        """SHA-256 of the content."""
        digest = hashlib.sha256()
        with self.open() as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def replacing(self, folder: "Location") -> "Iterator[Digested]":
        """A file to write to, in ``folder`` on the same file system; it takes this name when the block ends well.

        A process that is killed leaves something in ``folder`` at most, never under this name.
        """
        temporary = folder / f"{uuid4().hex}-{self.name}"
        sink = Digested(self.filesystem.open_output_stream(temporary.path))
        try:
            yield sink
            sink.close()
            self.filesystem.create_dir(self.path.rpartition("/")[0], recursive=True)
            temporary.move(self)
        finally:
            sink.close()
            if temporary.exists:
                self.filesystem.delete_file(temporary.path)

    def move(self, to: "Location") -> None:
        """Give a file or a local folder another name on the same file system."""
        self.filesystem.move(self.path, to.path)

    def make_folder(self) -> None:
        """Make this folder and those above it."""
        self.filesystem.create_dir(self.path, recursive=True)

    def remove(self) -> None:
        """Remove the file or the folder with all that is in it; nothing there is fine."""
        info = self._info()
        if info.type.name == "Directory":
            self.filesystem.delete_dir(self.path)
        elif info.type.name != "NotFound":
            self.filesystem.delete_file(self.path)


class Digested:
    """A stream that knows the size and SHA-256 of what was written to it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, content: Any) -> int:
        """Append bytes."""
        self._stream.write(content)
        self._digest.update(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size

    def flush(self) -> None:
        """Hand on what is buffered."""
        self._stream.flush()

    def close(self) -> None:
        """End the file."""
        self._stream.close()
        self.closed = True

    def readable(self) -> bool:
        """It is for writing only."""
        return False

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def seekable(self) -> bool:
        """It is written from front to end."""
        return False

    @property
    def sha256(self) -> str:
        """Digest of what was written."""
        return self._digest.hexdigest()


def is_uri(text: str) -> bool:
    """Whether a text is a URI and not a local path."""
    return _URI.match(text) is not None


def refuse_nesting(inputs: "list[Location]", output: Location) -> None:
    """Inputs are never overwritten, and nothing is written among them.

    Raises:
        InvalidInput: the output is an input, or lies inside of one.
    """
    problems = [
        f"{output.shown} is an input, or lies inside of {place.shown}; give the output another name"
        for place in inputs
        if _holds(place, output)
    ]
    if problems:
        raise InvalidInput(problems)


def refuse_containing(work: Location, places: "list[Location]") -> None:
    """A folder that is removed at the end holds no input and no output.

    Raises:
        InvalidInput: it does.
    """
    problems = [
        f"{place.shown} lies inside of {work.shown}, which is removed at the end; name another folder for what is not "
        "finished (work=)"
        for place in places
        if _holds(work, place)
    ]
    if problems:
        raise InvalidInput(problems)


def _holds(folder: Location, place: Location) -> bool:
    """Whether a place is a folder itself or lies inside of it, by whatever links and detours it is named."""
    outer, inner = (os.path.realpath(each.path) if each.is_local else each.path for each in (folder, place))
    return bool(folder.filesystem.equals(place.filesystem)) and f"{inner}/".startswith(f"{outer}/")
