"""Negative items for the BPR loss."""

from __future__ import annotations

import torch
from torch import Tensor

from mars_pyg.user_items import UserItems


class NegativeSampler:
    r"""Draws items that a user has not trained on, all with the same probability.

    Nothing is drawn in vain: for a user with :math:`n` train items
    :math:`s_0 < s_1 < \ldots` a number :math:`r` is drawn from
    :math:`\{0, \ldots, N - n - 1\}`, and the :math:`r`-th of the other items is

    .. math::
        r + |\{ j : s_j - j \le r \}|,

    as :math:`s_j - j` other items come before :math:`s_j`. The count is one binary
    search on the sorted keys :math:`u N + s_j - j`, so a draw takes the same time for a
    user who has trained on nearly everything.

    A user who has trained on every item has no negative: :attr:`has_negative` tells,
    and :meth:`sample` refuses.

    Args:
        edge_index (torch.Tensor): Users and items of the train interactions ``[2, E]``,
            int64. Repeated ones count once.
        num_users (int): Number of users.
        num_items (int): Number of items :math:`N`.
    """

    def __init__(self, edge_index: Tensor, num_users: int, num_items: int) -> None:
        items = UserItems.from_edge_index(edge_index.cpu(), num_users, num_items)
        user = torch.arange(num_users).repeat_interleave(items.count)
        position = torch.arange(user.numel()) - items.ptr[user]
        self.num_items = num_items
        self._ptr = items.ptr
        self._num_negatives = num_items - items.count
        self._key = user * num_items + items.item - position
        #: Whether a user has items left to draw, ``[U]``, bool.
        self.has_negative = self._num_negatives > 0

    def sample(self, user: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one negative item for each entry.

        Args:
            user: User indices ``[B]``, int64, on the CPU; each entry has its own draw.
            generator: A CPU generator. (default: :obj:`None`)

        Returns:
            Item indices ``[B]``, int64.

        Raises:
            ValueError: If a user has trained on every item.
        """
        count = self._num_negatives[user]
        if (count <= 0).any():
            raise ValueError(
                f"{int((count <= 0).sum())} of the draws are for users who have "
                "trained on every item, so that no negative is left; leave out the "
                "users without 'has_negative'"
            )
        uniform = torch.rand(user.numel(), dtype=torch.float64, generator=generator)
        rank = (uniform * count).long()
        found = torch.searchsorted(self._key, user * self.num_items + rank, right=True)
        return rank + found - self._ptr[user]
