"""The popularity of items as a score."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.user_items import UserItems


class Popularity(ScoreHead):
    r"""How often an item was chosen, the same for every user.

    .. math::
        s(u, i) = \delta \log (1 + | \{ u' : i \in \mathcal{I}_{u'} \} |)

    over the train interactions; :math:`\delta` is :attr:`weight`.

    Args:
        data (HeteroData): The graph with the train interactions.
    """

    name = "popularity"
    count: Tensor

    def __init__(self, data: HeteroData) -> None:
        super().__init__(["popularity"])
        train = UserItems.from_data(data, "train")
        count = torch.bincount(train.item, minlength=train.num_items)
        self.register_buffer("count", count, persistent=False)
        #: The number of items that were counted; those added later follow.
        self.num_counted = count.numel()

    def score(self, history: UserItems) -> Tensor:
        """The same scores for each user; see :class:`ScoreHead`."""
        return (self._log(self.count) * self.weight).expand(history.num_users, -1)

    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The logarithm of the items' popularity; see :class:`ScoreHead`."""
        count = self.count[item]
        if leave_out is not None:
            count = count - leave_out.to(count.dtype)
        return self._log(count).view(-1, 1)

    def add_items(self, data: HeteroData, quantile: float = 0.5) -> Self:
        """A head for more items; see :class:`ScoreHead`.

        An item that nobody could choose yet would come last. So a new one counts as
        popular as others are, by a quantile.

        Args:
            data: See :class:`ScoreHead`.
            quantile: The share of the items that are less popular than a new one.
                (default: :obj:`0.5`)
        """
        head = self._like(type(self)(data))
        counted = self.count[: self.num_counted]
        usual = counted.double().quantile(quantile).round().to(self.count.dtype)
        head.count[self.num_counted :] = usual
        head.num_counted = self.num_counted
        return head

    def keep_items(self, data: HeteroData, item: Tensor) -> Self:
        """A head for some of the items; see :class:`ScoreHead`."""
        return self._like(type(self)(data))

    def _log(self, count: Tensor) -> Tensor:
        # A count can be beyond float16.
        dtype = self.weight.dtype
        return count.to(sum_dtype(dtype)).log1p().to(dtype)
