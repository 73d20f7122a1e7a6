"""Files written whole or not at all."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrcloak.errors import raise_if


def refuse_to_lose_a_way_back(secrets: Iterable[Path | None]) -> None:
    """What an earlier run left to be undone by is never written over.

    Raises:
        InvalidInput: one of the files is there already.
    """
    problems = [
        f"{path} is there already, and may be the only way back of another run; name another"
        for path in secrets
        if path is not None and path.exists()
    ]
    raise_if(problems)


@contextmanager
def replacing(path: Path, secret: bool = False) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    Args:
        path: where the file goes; its folder must exist.
        secret: readable by its owner only.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if not secret:
            # mkstemp makes files only the owner can read; a plain new file would follow the umask.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
