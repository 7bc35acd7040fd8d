"""What a user likes, read from the values of their items."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch_geometric.data import HeteroData

from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.item_values import count_values, item_value_edges
from mars_pyg.kernels import SparseMatrix
from mars_pyg.names import names_in
from mars_pyg.user_items import UserItems


class FactorAffinity(ScoreHead):
    r"""How much more often a user chose an item's values than others do: the metapath
    user–item–value.

    .. math::
        a_k(u, i) = \log \frac{c_{uv} + \alpha p_v}{(n_{uk} + \alpha) \, p_v}, \qquad
        s(u, i) = \sum_k \beta_k a_k(u, i)

    for the value :math:`v` of item :math:`i` under factor :math:`k`, the number
    :math:`c_{uv}` of items of the user's history that have it, the number
    :math:`n_{uk}` of those whose value of the factor is known, and the share
    :math:`p_v` of the value among the train interactions of items with a known value,
    one added to each count. It is a lift in logarithms, shrunk by :math:`\alpha`
    interactions that follow :math:`p`: zero says nothing, and is what a user without
    known values gets, and an item without a value. Of several values of an item under
    a factor the mean counts. :math:`\beta` is :attr:`weight`.

    As :math:`a_k(u, i) = \log \frac{\alpha}{n_{uk} + \alpha} + \log (1 +
    \frac{c_{uv}}{\alpha p_v})`, whose first term is the same for all items with a known
    value and whose second is zero but for values of the history, all scores of a chunk
    of users are one sparse product: nothing has users times values entries but a chunk.

    Args:
        data (HeteroData): The graph, with nodes :obj:`value`, the names
            :obj:`factor_name` of their factors, and edges :obj:`("item",
            "<modality>_value", "value")`, of whose modalities the union is taken, and
            the train interactions.
        smoothing (float, optional): :math:`\alpha`. (default: :obj:`3.0`)

    Raises:
        ValueError: If the items have no values, or :math:`\alpha` is not positive.
    """

    name = "affinity"
    factor: Tensor
    known: Tensor

    def __init__(self, data: HeteroData, smoothing: float = 3.0) -> None:
        edges = item_value_edges(data).cpu()
        if not smoothing > 0:
            raise ValueError(f"'smoothing' must be positive (got {smoothing})")
        store = data["value"]
        super().__init__(names_in(data, "value", "factor_name"))
        self.smoothing = smoothing
        num_items, num_values = data["item"].num_nodes, store.num_nodes
        self._item_values = UserItems.from_edge_index(edges, num_items, num_values)
        self.register_buffer("factor", store.factor.cpu(), persistent=False)
        item, value = self._item_values.rows(), self._item_values.item
        per_factor = torch.zeros(num_items, len(self.parts), dtype=torch.int64)
        per_factor.index_put_(
            (item, self.factor[value]), torch.ones_like(item), accumulate=True
        )
        #: Whether an item has a value of a factor ``[N, K]``.
        self.register_buffer("known", per_factor > 0, persistent=False)
        # Columns of values, then one of each factor for the items with a known value.
        mean = 1 / per_factor[item, self.factor[value]].double()
        known_item, known_factor = self.known.nonzero().unbind(1)
        self._columns = SparseMatrix.from_edges(
            torch.cat([item, known_item]),
            torch.cat([value, num_values + known_factor]),
            num_items,
            num_values + len(self.parts),
            torch.cat([mean, torch.ones_like(known_item, dtype=torch.float64)]),
        )
        train = UserItems.from_data(data, "train").to(edges.device)
        popularity = torch.bincount(train.item, minlength=num_items)
        count = torch.zeros(num_values, dtype=torch.int64)
        count.index_add_(0, value, popularity[item])
        total = popularity @ self.known.long()
        total = total + torch.bincount(self.factor, minlength=len(self.parts))
        share = (count + 1).double() / total[self.factor]
        #: :math:`p_v`, the share of a value in its factor ``[V]``, float64.
        self.share = share
        #: What counts add up to in a factor ``[K]``, int64.
        self.total = total

    def value_counts(self, history: UserItems) -> tuple[Tensor, Tensor, Tensor]:
        r"""Count the values of the items of some users.

        Args:
            history: The items of each of ``B`` users.

        Returns:
            A user, a value and :math:`c_{uv}` where it is not zero, each ``[E]``,
            int64, sorted by user, then value.
        """
        return count_values(history, self._item_values)

    def score(self, history: UserItems) -> Tensor:
        """Score every item for some users; see :class:`ScoreHead`."""
        dtype = self.weight.dtype
        row, value, count = self.value_counts(history)
        share = self.share[value].to(dtype)
        lift = (count.to(dtype) / (self.smoothing * share)).log1p()
        known = self._known_counts(history).to(dtype)
        constant = (self.smoothing / (known + self.smoothing)).log() * self.weight
        table = constant.new_zeros(self.factor.numel(), history.num_users)
        table = table.index_put((value, row), lift * self.weight[self.factor[value]])
        return self._columns.matmul(torch.cat([table, constant.t()])).t()

    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The affinity of pairs for each factor; see :class:`ScoreHead`."""
        dtype = self.weight.dtype
        num_values, num_factors = self.factor.numel(), len(self.parts)
        counted_row, counted_value, counts = self.value_counts(history)
        place, value = self._item_values.select(item)
        factor = self.factor[value]
        count = _look_up(
            counted_row * num_values + counted_value,
            counts,
            row[place] * num_values + value,
        )
        known = self._known_counts(history)[row[place], factor]
        if leave_out is not None:
            count = count - leave_out[place].to(count.dtype)
            known = known - leave_out[place].to(known.dtype)
        share = self.share[value].to(dtype)
        chosen = count.to(dtype) + self.smoothing * share
        lift = (chosen / ((known.to(dtype) + self.smoothing) * share)).log()
        entry = place * num_factors + factor
        zeros = torch.zeros(item.numel() * num_factors, dtype=dtype, device=item.device)
        total = zeros.index_add(0, entry, lift)
        number = zeros.index_add(0, entry, torch.ones_like(lift))
        return (total / number.clamp(min=1)).view(-1, num_factors)

    def add_items(self, data: HeteroData) -> Self:
        """A head for more items; see :class:`ScoreHead`.

        The shares of the values stay what they are. A new value, which nobody has
        chosen, has the share of a count of one, as one is added to each.
        """
        head = self._like(type(self)(data, self.smoothing))
        head.total = torch.where(self.total > 0, self.total, head.total)
        share = 1 / head.total[head.factor].double()
        head.share = torch.cat([self.share, share[self.share.numel() :]])
        return head

    def keep_items(self, data: HeteroData, item: Tensor) -> Self:
        """A head for some of the items; see :class:`ScoreHead`."""
        return self._like(type(self)(data, self.smoothing))

    def _known_counts(self, history: UserItems) -> Tensor:
        """The number of items with a known value :math:`n_{uk}` ``[B, K]``, int64."""
        known = self.known[history.item].long()
        count = known.new_zeros(history.num_users, known.size(1))
        return count.index_add_(0, history.rows(), known)

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        super()._apply(fn, recurse)
        device = self.factor.device
        self._item_values = self._item_values.to(device)
        self._columns = tree_map(lambda leaf: leaf.to(device), self._columns)
        # Kept in double precision, whatever the weights are cast to.
        self.share, self.total = self.share.to(device), self.total.to(device)
        return self


def _look_up(keys: Tensor, values: Tensor, wanted: Tensor) -> Tensor:
    """The values of some keys, zero for those that are not among the sorted keys."""
    if not keys.numel():
        return torch.zeros_like(wanted)
    place = torch.searchsorted(keys, wanted).clamp(max=keys.numel() - 1)
    return torch.where(keys[place] == wanted, values[place], 0)
