"""The contract of a score that is added to a recommender's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.user_items import UserItems


class ScoreHead(torch.nn.Module, ABC):
    r"""Base class of scores that are read off a user's history.

    .. math::
        s(u, i) = \sum_{h=1}^{H} w_h \, a_h(u, i)

    with parts :math:`a_h`, each of which says something by itself, and weights
    :math:`w_h`, the parameter :attr:`weight`. A user is their history, the items
    ``I_u``, and nothing else, so that a head scores users it has never seen. Scores
    add up: with those of other heads, and with a recommender's
    (:class:`HeadedRecommender`).

    Args:
        parts: The names of the parts.
    """

    #: The name of the head, on the command line too.
    name: ClassVar[str]

    def __init__(self, parts: Sequence[str]) -> None:
        super().__init__()
        self.parts = list(parts)
        self.weight = torch.nn.Parameter(torch.ones(len(self.parts)))

    @abstractmethod
    def score(self, history: UserItems) -> Tensor:
        """Score every item for some users, each part by its weight.

        Args:
            history: The items of each of ``B`` users.

        Returns:
            Scores ``[B, N]`` in the dtype of :attr:`weight`.
        """

    @abstractmethod
    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The parts of single pairs of a user and an item, without weights.

        Args:
            history: The items of each of ``B`` users.
            row: The user of each pair, a place in :obj:`history` ``[P]``, int64.
            item: The item of each pair ``[P]``, int64.
            leave_out: Where true ``[P]``, the pair's item is in the user's history,
                and is taken out of it, as a training positive must be.
                (default: :obj:`None`, nowhere)

        Returns:
            The parts ``[P, H]``, in the dtype of :attr:`weight`.
        """

    def add_items(self, data: HeteroData) -> Self:
        """Make a head of the same weights that scores new items too.

        Args:
            data: The graph with the new items after those of this head, and without
                interactions of theirs; see :class:`~mars_pyg.AddItems`.

        Returns:
            Another head, of which the scores of the other items are the same.

        Raises:
            NotImplementedError: If the head has no way to.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot score new items")

    def keep_items(self, data: HeteroData, item: Tensor) -> Self:
        """Make a head of the same weights for some of the items.

        :meth:`HeadedRecommender.add_items` takes items out to see how new ones fare.

        Args:
            data: The graph of these items; see
                :func:`~mars_pyg.item_subset.take_items`.
            item: The items that are kept, by their numbers in this head ``[M]``, int64,
                ascending.

        Raises:
            NotImplementedError: If the head has no way to.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot leave items out; add new items with "
            "'exposure=0'"
        )

    def _like(self, head: Self) -> Self:
        """Give a head the weights of this one, where this one is."""
        head.weight.data = self.weight.data.clone()
        return head.to(self.weight.device).requires_grad_(self.weight.requires_grad)

    def forward(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The scores of single pairs ``[P]``; see :meth:`pair_parts`."""
        return self.pair_parts(history, row, item, leave_out) @ self.weight
