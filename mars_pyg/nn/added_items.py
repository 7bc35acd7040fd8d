"""Items that a recommender was not trained on, represented by those like them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.nn.item_similarity import similar_items
from mars_pyg.nn.item_terms import ItemTerms, Term
from mars_pyg.nn.recommender import Recommender, check_inner_product, device_of
from mars_pyg.user_items import UserItems, split_edges

#: Number of items that represent a new one.
NUM_NEIGHBORS = 10


class AddedItems(Recommender):
    r"""A recommender whose items are followed by new ones.

    .. math::
        \mathbf{g}_i = \frac{\sum_{j \in \mathcal{N}_i} \| \mathbf{g}_j \|}
        {\big\| \sum_{j \in \mathcal{N}_i} \mathbf{g}_j \big\|} \cdot
        \frac{1}{| \mathcal{N}_i |} \sum_{j \in \mathcal{N}_i} \mathbf{g}_j

    for the items :math:`\mathcal{N}_i` among those of the recommender that are most
    like the new item :math:`i`. The mean says where the item belongs; it is shorter
    than what it is the mean of, and would put all new items behind the others, so it
    gets their mean length. All else is the recommender's own. An item that is like
    none has zeros.

    Args:
        base (Recommender): The recommender of the items before.
        neighbor (torch.Tensor): Items of the recommender ``[M, k]``, int64.
        like (torch.Tensor): Which of them the new items are like ``[M, k]``, bool.

    Raises:
        ValueError: If the recommender scores in a way of its own.
    """

    neighbor: Tensor
    like: Tensor

    def __init__(self, base: Recommender, neighbor: Tensor, like: Tensor) -> None:
        check_inner_product(base)
        super().__init__(base.num_users, base.num_items + neighbor.size(0))
        self.base = base
        self.register_buffer("neighbor", neighbor)
        self.register_buffer("like", like)

    @classmethod
    def from_data(
        cls, base: Recommender, data: HeteroData, k: int = NUM_NEIGHBORS
    ) -> AddedItems:
        """Find the items that are most like the new ones.

        Args:
            base: The recommender of the items before.
            data: The graph with the new items after them.
            k: Number of items that represent a new one. (default: :obj:`10`)

        Raises:
            DataError: If the graph is not that of the recommender with new items.
        """
        check_added_items(base, data)
        neighbor, like = similar_items(data, base.num_items, k)
        device = device_of(base)
        return cls(base, neighbor.to(device), like.to(device)).train(base.training)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The users ``[U, d]``, and the items ``[N + M, d]``, new ones last."""
        users, items = self.base()
        new = represent_by_neighbors(items, self.neighbor, self.like)
        return users, torch.cat([items, new])

    def item_terms(self) -> ItemTerms:
        """The terms of the items before, and one of the new items."""
        terms, items = self.base.item_terms(), self()[1]
        num_known = self.base.num_items

        def vectors(item: Tensor) -> Tensor:
            new = (item >= num_known)[:, None]
            known = terms.vectors(item.clamp(max=num_known - 1))
            return torch.cat(
                [
                    known.masked_fill(new[:, :, None], 0),
                    items[item].masked_fill(~new, 0)[:, None],
                ],
                dim=1,
            )

        return ItemTerms(terms.users, [*terms.terms, Term("similar")], vectors)

    def fit_fold_in(
        self, representations: tuple[Tensor, Tensor], history: UserItems
    ) -> FoldIn:
        """See :class:`Recommender`; what an item says of its users is kept.

        A new item says what those that it is like say, in the mean.
        """
        users, items = representations
        num_items = self.base.num_items
        before = UserItems(history.ptr, history.item, num_items)
        fold_in = self.base.fit_fold_in((users, items[:num_items]), before)
        near = fold_in.item[self.neighbor] * self.like[:, :, None]
        number = self.like.sum(dim=1).clamp(min=1)
        mean = near.sum(dim=1) / number[:, None]
        return FoldIn(torch.cat([fold_in.item, mean]))

    def user_without_items(self, user: int, item: Tensor) -> Tensor | None:
        """See :class:`Recommender`; nobody has interacted with a new item."""
        return self.base.user_without_items(user, item)

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """Nothing: new items have no parameters.

        Raises:
            ValueError: Always.
        """
        raise ValueError("items were added after the training; train anew with them")


def represent_by_neighbors(items: Tensor, neighbor: Tensor, like: Tensor) -> Tensor:
    """Represent new items; see :class:`AddedItems`.

    Args:
        items: The representations of the items before ``[N, d]``.
        neighbor: Items before ``[M, k]``, int64.
        like: Which of them the new items are like ``[M, k]``, bool.

    Returns:
        Representations ``[M, d]``.
    """
    near = items[neighbor] * like[:, :, None]
    total, length = near.sum(dim=1), near.norm(dim=2).sum(dim=1)
    number = like.sum(dim=1).clamp(min=1)
    # Of items that cancel each other out nothing is left.
    scale = length / total.norm(dim=1).clamp(min=1e-6) / number
    return total * scale[:, None]


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
