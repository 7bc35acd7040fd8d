"""All parts of a score folded into one inner product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads import (
    EASE,
    ContentSimilarity,
    FactorAffinity,
    HeadedRecommender,
    NewItems,
    Popularity,
    ScoreHead,
)
from mars_pyg.heads.headed_recommender import check_parts
from mars_pyg.item_values import count_values, item_value_edges
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.nn.recommender import Recommender
from mars_pyg.training.evaluation import compute_representations
from mars_pyg.user_items import UserItems

#: The heads whose scores are inner products that are known here.
FOLDED_HEADS = (FactorAffinity, EASE, Popularity, ContentSimilarity, NewItems)


class UserVectors(NamedTuple):
    """The user's side of the inner product, for ``B`` users.

    Args:
        dense: The dense components ``[B, D]``.
        row: The user of each sparse component ``[E]``, int64.
        column: The sparse column of each, from ``0`` to ``C - 1`` ``[E]``, int64.
        value: Its value ``[E]``.
    """

    dense: Tensor
    row: Tensor
    column: Tensor
    value: Tensor


@dataclass(frozen=True)
class RetrievalIndex:
    r"""A recommender and its heads as vectors of users and items.

    .. math::
        s(u, i) = \langle \mathbf{q}_u, \mathbf{x}_i \rangle, \qquad
        \mathbf{q}_u = \Big[ \mathbf{e}_u ;\; \beta_k \log \frac{\alpha}{n_{uk} +
        \alpha} ;\; \delta ;\; b ;\; w_m \bar{\mathbf{z}}^m_u ;\; \beta_{k(v)}
        \log \big( 1 + \frac{c_{uv}}{\alpha p_v} \big) ;\;
        \gamma [j \in \mathcal{I}_u] \Big], \qquad
        \mathbf{x}_i = \Big[ \mathbf{g}_i ;\; m_{ik} ;\; \log (1 + p_i) ;\; n_i ;\;
        \mathbf{z}^m_i ;\; \frac{[v \in \mathcal{V}_i]}{| \mathcal{V}_{i k(v)} |} ;\;
        B_{ji} \Big]

    which is the score of :class:`~mars_pyg.HeadedRecommender`, to rounding: after the
    representations stand, for each factor :math:`k`, the constant of
    :class:`~mars_pyg.FactorAffinity` and whether the item has a value,
    :math:`m_{ik}`; the item's popularity; whether it is a new one, :math:`n_i`, of
    :class:`~mars_pyg.heads.NewItems`; for each modality :math:`m` the mean features of
    the history and those of the item, of :class:`~mars_pyg.ContentSimilarity`; for
    each value :math:`v` its lift and the item's share of it; and for each item
    :math:`j` of the catalogue whether it is in the history, and the entry of
    :class:`~mars_pyg.EASE`. All blocks but the last two, of width :math:`D`, are dense.
    The last two, of :math:`C = V + N` columns, are sparse,
    and are kept by column: a search reads the columns of the user's history, and
    nothing else of them.

    A user is a representation and a history; users without a representation get one
    from their history by :attr:`fold_in`.

    Args:
        dense: The items' dense components ``[N, D]``.
        ptr: Where the items of each sparse column start ``[C + 1]``, int64.
        item: The items of each column ``[E]``, int64, ascending within a column.
        entry: Their components ``[E]``.
        fold_in: What makes representations of histories.
        item_values: The values of each item.
        factor: The factor of each value ``[V]``, int64.
        share: :math:`p_v` ``[V]``, float64.
        affinity_weight: :math:`\beta` ``[K]``; of no length without the head.
        popularity_weight: :math:`\delta` ``[1]``; of no length without the head.
        similarity_weight: :math:`w` ``[M]``; of no length without the head.
        similarity_width: The width of the features of each modality.
        ease_weight: :math:`\gamma` ``[1]``; of no length without the head.
        smoothing: :math:`\alpha`.
        new_item_weight: :math:`b` ``[1]``; of no length without the head.
            (default: of no length, which exports of before have)
    """

    dense: Tensor
    ptr: Tensor
    item: Tensor
    entry: Tensor
    fold_in: FoldIn
    item_values: UserItems
    factor: Tensor
    share: Tensor
    affinity_weight: Tensor
    popularity_weight: Tensor
    similarity_weight: Tensor
    similarity_width: list[int]
    ease_weight: Tensor
    smoothing: float
    new_item_weight: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def from_recommender(
        cls, recommender: Recommender, data: HeteroData
    ) -> RetrievalIndex:
        """Fold a recommender.

        Args:
            recommender: A recommender that scores by an inner product, with heads or
                without.
            data: The graph that it was trained on.

        Raises:
            ValueError: If it scores in a way of its own, or has heads other than
                those of :mod:`mars_pyg.heads`.
        """
        heads = _heads(recommender)
        representations = compute_representations(recommender)
        train = UserItems.from_data(data, "train").to(representations[0].device)
        fold_in = recommender.fit_fold_in(representations, train)
        items = representations[1].cpu()
        affinity, ease = heads.get(FactorAffinity.name), heads.get(EASE.name)
        popularity = heads.get(Popularity.name)
        similarity = heads.get(ContentSimilarity.name)
        new_items = heads.get(NewItems.name)
        num_items, empty = items.size(0), items.new_zeros(0)
        item_values, factor, share = _values(data)
        blocks = [items]
        # The columns of values, then those of items, each sorted.
        count = torch.zeros(len(factor) + num_items, dtype=torch.int64)
        targets, entries = [empty.long()], [empty]
        if isinstance(affinity, FactorAffinity):
            share = affinity.share.cpu()
            blocks.append(affinity.known.cpu().to(items.dtype))
            item, entry = _value_columns(item_values, factor, len(affinity.parts))
            count[: len(factor)] = torch.bincount(
                item_values.item, minlength=len(factor)
            )
            targets.append(item)
            entries.append(entry.to(items.dtype))
        if isinstance(popularity, Popularity):
            blocks.append(popularity.count.cpu().to(items.dtype).log1p()[:, None])
        if isinstance(new_items, NewItems):
            blocks.append(new_items.new.cpu().to(items.dtype)[:, None])
        features: list[Tensor] = []
        if isinstance(similarity, ContentSimilarity):
            names = (f"x_{modality}" for modality in similarity.modalities)
            features = [similarity.get_buffer(name).cpu() for name in names]
            blocks += [x.to(items.dtype) for x in features]
        if isinstance(ease, EASE):
            ease.check_fitted()
            count[len(factor) :] = ease.ptr.cpu().diff()
            targets.append(ease.index.cpu())
            entries.append(ease.value.cpu().to(items.dtype))

        def weight(head: ScoreHead | None) -> Tensor:
            return empty if head is None else head.weight.detach().cpu().to(items.dtype)

        return cls(
            dense=torch.cat(blocks, dim=1),
            ptr=torch.cat([count.new_zeros(1), count.cumsum(0)]),
            item=torch.cat(targets),
            entry=torch.cat(entries),
            fold_in=FoldIn(fold_in.item.cpu()),
            item_values=item_values,
            factor=factor,
            share=share,
            affinity_weight=weight(affinity),
            popularity_weight=weight(popularity),
            similarity_weight=weight(similarity),
            similarity_width=[x.size(1) for x in features],
            ease_weight=weight(ease),
            smoothing=getattr(affinity, "smoothing", 1.0),
            new_item_weight=weight(new_items),
        )

    @property
    def num_items(self) -> int:
        """Number of items."""
        return self.dense.size(0)

    @property
    def width(self) -> int:
        """Width of a user's representation."""
        return self.fold_in.item.size(1)

    def user_vectors(
        self, history: UserItems, representation: Tensor | None = None
    ) -> UserVectors:
        """The vectors of some users.

        Args:
            history: The items of each of ``B`` users, as the heads read them.
            representation: The users' representations ``[B, d]``; folded in from the
                histories where there are none. (default: :obj:`None`)
        """
        if representation is None:
            representation = self.fold_in(history)
        dtype, num_values = self.dense.dtype, self.factor.numel()
        blocks = [representation.to(dtype)]
        rows, columns, values = [], [], []
        if self.affinity_weight.numel():
            row, value, count = count_values(history, self.item_values)
            lift = count / (self.smoothing * self.share[value])
            lift = lift.log1p().to(dtype) * self.affinity_weight[self.factor[value]]
            rows.append(row)
            columns.append(value)
            values.append(lift)
            known = self.dense.narrow(1, self.width, self._num_factors)[history.item]
            number = known.new_zeros(history.num_users, self._num_factors)
            number.index_add_(0, history.rows(), known)
            constant = (self.smoothing / (number + self.smoothing)).log()
            blocks.append(constant * self.affinity_weight)
        for weight in (self.popularity_weight, self.new_item_weight):
            blocks.append(weight.expand(history.num_users, -1))
        blocks += self._mean_features(history)
        if self.ease_weight.numel():
            rows.append(history.rows())
            columns.append(num_values + history.item)
            values.append(self.ease_weight.expand(history.item.numel()))
        empty = self.dense.new_zeros(0)
        row, column = (torch.cat([*x, empty.long()]) for x in (rows, columns))
        value = torch.cat([*values, empty])
        return UserVectors(torch.cat(blocks, dim=1), row, column, value)

    def score(self, users: UserVectors) -> Tensor:
        """Score every item for some users ``[B, N]``."""
        return self.sparse_score(users).add_(users.dense @ self.dense.t())

    def search(
        self, users: UserVectors, k: int, left_out: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""Find the best items of one user, exactly.

        The similarity of content, the widest block, is computed only for items that may
        be among the best: it is within :math:`\sum_m | w_m | \| \bar{\mathbf{z}}^m_u
        \|` of zero, as features have a length of one.

        Args:
            users: The vectors of the user, of ``B = 1``.
            k: Number of items.
            left_out: Items that are no candidates, indices ``[E]`` or a mask ``[N]``.

        Returns:
            Scores, best first, and items, each ``[min(k, N)]``. What is no candidate
            has a score of minus infinity.
        """
        width = self._feature_start
        plain, features = users.dense[0, :width], users.dense[0, width:]
        score = self.sparse_score(users)[0].add_(self.dense[:, :width] @ plain)
        score[left_out] = -torch.inf
        k = min(k, self.num_items)
        item = None
        if features.numel():
            blocks = features.split(self.similarity_width)
            bound = sum(float(block.norm()) for block in blocks)
            # With room for rounding.
            least = float(score.topk(k).values[-1]) - 2.001 * bound
            item = (score >= least).nonzero().view(-1)
            if item.numel() > self.num_items // 4:
                # A product with all items is faster than one with so many.
                score, item = score + self.dense[:, width:] @ features, None
            else:
                score = score[item] + self.dense[item, width:] @ features
        top, place = score.topk(k)
        return top, place if item is None else item[place]

    def sparse_score(self, users: UserVectors) -> Tensor:
        """The part of the sparse columns ``[B, N]``."""
        place, target, value = self._sparse_entries(users)
        score = self.dense.new_zeros(users.dense.size(0) * self.num_items)
        row = users.row.index_select(0, place)
        score.index_add_(0, row * self.num_items + target, value)
        return score.view(-1, self.num_items)

    def sparse_items(self, users: UserVectors) -> Tensor:
        """The items with a sparse column in common with the users, repeated ``[E]``."""
        return self._sparse_entries(users)[1]

    def densify(self, column: Tensor) -> RetrievalIndex:
        """Make sparse columns dense ones, the last ones.

        Args:
            column: The columns ``[F]``, int64.

        Returns:
            An index whose :attr:`dense` is ``[N, D + F]``, and whose sparse columns are
            as many, those of :obj:`column` empty.
        """
        columns = UserItems(self.ptr, self.item, self.num_items)
        row, place = columns.places(column)
        block = self.dense.new_zeros(self.num_items, column.numel())
        block[self.item[place], row] = self.entry[place]
        kept = torch.ones_like(self.item, dtype=torch.bool)
        kept[place] = False
        count = columns.count.index_fill(0, column, 0)
        return replace(
            self,
            dense=torch.cat([self.dense, block], dim=1),
            ptr=torch.cat([count.new_zeros(1), count.cumsum(0)]),
            item=self.item[kept],
            entry=self.entry[kept],
        )

    def tensors(self) -> dict[str, Any]:
        """All of it as plain tensors, for :func:`torch.save`."""
        state = {part.name: getattr(self, part.name) for part in fields(self)}
        state["fold_in"] = self.fold_in.item
        state["item_values"] = (self.item_values.ptr, self.item_values.item)
        return state

    @classmethod
    def from_tensors(cls, state: Mapping[str, Any]) -> RetrievalIndex:
        """The inverse of :meth:`tensors`."""
        state = dict(state)
        state["fold_in"] = FoldIn(state["fold_in"])
        ptr, item = state["item_values"]
        state["item_values"] = UserItems(ptr, item, state["factor"].numel())
        return cls(**state)

    @property
    def _num_factors(self) -> int:
        return self.affinity_weight.numel()

    @property
    def _feature_start(self) -> int:
        """Where the columns of features start."""
        constants = self.popularity_weight.numel() + self.new_item_weight.numel()
        return self.width + self._num_factors + constants

    def _mean_features(self, history: UserItems) -> list[Tensor]:
        """The weighted mean of the features of each history, by modality."""
        blocks = []
        start = self._feature_start
        row = history.rows()
        for weight, width in zip(
            self.similarity_weight, self.similarity_width, strict=True
        ):
            x = self.dense.narrow(1, start, width).index_select(0, history.item)
            known = (x != 0).any(dim=1).to(x.dtype)
            total = x.new_zeros(history.num_users, width).index_add_(0, row, x)
            number = x.new_zeros(history.num_users).index_add_(0, row, known)
            blocks.append(weight * total / number.clamp(min=1)[:, None])
            start += width
        return blocks

    def _sparse_entries(self, users: UserVectors) -> tuple[Tensor, Tensor, Tensor]:
        """A place in the users' sparse components, an item, and what it adds."""
        columns = UserItems(self.ptr, self.item, self.num_items)
        place, offset = columns.places(users.column)
        # index_select() takes a fraction of the time of indexing.
        item = self.item.index_select(0, offset)
        entry = self.entry.index_select(0, offset)
        return place, item, users.value.index_select(0, place) * entry


def _heads(recommender: Recommender) -> dict[str, ScoreHead]:
    """The heads by name; refuses what is no inner product."""
    check_parts(recommender)
    heads: dict[str, ScoreHead] = {}
    if isinstance(recommender, HeadedRecommender):
        heads = {head.name: head for head in recommender.head_list()}
    unknown = [name for name, head in heads.items() if type(head) not in FOLDED_HEADS]
    if unknown:
        known = [head.name for head in FOLDED_HEADS]
        raise ValueError(
            f"the head {unknown[0]!r} cannot be folded; it is none of {known}"
        )
    return heads


def _values(data: HeteroData) -> tuple[UserItems, Tensor, Tensor]:
    """The values of each item, and the factor and an empty share of each value."""
    num_items = data["item"].num_nodes
    if "value" not in data.node_types:
        none = torch.empty(2, 0, dtype=torch.int64)
        item_values = UserItems.from_edge_index(none, num_items, 0)
        return item_values, none[0], torch.empty(0, dtype=torch.float64)
    edges = item_value_edges(data).cpu()
    store = data["value"]
    item_values = UserItems.from_edge_index(edges, num_items, store.num_nodes)
    share = torch.ones(store.num_nodes, dtype=torch.float64)
    return item_values, store.factor.cpu(), share


def _value_columns(
    item_values: UserItems, factor: Tensor, num_factors: int
) -> tuple[Tensor, Tensor]:
    """The items of each value, and each item's share of it, sorted by value."""
    item, value = item_values.rows(), item_values.item
    place = item * num_factors + factor[value]
    share = torch.bincount(place).double().reciprocal()[place]
    order = torch.argsort(value, stable=True)
    return item[order], share[order]
