"""The forms in which PyG users give edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage
from torch_geometric.typing import Adj, EdgeType
from torch_geometric.utils import is_sparse, is_torch_sparse_tensor
from torch_geometric.utils import to_edge_index as sparse_to_edge_index

from mars_pyg.errors import DataError

#: Integers of less than 64 bits.
NARROW = (torch.int32, torch.int16, torch.int8, torch.uint8)


def to_edge_index(edge_index: Adj) -> Tensor:
    """Edges as ``[2, E]``, int64, source and target, from any form that PyG takes.

    Args:
        edge_index: ``[2, E]`` of any integers, or a ``torch_sparse.SparseTensor`` or
            sparse tensor of torch, which PyG keeps transposed: targets by sources.
            Values are ignored.
    """
    if not is_sparse(edge_index):
        if isinstance(edge_index, EdgeIndex):
            edge_index = edge_index.as_tensor()
        # Numbers of pairs do not fit into less; what is no number of a node is refused
        # by those who read it.
        return edge_index.long() if edge_index.dtype in NARROW else edge_index
    if is_torch_sparse_tensor(edge_index):
        if edge_index.layout == torch.sparse_coo:
            # PyG would mark the tensor itself as sorted and without repeated entries.
            edge_index = edge_index.coalesce()
        (target, source), _ = sparse_to_edge_index(edge_index)
    else:
        target, source, _ = edge_index.coo()
    return torch.stack([source, target]).long()


def edges_of(store: EdgeStorage) -> Tensor:
    """The edges of a type ``[2, E]``, int64, also after PyG's ``ToSparseTensor``.

    Raises:
        DataError: If it has none.
    """
    for name in ("edge_index", "adj_t"):
        if name in store:
            return to_edge_index(store[name])
    raise DataError(
        "there are no edges",
        mend="give them as 'edge_index' [2, E], or as 'adj_t'",
        field=str(store._key),
    )


def check_range(edges: Tensor, data: HeteroData, edge_type: EdgeType) -> Tensor:
    """Refuse edges of nodes that are not there, as PyG's subgraphs leave some behind.

    Args:
        edges: The edges ``[2, E]``.
        data: The graph.
        edge_type: Their type.

    Returns:
        The edges.

    Raises:
        DataError: If a number is none of a node.
    """
    for row, kind in zip(edges, (edge_type[0], edge_type[2]), strict=True):
        size = data[kind].num_nodes
        if size is None:  # PyG cannot tell it where no feature does.
            continue
        if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < size:
            raise DataError(
                f"the edges refer to {kind}s {int(row.min())} to {int(row.max())}, but "
                f"there are {size}, numbered from 0",
                mend="take out the edges of nodes that are not there, in all splits, "
                "and number the others anew",
                field=str(edge_type),
            )
    return edges
