"""The matrix that EASE inverts, as sparse parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from mars_pyg.item_values import item_value_edges
from mars_pyg.user_items import UserItems


@dataclass(frozen=True)
class ItemKernel:
    r"""The regularised Gram matrix of the items, never built but in blocks of rows.

    .. math::
        \mathbf{A} = \mathbf{R}^\top \mathbf{R} + \omega \mathbf{Y} \mathbf{Y}^\top +
        \lambda \mathbf{I}, \qquad
        Y_{iv} = \frac{1}{\sqrt{m_{ik} \, n_v}}

    with the number :math:`m_{ik}` of an item's values under the factor :math:`k` of
    :math:`v`, and the number :math:`n_v` of items with the value, so that
    :math:`\mathbf{Y} \mathbf{Y}^\top = \sum_k \hat{\mathbf{A}}_{f_k}`.

    Args:
        interactions: :math:`\mathbf{R}` ``[U, N]``, a scipy csr array of ones.
        values: :math:`\mathbf{Y}` ``[N, V]``, a scipy csr array.
        factor: The factor of each value ``[V]``.
        l2: :math:`\lambda`.
        clique_weight: :math:`\omega`.
    """

    interactions: Any
    values: Any
    factor: np.ndarray
    l2: float
    clique_weight: float

    @classmethod
    def from_data(cls, data: HeteroData, l2: float, clique_weight: float) -> ItemKernel:
        """Read the train interactions and, where there are any, the values.

        Args:
            data: The graph; without values there are no cliques.
            l2: The weight of the identity.
            clique_weight: The weight of the factor graphs.
        """
        from scipy.sparse import csr_array

        train = UserItems.from_data(data, "train")
        num_items = train.num_items
        interactions = csr_array(
            (
                np.ones(train.item.numel()),
                train.item.cpu().numpy(),
                train.ptr.cpu().numpy(),
            ),
            shape=(train.num_users, num_items),
        )
        if clique_weight == 0 or not has_values(data):
            values, factor = csr_array((num_items, 0)), np.empty(0, dtype=np.int64)
            return cls(interactions, values, factor, l2, 0.0)
        item, value = item_value_edges(data).cpu().numpy()
        factor = data["value"].factor.cpu().numpy()
        num_factors = int(factor.max()) + 1
        key = item * num_factors + factor[value]
        per_item = np.bincount(key, minlength=num_items * num_factors)
        per_value = np.bincount(value, minlength=factor.size)
        weight = 1 / np.sqrt(per_item[key] * per_value[value])
        values = csr_array((weight, (item, value)), shape=(num_items, factor.size))
        return cls(interactions, values, factor, l2, clique_weight)

    @property
    def num_items(self) -> int:
        """The number of items."""
        return self.interactions.shape[1]


def singular(kernel: ItemKernel) -> ValueError:
    """What to say of a kernel whose regularisation is too weak to solve with."""
    return ValueError(
        f"EASE cannot be solved with an L2 weight of {kernel.l2}, whose matrix is "
        "singular; raise it"
    )


def has_values(data: HeteroData) -> bool:
    """Whether any item has a factor value.

    Args:
        data: The graph; a factor can be there without a value of any item.
    """
    relations = [
        kind for kind in data.edge_types if (kind[0], kind[2]) == ("item", "value")
    ]
    return bool(relations) and item_value_edges(data).size(1) > 0
