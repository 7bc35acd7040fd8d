"""Names of modalities."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

#: What these names mean in a model: the ID view, all features, all factor graphs.
RESERVED = ("id", "joint", "union")


def feature_modalities(data: HeteroData) -> list[str]:
    """The modalities of which the items have features ``x_<modality>``, sorted."""
    return sorted(
        key.removeprefix("x_") for key in data["item"].to_dict() if key.startswith("x_")
    )


def is_feature_modality(name: str) -> bool:
    """Whether items can have features ``x_<name>`` that a model has a view of.

    Args:
        name: An identifier, which is none of :data:`RESERVED` and no attribute of a
            :class:`torch.nn.ModuleDict`, whose keys modalities become.
    """
    return (
        name.isidentifier()
        and name not in RESERVED
        and not hasattr(torch.nn.ModuleDict(), name)
    )
