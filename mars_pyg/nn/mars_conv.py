"""MARSConv: structure graph, factor graphs and the gate between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import Adj

from mars_pyg.kernels import FactorGraph, SparseMatrix, factor_propagate
from mars_pyg.kernels.propagate import check_shapes
from mars_pyg.nn.adjacency import normalized_adjacency
from mars_pyg.nn.factor_conv import FactorConv


class MARSConv(MessagePassing):
    r"""The multi-graph item encoder of the MARS paper (Eq. 5 to 8).

    .. math::
        \mathbf{X} &= \mathbf{Z} \mathbf{W}_0, \qquad
        \mathbf{H}_{\text{struct}} = \hat{\mathbf{A}}_{\text{struct}} \mathbf{X}, \qquad
        \mathbf{H}_{f_k} = \hat{\mathbf{A}}_{f_k} \mathbf{X} \\
        [\alpha_i^{\text{struct}}, \alpha_i^{(1)}, \ldots, \alpha_i^{(K)}] &=
        \textrm{softmax}(\mathbf{W}_g \mathbf{X}_i) \\
        \mathbf{H}_i &= \alpha_i^{\text{struct}} \mathbf{H}_{\text{struct}}(i) +
        \sum_{k=1}^{K} \alpha_i^{(k)} \mathbf{H}_{f_k}(i)

    A factor under which an item has no value is left out of the item's softmax, as is
    the structure term when no :obj:`struct_edge_index` is given; an item with nothing
    left gets zeros. The structure graph is normalised as by PyG's ``gcn_norm`` without
    self loops: :math:`1/K` for a graph of :math:`K` nearest neighbours.

    Args:
        in_channels (int): Size of the input features; :obj:`-1` derives it from the
            first input.
        out_channels (int): Size :math:`d` of the output.
        num_factors (int): Number of factors :math:`K`.
        project (bool, optional): If :obj:`False`, there is no :math:`\mathbf{W}_0` and
            :math:`\mathbf{X} = \mathbf{Z}`. (default: :obj:`True`)
        mode (str, optional): See :class:`FactorConv`. (default: :obj:`"hypergraph"`)
        engine (str, optional): See :func:`~mars_pyg.kernels.factor_propagate`.
            (default: :obj:`"auto"`)
        **kwargs (optional): Additional arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`; the aggregation and the
            flow are Eq. 6's own.

    Shapes:
        - **input:** items :math:`(N, F_{in})`, edges from items to values
          :math:`(2, |\mathcal{E}|)` or a prepared
          :class:`~mars_pyg.kernels.FactorGraph`, factor of each value :math:`(V)`,
          edges from a neighbour to an item :math:`(2, |\mathcal{E}_{struct}|)`
          *(optional)*
        - **output:** :math:`(N, d)`, or with :obj:`return_gate` also the gate
          :math:`(N, K + 1)`, structure first
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_factors: int,
        project: bool = True,
        mode: str = "hypergraph",
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(aggr="sum", flow="source_to_target", **kwargs)
        if not project and in_channels not in (-1, out_channels):
            raise ValueError(
                f"Without a projection 'in_channels' must equal 'out_channels' "
                f"(got {in_channels} and {out_channels})"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_factors = num_factors
        self.project = project
        self.factor_conv = FactorConv(num_factors, mode=mode, engine=engine)
        self.lin = Linear(in_channels, out_channels, bias=False) if project else None
        self.gate = Linear(out_channels, num_factors + 1, bias=False)
        # An explainer's edge mask belongs to the factor edges, which factor_conv
        # passes on; the structure term is not masked.
        self.explain = False
        self.fuse = True

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        super().reset_parameters()
        if self.lin is not None:
            self.lin.reset_parameters()
        self.gate.reset_parameters()

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | FactorGraph,
        factor: Tensor | None = None,
        struct_edge_index: Adj | SparseMatrix | None = None,
        return_gate: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        r"""Encode the items.

        Args:
            x (torch.Tensor): Items :math:`(N, F_{in})`, floating point.
            edge_index (torch.Tensor or SparseTensor or FactorGraph): Edges from items
                to values, or their prepared form; see :class:`FactorConv`.
            factor (torch.Tensor, optional): Factor of each value :math:`(V)`, int64;
                not needed with a prepared graph. (default: :obj:`None`)
            struct_edge_index (torch.Tensor or SparseTensor or SparseMatrix, optional):
                Edges of the structure graph, int64, or their prepared form by
                :func:`~mars_pyg.nn.adjacency.normalized_adjacency`.
                (default: :obj:`None`)
            return_gate (bool, optional): If :obj:`True`, also returns the gate.
                (default: :obj:`False`)

        Raises:
            ValueError: If an index or a shape does not fit.
        """
        if self.lin is not None:
            x = self.lin(x)
        conv = self.factor_conv
        plain = not (self.fuse and conv.fuse) or bool(conv.explain)
        graph = conv.prepare(edge_index, factor, x.size(0))
        check_shapes(x, graph, None)
        gate = self._gate(x, graph.present, struct_edge_index is not None)
        struct = None
        if struct_edge_index is not None:
            struct = self._propagate_structure(x, struct_edge_index, plain)
        if plain:
            out = conv.pass_messages(x, edge_index, graph.factor, gate[:, 1:])
            if struct is not None:
                out = out + gate[:, :1] * struct
        else:
            out = factor_propagate(
                x,
                graph,
                gate[:, 1:] if struct is None else gate,
                struct,
                engine=conv.engine,
                mode=conv.mode,
            )
        return (out, gate) if return_gate else out

    def _gate(self, x: Tensor, present: Tensor, has_structure: bool) -> Tensor:
        """Eq. 8 over the terms that an item has; zeros where it has none."""
        structure = present.new_full((present.size(0), 1), has_structure)
        mask = torch.cat([structure, present], dim=1)
        logits = self.gate(x)
        # The lowest finite number, not -inf: a row that is masked as a whole must not
        # become NaN, and its gradient neither.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        gate = _row_softmax(logits)
        return (gate if has_structure else gate * mask).to(x.dtype)

    def _propagate_structure(
        self, x: Tensor, struct_edge_index: Adj | SparseMatrix, plain: bool
    ) -> Tensor:
        matrix = struct_edge_index
        if not isinstance(matrix, SparseMatrix):
            matrix = normalized_adjacency(struct_edge_index, x.size(0))
        if (matrix.num_rows, matrix.num_cols) != (x.size(0), x.size(0)):
            raise ValueError(
                f"'struct_edge_index' was prepared for {matrix.num_rows} x "
                f"{matrix.num_cols} items, 'x' has {x.size(0)}"
            )
        if not plain:
            return matrix.matmul(x)
        edges = torch.stack([matrix.col.long(), matrix.rows()])
        weight = x.new_ones(()) if matrix.weight is None else matrix.weight.to(x.dtype)
        return self.propagate(edges, x=x, weight=weight.expand(edges.size(1)))

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Weigh a neighbour's message."""
        return weight.view(-1, 1) * x_j

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.in_channels}, {self.out_channels}, "
            f"num_factors={self.num_factors})"
        )


def _row_softmax(x: Tensor) -> Tensor:
    """The softmax of each row.

    On the CPU torch takes rows that are shorter than a vector of the processor a number
    at a time; by columns it takes many rows at once.
    """
    if x.device.type != "cpu" or x.size(-1) >= 16:
        return x.softmax(dim=-1)
    return x.t().softmax(dim=0).t().contiguous()
