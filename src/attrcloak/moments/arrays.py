"""NumPy arrays and torch tensors by one code: the array API standard, and the little that methods need beyond it.

What is iterated on rows is written once. Handed arrays it runs in NumPy, and handed tensors by torch, on the device
where these lie; torch is never imported here, for who has a tensor has it.
"""

from typing import Any, TypeGuard

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array = Any
"""A NumPy array or a torch tensor; both have the operators and methods that are used of it."""


def namespace(array: Array) -> Any:
    """The functions of the array API standard for arrays of this kind.

    Args:
        array: of any shape.

    Returns:
        A module with the standard's names: a wrapper of NumPy or of torch.

    Raises:
        TypeError: it is neither a NumPy array nor a tensor.
    """
    return array_api_compat.array_namespace(array)


def is_numpy_array(array: Array) -> TypeGuard[NDArray[Any]]:
    """Whether it is a NumPy array, not a tensor.

    Args:
        array: of any shape.

    Returns:
        True for a NumPy array, which type checkers then take it for.
    """
    return isinstance(array, np.ndarray)


def beside(values: "NDArray[np.generic] | Array", like: Array) -> Array:
    """The same numbers of the same type, as an array of the kind of ``like`` and where it lies.

    Args:
        values: of any shape.
        like: of any shape and type; only its kind and its place count.

    Returns:
        ``values`` itself where ``like`` is a NumPy array or ``values`` is a tensor, wherever that lies; otherwise a
        tensor with a copy of them on the device of ``like``.
    """
    if is_numpy_array(like) or not is_numpy_array(values):
        return values
    # A copy: torch warns of memory that may not be written to, though nobody does.
    return namespace(like).asarray(np.array(values), device=array_api_compat.device(like))


def device_of(array: Array) -> str:
    """Where an array lies, and of which kind it is there.

    Args:
        array: of any shape.

    Returns:
        "NumPy", or "torch, " and the device, such as "torch, cuda:0".
    """
    return "NumPy" if is_numpy_array(array) else f"torch, {array_api_compat.device(array)}"


def on_host(array: Array) -> NDArray[Any]:
    """The same numbers as a NumPy array.

    Args:
        array: of any shape, without gradients.

    Returns:
        An array of the same shape and type: itself if it is one, the memory of a tensor on the CPU, else a copy.
    """
    return array if is_numpy_array(array) else np.asarray(array.cpu())


def inner(one: Array, other: Array) -> float:
    """Sum of the products of all numbers of two arrays.

    Args:
        one: of any shape.
        other: of the same shape and kind, in the same place.

    Returns:
        The sum, in the arrays' own precision.
    """
    xp = namespace(one)
    return float(xp.vecdot(xp.reshape(one, (-1,)), xp.reshape(other, (-1,))))


def sums_of_runs(values: Array, lengths: NDArray[np.int64]) -> Array:
    """(R, d) sums of consecutive runs of rows.

    In a fixed order on every device: additions of a scatter come in whatever order threads arrive.

    Args:
        values: (b, d).
        lengths: (R,) rows of each run, at least 1, b in all.

    Returns:
        The sums, of the kind and type of ``values`` and where these lie.
    """
    if is_numpy_array(values):
        return np.add.reduceat(values, np.cumsum(lengths) - lengths, axis=0)
    return namespace(values).segment_reduce(values, "sum", lengths=beside(lengths, values), axis=0)
