"""FactorConv: items averaged into attribute values and read back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import Adj

from mars_pyg.edge_forms import to_edge_index
from mars_pyg.kernels import FactorGraph, factor_propagate
from mars_pyg.kernels.factor_graph import incidence_weights
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.kernels.propagate import check_engine, check_shapes


class FactorConv(MessagePassing):
    r"""The factor propagation of the MARS paper (Eq. 3, 4 and 6), without parameters.

    .. math::
        \mathbf{H}_{f_k} = \hat{\mathbf{A}}_{f_k} \mathbf{X}, \qquad
        \hat{\mathbf{A}}_{f_k} = \mathbf{D}_i^{-1/2} \mathbf{B}_k \mathbf{D}_v^{-1}
        \mathbf{B}_k^\top \mathbf{D}_i^{-1/2}

    where :math:`\mathbf{B}_k` is the binary incidence of items and the values of factor
    :math:`k`. With one value per item, :math:`\hat{\mathbf{A}}_{f_k}` is the normalised
    clique graph of Eq. 3 and 4, and the propagation is the mean over the items that
    share the value. The graph is never built: items are averaged into values and read
    back in :math:`\mathcal{O}(|\mathcal{E}| d)` time. Given a gate :math:`\alpha`, the
    factors are fused on the way (Eq. 7):
    :math:`\mathbf{H}_i = \sum_k \alpha_i^{(k)} \mathbf{H}_{f_k}(i)`.

    The rows of an item without a value under a factor are zeros. An edge given twice
    counts once. Explainers, which set edge masks, and :obj:`fuse = False` switch to
    plain message passing, which gives the same result.

    Args:
        num_factors (int): Number of factors :math:`K`.
        mode (str, optional): :obj:`"hypergraph"`, or :obj:`"clique"`, Eq. 3 to the
            letter for several values per item, dense and for small data.
            (default: :obj:`"hypergraph"`)
        engine (str, optional): See :func:`~mars_pyg.kernels.factor_propagate`.
            (default: :obj:`"auto"`)
        **kwargs (optional): Additional arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`; the aggregation and the
            flow are Eq. 3's own.

    Shapes:
        - **input:** items :math:`(N, d)`, edges from items to values
          :math:`(2, |\mathcal{E}|)` or a prepared
          :class:`~mars_pyg.kernels.FactorGraph`, factor of each value :math:`(V)`,
          gate :math:`(N, K)` *(optional)*
        - **output:** :math:`(N, K, d)`, or :math:`(N, d)` with a gate
    """

    def __init__(
        self,
        num_factors: int,
        mode: str = "hypergraph",
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(aggr="sum", flow="source_to_target", **kwargs)
        check_engine(engine, mode)
        if num_factors < 0:
            raise ValueError(f"'num_factors' must not be negative (got {num_factors})")
        self.num_factors = num_factors
        self.mode = mode
        self.engine = engine
        self.fuse = True

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | FactorGraph,
        factor: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Tensor:
        r"""Propagate the items over every factor graph.

        Args:
            x (torch.Tensor): Items :math:`(N, d)`, floating point.
            edge_index (torch.Tensor or SparseTensor or FactorGraph): Edges from items
                to values, int64; transposed, values by items, when sparse; or their
                prepared form.
            factor (torch.Tensor, optional): Factor of each value :math:`(V)`, int64;
                not needed with a prepared graph. (default: :obj:`None`)
            gate (torch.Tensor, optional): Weight of each factor for each item
                :math:`(N, K)`. (default: :obj:`None`)

        Raises:
            ValueError: If an index or a shape does not fit.
        """
        if not self.fuse or self.explain:
            return self.pass_messages(x, edge_index, factor, gate)
        graph = self.prepare(edge_index, factor, x.size(0))
        return factor_propagate(x, graph, gate, engine=self.engine, mode=self.mode)

    def prepare(
        self, edge_index: Adj | FactorGraph, factor: Tensor | None, num_items: int
    ) -> FactorGraph:
        """The prepared form of a graph, to be passed in place of ``edge_index``."""
        if isinstance(edge_index, FactorGraph):
            if edge_index.num_factors != self.num_factors:
                raise ValueError(
                    f"The graph was prepared for {edge_index.num_factors} factors, "
                    f"this layer has {self.num_factors}"
                )
            return edge_index
        if factor is None:
            raise ValueError(
                "'factor', the factor of each value [V], is needed beside 'edge_index'"
            )
        return FactorGraph.from_edge_index(
            to_edge_index(edge_index), factor, num_items, self.num_factors
        )

    def pass_messages(
        self,
        x: Tensor,
        edge_index: Adj | FactorGraph,
        factor: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Tensor:
        """The same as the kernels, as two rounds of messages along the given edges."""
        if self.mode == "clique":
            raise ValueError("Message passing has no 'mode=\"clique\"'; it is dense")
        graph = self.prepare(edge_index, factor, x.size(0))
        check_shapes(x, graph, gate)
        if isinstance(edge_index, FactorGraph):
            edges = graph.edge_index()
        else:
            edges = to_edge_index(edge_index)
        num_items, num_values = x.size(0), graph.num_values
        dtype = sum_dtype(x.dtype)
        *_, sorted_weight, order = incidence_weights(
            edges, graph.factor, num_items, self.num_factors
        )
        # Messages keep the order of the given edges, which an explainer's mask has.
        weight = torch.empty_like(sorted_weight).index_copy_(0, order, sorted_weight)
        weight = weight.to(dtype)

        total = self.propagate(
            edges, x=(x.to(dtype), None), weight=weight, size=(num_items, num_values)
        )
        mean = total * graph.inverse_count.to(dtype)[:, None]
        item, value = edges
        target = item
        size = num_items
        if gate is None:
            target = item * self.num_factors + graph.factor[value]
            size = num_items * self.num_factors
        else:
            weight = weight * gate.to(dtype)[item, graph.factor[value]]
        out = self.propagate(
            torch.stack([value, target]),
            x=(mean, None),
            weight=weight,
            size=(num_values, size),
        ).to(x.dtype)
        if gate is not None:
            return out
        return out.view(num_items, self.num_factors, x.size(1))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Weigh a message."""
        return weight.view(-1, 1) * x_j

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(num_factors={self.num_factors})"
