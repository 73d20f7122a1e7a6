"""What runs a pass: a function, mapped over the parts of a table."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs a pure function on every item of a list, wherever there is room. It knows nothing of tables or moments.

    The function may run more than once for an item (a worker died), so it has to be repeatable: the same item gives
    the same result, and files are written whole under names of their own.

    Attributes:
        again: the items that ran once more, each time they did.
    """

    again: list[Any]

    @property
    def name(self) -> str:
        """The engine's name on the command line."""
        ...

    @property
    def in_this_process(self) -> bool:
        """Whether functions run in the caller's process, so that they may call back."""
        ...

    def prepare(self, module: str) -> None:
        """Begin to start what is slow to start, and import ``module`` there, while the caller does something else."""
        ...

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position, result) of every item exactly once, as they are done.

        Raises:
            WorkerLost: the machinery died more often than it is restarted.
            AttrCloakError: raised by the function, passed on.
        """
        ...

    def close(self) -> None:
        """Let go of processes and connections that this engine started."""
        ...
