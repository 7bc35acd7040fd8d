"""The prepared form of a view's factor graphs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mars_pyg.kernels.sparse import SparseMatrix, sort_order

#: The engines' tables hold at most so many values, each of at least so many items.
MAX_SLOTS, MIN_COUNT = 4096, 32


class FactorGraph(NamedTuple):
    r"""All factor graphs of a view as one item–value incidence, prepared for use.

    Built once by :meth:`from_edge_index` and passed to the layers in place of
    ``edge_index``. Incidence is binary: an edge given twice counts once.

    Args:
        incidence: The :math:`N \times V` incidence; an entry has the weight
            :math:`(\mathbf{D}_i)^{-1/2}`, one over the root of the number of values
            that the item has in the factor, and 0 where it repeats another. The
            weights are :obj:`None` when all are 1.
        factor: Factor of each value ``[V]``, int64.
        gate_index: For each entry, in row order, ``item * K + factor`` ``[E]``, int64.
        inverse_count: One over the number of items with a value ``[V]``, float64;
            0 for a value without items.
        present: Whether an item has a value in a factor ``[N, K]``, bool.
        slot: For each value, its place in the tables in which the engines sum up the
            most frequent values beside each other, or -1 ``[V]``, int32.
    """

    incidence: SparseMatrix
    factor: Tensor
    gate_index: Tensor
    inverse_count: Tensor
    present: Tensor
    slot: Tensor

    @classmethod
    # What is made in inference mode, as in a validation, cannot be trained with later.
    @torch.inference_mode(False)
    def from_edge_index(
        cls, edge_index: Tensor, factor: Tensor, num_items: int, num_factors: int
    ) -> FactorGraph:
        """Sort, count and check the edges of a view.

        Args:
            edge_index: Edges from items to values ``[2, E]``, int64, in any order.
            factor: Factor of each value ``[V]``, int64.
            num_items: Number of items :math:`N`.
            num_factors: Number of factors :math:`K`.

        Raises:
            ValueError: If a shape, a dtype or an index is out of its bounds.
        """
        # Reading bounds would break the graph of torch.compile; eager runs check.
        eager = not torch.compiler.is_compiling()
        if eager:
            _check(edge_index, factor, num_items, num_factors)
            factor = factor.clone() if factor.is_inference() else factor
        item, value, weight, _ = incidence_weights(
            edge_index, factor, num_items, num_factors
        )
        first = (weight > 0).to(torch.float64)
        count = weight.new_zeros(factor.numel()).scatter_add_(0, value, first)
        gate_index = item * num_factors + factor[value]
        present = torch.zeros(
            num_items * num_factors, dtype=torch.bool, device=item.device
        ).index_fill_(0, gate_index, True)
        all_ones = eager and not weight.is_meta and bool((weight == 1).all())
        return cls(
            incidence=SparseMatrix.from_sorted(
                item, value, num_items, factor.numel(), None if all_ones else weight
            ),
            factor=factor,
            gate_index=gate_index,
            inverse_count=torch.where(count > 0, 1 / count.clamp(min=1), 0.0),
            present=present.view(num_items, num_factors),
            slot=_slots(count),
        )

    @property
    def num_items(self) -> int:
        """Number of items :math:`N`."""
        return self.present.size(0)

    @property
    def num_factors(self) -> int:
        """Number of factors :math:`K`."""
        return self.present.size(1)

    @property
    def num_values(self) -> int:
        """Number of values :math:`V` of all factors."""
        return self.factor.numel()

    def edge_index(self) -> Tensor:
        """The edges from items to values, sorted by item ``[2, E]``, int64."""
        return torch.stack([self.incidence.rows(), self.incidence.col.long()])


def _slots(count: Tensor) -> Tensor:
    """Give each value a slot, or the most frequent ones if there are many."""
    num_values = count.numel()
    slot = torch.arange(num_values, dtype=torch.int32, device=count.device)
    if num_values <= MAX_SLOTS:
        return slot
    rank = torch.empty_like(slot)
    rank[count.argsort(descending=True, stable=True)] = slot
    # The items of a rare value are read where they are: a table would not be re-used.
    return rank.masked_fill_((rank >= MAX_SLOTS) | (count < MIN_COUNT), -1)


def incidence_weights(
    edge_index: Tensor, factor: Tensor, num_items: int, num_factors: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Sort the edges by item and weigh them by :math:`\mathbf{D}_i^{-1/2}`.

    Shapes do not depend on the data, so that this compiles: an edge given twice stays,
    with weight 0.

    Returns:
        Item, value and weight (float64) of each edge, sorted, and the order ``[E]``
        that sorts the given edges so.
    """
    item, value = edge_index[0], edge_index[1]
    order = sort_order(item, value, max(factor.numel(), 1))
    item, value = item[order], value[order]
    repeated = torch.zeros_like(item, dtype=torch.bool)
    repeated[1:] = (item[1:] == item[:-1]) & (value[1:] == value[:-1])
    first = (~repeated).to(torch.float64)
    group = item * num_factors + factor[value]
    degree = first.new_zeros(num_items * num_factors).scatter_add_(0, group, first)
    return item, value, first * degree[group].clamp(min=1).rsqrt(), order


def _check(
    edge_index: Tensor, factor: Tensor, num_items: int, num_factors: int
) -> None:
    if factor.dtype != torch.int64 or factor.dim() != 1:
        raise ValueError(
            f"'factor' must have shape [V] and be int64 "
            f"(got {list(factor.shape)} and {factor.dtype})"
        )
    check_edges("edge_index", edge_index, num_items, factor.numel(), "items", "values")
    _check_bounds("factor", factor, num_factors, "factors")


def check_edges(
    name: str,
    edge_index: Tensor,
    num_sources: int,
    num_targets: int,
    sources: str = "nodes",
    targets: str = "nodes",
) -> None:
    """Refuse edges that are not ``[2, E]``, int64 and between existing nodes."""
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(
            f"'{name}' must have shape [2, E], from {sources} to {targets} "
            f"(got {list(edge_index.shape)})"
        )
    if edge_index.dtype != torch.int64:
        raise ValueError(f"'{name}' must be int64 (got {edge_index.dtype})")
    _check_bounds(f"{name}[0]", edge_index[0], num_sources, sources)
    _check_bounds(f"{name}[1]", edge_index[1], num_targets, targets)


def _check_bounds(name: str, index: Tensor, size: int, what: str) -> None:
    if index.numel() == 0 or index.is_meta:
        return
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"'{name}' refers to {what} {low} to {high}, but there are {size} "
            f"{what}, numbered from 0"
        )
