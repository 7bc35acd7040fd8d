"""A linear item-item model as a score, with ties between items that share values."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads.ease_dense import DENSE_ITEMS, check_memory, closed_form
from mars_pyg.heads.ease_local import LocalSystems
from mars_pyg.heads.item_kernel import ItemKernel
from mars_pyg.heads.row_search import find_entries
from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.heads.splitting import split_by_count
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.user_items import UserItems

SOLVERS = ("auto", "dense", "local")
#: Entries that are added up at once, and those that are searched for.
MAX_ENTRIES, MAX_SEARCHED = 2**22, 2**20
#: Items that the local form solves over for a new item, and those of a value that are
#: among them: an item without interactions is reached through its values alone.
NEW_ITEM_NEIGHBORS = 256


class EASE(ScoreHead):
    r"""Each item as a linear combination of the others in a user's history, from
    `"Embarrassingly Shallow Autoencoders for Sparse Data"
    <https://arxiv.org/abs/1905.03375>`_, with factor cliques.

    .. math::
        s(u, i) = \gamma \sum_{j \in \mathcal{I}_u} B_{ji}, \qquad
        \mathbf{B} = \mathbf{I} - \mathbf{P} \, \mathrm{diag}(\mathbf{P})^{-1}, \qquad
        \mathbf{P} = \Big( \mathbf{R}^\top \mathbf{R} + \omega \sum_k
        \hat{\mathbf{A}}_{f_k} + \lambda \mathbf{I} \Big)^{-1}

    for the train interactions :math:`\mathbf{R}` and the normalised graphs
    :math:`\hat{\mathbf{A}}_{f_k}` of the items that share a value of a factor
    (:class:`~mars_pyg.nn.FactorConv`), which act as users who chose all items of a
    value: items that share values are tied, those without interactions too. The
    diagonal of :math:`\mathbf{B}` is zero. :math:`\gamma` is :attr:`weight`.

    The dense form inverts an ``N x N`` matrix: time :math:`\mathcal{O}(N^3)`, memory
    :math:`3 N^2` numbers. The local one solves, for each item, the same least squares
    over its :math:`m` nearest items alone, those of the largest entries of the matrix
    that is inverted: time :math:`\mathcal{O}(N m^3)`, memory :math:`\mathcal{O}(N m)`.
    Over all other items it is the dense form. On Amazon Sports it is ten times faster
    than the dense one and keeps its Recall@20 (``benchmarks/ease.py``). A sparse
    approximate inverse of the whole matrix, as of `SANSA
    <https://doi.org/10.1145/3604915.3608827>`_, does not serve: cliques fill the
    matrix, with :math:`n_v^2` entries for a value of :math:`n_v` items.

    Args:
        num_items (int): Number of items.
        l2 (float, optional): :math:`\lambda`. (default: :obj:`100.0`)
        clique_weight (float, optional): :math:`\omega`; zero does without factors.
            (default: :obj:`30.0`)
        num_entries (int, optional): Entries of :math:`\mathbf{B}` that are kept for
            each item, the largest ones; :obj:`None` for all. (default: :obj:`256`)
        solver (str, optional): :obj:`"dense"`, :obj:`"local"`, or :obj:`"auto"`: dense
            for up to 10,000 items. (default: :obj:`"auto"`)
        num_neighbors (int, optional): :math:`m` of the local form.
            (default: :obj:`128`)

    Raises:
        ValueError: If an argument is out of its bounds.
    """

    name = "ease"
    ptr: Tensor
    index: Tensor
    value: Tensor

    def __init__(
        self,
        num_items: int,
        l2: float = 100.0,
        clique_weight: float = 30.0,
        num_entries: int | None = 256,
        solver: str = "auto",
        num_neighbors: int = 128,
    ) -> None:
        super().__init__(["ease"])
        if solver not in SOLVERS:
            raise ValueError(
                f"'solver' must be one of {list(SOLVERS)} (got {solver!r})"
            )
        if not l2 > 0:
            raise ValueError(f"'l2' must be positive (got {l2})")
        if not clique_weight >= 0:
            raise ValueError(
                f"'clique_weight' must not be negative (got {clique_weight})"
            )
        for name, value in (
            ("num_entries", num_entries),
            ("num_neighbors", num_neighbors),
        ):
            if value is not None and value < 1:
                raise ValueError(f"'{name}' must be positive (got {value})")
        self.num_items = num_items
        self.l2 = l2
        self.clique_weight = clique_weight
        self.num_entries = num_entries
        self.solver = solver
        self.num_neighbors = num_neighbors
        # B in compressed rows: of an item of the history, the items that it speaks for.
        self.register_buffer("ptr", torch.zeros(num_items + 1, dtype=torch.int64))
        self.register_buffer("index", torch.empty(0, dtype=torch.int64))
        self.register_buffer("value", torch.empty(0))
        # Entries do not tell: of items that nothing ties there are none.
        self._is_fitted = False

    def fit(self, data: HeteroData, dtype: torch.dtype = torch.float32) -> EASE:
        r"""Compute :math:`\mathbf{B}` from the train interactions and the values.

        Args:
            data: The graph. Without values there are no cliques.
            dtype: The precision of the solution. (default: :obj:`torch.float32`)

        Returns:
            This head.

        Raises:
            MemoryError: If the dense form was asked for, and does not fit the memory.
            ValueError: If there are other than :obj:`num_items` items, or
                :math:`\lambda` is too small for the precision.
        """
        kernel = ItemKernel.from_data(data, self.l2, self.clique_weight)
        if kernel.num_items != self.num_items:
            raise ValueError(
                f"'num_items' must be the number of items of 'data', "
                f"{kernel.num_items} (got {self.num_items})"
            )
        solver = self.solver
        if solver == "auto":
            solver = "dense" if self.num_items <= DENSE_ITEMS else "local"
        if solver == "dense":
            check_memory(self.num_items, dtype)
            self.set_weights(closed_form(kernel, self.num_entries, dtype))
        else:
            systems = LocalSystems(kernel, self.num_neighbors, dtype)
            self.set_weights(systems.solve(self.num_entries))
        return self

    def refit(self, data: HeteroData) -> Self:
        """A head of the same options and weight for other interactions.

        Args:
            data: The graph of the same items.
        """
        head = self._empty(self.num_items)
        head.fit(data, sum_dtype(self.value.dtype))
        return self._like(head)

    def score(self, history: UserItems) -> Tensor:
        """Score every item for some users; see :class:`ScoreHead`."""
        self.check_fitted()
        score = self.weight.new_zeros(history.num_users * self.num_items)
        count = self.ptr[history.item + 1] - self.ptr[history.item]
        parts = split_by_count(count, MAX_ENTRIES, history.rows(), history.item, count)
        for row, item, number in parts:
            place = torch.arange(item.numel(), device=item.device)
            place = place.repeat_interleave(number)
            before = number.cumsum(0) - number
            entry = torch.arange(place.numel(), device=item.device)
            entry += (self.ptr[item] - before)[place]
            target = self.index[entry].add_(row[place] * self.num_items)
            value = self.value[entry].to(self.weight.dtype)
            score.index_add_(0, target, value * self.weight)
        return score.view(-1, self.num_items)

    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """The sums over the histories; see :class:`ScoreHead`.

        The diagonal is zero, so that an item never speaks for itself.
        """
        totals = [self.weight.new_empty(0)]
        count = history.count[row]
        for rows, items in split_by_count(count, MAX_SEARCHED, row, item):
            pair, _, contribution = self.contributions(history, rows, items)
            total = contribution.new_zeros(items.numel())
            totals.append(total.index_add_(0, pair, contribution))
        return torch.cat(totals).view(-1, 1)

    def contributions(
        self, history: UserItems, row: Tensor, item: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each item of the history says of an item, without the weight.

        Args:
            history: The items of each of ``B`` users.
            row: The user of each pair ``[P]``, int64.
            item: The item of each pair ``[P]``, int64.

        Returns:
            A pair, an item of its user's history, and :math:`B_{ji}`, each ``[E]``.
        """
        self.check_fitted()
        pair, seen = history.select(row)
        place = find_entries(self.ptr, self.index, seen, item[pair])
        hit = place >= 0
        value = self.value[place[hit]].to(self.weight.dtype)
        return pair[hit], seen[hit], value

    def add_items(self, data: HeteroData) -> Self:
        r"""A head for more items; see :class:`ScoreHead`.

        A new item's column of :math:`\mathbf{B}` is that of the local form, through the
        items that share its values. It speaks for no item: its row is zero.
        """
        from scipy.sparse import csr_array, hstack, vstack

        kernel = ItemKernel.from_data(data, self.l2, self.clique_weight)
        num_items = kernel.num_items
        number = NEW_ITEM_NEIGHBORS
        systems = LocalSystems(kernel, number, sum_dtype(self.value.dtype), number)
        columns = systems.solve(self.num_entries, first=self.num_items)
        # The rows of the new items.
        nothing = csr_array((num_items - self.num_items, self.num_items))
        known = vstack([self._weights(), nothing.astype(columns.dtype)])
        return self._with_weights(hstack([known, columns]))

    def keep_items(self, data: HeteroData, item: Tensor) -> Self:
        r"""A head for some of the items; see :class:`ScoreHead`.

        Its entries are those of this head, in the rows and columns of the items.
        """
        place = item.cpu().numpy()
        return self._with_weights(self._weights()[place][:, place])

    def set_weights(self, weights: Any) -> None:
        r"""Take a matrix for :math:`\mathbf{B}`.

        Args:
            weights: A scipy sparse array ``[N, N]``.
        """
        rows, device = weights.tocsr(), self.weight.device
        self._is_fitted = True
        self.ptr = torch.from_numpy(rows.indptr.astype(np.int64)).to(device)
        self.index = torch.from_numpy(rows.indices.astype(np.int64)).to(device)
        self.value = torch.from_numpy(rows.data).to(device)

    def check_fitted(self) -> None:
        """Refuse a head without a matrix, whose scores would all be zero.

        Raises:
            ValueError: If it was neither fitted nor loaded.
        """
        if not (self.index.numel() or self._is_fitted):
            raise ValueError(
                "EASE is not fitted; call 'fit(data)', or load the state of one that is"
            )

    def _weights(self) -> Any:
        r""":math:`\mathbf{B}`, a scipy csr array."""
        from scipy.sparse import csr_array

        self.check_fitted()
        value = self.value.to(sum_dtype(self.value.dtype))
        parts = value, self.index, self.ptr
        shape = self.num_items, self.num_items
        return csr_array(tuple(part.cpu().numpy() for part in parts), shape=shape)

    def _with_weights(self, weights: Any) -> Self:
        r"""A head of the same options for another matrix :math:`\mathbf{B}`."""
        head = self._empty(weights.shape[0])
        head.set_weights(weights)
        return self._like(head)

    def _empty(self, num_items: int) -> Self:
        """A head of the same options, without entries."""
        return type(self)(
            num_items,
            self.l2,
            self.clique_weight,
            self.num_entries,
            self.solver,
            self.num_neighbors,
        )

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any):  # type: ignore[no-untyped-def]
        # The number of entries is known when they are loaded.
        for name in ("index", "value"):
            if prefix + name in state:
                empty = torch.empty_like(state[prefix + name], device=self.ptr.device)
                setattr(self, name, empty)
        self._is_fitted = self._is_fitted or prefix + "ptr" in state
        super()._load_from_state_dict(state, prefix, *args)
