"""The items of MARS, split into the terms of their graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mars_pyg.kernels import FactorGraph
from mars_pyg.nn.item_terms import ItemTerms, Term

if TYPE_CHECKING:
    from mars_pyg.nn.mars import MARS

#: Terms of a view that come before those of the factors.
STRUCTURE, COOCCURRENCE = 0, 1


def content_terms(model: MARS, users: Tensor, items: Tensor) -> ItemTerms:
    r"""Split :math:`\mathbf{g}_i = \mathbf{e}_i + \mathbf{H}_i` by the graphs.

    .. math::
        \mathbf{H}_i = \sum_m w_{im} \Big( \alpha_i^{\text{struct}}
        \mathbf{H}_{\text{struct}}(i) + \sum_k \alpha_i^{(k)} \mathbf{H}_{f_k}(i) \Big)

    over the views :math:`m` and their weights :math:`w`: one view of weight one when
    they are fused jointly. This is exact: given the gates, Eq. 7 is a sum. Of several
    layers it is the last one's, over what the ones before it gave. With
    :obj:`item_graphs="concat"` there are no graphs to tell apart, and
    :math:`\mathbf{H}_i` is one term, the content.

    Time and memory are those of a forward pass; the ``K`` vectors of an item are made
    for the items that are asked for alone.

    Args:
        model: The model, whose items have content.
        users: The users' representations ``[U, d]``.
        items: The collaborative part :math:`\mathbf{e}_i` of the items ``[N, d]``.
    """
    views = ["joint"] if model.fusion == "joint" else model.view_modalities
    parts = [_view_vectors(model, view) for view in views]
    terms = [Term("collaborative")]
    if model.item_graphs == "concat":
        terms.append(Term("content"))
    else:
        source = "clusters" if model.factor_source == "clusters" else "factors"
        num_factors = model.graphs()["factors"]["union"].num_factors
        terms += [Term("structure"), Term("cooccurrence")]
        terms += [Term(source, factor) for factor in range(num_factors)]

    def vectors(item: Tensor) -> Tensor:
        of_views = torch.stack([part(item) for part in parts], dim=1)
        if model.view_gate is None:
            content = of_views.mean(dim=1)
        else:
            weight = model.view_gate(of_views.sum(dim=2)).softmax(dim=1)
            content = (weight[:, :, None] * of_views).sum(dim=1)
        return torch.cat([items[item][:, None], content], dim=1)

    return ItemTerms(users, terms, vectors)


def _view_vectors(model: MARS, view: str) -> Callable[[Tensor], Tensor]:
    """The terms of a view: structure, co-occurrence and each factor ``[P, T, d]``."""
    x = model._input(view)
    if model.item_graphs == "concat":
        return lambda item: x[item][:, None]
    graph, structure = model._view_graphs(view)
    *before, last = model._layers(view)
    for conv in before:
        x = conv(x, graph, struct_edge_index=structure)
    neighbours = None if structure is None else structure.matmul(x)
    scale = graph.inverse_count.to(x.dtype)
    means = graph.incidence.t().matmul(x) * scale[:, None]
    place = COOCCURRENCE if view == "id" else STRUCTURE

    def vectors(item: Tensor) -> Tensor:
        gate = last._gate(x[item], graph.present[item], structure is not None)
        out = x.new_zeros(item.numel(), 2 + graph.num_factors, x.size(1))
        if neighbours is not None:
            out[:, place] = gate[:, :1] * neighbours[item]
        out[:, 2:] = gate[:, 1:, None] * _factor_vectors(graph, means, item)
        return out

    return vectors


def _factor_vectors(graph: FactorGraph, means: Tensor, item: Tensor) -> Tensor:
    r"""Eq. 6 for some items, :math:`\mathbf{H}_{f_k}(i)` ``[P, K, d]``."""
    ptr = graph.incidence.ptr.long()
    start, count = ptr[item], ptr.diff()[item]
    row = torch.arange(item.numel(), device=item.device).repeat_interleave(count)
    offset = torch.arange(row.numel(), device=item.device)
    entry = offset - (count.cumsum(0) - count)[row] + start[row]
    value = graph.incidence.col[entry].long()
    message = means[value]
    if graph.incidence.weight is not None:
        message = message * graph.incidence.weight[entry].to(means.dtype)[:, None]
    out = means.new_zeros(item.numel() * graph.num_factors, means.size(1))
    out.index_add_(0, row * graph.num_factors + graph.factor[value], message)
    return out.view(item.numel(), graph.num_factors, means.size(1))
