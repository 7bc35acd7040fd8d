"""The reference engine: the dense graphs of Eq. 3 and 4, for tests and small data."""

from __future__ import annotations

import torch
from torch import Tensor

from mars_pyg.kernels.factor_graph import FactorGraph


def reference_adjacency(
    graph: FactorGraph, mode: str = "hypergraph", dtype: torch.dtype = torch.float64
) -> Tensor:
    r"""The normalised adjacency of every factor graph, dense.

    In mode ``"clique"`` this is Eq. 3 and 4 of the MARS paper to the letter:
    :math:`\mathbf{A}(i, j) = 1` iff :math:`i` and :math:`j` share a value,
    :math:`\hat{\mathbf{A}} = \mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}`. In mode
    ``"hypergraph"`` it is :math:`\mathbf{D}_i^{-1/2} \mathbf{B} \mathbf{D}_v^{-1}
    \mathbf{B}^\top \mathbf{D}_i^{-1/2}`. With one value per item both are equal.

    Returns:
        The adjacencies ``[K, N, N]``: :math:`\mathcal{O}(K N^2)` memory.
    """
    device = graph.factor.device
    incidence = torch.zeros(
        graph.num_items, graph.num_values, dtype=dtype, device=device
    )
    item, value = graph.edge_index()
    incidence[item, value] = 1.0
    adjacencies = []
    for k in range(graph.num_factors):
        columns = incidence[:, graph.factor == k]
        if mode == "clique":
            adjacency = (columns @ columns.t() > 0).to(dtype)
            scale = _inverse_root(adjacency.sum(dim=1))
        else:
            value_degree = columns.sum(dim=0).clamp(min=1)
            adjacency = (columns / value_degree) @ columns.t()
            scale = _inverse_root(columns.sum(dim=1))
        adjacencies.append(scale[:, None] * adjacency * scale)
    if not adjacencies:
        return incidence.new_zeros(0, graph.num_items, graph.num_items)
    return torch.stack(adjacencies)


def reference_propagate(
    x: Tensor, graph: FactorGraph, gate: Tensor | None, mode: str = "hypergraph"
) -> Tensor:
    """Eq. 6, and the factors' part of Eq. 7 with a gate, by dense products in float64.

    See :func:`mars_pyg.kernels.factor_propagate`.
    """
    adjacency = reference_adjacency(graph, mode)
    out = torch.einsum("kij,jd->ikd", adjacency, x.double())
    if gate is not None:
        out = torch.einsum("ik,ikd->id", gate.double(), out)
    return out.to(x.dtype)


def _inverse_root(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)
