"""The kernels of the triton engine; see :mod:`mars_pyg.kernels.triton_engine`.

Offsets into ``[N, d]`` are taken in 64 bits, as :math:`N d` may pass :math:`2^{31}`.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

# Triton reads 'x is None' when it compiles, and drops the branch.


@triton.jit
def sum_chunks(  # type: ignore[no-untyped-def]
    x,
    item,
    weight,
    gate,
    factor,
    chunk_ptr,
    chunk_value,
    order,
    group_ptr,
    partial,
    num_columns,
    num_terms,
    first_term,
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    UNROLL: tl.constexpr,  # noqa: N803
):
    """Sum up the items of each chunk of a group, weighted by the gate if there is one.

    A row of the block is a chunk. The next chunks of a tile find its items in L1.
    """
    low = tl.load(group_ptr + tl.program_id(0))
    high = tl.load(group_ptr + tl.program_id(0) + 1)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_row = column < num_columns
    for first in range(low, high, ROWS):
        place = first + tl.arange(0, ROWS)
        active = place < high
        chunk = tl.load(order + place, mask=active, other=0)
        start = tl.load(chunk_ptr + chunk, mask=active, other=0)
        end = tl.load(chunk_ptr + chunk + 1, mask=active, other=0)
        longest = tl.max(end - start, axis=0)
        if gate is not None:
            value = tl.load(chunk_value + chunk, mask=active, other=0)
            term = tl.load(factor + value, mask=active, other=0) + first_term
        total = tl.zeros([ROWS, COLUMNS], dtype=partial.dtype.element_ty)
        for step in range(0, longest, UNROLL):
            for ahead in tl.static_range(UNROLL):
                entry = start + step + ahead
                known = entry < end
                row = tl.load(item + entry, mask=known, other=0).to(tl.int64)
                part = tl.load(
                    x + row[:, None] * num_columns + column[None, :],
                    mask=known[:, None] & in_row[None, :],
                    other=0.0,
                ).to(total.dtype)
                if gate is not None:
                    scale = tl.load(
                        gate + row * num_terms + term, mask=known, other=0.0
                    ).to(total.dtype)
                    if weight is not None:
                        scale *= tl.load(weight + entry, mask=known, other=0.0).to(
                            total.dtype
                        )
                    total += scale[:, None] * part
                elif weight is not None:
                    scale = tl.load(weight + entry, mask=known, other=0.0)
                    total += scale.to(total.dtype)[:, None] * part
                else:
                    total += part
        tl.store(
            partial + chunk.to(tl.int64)[:, None] * num_columns + column[None, :],
            total,
            mask=active[:, None] & in_row[None, :],
        )


@triton.jit
def sum_values(  # type: ignore[no-untyped-def]
    partial,
    value_ptr,
    inverse_count,
    mean,
    num_columns,
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """Sum up the chunks of a value, in their order, and scale the sum."""
    value = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_row = column < num_columns
    low = tl.load(value_ptr + value)
    high = tl.load(value_ptr + value + 1)
    total = tl.zeros([ROWS, COLUMNS], dtype=mean.dtype.element_ty)
    for first in range(low, high, ROWS):
        chunk = first + tl.arange(0, ROWS)
        total += tl.load(
            partial + chunk.to(tl.int64)[:, None] * num_columns + column[None, :],
            mask=(chunk < high)[:, None] & in_row[None, :],
            other=0.0,
        )
    scale = tl.load(inverse_count + value).to(total.dtype)
    tl.store(
        mean + value.to(tl.int64) * num_columns + column,
        tl.sum(total, axis=0) * scale,
        mask=in_row,
    )


@triton.jit
def read_values(  # type: ignore[no-untyped-def]
    mean,
    ptr,
    col,
    weight,
    gate,
    factor,
    structure,
    out,
    num_items,
    num_columns,
    num_terms,
    first_term,
    ITEMS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """Add up the rows of each item's values, weighted by its gate if there is one."""
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    active = item < num_items
    in_row = column < num_columns
    place = item[:, None] * num_columns + column[None, :]
    inside = active[:, None] & in_row[None, :]
    start = tl.load(ptr + item, mask=active, other=0)
    end = tl.load(ptr + item + 1, mask=active, other=0)
    total = tl.zeros([ITEMS, COLUMNS], dtype=mean.dtype.element_ty)
    if structure is not None:
        scale = tl.load(gate + item * num_terms, mask=active, other=0.0)
        dense = tl.load(structure + place, mask=inside, other=0.0)
        total += scale.to(total.dtype)[:, None] * dense.to(total.dtype)
    for step in range(0, tl.max(end - start, axis=0)):
        entry = start + step
        known = entry < end
        value = tl.load(col + entry, mask=known, other=0)
        part = tl.load(
            mean + value.to(tl.int64)[:, None] * num_columns + column[None, :],
            mask=known[:, None] & in_row[None, :],
            other=0.0,
        )
        if gate is not None:
            term = tl.load(factor + value, mask=known, other=0) + first_term
            scale = tl.load(gate + item * num_terms + term, mask=known, other=0.0)
            if weight is not None:
                scale *= tl.load(weight + entry, mask=known, other=0.0).to(scale.dtype)
            total += scale[:, None] * part
        elif weight is not None:
            scale = tl.load(weight + entry, mask=known, other=0.0)
            total += scale.to(total.dtype)[:, None] * part
        else:
            total += part
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gate_gradients(  # type: ignore[no-untyped-def]
    gradient,
    mean,
    ptr,
    col,
    factor,
    gate,
    structure,
    gate_gradient,
    structure_gradient,
    product,
    num_items,
    num_columns,
    num_terms,
    first_term,
    ITEMS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
):
    """The inner products of each item's gradient with the means of its values.

    They are the gradient of the gate, or, where an item may have several values in a
    factor, go to ``product``, one an entry, to be added up by :func:`sum_products`.
    """
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    active = item < num_items
    start = tl.load(ptr + item, mask=active, other=0)
    end = tl.load(ptr + item + 1, mask=active, other=0)
    if structure is not None:
        scale = tl.load(gate + item * num_terms, mask=active, other=0.0)
        dot = tl.zeros([ITEMS], dtype=mean.dtype.element_ty)
        for first in range(0, num_columns, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            place = item[:, None] * num_columns + column[None, :]
            inside = active[:, None] & (column < num_columns)[None, :]
            row = tl.load(gradient + place, mask=inside, other=0.0).to(dot.dtype)
            part = tl.load(structure + place, mask=inside, other=0.0).to(dot.dtype)
            dot += tl.sum(row * part, axis=1)
            scaled = (scale[:, None] * row).to(structure_gradient.dtype.element_ty)
            tl.store(structure_gradient + place, scaled, mask=inside)
        tl.store(gate_gradient + item * num_terms, dot, mask=active)
    column = tl.arange(0, COLUMNS)
    place = item[:, None] * num_columns + column[None, :]
    inside = active[:, None] & (column < num_columns)[None, :]
    row = tl.load(gradient + place, mask=inside, other=0.0).to(mean.dtype.element_ty)
    for step in range(0, tl.max(end - start, axis=0)):
        entry = start + step
        known = entry < end
        value = tl.load(col + entry, mask=known, other=0).to(tl.int64)
        column = tl.arange(0, COLUMNS)
        inside = known[:, None] & (column < num_columns)[None, :]
        own = value[:, None] * num_columns
        part = tl.load(mean + own + column[None, :], mask=inside, other=0.0)
        dot = tl.sum(row * part, axis=1)
        # The rest of rows of more than 'COLUMNS' is read anew.
        for first in range(COLUMNS, num_columns, COLUMNS):
            column = first + tl.arange(0, COLUMNS)
            inside = known[:, None] & (column < num_columns)[None, :]
            place = item[:, None] * num_columns + column[None, :]
            more = tl.load(gradient + place, mask=inside, other=0.0).to(dot.dtype)
            part = tl.load(mean + own + column[None, :], mask=inside, other=0.0)
            dot += tl.sum(more * part, axis=1)
        if product is not None:
            tl.store(product + entry, dot, mask=known)
        else:
            term = tl.load(factor + value, mask=known, other=0) + first_term
            tl.store(gate_gradient + item * num_terms + term, dot, mask=known)


@triton.jit
def sum_products(  # type: ignore[no-untyped-def]
    product,
    ptr,
    col,
    weight,
    factor,
    gate_gradient,
    num_items,
    num_terms,
    first_term,
    ITEMS: tl.constexpr,  # noqa: N803
    TERMS: tl.constexpr,  # noqa: N803
):
    """Add up the products of an item's values, weighted, for each term of the gate."""
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    term = first_term + tl.program_id(1) * TERMS + tl.arange(0, TERMS)
    active = item < num_items
    start = tl.load(ptr + item, mask=active, other=0)
    end = tl.load(ptr + item + 1, mask=active, other=0)
    total = tl.zeros([ITEMS, TERMS], dtype=product.dtype.element_ty)
    for step in range(0, tl.max(end - start, axis=0)):
        entry = start + step
        known = entry < end
        value = tl.load(col + entry, mask=known, other=0)
        own = tl.load(factor + value, mask=known, other=-1) + first_term
        part = tl.load(product + entry, mask=known, other=0.0)
        part *= tl.load(weight + entry, mask=known, other=0.0).to(part.dtype)
        total += tl.where(own[:, None] == term[None, :], part[:, None], 0.0)
    tl.store(
        gate_gradient + item[:, None] * num_terms + term[None, :],
        total,
        mask=active[:, None] & (term < num_terms)[None, :],
    )


def is_interpreted(kernel: Any) -> bool:
    """Whether ``TRITON_INTERPRET=1`` was set when the kernels were loaded."""
    return not isinstance(kernel, triton.runtime.JITFunction)
