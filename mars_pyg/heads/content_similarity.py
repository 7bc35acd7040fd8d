"""How near an item's content is to that of a user's items."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torch_geometric.data import HeteroData

from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.modalities import check_features, feature_modalities, unit_features
from mars_pyg.user_items import UserItems

#: Numbers of features that are multiplied at once.
MAX_FEATURES = 2**22


class ContentSimilarity(ScoreHead):
    r"""The mean cosine of an item's features with those of the user's items.

    .. math::
        a_m(u, i) = \frac{1}{|\mathcal{I}_{um}|} \sum_{j \in \mathcal{I}_{um}}
        \cos (\mathbf{z}^m_j, \mathbf{z}^m_i), \qquad
        s(u, i) = \sum_m w_m a_m(u, i)

    for each modality :math:`m` and the items :math:`\mathcal{I}_{um}` of the user's
    history that have its features. Features are centred first, without which all
    items of an encoder are alike. An item without features, and a user of whom no item
    has any, gets zero. It is an inner product with the mean of the history, so that
    scores take :math:`\mathcal{O}(N D)` for a user.

    Args:
        data (HeteroData): The graph, with features :obj:`x_<modality>` ``[N, D]`` of
            the items; a row of zeros is a missing one.

    Raises:
        DataError: If features are not a finite row for each item.
        ValueError: If the items have no features.
    """

    name = "similarity"

    def __init__(self, data: HeteroData) -> None:
        modalities = feature_modalities(data)
        if not modalities:
            raise ValueError(
                "'data' has no features 'x_<modality>' of the items; apply the "
                "transform AddTextFeatures"
            )
        super().__init__([f"{modality} similarity" for modality in modalities])
        self.modalities = modalities
        for modality in modalities:
            unit = unit_features(_features_of(data, modality))
            self.register_buffer(f"x_{modality}", unit, persistent=False)

    def score(self, history: UserItems) -> Tensor:
        """Score every item for some users; see :class:`ScoreHead`."""
        score = self.weight.new_zeros(history.num_users, history.num_items)
        for weight, x in zip(self.weight, self._features(), strict=True):
            total, number = self._totals(history, x)
            score = score.addmm(weight * total / number.clamp(min=1), x.t())
        return score

    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The similarities of pairs ``[P, H]``; see :class:`ScoreHead`."""
        parts = []
        for x in self._features():
            total, number = self._totals(history, x)
            size = max(1, MAX_FEATURES // max(x.size(1), 1))
            pairs = zip(row.split(size), item.split(size), strict=True)
            products = [(total[r] * x[i]).sum(dim=1) for r, i in pairs]
            summed, count = torch.cat(products), number[row, 0]
            if leave_out is not None:
                own = x.square().sum(dim=1)[item] * leave_out
                summed = summed - own
                # A known item has a length of one.
                count = count - (own > 0).to(count.dtype)
            parts.append(summed / count.clamp(min=1))
        return torch.stack(parts, dim=1)

    def add_items(self, data: HeteroData) -> Self:
        """A head for more items; see :class:`ScoreHead`.

        New features are centred as the others are.
        """
        head = self._like(type(self)(data))
        for modality in self.modalities:
            known = self.get_buffer(f"x_{modality}")
            raw = _features_of(data, modality)
            unit = unit_features(raw, num_items=known.size(0)).to(known)
            unit[: known.size(0)] = known
            head.register_buffer(f"x_{modality}", unit, persistent=False)
        return head

    def keep_items(self, data: HeteroData, item: Tensor) -> Self:
        """A head for some of the items; see :class:`ScoreHead`."""
        head = self._like(type(self)(data))
        for modality in self.modalities:
            unit = self.get_buffer(f"x_{modality}")[item]
            head.register_buffer(f"x_{modality}", unit, persistent=False)
        return head

    def _totals(self, history: UserItems, x: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the features of each history, and of how many items."""
        known = (x != 0).any(dim=1, keepdim=True).to(x.dtype)
        number = x.new_zeros(history.num_users, 1)
        number.index_add_(0, history.rows(), known[history.item])
        # The rows of the histories are not copied.
        total = embedding_bag(history.item, x, history.ptr[:-1], mode="sum")
        return total, number

    def _features(self) -> list[Tensor]:
        return [
            getattr(self, f"x_{modality}").to(self.weight.dtype)
            for modality in self.modalities
        ]


def _features_of(data: HeteroData, modality: str) -> Tensor:
    """The features of the items, as floating point numbers that are finite."""
    name = f"x_{modality}"
    return check_features(data["item"][name], name, data["item"].num_nodes)
