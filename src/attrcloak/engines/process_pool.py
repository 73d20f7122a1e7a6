"""A pool of processes on this machine, one item each: the default for a folder of files."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from attrcloak.engines.engine import Item, Result
from attrcloak.errors import WorkerLost

_CAN_FORK = sys.platform == "linux"
"""Others either cannot or have system libraries that do not bear it."""
MOST_ATTEMPTS = 4
"""How often an item is tried whose worker dies."""


class ProcessPool:
    """Processes that inherit no threads, locks or open files of this one.

    On Linux they are forked, but from a process of their own that does nothing but import (Python's fork server): what
    a worker needs is imported once, beside what this process does, and the next worker is there at once. That process
    stays until this one ends. Elsewhere, and where it cannot be started, every worker starts afresh.

    Args:
        workers: processes; the number of cores by default.
    """

    name = "pool"
    in_this_process = False

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.again: list[Any] = []
        self._pool: ProcessPoolExecutor | None = None

    def prepare(self, module: str) -> None:
        """Start the process that others are forked from, or the processes, with this module imported."""
        if import_for_workers(module):
            return  # a worker that is asked for now waits until all is imported, and this process with it
        for _ in range(self.workers):
            self._executor().submit(_import, module)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """(position, result) of every item as they are done; a dead worker is replaced and its item tried again."""
        waiting = list(range(len(items)))[::-1]
        attempts = [0] * len(items)
        running: dict[Future[Any], int] = {}
        shared, where = _share(function)
        try:
            while waiting or running:
                # One more than there are workers, so that none waits for this process; not all, for items have a size.
                while waiting and len(running) <= self.workers:
                    position = waiting.pop()
                    attempts[position] += 1
                    try:
                        future = self._executor().submit(_call, where, items[position])
                    except BrokenProcessPool:  # between two items; this one has not been tried
                        attempts[position] -= 1
                        waiting.append(position)
                        self._discard()
                        continue
                    running[future] = position
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                lost = []
                for future in done:
                    position = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        lost.append(position)
                        continue
                    yield position, result
                if lost:
                    # With one process the pool loses all: whatever was in flight runs again.
                    lost += running.values()
                    running.clear()
                    self._discard()
                    hopeless = sum(attempts[position] >= MOST_ATTEMPTS for position in lost)
                    if hopeless:
                        raise WorkerLost(
                            f"worker processes died {MOST_ATTEMPTS} times while on the same {hopeless} of {len(items)} "
                            "parts (killed for lack of memory?). What is finished is kept: run the same command again, "
                            "with fewer workers"
                        )
                    waiting += sorted(lost, reverse=True)
                    self.again += [items[position] for position in sorted(lost)]
        finally:
            for future in running:
                future.cancel()
            shared.close()
            shared.unlink()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("forkserver" if _fork_server_runs() else "spawn")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=context, initializer=_begin, initargs=(dict(os.environ),)
            )
        return self._pool

    def _discard(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def import_for_workers(module: str) -> bool:
    """Begin to import a module in the process that workers of pools are forked from.

    Returns:
        False where there is no such process, so that every worker will import it.
    """
    if _CAN_FORK:
        forkserver.set_forkserver_preload([module])
    return _fork_server_runs()


def _fork_server_runs() -> bool:
    """Start Python's fork server where it does not run."""
    if not _CAN_FORK:
        return False
    try:
        forkserver.ensure_running()
    except OSError:
        # The folder for temporary files has too long a name for a socket, or this process was forked itself.
        return False
    return True


def _import(module: str) -> None:
    import_module(module)  # which cannot be sent back


def _share(function: Callable[..., Any]) -> tuple[SharedMemory, tuple[str, int]]:
    """The function in memory that workers read once: what it carries may be large, and items are many."""
    content = pickle.dumps(function)
    shared = SharedMemory(create=True, size=len(content))
    assert shared.buf is not None  # only once it is closed
    shared.buf[: len(content)] = content
    return shared, (shared.name, len(content))


@lru_cache(maxsize=1)
def _shared(name: str, size: int) -> Callable[[Any], Any]:
    shared = SharedMemory(name)
    try:
        assert shared.buf is not None  # only once it is closed
        function: Callable[[Any], Any] = pickle.loads(bytes(shared.buf[:size]))  # noqa: S301 - of the parent process
    finally:
        shared.close()
    return function


def _call(where: tuple[str, int], item: Any) -> Any:
    return _shared(*where)(item)


def _begin(environment: Mapping[str, str]) -> None:
    """Give a worker the environment of the process it works for, and let it end with that, even when that is killed.

    A fork server has the environment of when it was started, and keys to a storage may have been set since. Ctrl-C
    reaches all processes of a terminal: workers end there and then, and the first process says so.
    """
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None  # of a worker

    def watch() -> None:
        wait_for_any([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
