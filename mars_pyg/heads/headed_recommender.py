"""A recommender whose scores are those of a base plus those of heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads.new_items import NewItems
from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.nn.added_items import check_added_items
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.nn.item_terms import ItemTerms
from mars_pyg.nn.recommender import (
    Recommender,
    check_graph,
    check_inner_product,
    device_of,
)
from mars_pyg.user_items import UserItems


class HeadedRecommender(Recommender):
    r"""Adds the scores of heads to those of a recommender.

    .. math::
        s(u, i) = \langle \mathbf{e}_u, \mathbf{g}_i \rangle + \sum_h w_h a_h(u, i)

    The heads read a user's train interactions; their weights are chosen on validation
    by :func:`~mars_pyg.training.fit_head_weights`. The base is trained by itself,
    unless its loss knows the heads by a :class:`ScoreOffset`.

    Args:
        base (Recommender, optional): The recommender; :obj:`None` for heads alone.
        data (HeteroData): The graph with the train interactions.
        heads (Sequence[ScoreHead]): The heads, each of a class of its own. They are
            moved to where the base is.

    Raises:
        DataError: If the graph has other numbers of users or items than the base.
        ValueError: If there is nothing to score with, two heads are of one class, or
            the base scores in a way of its own.
    """

    def __init__(
        self, base: Recommender | None, data: HeteroData, heads: Sequence[ScoreHead]
    ) -> None:
        super().__init__(data["user"].num_nodes, data["item"].num_nodes)
        if base is None and not heads:
            raise ValueError("a base or a head is needed")
        if base is not None:
            check_inner_product(base)
            check_graph(base, data)
        names = [head.name for head in heads]
        if len(set(names)) < len(names):
            raise ValueError(f"'heads' must be of different classes (got {names})")
        self.base = base
        self.heads = torch.nn.ModuleDict(dict(zip(names, heads, strict=True)))
        # A base that was trained is where the trainer has left it.
        device = device_of(self if base is None else base)
        self.heads.to(device)
        #: The train interactions, a user's history.
        self.history = UserItems.from_data(data, "train").to(device)

    @property
    def part_names(self) -> list[str]:
        """The names of the parts of all heads, in order, each another.

        Where two are the same, as a factor may be named as a head is, or as the
        recommender is, ``"model"``, the head is named before: ``"affinity: model"``.
        """
        parts = [(head.name, name) for head in self.head_list() for name in head.parts]
        number = Counter(name for _, name in parts) + Counter(["model"])
        return [f"{head}: {name}" if number[name] > 1 else name for head, name in parts]

    def forward(self) -> tuple[Tensor, Tensor]:
        """The base's representations; of no width where there is no base."""
        if self.base is not None:
            return self.base()
        like = next(self.heads.parameters())
        return like.new_zeros(self.num_users, 0), like.new_zeros(self.num_items, 0)

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """The loss of the base; the heads are no part of it.

        Raises:
            ValueError: If there is no base.
        """
        if self.base is None:
            raise ValueError("there is no base to train")
        return self.base.loss(user, positive, negative)

    def start_epoch(self, generator: torch.Generator) -> None:
        """See :class:`~mars_pyg.nn.Recommender`."""
        if self.base is not None:
            self.base.start_epoch(generator)

    def fit_fold_in(
        self, representations: tuple[Tensor, Tensor], history: UserItems
    ) -> FoldIn:
        """See :class:`~mars_pyg.nn.Recommender`; the heads need no such thing."""
        if self.base is not None:
            return self.base.fit_fold_in(representations, history)
        return super().fit_fold_in(representations, history)

    def score(self, user: Tensor, representations: tuple[Tensor, Tensor]) -> Tensor:
        """Score every item for a chunk of users, from all parts."""
        score = super().score(user, representations)
        history = self.history.take(user)
        for head in self.head_list():
            score += head.score(history)
        return score

    def item_terms(self) -> ItemTerms:
        """The terms of the base; see :class:`~mars_pyg.nn.Recommender`."""
        return super().item_terms() if self.base is None else self.base.item_terms()

    def user_without_items(self, user: int, item: Tensor) -> Tensor | None:
        """See :class:`~mars_pyg.nn.Recommender`."""
        return None if self.base is None else self.base.user_without_items(user, item)

    def add_items(self, data: HeteroData, exposure: float = 1.0) -> HeadedRecommender:
        r"""Make a recommender that scores new items too, without training.

        .. math::
            s'(u, i) = s(u, i) + b \, [i \text{ is new}]

        New items are recommended by what is known of them: the base by the items most
        like them (:class:`~mars_pyg.nn.AddedItems`), the heads as each of them says
        (:meth:`ScoreHead.add_items`). That ranks them among each other. Nobody has
        chosen them yet, and so they would all stand behind what is popular. They are
        raised together, by one number (:class:`NewItems`): known items are taken out
        and added as if they were new, and :math:`b` is what brings these into the best
        lists as often as they were chosen in training; see
        :func:`~mars_pyg.training.fit_new_item_weight`. Scores of other items stay the
        same, and make room for the new ones.

        Args:
            data: The graph with the new items after those of this recommender, as
                :class:`~mars_pyg.AddItems` makes it of the one it was trained on.
            exposure: How often new items are recommended, relative to how often the
                likes of them are chosen; zero leaves their scores as they are. Items
                that are added later are raised as the first ones were.
                (default: :obj:`1.0`)

        Returns:
            A recommender of the items of :obj:`data`.

        Raises:
            DataError: If the graph is not that of the training with new items.
            ValueError: If :obj:`exposure` is negative or no number, or a subclass
                scores in a way of its own.
            NotImplementedError: If a head cannot score new items, or is none of
                :mod:`mars_pyg.heads` and cannot leave items out
                (:meth:`ScoreHead.keep_items`), which an :obj:`exposure` of zero does
                without.
        """
        from mars_pyg.training.new_item_exposure import fit_new_item_weight

        if not 0 <= exposure < float("inf"):
            raise ValueError(f"'exposure' must not be negative (got {exposure})")
        check_parts(self)
        check_added_items(self, data)
        base = None if self.base is None else self.base.add_items(data)
        heads = [head.add_items(data) for head in self.head_list()]
        num_items = data["item"].num_nodes
        if exposure and NewItems.name not in self.heads and num_items > self.num_items:
            head = NewItems(self.num_items, num_items)
            weight = next(self.parameters())
            number = fit_new_item_weight(self, data, exposure)
            head.weight.data = weight.new_full((1,), number)
            heads.append(head.requires_grad_(weight.requires_grad))
        result = HeadedRecommender(base, data, heads)
        # The base is shared, and stays in its own mode.
        result.training = self.training
        result.heads.train(self.training)
        return result.to(self.history.item.device)

    def head_list(self) -> list[ScoreHead]:
        """The heads, in order."""
        return list(self.heads.values())  # type: ignore[arg-type]

    def _apply(self, fn: Any, recurse: bool = True) -> HeadedRecommender:
        super()._apply(fn, recurse)
        self.history = self.history.to(device_of(self))
        return self


def check_parts(recommender: Recommender) -> None:
    """Refuse a recommender whose scores are not the sum of their parts.

    Raises:
        ValueError: If its class has a :meth:`~Recommender.score` of its own.
    """
    if type(recommender).score is not HeadedRecommender.score:
        check_inner_product(recommender)
