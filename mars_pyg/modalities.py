"""Modalities of the items: their names, and their features."""

from __future__ import annotations

import torch
from torch import Tensor
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


def unit_features(x: Tensor, num_items: int | None = None) -> Tensor:
    """Centre the known rows of features, and scale them to a length of one.

    Args:
        x: Features ``[N, D]``; rows of zeros are missing ones, and stay so.
        num_items: The first items, whose mean is taken out. (default: :obj:`None`, all)
    """
    known = (x != 0).any(dim=1, keepdim=True)
    mean = x[:num_items].sum(dim=0) / known[:num_items].sum().clamp(min=1)
    return torch.nn.functional.normalize(torch.where(known, x - mean, 0.0), dim=1)
