"""Scores as the sums of their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.explanations.catalogue import Catalogue, HistoryValues
from mars_pyg.explanations.counterfactual import ranks_without
from mars_pyg.explanations.explanation import Counterfactual, Explanation, Reason
from mars_pyg.explanations.reasons import head_reasons, term_reasons
from mars_pyg.heads import HeadedRecommender, ScoreHead
from mars_pyg.heads.headed_recommender import check_parts
from mars_pyg.names import names_of
from mars_pyg.nn.recommender import Recommender, check_graph
from mars_pyg.training.evaluation import compute_representations, inference, rank
from mars_pyg.user_items import UserItems


class ScoreExplainer:
    r"""Explains the scores of a recommender, exactly.

    .. math::
        s(u, i) = \langle \mathbf{e}_u, \mathbf{e}_i \rangle + \langle \mathbf{e}_u,
        \alpha_i^{\text{struct}} \mathbf{H}_{\text{struct}}(i) \rangle + \sum_k \langle
        \mathbf{e}_u, \alpha_i^{(k)} \mathbf{H}_{f_k}(i) \rangle + \sum_k \beta_k
        a_k(u, i) + \gamma \sum_{j \in \mathcal{I}_u} B_{ji} + \delta \log
        \mathrm{pop}_i

    Every summand is a :class:`Reason`: what users with similar histories choose, items
    of similar content, the items that share each of the factor values, the user's taste
    for these values, each item of the user's history, and popularity. A recommender
    without heads has the first ones alone, one without content the first alone; another
    one's are those of its :meth:`~mars_pyg.nn.Recommender.item_terms`.

    What does not depend on the user is computed once; many users are explained by one
    explainer.

    Args:
        recommender: The recommender, with heads
            (:class:`~mars_pyg.heads.HeadedRecommender`) or without; its mode (training
            or not) is left as it was.
        data: The graph that the recommender was made for.

    Raises:
        DataError: If the graph has other numbers of users or items.
        ValueError: If the recommender scores in a way of its own.
    """

    def __init__(self, recommender: Recommender, data: HeteroData) -> None:
        check_graph(recommender, data)
        check_parts(recommender)
        self.recommender = recommender
        self.data = data
        self.catalogue = Catalogue(data)
        self.heads: list[ScoreHead] = []
        #: The train interactions, which the heads read.
        self.history = UserItems.from_data(data, "train")
        if isinstance(recommender, HeadedRecommender):
            self.heads, self.history = recommender.head_list(), recommender.history
        self._seen: dict[tuple[str, ...], UserItems] = {}
        self._representations = compute_representations(recommender)
        with inference(recommender):
            self._terms = recommender.item_terms()
        self._device = self._representations[0].device
        self.history = self.history.to(self._device)

    def explain(
        self,
        user: str,
        items: Sequence[str] | None = None,
        *,
        k: int = 10,
        splits: Sequence[str] = ("train",),
    ) -> list[Explanation]:
        """Split the scores of a user's items into reasons; see :func:`explain`."""
        row = self.catalogue.user(user)
        if items is None:
            index = self._best(row, k, splits)
        else:
            index = self.catalogue.items(names_of("items", items))
        history = self._items_of(self.history, row)
        values = HistoryValues(self.catalogue, history.item.cpu())
        reasons: list[list[Reason]] = [[] for _ in range(index.numel())]
        item = index.to(self._device)
        with inference(self.recommender):
            score = self._score(row)[item].tolist()
            found = [term_reasons(self._terms, row, item, values)]
            found += [head_reasons(h, history, item, values) for h in self.heads]
            for place, reason in chain.from_iterable(found):
                reasons[place].append(reason)
        return [
            Explanation(
                user=user,
                item=self.catalogue.item_ids[i],
                title=self.catalogue.titles[i],
                score=score[place],
                reasons=tuple(
                    sorted(reasons[place], key=lambda reason: -abs(reason.contribution))
                ),
            )
            for place, i in enumerate(index.tolist())
        ]

    @property
    def has_counterfactuals(self) -> bool:
        """Whether scores without an item of the history are known, without training."""
        if self.heads:
            return True
        nothing = torch.empty(0, dtype=torch.int64, device=self._device)
        with inference(self.recommender):
            return self.recommender.user_without_items(0, nothing) is not None

    def counterfactuals(
        self,
        user: str,
        items: Sequence[str] | None = None,
        *,
        k: int = 10,
        splits: Sequence[str] = ("train",),
    ) -> dict[str, list[Counterfactual]]:
        """Take items out of a user's history; see :func:`counterfactuals`."""
        if not self.has_counterfactuals:
            raise ValueError(
                "what this recommender scores without an item of the history takes "
                "another training; counterfactuals need heads, or a graph"
            )
        row = self.catalogue.user(user)
        if items is None:
            index = self._best(row, k, splits)
        else:
            index = self.catalogue.items(names_of("items", items))
        history = self._items_of(self.history, row).item
        with inference(self.recommender):
            users, table = self._representations
            shorter = self.recommender.user_without_items(row, history)
            if shorter is None:
                shorter = users[row].expand(history.numel(), -1)
            ranks = ranks_without(
                self.heads,
                torch.cat([users[row, None], shorter]),
                table,
                history,
                index.to(self._device),
                self._items_of(self._split_items(splits), row).item,
            )
        ids, titles = self.catalogue.item_ids, self.catalogue.titles
        rank, score = ranks.rank[0].tolist(), ranks.score[0].tolist()
        result: dict[str, list[Counterfactual]] = {}
        for place, i in enumerate(index.tolist()):
            entries = [
                Counterfactual(
                    item=ids[i],
                    without=ids[other],
                    without_title=titles[other],
                    rank=rank[place],
                    rank_without=int(ranks.rank[1 + taken, place]),
                    score=score[place],
                    score_without=float(ranks.score[1 + taken, place]),
                )
                for taken, other in enumerate(history.tolist())
            ]
            entries.sort(key=lambda entry: (-entry.rank_without, entry.score_without))
            result[ids[i]] = entries
        return result

    def _best(self, user: int, k: int, splits: Sequence[str]) -> Tensor:
        """The best items of a user ``[k]``, on the CPU."""
        _, _, item = next(
            rank(
                self.recommender,
                torch.tensor([user]),
                k,
                self._split_items(splits),
                representations=self._representations,
            )
        )
        return item[0][item[0] < self.recommender.num_items].cpu()

    def _score(self, user: int) -> Tensor:
        """The scores of all items for a user ``[N]``."""
        index = torch.tensor([user], device=self._device)
        return self.recommender.score(index, self._representations)[0]

    def _items_of(self, interactions: UserItems, user: int) -> UserItems:
        """The items of a user alone."""
        return interactions.take(torch.tensor([user], device=self._device))

    def _split_items(self, splits: Sequence[str]) -> UserItems:
        """The interactions of some splits."""
        key = tuple(splits)
        if key not in self._seen:
            items = UserItems.from_data(self.data, *key)
            self._seen[key] = items.to(self._device)
        return self._seen[key]


