"""What an item gets for being new."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.user_items import UserItems


class NewItems(ScoreHead):
    r"""The same addition to the score of every new item, for every user.

    .. math::
        s(u, i) = b \, [i \text{ is new}]

    An item without interactions has no popularity and little else that others have, and
    would stand behind them. :math:`b` is :attr:`weight`;
    :meth:`HeadedRecommender.add_items` chooses it.

    Args:
        num_known (int): Number of items that are not new; they come first.
        num_items (int): Number of items.
    """

    name = "new"
    new: Tensor

    def __init__(self, num_known: int, num_items: int) -> None:
        super().__init__(["new item"])
        new = torch.arange(num_items) >= num_known
        self.register_buffer("new", new, persistent=False)

    def score(self, history: UserItems) -> Tensor:
        """The same scores for each user; see :class:`ScoreHead`."""
        return (self.new * self.weight).expand(history.num_users, -1)

    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """One for a new item; see :class:`ScoreHead`."""
        return self.new[item].to(self.weight.dtype).view(-1, 1)

    def add_items(self, data: HeteroData) -> Self:
        """A head for more items, which are new too; see :class:`ScoreHead`."""
        num_known = int((~self.new).sum())
        return self._like(type(self)(num_known, data["item"].num_nodes))
