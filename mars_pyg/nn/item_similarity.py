"""Which items are most like new ones, by their features and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.item_values import item_value_edges
from mars_pyg.modalities import feature_modalities, unit_features

#: Similarities that are held at once, 128 MiB of them.
MAX_SCORES = 2**25


def similar_items(data: HeteroData, num_items: int, k: int) -> tuple[Tensor, Tensor]:
    r"""Find the items before that are most like the new ones.

    .. math::
        s_{ij} = \sum_m \cos (\mathbf{x}^m_i, \mathbf{x}^m_j) +
        \cos (\mathbf{y}_i, \mathbf{y}_j), \qquad
        y_{iv} = \log \frac{N}{n_v} \textrm{ where } i \textrm{ has the value } v

    for the features :math:`\mathbf{x}^m` of each modality, centred, and the number
    :math:`n_v` of the items before that have the value: a value that few have says
    more. What an item lacks is like nothing.

    Args:
        data: The graph.
        num_items: Number :math:`N` of the items before; those after them are new.
        k: Number of items to find for each.

    Returns:
        The items ``[M, k]``, int64, and whether the new item is like them at all, of
        a positive similarity, ``[M, k]``.
    """
    store = data["item"]
    num_new = store.num_nodes - num_items
    k = min(k, num_items)
    features = [
        unit_features(store[f"x_{modality}"].float().cpu(), num_items)
        for modality in feature_modalities(data)
    ]
    values = _rare_values(data, num_items)
    neighbors = [torch.empty(0, k, dtype=torch.int64)]
    near = [torch.empty(0, k)]
    size = max(1, MAX_SCORES // max(num_items, 1))
    for start in range(num_items, num_items + num_new, size):
        rows = slice(start, min(start + size, num_items + num_new))
        # As the features are, whatever the default is.
        score = torch.zeros(rows.stop - rows.start, num_items, dtype=torch.float32)
        for x in features:
            score.addmm_(x[rows], x[:num_items].t())
        if values is not None:
            shared = (values[rows] @ values[:num_items].T).toarray()
            score += torch.from_numpy(shared)
        value, item = score.topk(k, dim=1)
        near.append(value)
        neighbors.append(item)
    return torch.cat(neighbors), torch.cat(near) > 0


def _rare_values(data: HeteroData, num_items: int) -> Any:
    """The values of all items as unit rows of a scipy array, rare ones larger."""
    from scipy.sparse import csr_array, diags_array

    if not any((kind[0], kind[2]) == ("item", "value") for kind in data.edge_types):
        return None
    item, value = item_value_edges(data).cpu().numpy()
    num_values = data["value"].num_nodes
    count = np.bincount(value[item < num_items], minlength=num_values)
    weight = np.log(max(num_items, 1) / np.maximum(count, 1))[value]
    rows = csr_array(
        (weight.astype(np.float32), (item, value)),
        shape=(data["item"].num_nodes, num_values),
    )
    norm = np.sqrt(rows.multiply(rows).sum(axis=1))
    scale = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
    return (diags_array(scale) @ rows).tocsr()