def explain(
    recommender: Recommender,
    data: HeteroData,
    user: str,
    items: Sequence[str] | None = None,
    *,
    k: int = 10,
    splits: Sequence[str] = ("train",),
) -> list[Explanation]:
    """Splits the scores of items for a user into reasons that add up to them.

    See :class:`ScoreExplainer`, which explains many users without beginning anew.

    Args:
        recommender: The recommender, with heads or without; its mode (training or not)
            is left as it was.
        data: The graph that the recommender was made for.
        user: Id of the user in the catalogue.
        items: Ids of the items. (default: :obj:`None`, the best :obj:`k`)
        k: Number of items, where no :obj:`items` are given; all items where there are
            fewer. (default: :obj:`10`)
        splits: The splits whose items are no candidates for the best :obj:`k`. The
            reasons read the train items of the user, as the scores do.
            (default: :obj:`("train",)`)

    Returns:
        An explanation of each item, the best first, or in the order of :obj:`items`.

    Raises:
        DataError: If the user or an item is not in the catalogue.
    """
    explainer = ScoreExplainer(recommender, data)
    return explainer.explain(user, items, k=k, splits=splits)


def counterfactuals(
    recommender: Recommender,
    data: HeteroData,
    user: str,
    items: Sequence[str] | None = None,
    *,
    k: int = 10,
    splits: Sequence[str] = ("train",),
) -> dict[str, list[Counterfactual]]:
    r"""Takes each item out of a user's history, and ranks all items anew.

    All heads are computed anew, exactly, over the history without the item. A
    recommender with a graph, :class:`~mars_pyg.nn.LightGCN` or
    :class:`~mars_pyg.nn.MARS`, propagates to the user anew without it; another one
    keeps the user's representation. Nothing is trained anew: embeddings, items and the
    weights of the heads stay as they were learned. The item that is taken out does not
    become a candidate.

    Args:
        recommender: The recommender, with heads, a graph, or both.
        data: The graph that the recommender was made for.
        user: Id of the user in the catalogue.
        items: Ids of the items. (default: :obj:`None`, the best :obj:`k`)
        k: Number of items, where no :obj:`items` are given. (default: :obj:`10`)
        splits: The splits whose items are no candidates.
            (default: :obj:`("train",)`)

    Returns:
        For the id of each item, the counterfactuals of every item of the user's train
        history, those first that it falls furthest without.

    Raises:
        DataError: If the user or an item is not in the catalogue.
        ValueError: If the recommender has neither.
    """
    explainer = ScoreExplainer(recommender, data)
    return explainer.counterfactuals(user, items, k=k, splits=splits)
