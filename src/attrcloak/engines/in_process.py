"""One item after the other, in this process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attrcloak.engines.engine import Item, Result


class InProcess:
    """The default for one file: nothing to start, nothing to ship."""

    name = "in-process"
    in_this_process = True

    def __init__(self) -> None:
        self.again: list[Any] = []  # there is no worker to lose

    def prepare(self, module: str) -> None:
        """Nothing has to be started."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position, result) of every item, in order."""
        for position, item in enumerate(items):
            yield position, function(item)

    def close(self) -> None:
        """Nothing was started."""
