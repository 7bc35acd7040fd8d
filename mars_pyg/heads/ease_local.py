"""EASE over the nearest items of each item, in small dense systems."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mars_pyg.heads.item_kernel import ItemKernel, singular
from mars_pyg.heads.item_weights import ItemWeights
from mars_pyg.heads.submatrices import Submatrices
from mars_pyg.user_items import UserItems

#: Entries of a row of the Gram matrix that are read at most, the largest ones.
MAX_GRAM_ENTRIES = 512
#: Entries of the small systems that are held at once.
BLOCK_ENTRIES = 2**19
#: Products of the Gram matrix that are summed at once.
GRAM_PRODUCTS = 2**25
#: So many items are solved for without a word.
QUIET_ITEMS = 10_000


class LocalSystems:
    r"""Solves each item's least squares over its nearest items alone.

    .. math::
        \mathbf{B}_{S_i i} = \mathbf{A}_{S_i S_i}^{-1} \mathbf{A}_{S_i i}, \qquad
        B_{ji} = 0 \text{ for } j \notin S_i

    for the :math:`m` items :math:`S_i` of the largest entries :math:`A_{ji}`, and the
    kernel :math:`\mathbf{A}` of :class:`ItemKernel`. With :math:`S_i` all other items
    it is the closed form of EASE, column by column.

    Candidates are the items that share a user with the item, the 512 of most users at
    most, and the most popular items of each of its values. Systems are built and
    solved in blocks of items: memory is in that of the Gram matrix, at most 512 entries
    for an item, and time is :math:`\mathcal{O}(N m (m^2 + 512))`.

    Args:
        kernel: :math:`\mathbf{A}`.
        num_neighbors: :math:`m`.
        dtype: The precision.
        items_per_value: Items of a value that are candidates of its items.
            (default: :obj:`32`)
    """

    def __init__(
        self,
        kernel: ItemKernel,
        num_neighbors: int,
        dtype: torch.dtype,
        items_per_value: int = 32,
    ) -> None:
        self.kernel = kernel
        self.num_items = kernel.num_items
        self.num_neighbors = min(num_neighbors, max(self.num_items - 1, 1))
        self.dtype = dtype
        gram, gram_value, self._diagonal = self._truncated_gram()
        values = kernel.values.tocsr()
        #: The values of each item, and the weight of each, sqrt(omega) Y_iv.
        self._values = UserItems(
            torch.from_numpy(values.indptr.astype(np.int64)),
            torch.from_numpy(values.indices.astype(np.int64)),
            kernel.factor.size,
        )
        weight = values.data * np.sqrt(kernel.clique_weight)
        self._weight = torch.from_numpy(weight).to(dtype)
        # Where each value stands among those of a block of items.
        self._column = torch.full((kernel.factor.size,), -1)
        self._popular = self._popular_items(items_per_value)
        rows = max(BLOCK_ENTRIES // self.num_neighbors**2, 1)
        self.block_size = min(rows, max(self.num_items, 1), 512)
        self._gram = Submatrices(gram, gram_value, self.block_size)

    def solve(self, num_entries: int | None, first: int = 0) -> Any:
        r"""Solve for all items, or for the last ones.

        Args:
            num_entries: Entries to keep for each item; :obj:`None` for all.
            first: The first item to solve for. The items before it are then the only
                neighbours. (default: :obj:`0`, all items, by all)

        Returns:
            The columns of :math:`\mathbf{B}` of the items, a scipy csc array.
        """
        kept = min(num_entries or self.num_neighbors, self.num_neighbors)
        weights = ItemWeights(self.num_items)
        with tqdm(
            total=self.num_items - first,
            desc="EASE",
            unit="item",
            disable=self.num_items - first < QUIET_ITEMS,
        ) as bar:
            for start in range(first, self.num_items, self.block_size):
                stop = min(start + self.block_size, self.num_items)
                target = torch.arange(start, stop)
                index, value = self._solve_block(target, first or self.num_items)
                best = value.abs().topk(kept, dim=1).indices
                weights.add(index.gather(1, best), value.gather(1, best))
                bar.update(stop - start)
        return weights.columns()

    def _solve_block(
        self, target: Tensor, num_candidates: int
    ) -> tuple[Tensor, Tensor]:
        """The neighbours ``[b, m]`` of a block of items, and their coefficients."""
        neighbor, right = self._neighbors(target, num_candidates)
        # A place without a neighbour is an equation of its own: x = 0.
        try:
            value = torch.linalg.solve(self._matrix(neighbor), right)
        except torch.linalg.LinAlgError as error:
            raise singular(self.kernel) from error
        return neighbor.clamp(min=0), value

    def _neighbors(self, target: Tensor, num_candidates: int) -> tuple[Tensor, Tensor]:
        """The items of the largest entries of the targets' rows, and these entries."""
        row, entry = self._gram.entries(target)
        item, count = self._gram.rows.item[entry], self._gram.value[entry]
        if self._popular is not None:
            place, value = self._values.select(target)
            more = self._popular[value]
            place = place[:, None].expand_as(more)
            row = torch.cat([row, place[more >= 0]])
            item = torch.cat([item, more[more >= 0]])
        if self.num_neighbors >= num_candidates - 1:
            # There is room for all: also for those that the row says nothing of.
            place, everyone = torch.meshgrid(
                torch.arange(target.numel()),
                torch.arange(num_candidates),
                indexing="ij",
            )
            row = torch.cat([row, place.flatten()])
            item = torch.cat([item, everyone.flatten()])
        count = torch.cat([count, count.new_zeros(item.numel() - count.numel())])
        other = (item != target[row]) & (item < num_candidates)
        row, item, count = row[other], item[other], count[other]
        # An item that is a candidate in several ways is one candidate.
        key, inverse = (row * self.num_items + item).unique(return_inverse=True)
        count = count.new_zeros(key.numel()).index_add_(0, inverse, count)
        row = key.div(self.num_items, rounding_mode="floor")
        item = key - row * self.num_items
        right = count + self._clique_entries(target, row, item)
        # The order by row, entry and popularity; the first m of each row.
        order = torch.argsort(self._diagonal[item], descending=True, stable=True)
        order = order[torch.argsort(right[order], descending=True, stable=True)]
        order = order[torch.argsort(row[order], stable=True)]
        row, item, right = row[order], item[order], right[order]
        number = torch.bincount(row, minlength=target.numel())
        rank = torch.arange(row.numel()) - (number.cumsum(0) - number)[row]
        first = rank < self.num_neighbors
        shape = (target.numel(), self.num_neighbors)
        neighbor = torch.full(shape, -1, dtype=torch.int64)
        entries = torch.zeros(shape, dtype=self.dtype)
        neighbor[row[first], rank[first]] = item[first]
        entries[row[first], rank[first]] = right[first]
        return neighbor, entries

    def _matrix(self, neighbor: Tensor) -> Tensor:
        """The kernel among the neighbours of each item ``[b, m, m]``."""
        matrix = self._gram.take(neighbor)
        # Of a pair, one row may have been cut before the other's entry.
        matrix = torch.maximum(matrix, matrix.transpose(1, 2))
        if self._popular is not None:
            matrix += self._cliques(neighbor)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        diagonal += self.kernel.l2
        return matrix

    def _cliques(self, neighbor: Tensor) -> Tensor:
        """What shared values add to the kernel among the neighbours ``[b, m, m]``."""
        size, width = neighbor.shape
        block, place = (neighbor >= 0).nonzero().unbind(1)
        row, entry = self._values.places(neighbor[block, place])
        block, place, weight = block[row], place[row], self._weight[entry]
        num_values = self.kernel.factor.size
        key = block * num_values + self._values.item[entry]
        key, inverse, count = key.unique(return_inverse=True, return_counts=True)
        # A value of one neighbour alone is on the diagonal only, and needs no column.
        shared = count > 1
        owner = key[shared].div(num_values, rounding_mode="floor")
        number = torch.bincount(owner, minlength=size)
        column = torch.full_like(key, -1)
        column[shared] = torch.arange(owner.numel())
        column[shared] -= (number.cumsum(0) - number)[owner]
        column, alone = column[inverse], ~shared[inverse]
        rows = weight.new_zeros(size, width, int(number.max()))
        rows[block[~alone], place[~alone], column[~alone]] = weight[~alone]
        matrix = rows @ rows.transpose(1, 2)
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        own = weight[alone].square()
        diagonal.index_put_((block[alone], place[alone]), own, accumulate=True)
        return matrix

    def _clique_entries(self, target: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """What shared values add to the entries of targets and items ``[P]``."""
        total = torch.zeros(row.numel(), dtype=self.dtype)
        if self._popular is None:
            return total
        place, entry = self._values.places(target)
        value, column = self._values.item[entry].unique(return_inverse=True)
        # The weights of the targets' own values, and a column of zeros for all others.
        table = total.new_zeros(target.numel(), value.numel() + 1)
        table[place, column] = self._weight[entry]
        self._column[value] = torch.arange(value.numel())
        pair, entry = self._values.places(item)
        column = self._column[self._values.item[entry]]
        self._column[value] = -1
        both = table[row[pair], column] * self._weight[entry]
        return total.index_add_(0, pair, both)

    def _truncated_gram(self) -> tuple[UserItems, Tensor, Tensor]:
        """The largest entries of each row of the Gram matrix."""
        interactions = self.kernel.interactions.astype(np.float32)
        transposed = interactions.T.tocsr()
        counts: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
        indices: list[np.ndarray] = [np.empty(0, dtype=np.int32)]
        values: list[np.ndarray] = [np.empty(0, dtype=np.float32)]
        products = transposed @ np.diff(interactions.indptr)
        part = products.cumsum() // GRAM_PRODUCTS
        bounds = np.flatnonzero(np.diff(part, prepend=-1, append=np.inf))
        for start, stop in pairwise(bounds.tolist()):
            block = transposed[start:stop] @ interactions
            count = np.diff(block.indptr)
            order: np.ndarray | slice = slice(None)
            if count.size and count.max() > MAX_GRAM_ENTRIES:
                row = np.repeat(np.arange(count.size), count)
                # The item itself is always the largest of its row.
                order = np.lexsort((block.indices, -block.data, row))
                rank = np.arange(row.size) - block.indptr[row]
                order = order[rank < MAX_GRAM_ENTRIES]
                count = np.minimum(count, MAX_GRAM_ENTRIES)
            counts.append(count)
            indices.append(block.indices[order])
            values.append(block.data[order])
        gram = UserItems(
            torch.from_numpy(np.concatenate(counts).cumsum()),
            torch.from_numpy(np.concatenate(indices).astype(np.int64)),
            self.num_items,
        )
        value = torch.from_numpy(np.concatenate(values))
        diagonal = torch.from_numpy(np.diff(transposed.indptr))
        return gram, value.to(self.dtype), diagonal

    def _popular_items(self, number: int) -> Tensor | None:
        """The most popular items of each value ``[V, number]``, -1 beyond them."""
        if not self.kernel.clique_weight:
            return None
        values = self.kernel.values.tocoo()
        popularity = self._diagonal.numpy()[values.row]
        order = np.lexsort((values.row, -popularity, values.col))
        value, item = values.col[order], values.row[order]
        rank = np.arange(value.size) - np.searchsorted(value, value)
        first = rank < number
        popular = np.full((self.kernel.factor.size, number), -1)
        popular[value[first], rank[first]] = item[first]
        return torch.from_numpy(popular)
