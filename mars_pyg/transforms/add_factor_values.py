"""Value nodes and item-value edges, from factor profiles."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce

from mars_pyg.factors import FactorProfiles


@functional_transform("add_factor_values")
class AddFactorValues(BaseTransform):
    r"""Adds the values of factors as nodes and links items to their values
    (functional name: :obj:`add_factor_values`).

    The node type ``value`` gets ``factor [V]``, the factor that each value belongs to,
    ``name``, the ``V`` names of the values, ``factor_name``, the names of the factors,
    and ``open_factors``, the names of those with an open vocabulary. Each modality
    gets a relation ``(item, <modality>_value, value)`` whose ``edge_index [2, E]`` is
    sorted and without duplicates.

    Factors of the same name are one factor whatever their modality, and their values
    of the same name one node. Values are ordered by factor; within a factor those of
    closed vocabularies come first, in the order of the schema and even if no item has
    them, then the others, sorted. Value nodes that were in the graph before are
    replaced, with their edges.

    Args:
        profiles: The profiles of each modality.
    """

    def __init__(self, profiles: Mapping[str, FactorProfiles]) -> None:
        if not profiles:
            raise ValueError("profiles of at least one modality are needed")
        self.profiles = dict(profiles)

    def forward(self, data: HeteroData) -> HeteroData:
        """Add value nodes and edges to a graph."""
        num_items = data["item"].num_nodes
        for modality, profiles in self.profiles.items():
            if profiles.num_items != num_items:
                raise ValueError(
                    f"the {modality} profiles are of {profiles.num_items} items, the "
                    f"graph has {num_items}"
                )
        for edge_type in data.edge_types:
            if "value" in (edge_type[0], edge_type[2]):
                del data[edge_type]
        if "value" in data.node_types:
            del data["value"]
        factor_names, nodes = self._number_values()
        data["value"].num_nodes = len(nodes)
        data["value"].factor = torch.tensor([factor for factor, _ in nodes]).long()
        data["value"].name = [name for _, name in nodes]
        data["value"].factor_name = factor_names
        opened = {
            factor.name
            for profiles in self.profiles.values()
            for factor in profiles.schema.factors
            if factor.values is None
        }
        data["value"].open_factors = [name for name in factor_names if name in opened]
        index = {node: position for position, node in enumerate(nodes)}
        for modality, profiles in self.profiles.items():
            factors = [
                factor_names.index(profiles.factor_names[factor])
                for factor in profiles.value_factor.tolist()
            ]
            node = torch.tensor(
                [index[key] for key in zip(factors, profiles.value_names, strict=True)]
            ).long()
            edge_index: Tensor = coalesce(
                torch.stack([profiles.item_index, node[profiles.value_index]])
            )
            data["item", f"{modality}_value", "value"].edge_index = edge_index
        return data

    def _number_values(self) -> tuple[list[str], list[tuple[int, str]]]:
        """List the names of the factors, and the nodes as (factor, value name)."""
        closed: dict[str, list[str]] = {}
        found: dict[str, set[str]] = {}
        for profiles in self.profiles.values():
            for factor in profiles.schema.factors:
                closed.setdefault(factor.name, []).extend(factor.values or [])
                found.setdefault(factor.name, set())
            names = profiles.factor_names
            for index, value in zip(
                profiles.value_factor.tolist(), profiles.value_names, strict=True
            ):
                found[names[index]].add(value)
        nodes = []
        for index, (name, values) in enumerate(closed.items()):
            ordered = dict.fromkeys([*values, *sorted(found[name])])
            nodes += [(index, value) for value in ordered]
        return list(closed), nodes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.profiles})"
