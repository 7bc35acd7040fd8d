"""The loops of the numba engine: over items, with a row in the registers.

LLVM does not keep a row in registers across a loop over an item's values, as it can't
know that no two arrays overlap. So rows are loaded, combined and stored as vectors of a
fixed ``width``, a power of two. Each kernel handles the items, or rows, from ``low`` to
``high`` and the columns from ``column`` on, and is compiled once for each width and
dtype.

bfloat16 is read as ``uint16``, the upper half of a float32, and summed in float32.

The intrinsics stay in the file of the loops: whether a loop that it has kept is up to
date, numba tells by this file alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from mars_pyg.kernels.numba_loops import compiled_loop

#: Bytes.
CACHE_LINE = 64
#: Rows in no order are fetched so many entries before they are read, and rows in order
#: so many rows: where a page of memory ends, the processor does not look ahead itself.
AHEAD, ROWS_AHEAD = 32, 16


class Vector(types.Type):
    """A vector of floating point numbers, as one value of LLVM."""

    def __init__(self, width: int, dtype: types.Type) -> None:
        self.width, self.dtype = width, dtype
        super().__init__(name=f"Vector({width}, {dtype})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """How a :class:`Vector` is kept: in as many registers as it fills."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        number = ir.DoubleType() if kind.dtype == types.float64 else ir.FloatType()
        super().__init__(manager, kind, ir.VectorType(number, kind.width))


def _vector(width: types.Type, array: types.Array) -> Vector:
    dtype = types.float64 if array.dtype == types.float64 else types.float32
    return Vector(width.literal_value, dtype)  # type: ignore[attr-defined]


def _pointer(
    context: Any, builder: Any, signature: Any, args: Any, first: int = 0
) -> Any:
    """The address of an entry of a C-contiguous matrix.

    Matrix, row and column are arguments in this order, from the ``first`` on.
    """
    matrix, *places = range(first, first + 3)
    struct = context.make_array(signature.args[matrix])(context, builder, args[matrix])
    num_columns = cgutils.unpack_tuple(builder, struct.shape, 2)[1]
    row, column = (
        context.cast(builder, args[i], signature.args[i], types.intp) for i in places
    )
    offset = builder.add(builder.mul(row, num_columns), column)
    return builder.gep(struct.data, [offset])


def _constant(number: ir.Type, value: float, width: int) -> Any:
    return ir.Constant(ir.VectorType(number, width), [value] * width)


@intrinsic
def _at(typing: Any, array: Any, index: Any) -> tuple[Any, Callable]:
    """An entry of a vector, whose index is known not to be negative.

    numba asks of each signed index whether it counts from the end, which takes as long
    as a part of a row.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        struct = context.make_array(array)(context, builder, args[0])
        place = context.cast(builder, args[1], index, types.intp)
        return builder.load(builder.gep(struct.data, [place]))

    return array.dtype(array, index), generate


@intrinsic
def _matrix_at(typing: Any, array: Any, row: Any, column: Any) -> tuple[Any, Callable]:
    """An entry of a C-contiguous matrix, whose indices are not negative either."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, args))

    return array.dtype(array, row, column), generate


