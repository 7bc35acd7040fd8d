"""The torch engine: the metapath item–value–item as two sparse products."""

from __future__ import annotations

from torch import Tensor

from mars_pyg.kernels.factor_graph import FactorGraph
from mars_pyg.kernels.precision import sum_dtype


def value_mean(x: Tensor, graph: FactorGraph) -> Tensor:
    r"""Average the items into the values, :math:`\mathbf{D}_v^{-1} \mathbf{B}^\top
    \mathbf{D}_i^{-1/2} \mathbf{X}`.

    Returns:
        One row a value ``[V, d]``; zeros for a value without items.
    """
    total = graph.incidence.t().matmul(x)
    return total * graph.inverse_count.to(x.dtype)[:, None]


def torch_propagate(x: Tensor, graph: FactorGraph, gate: Tensor | None) -> Tensor:
    """Average into the values and read back; see :func:`factor_propagate`.

    With a gate, the read-back adds up the factors: the largest intermediate tensors are
    ``[V, d]`` and ``[E]``.
    """
    # Half precision would round every value's mean; it is rounded once, at the end.
    mean = value_mean(x.to(sum_dtype(x.dtype)), graph)
    weight = graph.incidence.weight
    if gate is not None:
        entry_gate = gate.to(mean.dtype).reshape(-1).index_select(0, graph.gate_index)
        if weight is not None:
            entry_gate = entry_gate * weight.to(mean.dtype)
        return graph.incidence.matmul(mean, entry_gate).to(x.dtype)
    message = mean.index_select(0, graph.incidence.col)
    if weight is not None:
        message = message * weight.to(mean.dtype)[:, None]
    size = graph.num_items * graph.num_factors
    out = message.new_zeros(size, x.size(1)).index_add(0, graph.gate_index, message)
    return out.view(graph.num_items, graph.num_factors, x.size(1)).to(x.dtype)
