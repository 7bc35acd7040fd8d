"""Modalities of the items: their names, and their features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import is_sparse

from mars_pyg.errors import DataError
from mars_pyg.names import names_of

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


def check_features(x: Tensor, name: str, num_items: int) -> Tensor:
    """Refuse features that are not a finite row for each item; return them as floats.

    Args:
        x: Features ``[N, D]`` of the items.
        name: The attribute that holds them.
        num_items: Number of items :math:`N`.

    Raises:
        DataError: If they are sparse, the shape is another one, or a number is NaN or
            infinite.
    """
    if is_sparse(x):
        raise DataError(
            "the features are a sparse matrix",
            mend="make it a dense one, as x.to_dense() does",
            field=name,
        )
    if x.dim() != 2 or x.size(0) != num_items:
        raise DataError(
            f"expected a matrix with {num_items} rows, got {list(x.shape)}",
            mend="give one row per item",
            field=name,
        )
    x = x.detach().to(torch.get_default_dtype())
    broken = ~x.isfinite().all(dim=1)
    if broken.any():
        raise DataError(
            f"the features of item {int(broken.nonzero()[0])} are not finite",
            mend="replace NaN and infinite numbers; all zeros stand for missing",
            field=name,
        )
    return x


#: What is smaller than this share of a row is its rounding in float32.
ROUNDING = 1e-5


def unit_features(x: Tensor, num_items: int | None = None) -> Tensor:
    """Centre the known rows of features, and scale them to a length of one.

    Rows that are the mean but for rounding, as where all texts are alike, are zero.

    Args:
        x: Features ``[N, D]``; rows of zeros are missing ones, and stay so.
        num_items: The first items, whose mean is taken out. (default: :obj:`None`, all)
    """
    known = (x != 0).any(dim=1, keepdim=True)
    mean = x[:num_items].sum(dim=0) / known[:num_items].sum().clamp(min=1)
    centred = torch.where(known, x - mean, 0.0)
    length = x.norm(dim=1, keepdim=True)
    rounding = centred.norm(dim=1, keepdim=True) <= ROUNDING * length
    return torch.nn.functional.normalize(centred.masked_fill(rounding, 0.0), dim=1)


def resolve_modalities(data: HeteroData, modalities: Sequence[str] | None) -> list[str]:
    """The modalities of a model, the ID last.

    Args:
        data: The graph.
        modalities: Those to take, ``"id"`` among them or not; :obj:`None` for all.

    Raises:
        TypeError: If they are one name and no list.
        ValueError: If one is not there, or its name cannot be used.
    """
    available = feature_modalities(data)
    unusable = [m for m in available if not is_feature_modality(m)]
    if unusable:
        raise ValueError(
            f"'data' has features 'x_{unusable[0]}'; the name of a modality is an "
            f"identifier, and none of {list(RESERVED)} or of PyTorch's own; rename it"
        )
    if modalities is None:
        return [*available, "id"]
    chosen = list(dict.fromkeys(names_of("modalities", modalities)))
    unknown = [m for m in chosen if m != "id" and m not in available]
    if unknown or not chosen:
        raise ValueError(
            f"'modalities' must name some of {[*available, 'id']}, the modalities of "
            f"which 'data' has features 'x_<modality>' (got {chosen})"
        )
    # The ID comes last, as its block of W_0 does.
    return [m for m in chosen if m != "id"] + (["id"] if "id" in chosen else [])
