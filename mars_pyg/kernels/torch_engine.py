"""The torch engine: the metapath item–value–item as two sparse products."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from mars_pyg.kernels.factor_graph import FactorGraph
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.kernels.sparse import SparseMatrix


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


def torch_gradients(
    gradient: Tensor,
    gate: Tensor,
    structure: Tensor | None,
    mean: Tensor,
    matrix: SparseMatrix,
    factor: Tensor,
    inverse_count: Tensor,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of the gated propagation, which can be differentiated again.

    Args:
        gradient: The gradient of the output ``[N, d]``.
        gate: Weights of the factors ``[N, K]``, or with ``structure`` ``[N, K + 1]``.
        structure: The structure term ``[N, d]``, or :obj:`None`.
        mean: The values' means ``[V, d]``.
        matrix: The incidence.
        factor: Factor of each value ``[V]``.
        inverse_count: One over the number of items of each value ``[V]``.

    Returns:
        The gradients of the items, the gate and the structure term.
    """
    own = gradient.to(mean.dtype)
    has_structure = structure is not None
    place = matrix.rows() * gate.size(1) + factor[matrix.col] + has_structure
    entry_gate = gate.reshape(-1).index_select(0, place)
    product = matrix.inner_products(own, mean)
    if matrix.weight is not None:
        weight = matrix.weight.to(mean.dtype)
        entry_gate, product = entry_gate * weight, product * weight
    of_gate = product.new_zeros(gate.numel()).index_add(0, place, product)
    of_gate = of_gate.view_as(gate)
    total = matrix.t().matmul(own, entry_gate.index_select(0, matrix.perm))
    of_x = matrix.matmul(total * inverse_count.to(total.dtype)[:, None])
    of_structure = None
    if structure is not None:
        products = (own * structure).sum(dim=1, keepdim=True)
        of_gate = of_gate + pad(products, (0, gate.size(1) - 1))
        of_structure = (gate[:, :1] * own).to(structure.dtype)
    return of_x.to(gradient.dtype), of_gate, of_structure
