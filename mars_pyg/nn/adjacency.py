"""Adjacency matrices, prepared from edges in any form."""

from __future__ import annotations

import torch
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import Adj

from mars_pyg.edge_forms import to_edge_index
from mars_pyg.kernels import SparseMatrix
from mars_pyg.kernels.factor_graph import check_edges


# What is made in inference mode, as in a validation, cannot be trained with later.
@torch.inference_mode(False)
def normalized_adjacency(edge_index: Adj, num_nodes: int) -> SparseMatrix:
    r"""The prepared :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}`.

    Weights are those of PyG's ``gcn_norm`` without self loops, in float64.

    Args:
        edge_index: Edges from a neighbour to the node that it informs ``[2, E]``.
        num_nodes: Number of nodes.

    Raises:
        ValueError: If the edges are not ``[2, E]``, int64 and between these nodes.
    """
    edges = to_edge_index(edge_index)
    # Reading bounds would break the graph of torch.compile; eager runs check.
    if not torch.compiler.is_compiling():
        check_edges("struct_edge_index", edges, num_nodes, num_nodes)
    _, weight = gcn_norm(
        edges, None, num_nodes, add_self_loops=False, dtype=torch.float64
    )
    return SparseMatrix.from_edges(edges[1], edges[0], num_nodes, num_nodes, weight)
