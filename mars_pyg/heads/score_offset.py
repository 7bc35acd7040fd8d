"""What heads say of the triplets of a training, without having seen them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.edge_forms import edges_of
from mars_pyg.heads.ease import EASE
from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.user_items import INTERACTS, UserItems, split_edges

#: Train interactions that are scored at once.
MAX_PAIRS = 2**16


class ScoreOffset:
    r"""Adds the scores of heads to those of a model in its BPR loss, so that the model
    learns what the heads leave open: joint training.

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{(u, i, j)} \log \sigma \big( s(u, i) - s(u, j)
        + \tau ( a_{-}(u, i) - a_{-}(u, j) ) \big), \qquad a = \sum_h w_h a_h

    The heads' weights are given and stay. They have seen the train interactions, and
    what they have seen would look explained. So :math:`a_{-}` leaves a positive
    :math:`i` out of the history of :math:`u`, and EASE, which is solved from the
    interactions, is solved for each part of the users from those of the others alone.
    That of the positives is computed once.

    :class:`~mars_pyg.nn.LightGCN` and what is made from it take it as
    :obj:`score_offset`:

    .. code-block:: python

        fit_head_weights(HeadedRecommender(None, data, heads), data)
        model.score_offset = ScoreOffset(data, heads, scale=0.25)
        fit(model, data)
        recommender = HeadedRecommender(model, data, heads)
        fit_head_weights(recommender, data)

    Args:
        data (HeteroData): The graph with the train interactions.
        heads (Sequence[ScoreHead]): The heads, with their weights.
        scale (float, optional): :math:`\tau`. (default: :obj:`1.0`)
        num_folds (int, optional): Parts of the users that EASE is solved without.
            (default: :obj:`4`)
        seed (int, optional): Seed of the parts. (default: :obj:`0`)

    Raises:
        ValueError: If there are fewer than two parts, or :obj:`scale` is negative.
    """

    def __init__(
        self,
        data: HeteroData,
        heads: Sequence[ScoreHead],
        scale: float = 1.0,
        num_folds: int = 4,
        seed: int = 0,
    ) -> None:
        if num_folds < 2:
            raise ValueError(f"'num_folds' must be at least 2 (got {num_folds})")
        if not scale >= 0:
            raise ValueError(f"'scale' must not be negative (got {scale})")
        self.scale = scale
        # Scores stay on the CPU, wherever the graph is.
        data = copy(data).cpu()
        self.history = UserItems.from_data(data, "train")
        generator = torch.Generator().manual_seed(seed)
        num_users = self.history.num_users
        #: The part of each user ``[U]``.
        self.fold = torch.randint(num_folds, (num_users,), generator=generator)
        # Copies, as the weights may be fitted anew later.
        own = [deepcopy(head).cpu().requires_grad_(False) for head in heads]
        self.heads = [head for head in own if not isinstance(head, EASE)]
        #: EASE of the interactions of the users outside of each part.
        self.fold_heads = [
            [
                _solve(data, self.fold != fold, head)
                for head in own
                if isinstance(head, EASE)
            ]
            for fold in range(num_folds)
        ]
        self._key = self._keys(self.history.rows(), self.history.item)
        #: The scores of the train interactions, in the order of the history ``[E]``.
        self.positive = self._train_scores()

    @torch.no_grad()
    def __call__(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """By how much the heads prefer each positive to its negative, scaled ``[B]``.

        Args:
            user: User indices ``[B]``, int64.
            positive: A train interaction of each ``[B]``, int64.
            negative: An item that each did not interact with ``[B]``, int64.

        Raises:
            ValueError: If a positive is no train interaction of its user.
        """
        pairs = (pair.to(self.positive.device) for pair in (user, positive, negative))
        own, liked, other = pairs
        score = self.positive[self._places(own, liked)] - self._scores(own, other)
        return (self.scale * score).to(user.device)

    def _train_scores(self) -> Tensor:
        user, item = self.history.rows(), self.history.item
        parts = [
            self._scores(*pairs, leave_out=True)
            for pairs in zip(user.split(MAX_PAIRS), item.split(MAX_PAIRS), strict=True)
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    @torch.no_grad()
    def _scores(self, user: Tensor, item: Tensor, leave_out: bool = False) -> Tensor:
        """The scores of pairs, the items being in the histories or not."""
        user, row = user.unique(return_inverse=True)
        history = self.history.take(user)
        left_out = torch.full_like(row, leave_out, dtype=torch.bool)
        # Whatever the default is, which a trainer in half precision changes.
        total = torch.zeros(row.numel(), dtype=torch.float32)
        for head in self.heads:
            total += head(history, row, item, left_out)
        fold = self.fold[user][row]
        for number, heads in enumerate(self.fold_heads):
            mine = (fold == number).nonzero().view(-1)
            for head in heads:
                score = head(history, row[mine], item[mine], left_out[mine])
                total.index_add_(0, mine, score.to(total.dtype))
        return total

    def _places(self, user: Tensor, item: Tensor) -> Tensor:
        """Where interactions stand in the history."""
        key = self._keys(user, item)
        place = torch.searchsorted(self._key, key)
        place = place.clamp(max=max(self._key.numel() - 1, 0))
        if not torch.equal(self._key[place], key):
            raise ValueError("'positive' must hold train interactions of its users")
        return place

    def _keys(self, user: Tensor, item: Tensor) -> Tensor:
        return user * self.history.num_items + item


def _solve(data: HeteroData, kept: Tensor, head: EASE) -> EASE:
    """EASE like a head, of the interactions of some users, and of its weight."""
    part = HeteroData()
    for node_type in data.node_types:
        part[node_type].num_nodes = data[node_type].num_nodes
    if "value" in data.node_types:
        part["value"].update(data["value"].to_dict())
    for edge_type in data.edge_types:
        if (edge_type[0], edge_type[2]) == ("item", "value"):
            part[edge_type].edge_index = edges_of(data[edge_type])
    edges = split_edges(data, "train")
    part[INTERACTS].edge_index = edges[:, kept[edges[0]]]
    return head.refit(part)
