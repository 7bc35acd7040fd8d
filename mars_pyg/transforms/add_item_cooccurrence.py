"""The item-item graph of joint interactions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mars_pyg.user_items import split_edges


@functional_transform("add_item_cooccurrence")
class AddItemCooccurrence(BaseTransform):
    r"""Links each item to the :math:`k` that the same users chose most often
    (functional name: :obj:`add_item_cooccurrence`).

    Near are items of a large cosine of their train users,

    .. math::
        s_{ij} = \frac{|\mathcal{U}_i \cap \mathcal{U}_j|}
        {\sqrt{|\mathcal{U}_i| |\mathcal{U}_j|}}.

    Writes ``('item', 'cooccurs', 'item').edge_index``, which runs from the neighbour
    (row 0) to the item (row 1), is sorted by item, and has no weights. Validation and
    test interactions are not read. An item shares no user with most others, and has
    fewer than :math:`k` neighbours where these are all. Among equal similarities the
    item with the lower index wins.

    The products are sparse; memory is in :math:`O(B \cdot N)` for ``block_size``
    :math:`B` at worst.

    Args:
        k: Number of neighbours, the item itself left out. (default: :obj:`10`)
        block_size: Number of items that are compared with all at once.
            (default: :obj:`1024`)
    """

    def __init__(self, k: int = 10, block_size: int = 1024) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.k = k
        self.block_size = block_size

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the edges to a graph."""
        edge_index = split_edges(data, "train")
        num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
        data["item", "cooccurs", "item"].edge_index = self._neighbors(
            edge_index, num_users, num_items
        )
        return data

    def _neighbors(self, edge_index: Tensor, num_users: int, num_items: int) -> Tensor:
        from scipy.sparse import csr_array, diags_array

        user, item = edge_index.cpu().numpy()
        ones = np.ones(user.size, dtype=np.float64)
        users = csr_array((ones, (item, user)), shape=(num_items, num_users))
        users.data[:] = 1  # A repeated interaction counts once.
        degree = users.sum(axis=1)
        scaled = diags_array(1 / np.sqrt(np.maximum(degree, 1))) @ users
        transposed = scaled.T.tocsr()
        edges = [np.empty((2, 0), dtype=np.int64)]
        for start in range(0, num_items, self.block_size):
            block = (scaled[start : start + self.block_size] @ transposed).tocoo()
            target, neighbor = block.row.astype(np.int64) + start, block.col
            other = target != neighbor
            target, neighbor, near = target[other], neighbor[other], block.data[other]
            # Equal cosines may differ in their last digits.
            order = np.lexsort((neighbor, -near.round(12), target))
            target, neighbor = target[order], neighbor[order]
            first = np.searchsorted(target, target)
            kept = np.arange(target.size) - first < self.k
            edges.append(np.stack([neighbor[kept], target[kept]]).astype(np.int64))
        return torch.from_numpy(np.concatenate(edges, axis=1)).to(edge_index.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={self.k})"
