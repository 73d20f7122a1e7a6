"""How loops are compiled: without Python's lock, and kept for the next process. Needs the extra ``fast``, Numba."""

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*fastmath: str) -> Callable[[Any], Any]:
    """A decorator that compiles a function of arrays and numbers.

    Args:
        fastmath: what LLVM may do to floating point numbers beyond the standard, such as "contract".
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": set(fastmath), "error_model": "numpy"}

    def decorate(function: Any) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # there is no place to keep it in
            return njit(**options)(function)

    return decorate
