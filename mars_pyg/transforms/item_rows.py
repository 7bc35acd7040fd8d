"""Rows for items that a graph did not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data.storage import NodeStorage

from mars_pyg.errors import DataError


def append_rows(
    store: NodeStorage,
    num_items: int,
    num_new: int,
    texts: Mapping[str, Sequence[str]],
    features: Mapping[str, Tensor],
) -> None:
    """Append rows to all that items have: texts, and features.

    What is not given is empty: an empty string, or a row of zeros.

    Args:
        store: The items.
        num_items: Number of items :math:`N` so far.
        num_new: Number of new items :math:`M`.
        texts: Texts of the new items by name.
        features: Features ``[M, D]`` of the new items by name.

    Raises:
        DataError: If a feature does not fit, or the items have something else.
    """
    for name in features:
        if name not in store:
            raise DataError(
                f"the items have no {name}", mend="take the feature out", field=name
            )
    rows: dict[str, Tensor | list[str]] = {}
    for name, value in store.items():
        # A list of another length is not of the items.
        if isinstance(value, list) and len(value) == num_items:
            rows[name] = [*value, *texts.get(name, [""] * num_new)]
        elif name.startswith("x_"):
            new = features.get(name, value.new_zeros(num_new, value.size(1)))
            new = torch.as_tensor(new)
            _check_features(new, name, num_new, value.size(1))
            rows[name] = torch.cat([value, new.to(value)])
        elif isinstance(value, Tensor):
            raise DataError(
                f"what new items have of {name!r} is not known",
                mend="take it out of the graph first",
                field=name,
            )
    for name, row in rows.items():
        store[name] = row
    store.num_nodes = num_items + num_new


def _check_features(x: Tensor, name: str, num_rows: int, width: int) -> None:
    if list(x.shape) != [num_rows, width]:
        raise DataError(
            f"expected the shape [{num_rows}, {width}], got {list(x.shape)}",
            mend="give a row per new item, in their order and by the same encoder",
            field=name,
        )
    broken = ~x.isfinite().all(dim=1)
    if broken.any():
        raise DataError(
            f"row {int(broken.nonzero()[0])} holds NaN or infinite numbers",
            mend="replace them; a row of zeros stands for a missing feature",
            field=name,
        )
