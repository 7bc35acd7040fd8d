"""Names of modalities."""

from __future__ import annotations

import torch

#: What these names mean in a model: the ID view, all features, all factor graphs.
RESERVED = ("id", "joint", "union")


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
