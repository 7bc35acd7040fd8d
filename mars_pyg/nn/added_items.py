"""Items that a recommender was not trained on, represented by those like them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.nn.item_similarity import similar_items
from mars_pyg.nn.recommender import Recommender
from mars_pyg.user_items import split_edges


class AddedItems(Recommender):
    r"""A recommender whose items are followed by new ones.

    .. math::
        \mathbf{g}_i = \sum_{j \in \mathcal{N}_i} w_{ij} \mathbf{g}_j

    for the items :math:`\mathcal{N}_i` among those of the recommender that are most
    like the new item :math:`i`. All else is the recommender's own.

    Args:
        base (Recommender): The recommender of the items before.
        neighbor (torch.Tensor): Items of the recommender ``[M, k]``, int64.
        weight (torch.Tensor): :math:`w_{ij}` ``[M, k]``; zero for none.
    """

    neighbor: Tensor
    weight: Tensor

    def __init__(self, base: Recommender, neighbor: Tensor, weight: Tensor) -> None:
        super().__init__(base.num_users, base.num_items + neighbor.size(0))
        self.base = base
        self.register_buffer("neighbor", neighbor)
        self.register_buffer("weight", weight)

    @classmethod
    def from_data(cls, base: Recommender, data: HeteroData, k: int = 20) -> AddedItems:
        """Find the items that are most like the new ones.

        Args:
            base: The recommender of the items before.
            data: The graph with the new items after them.
            k: Number of items that represent a new one. (default: :obj:`20`)

        Raises:
            DataError: If the graph is not that of the recommender with new items.
        """
        check_added_items(base, data)
        neighbor, weight = similar_items(data, base.num_items, k)
        device = next(base.parameters()).device
        return cls(base, neighbor.to(device), weight.to(device)).train(base.training)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The users ``[U, d]``, and the items ``[N + M, d]``, new ones last."""
        users, items = self.base()
        weight = self.weight.to(items.dtype)[:, None]
        new = (weight @ items[self.neighbor]).squeeze(1)
        return users, torch.cat([items, new])

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """Nothing: new items have no parameters.

        Raises:
            ValueError: Always.
        """
        raise ValueError("items were added after the training; train anew with them")


def check_added_items(recommender: Recommender, data: HeteroData) -> None:
    """Refuse a graph that is not that of a recommender with new items.

    Args:
        recommender: The recommender of the items before.
        data: The graph with the new items after them.

    Raises:
        DataError: If users differ, items are missing, or new ones have interactions.
    """
    num_users, num_items = recommender.num_users, recommender.num_items
    mend = "give the graph of the training, with new items by the transform AddItems"
    if data["user"].num_nodes != num_users:
        raise DataError(
            f"there are {data['user'].num_nodes} users, the recommender has "
            f"{num_users}",
            mend=mend,
            field="user",
        )
    if data["item"].num_nodes < num_items:
        raise DataError(
            f"there are {data['item'].num_nodes} items, the recommender has "
            f"{num_items}",
            mend=mend,
            field="item",
        )
    if (split_edges(data, "train")[1] >= num_items).any():
        raise DataError(
            "new items have train interactions",
            mend="train anew with them",
            field="item",
        )
