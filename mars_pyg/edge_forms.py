"""The forms in which PyG users give edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.typing import Adj
from torch_geometric.utils import is_sparse, is_torch_sparse_tensor
from torch_geometric.utils import to_edge_index as sparse_to_edge_index


def to_edge_index(edge_index: Adj) -> Tensor:
    """Edges as ``[2, E]``, source and target, from any form that PyG takes.

    Args:
        edge_index: ``[2, E]``, or a ``torch_sparse.SparseTensor`` or sparse tensor of
            torch, which PyG keeps transposed: targets by sources. Values are ignored.
    """
    if not is_sparse(edge_index):
        if isinstance(edge_index, EdgeIndex):
            return edge_index.as_tensor()
        return edge_index
    if is_torch_sparse_tensor(edge_index):
        (target, source), _ = sparse_to_edge_index(edge_index)
    else:
        target, source, _ = edge_index.coo()
    return torch.stack([source, target])
