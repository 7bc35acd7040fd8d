"""LightGCN and BPR over the user–item graph of a HeteroData."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch_geometric.data import HeteroData

from mars_pyg.kernels import SparseMatrix
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.nn.light_gcn_propagation import propagate_layers
from mars_pyg.nn.light_gcn_without import user_without_items
from mars_pyg.nn.losses import BPRLoss
from mars_pyg.nn.recommender import Recommender
from mars_pyg.user_items import UserItems, split_edges


class LightGCN(Recommender):
    r"""LightGCN, from `"LightGCN: Simplifying and Powering Graph Convolution Network
    for Recommendation" <https://arxiv.org/abs/2002.02126>`_.

    .. math::
        \mathbf{E}_U^{(l+1)} = \hat{\mathbf{R}} \mathbf{E}_I^{(l)}, \quad
        \mathbf{E}_I^{(l+1)} = \hat{\mathbf{R}}^\top \mathbf{E}_U^{(l)}, \quad
        \mathbf{e} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{e}^{(l)}, \quad
        s(u, i) = \langle \mathbf{e}_u, \mathbf{e}_i \rangle

    with the train interactions :math:`\hat{\mathbf{R}} = \mathbf{D}_U^{-1/2} \mathbf{R}
    \mathbf{D}_I^{-1/2}`, trained with the BPR loss and L2 regularisation of the
    embeddings of each triplet.

    Args:
        data (HeteroData): The graph; :obj:`edge_index` of
            :obj:`("user", "interacts", "item")` holds the train interactions.
        embedding_dim (int, optional): Embedding width :math:`d`. (default: :obj:`64`)
        num_layers (int, optional): Number of propagation layers :math:`L`.
            (default: :obj:`3`)
        regularization (float, optional): Weight of the squared L2 norm of the
            embeddings of a triplet, averaged over the batch. (default: :obj:`0.01`)
        edge_dropout (float, optional): Share of the train interactions that an epoch's
            propagation leaves out. Edges are kept with a probability in proportion to
            :math:`1 / \sqrt{d_u d_i}`, drawn anew each epoch, as in
            `FREEDOM <https://arxiv.org/abs/2211.06924>`_. (default: :obj:`0.0`)

    Raises:
        ValueError: If an argument is out of its bounds.
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        num_layers: int = 3,
        regularization: float = 0.01,
        edge_dropout: float = 0.0,
    ) -> None:
        super().__init__(data["user"].num_nodes, data["item"].num_nodes)
        if embedding_dim < 1:
            raise ValueError(f"'embedding_dim' must be positive (got {embedding_dim})")
        if num_layers < 0:
            raise ValueError(f"'num_layers' must not be negative (got {num_layers})")
        if not 0 <= edge_dropout < 1:
            raise ValueError(f"'edge_dropout' must be in [0, 1) (got {edge_dropout})")
        if not regularization >= 0:
            raise ValueError(
                f"'regularization' must not be negative (got {regularization})"
            )
        self.embedding_dim = embedding_dim
        self.num_layers = num_layers
        self.regularization = regularization
        self.edge_dropout = edge_dropout
        self.user_embedding = torch.nn.Embedding(self.num_users, embedding_dim)
        self.item_embedding = torch.nn.Embedding(self.num_items, embedding_dim)
        self.bpr = BPRLoss()
        #: What is added to the scores of triplets in the loss, such as a
        #: :class:`~mars_pyg.heads.ScoreOffset`; no part of the state.
        self.score_offset: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        # Graphs move with the module, and are no part of its state.
        self._graphs: dict[str, Any] = {
            "interactions": self._normalize(split_edges(data, "train"))
        }
        self._cast: tuple[torch.dtype, dict[str, Any]] | None = None
        LightGCN.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        torch.nn.init.xavier_uniform_(self.user_embedding.weight)
        torch.nn.init.xavier_uniform_(self.item_embedding.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Propagate, and return the users ``[U, d]`` and the items ``[N, d]``."""
        return propagate_layers(
            self.user_embedding.weight,
            self.item_embedding.weight,
            self._interactions(),
            self.num_layers,
        )

    def user_without_items(self, user: int, item: Tensor) -> Tensor | None:
        """A user without each of some items; see :class:`Recommender`.

        The embeddings stay as they were learned, and are propagated anew. Of a subclass
        whose :meth:`forward` is another it is not known: its users may be other ones.
        """
        if self.num_layers == 0 or not self._has_propagated_users():
            return None
        return user_without_items(
            user,
            item,
            self.user_embedding.weight,
            self.item_embedding.weight,
            self._interactions(),
            self.num_layers,
        )

    def _has_propagated_users(self) -> bool:
        """Whether the users of :meth:`forward` are what the propagation brings."""
        return type(self).forward is LightGCN.forward

    def fit_fold_in(
        self, representations: tuple[Tensor, Tensor], history: UserItems
    ) -> FoldIn:
        r"""Learn to represent users by their histories; see :class:`Recommender`.

        From what the propagation brings to a user from an item,

        .. math::
            \mathbf{x}_j = \frac{1}{\sqrt{d_j}} \sum_{l=0}^{L-1} \mathbf{e}_j^{(l)}

        the map learns what the user's own embedding adds, which is unknown. On Amazon
        Baby, validation Recall@20 of MARS with heads is .1068 with users represented
        so, and .1072 with those that it has learned; it is .1049 by a map from
        :math:`\mathbf{g}_j`, and .1048 by a ridge regression for each user, as in
        implicit ALS (``benchmarks/fold_in.py``).

        Args:
            representations: What :meth:`forward` returned.
            history: The items that each user was trained on.
        """
        if self.num_layers == 0:
            return super().fit_fold_in(representations, history)
        return FoldIn.fit(representations[0], self._item_messages(), history)

    @torch.no_grad()
    def _item_messages(self) -> Tensor:
        """What a user gets of an item in all layers ``[N, d]``."""
        matrix: SparseMatrix = self.graphs()["interactions"]
        user, item = self.user_embedding.weight, self.item_embedding.weight
        total = item
        for _ in range(self.num_layers - 1):
            user, item = matrix.matmul(item), matrix.t().matmul(user)
            total = total + item
        degree = matrix.ptr_t.diff().clamp(min=1).to(total.dtype)
        return total * degree.rsqrt()[:, None]

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """BPR loss of a batch of triplets; see :class:`Recommender`."""
        tables = [self.item_embedding.weight]
        return {"loss": self._bpr_loss(self(), user, positive, negative, tables)}

    def start_epoch(self, generator: torch.Generator) -> None:
        """Draw the edges that this epoch's propagation keeps."""
        if self.edge_dropout == 0 or self.num_layers == 0:
            return
        matrix: SparseMatrix = self._graphs["interactions"]
        assert matrix.weight is not None
        num_edges = matrix.col.numel()
        if num_edges == 0:
            return
        num_kept = max(round((1 - self.edge_dropout) * num_edges), 1)
        # The smallest of exponential variables with these rates are a sample without
        # replacement with these weights (Efraimidis and Spirakis, 2006); multinomial()
        # does the same up to 2^24 edges only.
        exponential = torch.empty(num_edges, dtype=torch.float64)
        exponential.exponential_(generator=generator)
        key = exponential / matrix.weight.cpu()
        kept = key.topk(num_kept, largest=False, sorted=False).indices.sort().values
        edges = torch.stack([matrix.rows(), matrix.col.long()])
        self._graphs["kept"] = self._normalize(edges[:, kept.to(edges.device)])
        self._cast = None

    def graphs(self) -> dict[str, Any]:
        """The graphs, their weights in the dtype in which this model sums.

        They are kept in float64, and cast once, not at every product.
        """
        dtype = sum_dtype(self.user_embedding.weight.dtype)
        if self._cast is None or self._cast[0] != dtype:
            # What is made in inference mode cannot be trained with later.
            with torch.inference_mode(False):
                cast = tree_map(
                    lambda leaf: (
                        leaf.to(dtype)
                        if isinstance(leaf, Tensor) and leaf.is_floating_point()
                        else leaf
                    ),
                    self._graphs,
                )
            self._cast = dtype, cast
        return self._cast[1]

    def _interactions(self) -> SparseMatrix:
        """The interactions to propagate over: all, but for dropped ones in training."""
        graphs = self.graphs()
        if self.training and "kept" in graphs:
            return graphs["kept"]
        return graphs["interactions"]

    def _normalize(self, edge_index: Tensor) -> SparseMatrix:
        user, item = edge_index
        user_degree = torch.bincount(user, minlength=self.num_users).double()
        item_degree = torch.bincount(item, minlength=self.num_items).double()
        weight = (user_degree[user] * item_degree[item]).rsqrt()
        return SparseMatrix.from_edges(
            user, item, self.num_users, self.num_items, weight
        )

    def _bpr_loss(
        self,
        representations: tuple[Tensor, Tensor],
        user: Tensor,
        positive: Tensor,
        negative: Tensor,
        item_tables: Sequence[Tensor],
    ) -> Tensor:
        """BPR loss; rows of the user embedding and ``item_tables`` are regularised."""
        users, items = representations
        # embedding() has a faster gradient than indexing, and one call than two.
        triplet_user = torch.nn.functional.embedding(user, users)
        pairs = torch.cat([positive, negative])
        triplet_items = torch.nn.functional.embedding(pairs, items)
        scores = (triplet_user * triplet_items.view(2, *triplet_user.shape)).sum(dim=-1)
        better, worse = scores
        if self.score_offset is not None:
            better = better + self.score_offset(user, positive, negative)
        # The mean over no triplets would be no number.
        loss = self.bpr(better, worse) if user.numel() else (better - worse).sum()
        if self.regularization == 0:
            return loss
        # A row's square counts as often as the row is in a triplet: no row is copied.
        squares = _weighted_square(self.user_embedding.weight, user)
        for table in item_tables:
            squares = squares + _weighted_square(table, pairs)
        return loss + self.regularization * squares / max(user.numel(), 1)

    def _apply(self, fn: Any, recurse: bool = True) -> LightGCN:
        super()._apply(fn, recurse)
        # Only the device of a graph changes: weights keep their precision.
        device = fn(
            torch.zeros(1, device=self._graphs["interactions"].ptr.device)
        ).device
        self._graphs = tree_map(
            lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf,
            self._graphs,
        )
        self._cast = None
        return self

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.num_users}, {self.num_items}, "
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers})"
        )


