"""Getting the published archives: over HTTPS with a checksum, kept in the user's cache folder."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from attrcloak.progress import Progress
from attrcloak.whole_file import replacing

WHEEL = "recbole==1.2.1 --hash=sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407\n"
_SECONDS = 10


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/attrcloak``, or ``~/.cache/attrcloak``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attrcloak"


def download(url: str, digest: str | None, path: Path, progress: Progress | None = None) -> None:
    """Fetch ``url`` into ``path`` when its checksum, ``kind:hex`` with the kind sha256, md5 or git, is the right one.

    Raises:
        OSError: it cannot be reached, or is not the file expected.
    """
    with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
        # Made only when there is an answer: an empty folder looks like data of an unknown layout the next time.
        path.parent.mkdir(parents=True, exist_ok=True)
        total = int(answer.headers.get("Content-Length") or 0)
        done = 0
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                while block := answer.read(1 << 18):
                    file.write(block)
                    done += len(block)
                    if progress is not None:
                        progress(f"fetching {path.name}", done, total)
            if digest is not None:
                check_digest(temporary, digest)


def check_digest(path: Path, digest: str) -> None:
    """Raise OSError unless the file has this ``kind:hex`` checksum."""
    kind, expected = digest.split(":")
    total = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        total.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    if total.hexdigest() != expected:
        raise OSError(f"the file has another {kind} checksum than the published one")


def unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    """The named members of a .zip, .whl or .tar.gz, found by the end of their path, straight into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    if archive.suffix in (".zip", ".whl"):
        with zipfile.ZipFile(archive) as content:
            for member in members:
                name = next(n for n in content.namelist() if n == member or n.endswith("/" + member))
                with replacing(folder / Path(member).name) as temporary:
                    temporary.write_bytes(content.read(name))
        return
    with tarfile.open(archive) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if Path(entry.name).name in members else None
            if file is not None:
                with replacing(folder / Path(entry.name).name) as temporary, temporary.open("wb") as out:
                    while block := file.read(1 << 20):
                        out.write(block)


def fetch_wheel(folder: Path) -> None:
    """MovieLens 100K as the example data of the RecBole wheel, taken through pip; RecBole is not installed.

    Raises:
        OSError: pip could not supply it.
    """
    with tempfile.TemporaryDirectory() as name:
        pins = Path(name) / "pins.txt"
        pins.write_text(WHEEL)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--require-hashes",
                   "--disable-pip-version-check", "--no-input", "--timeout", str(_SECONDS), "--retries", "0",
                   "-q", "-d", name, "-r", str(pins)]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired as error:
            raise OSError("pip took longer than two minutes") from error
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"pip could not get it: {last}") from error
        wheel = next(Path(name).glob("*.whl"))
        unpack(wheel, tuple(f"ml-100k/ml-100k.{kind}" for kind in ("inter", "user", "item")), folder)
