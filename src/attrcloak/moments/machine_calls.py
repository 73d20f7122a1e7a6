"""Two things that Numba has no words for: BLAS's ``syrk``, and asking for memory before it is needed.

Both are written so that what calls them can be kept for the next process: the address of a routine, which differs from
process to process, comes as an argument. What is kept is of the functions that call them: whoever changes this file has
to delete it, or touch the files that call. Needs the extra ``fast``, Numba.
"""

from typing import Any

import llvmlite.ir as ir
import scipy.linalg  # noqa: F401 - has the routine, and must be there when the threads of its BLAS are limited
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import get_cython_function_address, intrinsic
from numba.np.arrayobj import make_array

_BYTE_POINTER, _INT, _DOUBLE = ir.IntType(8).as_pointer(), ir.IntType(32), ir.DoubleType()

_for_compiled_code: Any = intrinsic  # whose own types do not know that the context is not given by the caller


def dsyrk_address() -> int:
    """Where ``dsyrk`` is in this process, for ``add_gram``."""
    return int(get_cython_function_address("scipy.linalg.cython_blas", "dsyrk"))


@_for_compiled_code
def add_gram(typing_context: Any, address: Any, x: Any, gram: Any) -> Any:
    """``add_gram(address, x, gram)``: add X^T X to the lower triangle of ``gram``; half the work of a product.

    Args:
        typing_context: Numba's own, not given by the caller.
        address: of ``dsyrk``.
        x: (n, d) float64, rows in one piece; n and d below 2^31, d at least 1.
        gram: (d, d) float64 in one piece. What is above the diagonal stays as it was.

    Raises:
        TypingError: an array of another type or layout, when what calls it is compiled.
    """
    for each in (x, gram):
        if not (isinstance(each, types.Array) and (each.ndim, each.layout, each.dtype) == (2, "C", types.float64)):
            raise TypingError(f"add_gram takes two-dimensional float64 arrays with rows in one piece, not {each}")

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        x_, gram_ = (
            make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[1:], values[1:], strict=True)
        )
        n, d = cgutils.unpack_tuple(builder, x_.shape)

        def place(kind: ir.Type, value: Any) -> Any:
            where = cgutils.alloca_once(builder, kind)
            builder.store(value, where)
            return builder.bitcast(where, _BYTE_POINTER)

        def whole(value: Any) -> Any:
            return place(_INT, builder.trunc(value, _INT))

        # Fortran reads rows as columns: X^T X of ours is its A A^T, and our lower triangle its upper one.
        upper, as_it_is = (place(ir.IntType(8), ir.IntType(8)(ord(letter))) for letter in "UN")
        one = place(_DOUBLE, _DOUBLE(1.0))
        arguments = [upper, as_it_is, whole(d), whole(n), one, x_.data, whole(d), one, gram_.data, whole(d)]
        routine = builder.inttoptr(
            values[0], ir.FunctionType(ir.VoidType(), [_BYTE_POINTER] * len(arguments)).as_pointer()
        )
        builder.call(routine, [builder.bitcast(each, _BYTE_POINTER) for each in arguments])
        return context.get_dummy_value()

    return types.void(types.intp, x, gram), code


@_for_compiled_code
def fetch_ahead(typing_context: Any, x: Any, row: Any, column: Any) -> Any:
    """``fetch_ahead(x, row, column)``: bring the cache line of an entry near; a hint that changes no result."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = signature.args[0]
        array = make_array(kind)(context, builder, values[0])
        where = builder.bitcast(cgutils.get_item_pointer(context, builder, kind, array, values[1:]), _BYTE_POINTER)
        hint = ir.FunctionType(ir.VoidType(), [_BYTE_POINTER, _INT, _INT, _INT])
        read, keep, data = _INT(0), _INT(3), _INT(1)
        builder.call(
            builder.module.declare_intrinsic("llvm.prefetch", [_BYTE_POINTER], hint), [where, read, keep, data]
        )
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp), code
