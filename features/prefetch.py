"""Asking for memory before it is needed: a payment's keys lie anywhere in gigabytes, and the next ones are known."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

AHEAD = 8
"""Records between two steps of loading ahead: about as long as memory takes."""

_BYTE = ir.IntType(8).as_pointer()
_INT = ir.IntType(32)
_READ, _KEEP, _DATA = (ir.Constant(_INT, number) for number in (0, 3, 1))


@intrinsic
def prefetch(context: Any, array: Any, index: Any, byte: Any) -> Any:
    """Begin to load the cache line of an array's element `index`, `byte` bytes from its start; no result, no fault."""

    def generated(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        of = signature.args[0]
        data = target.make_array(of)(target, builder, arguments[0])
        size = ir.Constant(ir.IntType(64), target.get_abi_sizeof(target.get_data_type(of.dtype)))
        place = builder.add(builder.mul(arguments[1], size), arguments[2])
        address = builder.gep(builder.bitcast(data.data, _BYTE), [place])
        kind = ir.FunctionType(ir.VoidType(), [_BYTE, _INT, _INT, _INT])
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [_BYTE], kind), [address, _READ, _KEEP, _DATA])
        return target.get_dummy_value()

    return types.void(array, types.intp, types.intp), generated