@intrinsic
def _add_at(
    typing: Any, array: Any, row: Any, column: Any, number: Any
) -> tuple[Any, Callable]:
    """Add a number to such an entry."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        value = context.cast(builder, args[3], number, array.dtype)
        builder.store(builder.fadd(builder.load(pointer), value), pointer)
        return context.get_dummy_value()

    return types.void(array, row, column, number), generate


@intrinsic(prefer_literal=True)
def _load(
    typing: Any, width: Any, array: Any, row: Any, column: Any
) -> tuple[Any, Callable]:
    """A part of a row of a matrix."""
    result = _vector(width, array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args, 1)
        vector = context.get_value_type(result)
        if array.dtype != types.uint16:
            pointer = builder.bitcast(pointer, vector.as_pointer())
            return builder.load(pointer, align=array.dtype.bitwidth // 8)
        half = ir.VectorType(ir.IntType(16), result.width)
        word = ir.VectorType(ir.IntType(32), result.width)
        bits = builder.load(builder.bitcast(pointer, half.as_pointer()), align=2)
        bits = builder.shl(
            builder.zext(bits, word), _constant(ir.IntType(32), 16, result.width)
        )
        return builder.bitcast(bits, vector)

    return result(width, array, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def _store(
    typing: Any, stream: Any, array: Any, row: Any, column: Any, vector: Any
) -> tuple[Any, Callable]:
    """Write a part of a row of a matrix; bfloat16 is rounded to nearest even.

    A ``stream`` passes the caches by, and needs addresses that are multiples of 64.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args, 1)
        value = args[4]
        if array.dtype == types.uint16:
            word = ir.IntType(32)

            def constant(number: int) -> Any:
                return _constant(word, number, vector.width)

            bits = builder.bitcast(value, constant(0).type)
            odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
            rounded = builder.add(bits, builder.add(odd, constant(0x7FFF)))
            # Rounding could carry a NaN over into infinity.
            quiet = builder.or_(bits, constant(0x400000))
            is_nan = builder.fcmp_unordered("uno", value, value)
            bits = builder.lshr(builder.select(is_nan, quiet, rounded), constant(16))
            value = builder.trunc(bits, ir.VectorType(ir.IntType(16), vector.width))
        pointer = builder.bitcast(pointer, value.type.as_pointer())
        if stream.literal_value:
            written = builder.store(value, pointer, align=CACHE_LINE)
            one = builder.module.add_metadata([ir.IntType(32)(1)])
            written.set_metadata("nontemporal", one)
        else:
            builder.store(value, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(stream, array, types.intp, types.intp, vector), generate


@intrinsic(prefer_literal=True)
def _fetch(
    typing: Any, width: Any, array: Any, row: Any, column: Any
) -> tuple[Any, Callable]:
    """Ask for a part of a row of a matrix, which is read later.

    It is asked for in the second-level cache: the first one waits for too few lines at
    once to keep the memory busy. Processors without such an instruction do nothing.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8), ir.IntType(32)
        address = byte.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [address, word, word, word])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [address], kind)
        pointer = _pointer(context, builder, signature, args, 1)
        pointer = builder.bitcast(pointer, address)
        # To be read, in the second level, as data.
        options = [word(0), word(2), word(1)]
        size = width.literal_value * array.dtype.bitwidth // 8
        for start in range(0, size, CACHE_LINE):
            line = builder.gep(pointer, [word(start)])
            builder.call(fetch, [line, *options])
        return context.get_dummy_value()

    return types.void(width, array, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def _zeros(typing: Any, width: Any, array: Any) -> tuple[Any, Callable]:
    """Zeros, of the dtype in which an array is summed."""
    result = _vector(width, array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(result)
        return _constant(vector.element, 0.0, result.width)

    return result(width, array), generate


@intrinsic
def _add(typing: Any, left: Any, right: Any) -> tuple[Any, Callable]:
    """The sum of two vectors."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args)

    return left(left, right), generate


@intrinsic
def _add_scaled(
    typing: Any, total: Any, scale: Any, vector: Any
) -> tuple[Any, Callable]:
    """``total + scale * vector``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, number, value = args
        undefined = ir.Constant(value.type, ir.Undefined)
        word = ir.IntType(32)
        first = builder.insert_element(undefined, number, word(0))
        scales = builder.shuffle_vector(
            first, undefined, _constant(word, 0, value.type.count)
        )
        product = builder.fmul(scales, value, flags=("contract",))
        return builder.fadd(start, product, flags=("contract",))

    return total(total, total.dtype, vector), generate


@intrinsic
def _dot(typing: Any, left: Any, right: Any) -> tuple[Any, Callable]:
    """The inner product of two vectors, halved until one number is left."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.fmul(*args)
        word, width = ir.IntType(32), left.width
        while width > 1:
            width //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            mask = ir.VectorType(word, width)
            halves = (
                builder.shuffle_vector(
                    value,
                    undefined,
                    ir.Constant(mask, list(range(start, start + width))),
                )
                for start in (0, width)
            )
            value = builder.fadd(*halves)
        return builder.extract_element(value, word(0))

    return left.dtype(left, right), generate


# In the kernels below, numba compiles a branch on an argument that is None away.


@cache
def add_items(width: int) -> Callable:
    """Add each item's row to the rows of those of its values that have a slot."""

    @compiled_loop()
    def kernel(low, high, column, x, ptr, col, weight, slot, total):  # type: ignore[no-untyped-def]
        last = len(x) - 1
        for item in range(low, high):
            _fetch(width, x, min(item + ROWS_AHEAD, last), column)
            row = _load(width, x, item, column)
            for entry in range(_at(ptr, item), _at(ptr, item + 1)):
                value = _at(col, entry)
                place = value if slot is None else _at(slot, value)
                if place >= 0:
                    old = _load(width, total, place, column)
                    if weight is None:
                        new = _add(old, row)
                    else:
                        new = _add_scaled(old, _at(weight, entry), row)
                    _store(False, total, place, column, new)

    return kernel


@cache
def gather_items(width: int, stream: bool = False) -> Callable:
    """Add up the items of each value without a slot, and scale the sum."""

    @compiled_loop()
    def kernel(low, high, column, x, ptr, row, weight, slot, scale, out):  # type: ignore[no-untyped-def]
        last = len(row) - 1
        for value in range(low, high):
            if _at(slot, value) < 0:
                total = _zeros(width, out)
                for entry in range(_at(ptr, value), _at(ptr, value + 1)):
                    _fetch(width, x, _at(row, min(entry + AHEAD, last)), column)
                    factor = _at(scale, value)
                    if weight is not None:
                        factor *= _at(weight, entry)
                    part = _load(width, x, _at(row, entry), column)
                    total = _add_scaled(total, factor, part)
                _store(stream, out, value, column, total)

    return kernel


@cache
def gather_gradients(width: int, stream: bool = False) -> Callable:
    """The gradient of the mean of each value without a slot, and of its entries' gates.

    Each entry has a place of its own for the latter, so that threads don't meet where
    an item has several values.
    """

    @compiled_loop()
    def kernel(  # type: ignore[no-untyped-def]
        low,
        high,
        column,
        gradient,
        mean,
        ptr,
        row,
        weight,
        perm,
        slot,
        gate,
        position,
        scale,
        entry_gradient,
        out,
    ):
        last = len(row) - 1
        for value in range(low, high):
            if _at(slot, value) < 0:
                total = _zeros(width, mean)
                own = _load(width, mean, value, column)
                factor = _at(position, value)
                for entry in range(_at(ptr, value), _at(ptr, value + 1)):
                    ahead = _at(row, min(entry + AHEAD, last))
                    _fetch(width, gradient, ahead, column)
                    _fetch(1, gate, ahead, factor)
                    item, place = _at(row, entry), _at(perm, entry)
                    part = _load(width, gradient, item, column)
                    product = _dot(part, own)
                    gated = _at(scale, value) * _matrix_at(gate, item, factor)
                    if weight is not None:
                        product *= _at(weight, entry)
                        gated *= _at(weight, entry)
                    entry_gradient[place] += product
                    total = _add_scaled(total, gated, part)
                if out is not None:
                    _store(stream, out, value, column, total)

    return kernel


@compiled_loop()
def add_entries(low, high, ptr, col, position, entry_gradient, gate_gradient):  # type: ignore[no-untyped-def]
    """Add the gradients of each item's entries to those of its gate."""
    for item in range(low, high):
        for entry in range(_at(ptr, item), _at(ptr, item + 1)):
            factor = _at(position, _at(col, entry))
            _add_at(gate_gradient, item, factor, _at(entry_gradient, entry))


@cache
def read_values(width: int, stream: bool = False, fetch: bool = False) -> Callable:
    """Add up the rows of each item's values, weighted by its gate.

    Rows of values that are too many for the caches are fetched before they are read.
    """

    @compiled_loop()
    def kernel(  # type: ignore[no-untyped-def]
        low, high, column, mean, ptr, col, weight, gate, position, structure, out
    ):
        last = len(col) - 1
        for item in range(low, high):
            total = _zeros(width, mean)
            if structure is not None:
                part = _load(width, structure, item, column)
                total = _add_scaled(total, _matrix_at(gate, item, 0), part)
            for entry in range(_at(ptr, item), _at(ptr, item + 1)):
                if fetch:
                    _fetch(width, mean, _at(col, min(entry + AHEAD, last)), column)
                value = _at(col, entry)
                part = _load(width, mean, value, column)
                if gate is None:
                    if weight is None:
                        total = _add(total, part)
                    else:
                        total = _add_scaled(total, _at(weight, entry), part)
                else:
                    scale = _matrix_at(gate, item, _at(position, value))
                    if weight is not None:
                        scale *= _at(weight, entry)
                    total = _add_scaled(total, scale, part)
            _store(stream, out, item, column, total)

    return kernel


@cache
def add_gradients(width: int, stream: bool = False) -> Callable:
    """The gradients of the means of values with a slot, and of their items' gates."""

    @compiled_loop()
    def kernel(  # type: ignore[no-untyped-def]
        low,
        high,
        column,
        gradient,
        mean,
        ptr,
        col,
        weight,
        slot,
        gate,
        position,
        structure,
        gate_gradient,
        structure_gradient,
        total,
    ):
        last = len(gradient) - 1
        for item in range(low, high):
            ahead = min(item + ROWS_AHEAD, last)
            _fetch(width, gradient, ahead, column)
            # A line of the cache holds 16 numbers.
            for factor in range(0, gate.shape[1], 16):
                _fetch(1, gate, ahead, factor)
                _fetch(1, gate_gradient, ahead, factor)
            row = _load(width, gradient, item, column)
            if structure is not None:
                part = _load(width, structure, item, column)
                _add_at(gate_gradient, item, 0, _dot(row, part))
                scaled = _add_scaled(
                    _zeros(width, total), _matrix_at(gate, item, 0), row
                )
                _store(stream, structure_gradient, item, column, scaled)
            for entry in range(_at(ptr, item), _at(ptr, item + 1)):
                value = _at(col, entry)
                place = value if slot is None else _at(slot, value)
                if place >= 0:
                    factor = _at(position, value)
                    product = _dot(row, _load(width, mean, value, column))
                    scale = _matrix_at(gate, item, factor)
                    if weight is not None:
                        product *= _at(weight, entry)
                        scale *= _at(weight, entry)
                    _add_at(gate_gradient, item, factor, product)
                    old = _load(width, total, place, column)
                    _store(False, total, place, column, _add_scaled(old, scale, row))

    return kernel
