"""How many threads BLAS has: one where several processes or threads of ours work side by side."""

import sys
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

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


@cache
def _found(loaded: tuple[bool, ...]) -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
