"""How many threads BLAS has: one where several processes or threads of ours work side by side."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from typing import Any

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

_BRING_THEIR_OWN = ("scipy.linalg", "torch", "faiss")


def blas_libraries() -> Any:
    """The BLAS libraries of this process, as a controller of ``threadpoolctl``.

    To look for them takes as long as a pass over some thousand rows, so it is done once, and again when a library is
    there that brings its own.
    """
    return _found(tuple(name in sys.modules for name in _BRING_THEIR_OWN))


def one_thread(*, scipy_too: bool = True) -> AbstractContextManager[None]:
    """BLAS on one thread inside: the same part gives the same bits anywhere, and workers do not crowd each other.

    Args:
        scipy_too: whether what is inside may call SciPy's BLAS, as compiled passes do. It is loaded for that, since
            only a BLAS that is there can be limited, and takes longer to load than some tables to measure.
    """
    if scipy_too:
        import scipy.linalg  # noqa: F401

    limited: AbstractContextManager[None] = blas_libraries().limit(limits=1)
    return limited


@contextmanager
def side_by_side() -> Iterator[Map]:
    """A ``map`` that deals work to as many threads as BLAS has, while BLAS keeps to one in each; results in order.

    BLAS left to itself splits narrow products badly: on two busy cores its threads, waiting for one another, took ten
    times as long as one.
    """
    threads = threads_of_blas()
    if threads == 1:
        yield map
        return
    with blas_libraries().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield partial(_in_order, pool, 2 * threads)


def threads_of_blas() -> int:
    """How many threads BLAS has; of several libraries the one with fewest, for one loaded within a limit has all."""
    return min((library.num_threads for library in blas_libraries().lib_controllers), default=1)


def _in_order(
    pool: ThreadPoolExecutor, most: int, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    """The results in the order of the items, of which no more than ``most`` are done before their result is taken."""
    waiting = deque[Future[Any]]()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@cache
def _found(loaded: tuple[bool, ...]) -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
