"""The graphs that each view of MARS runs over."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

from mars_pyg.edge_forms import edges_of
from mars_pyg.kernels import FactorGraph, SparseMatrix
from mars_pyg.nn.adjacency import normalized_adjacency

SIMILAR = ("item", "similar", "item")
COOCCURS = ("item", "cooccurs", "item")


def structure_graphs(
    data: HeteroData,
    content_modalities: Sequence[str],
    item_graphs: str,
    cooccurrence: bool,
) -> dict[str, SparseMatrix]:
    """The structure graph of each view that has one, and of all views jointly.

    Args:
        data: The graph.
        content_modalities: The modalities with features.
        item_graphs: See :class:`~mars_pyg.nn.MARS`.
        cooccurrence: See :class:`~mars_pyg.nn.MARS`.

    Raises:
        ValueError: If :obj:`data` lacks the edges.
    """
    num_items = data["item"].num_nodes
    graphs: dict[str, SparseMatrix] = {}
    if "structure" in item_graphs and content_modalities:
        edges = _edges(
            data,
            SIMILAR,
            "apply the transform AddItemKNN, or choose 'item_graphs' without "
            "'structure'",
        )
        matrix = normalized_adjacency(edges, num_items)
        graphs = dict.fromkeys(["joint", *content_modalities], matrix)
    if cooccurrence:
        mend = "apply the transform AddItemCooccurrence"
        graphs["id"] = normalized_adjacency(_edges(data, COOCCURS, mend), num_items)
    return graphs


def factor_graphs(
    data: HeteroData, modalities: Sequence[str], item_graphs: str, factor_source: str
) -> dict[str, FactorGraph]:
    """The factor graphs of each view, by modality, and those of all as ``"union"``.

    A view without an entry, the ID and the joint one, runs over the union. Where the
    views have no factor graphs, the union still holds the labels of the semantic loss.

    Args:
        data: The graph.
        modalities: The modalities of the views.
        item_graphs: See :class:`~mars_pyg.nn.MARS`.
        factor_source: See :class:`~mars_pyg.nn.MARS`.

    Raises:
        ValueError: If :obj:`data` lacks the edges or features.
    """
    relations = {
        edge_type[1].removesuffix("_value"): edges_of(data[edge_type])
        for edge_type in data.edge_types
        if edge_type[0] == "item" and edge_type[2] == "value"
    }
    if not relations and "factors" in item_graphs:
        raise ValueError(
            "'data' has no edges from items to factor values; apply the transform "
            "AddFactorValues, or choose 'item_graphs' without 'factors'"
        )
    device = next(iter(relations.values())).device if relations else None
    empty = torch.empty(2, 0, dtype=torch.int64, device=device)
    factor = data["value"].factor if relations else empty[0]
    num_factors = int(factor.max()) + 1 if factor.numel() else 0
    if factor_source == "clusters":
        relations = _clusters(data, relations, factor)
    union = coalesce(torch.cat([empty, *relations.values()], dim=1))

    def prepare(edge_index: Tensor) -> FactorGraph:
        return FactorGraph.from_edge_index(
            edge_index, factor, data["item"].num_nodes, num_factors
        )

    if "factors" not in item_graphs:
        none = prepare(empty)
        return {"union": prepare(union), **dict.fromkeys(["joint", *modalities], none)}
    # A view without profiles of its own has no factor graphs.
    own = {m: relations.get(m, empty) for m in modalities if m != "id"}
    return {"union": prepare(union), **{m: prepare(edges) for m, edges in own.items()}}


def _clusters(
    data: HeteroData, relations: dict[str, Tensor], factor: Tensor
) -> dict[str, Tensor]:
    """Clusters of the features in the place of the values of each modality."""
    from mars_pyg.factors.clusters import cluster_values

    store = data["item"]
    # Columns of the catalogue have no features of their own.
    names = {m: f"x_{m}" if f"x_{m}" in store else "x_text" for m in relations}
    for modality, name in names.items():
        if name not in store:
            raise ValueError(
                f"'factor_source=\"clusters\"' needs features of the items to cluster "
                f"in the place of their {modality} values, 'x_{modality}' or 'x_text'; "
                "apply the transform AddTextFeatures, or choose 'profiles'"
            )
    clusters = {name: cluster_values(store[name], factor) for name in {*names.values()}}
    return {modality: clusters[name] for modality, name in names.items()}


def _edges(data: HeteroData, edge_type: tuple[str, str, str], mend: str) -> Tensor:
    if edge_type not in data.edge_types:
        raise ValueError(f"'data' has no edges {edge_type}; {mend}")
    return edges_of(data[edge_type])