def _weighted_square(table: Tensor, index: Tensor) -> Tensor:
    """The sum of the squares of the rows ``index`` of a table."""
    count = torch.bincount(index, minlength=table.size(0)).to(table.dtype)
    # The sum of a large batch is beyond float16, and a count is rounded in bfloat16.
    with torch.autocast(table.device.type, enabled=False):
        square: Tensor = _WeightedSquare.apply(table, count)
    return square


class _WeightedSquare(torch.autograd.Function):
    """A gradient in one pass over the table, where that of square() takes three."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, count: Tensor) -> Tensor:
        ctx.save_for_backward(table, count)
        return count @ table.square().sum(dim=1)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        table, count = ctx.saved_tensors
        return (2 * upstream * count)[:, None] * table, None


class BPR(LightGCN):
    r"""Matrix factorisation with the BPR loss, from `"BPR: Bayesian Personalized
    Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_.

    It is :class:`LightGCN` without layers.

    Args:
        data (HeteroData): See :class:`LightGCN`.
        embedding_dim (int, optional): Embedding width :math:`d`. (default: :obj:`64`)
        regularization (float, optional): See :class:`LightGCN`.
            (default: :obj:`0.01`)
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        regularization: float = 0.01,
    ) -> None:
        super().__init__(data, embedding_dim, 0, regularization)
