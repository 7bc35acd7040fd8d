"""Retrieval-augmented prompting: assigned items that are near serve as examples."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mars_pyg.factors.content import CatalogueContents, ItemContent

#: Length at which a field of an example is cut, in characters.
_MAX_CHARACTERS = 300


class ExampleIndex:
    r"""Finds the items nearest in their texts among those that are assigned already.

    Nearness is the cosine of text features. An item is an example from the moment its
    first value is stored; values that cannot be told are not shown.

    Args:
        contents: The items; :obj:`None` where there is nothing to show.
        features: Their text features ``[N, D]``; rows of zeros are never examples.
    """

    def __init__(
        self,
        contents: Sequence[ItemContent | None] | CatalogueContents,
        features: Tensor,
    ) -> None:
        if len(contents) != len(features):
            raise ValueError(
                f"expected features of {len(contents)} items, got {len(features)}"
            )
        self._features = normalize(features.float(), dim=1)
        self._contents = contents
        self._row: dict[bytes, int] = {}
        for row in range(len(contents)):
            content = contents[row]
            if content is not None:
                self._row.setdefault(content.key, row)
        self._values: dict[int, dict[str, list[str]]] = {}
        #: By factor, whether an item has a value.
        self._assigned: dict[str, Tensor] = {}
        # Answers are stored by one thread, and examples looked up by others.
        self._lock = threading.Lock()

    def add(self, key: bytes, factor: str, values: Sequence[str]) -> None:
        """Take the values of an item for an example."""
        row = self._row.get(key)
        if row is None or not values or not self._features[row].any():
            return
        with self._lock:
            self._values.setdefault(row, {})[factor] = list(values)
            none = torch.zeros(len(self._contents), dtype=torch.bool)
            self._assigned.setdefault(factor, none)[row] = True

    def nearest(
        self, contents: Sequence[ItemContent], factors: Sequence[str], k: int
    ) -> list[dict[str, Any]]:
        r"""Find examples for a group of items.

        Args:
            contents: The items that are asked for.
            factors: The factors that are asked for; the values of others are not shown.
            k: The number of examples for each item; common ones are shown once.

        Returns:
            The examples, the nearest first: their fields, and their values.
        """
        found = [self._row.get(content.key) for content in contents]
        own = [row for row in found if row is not None]
        known = torch.zeros(len(self._contents), dtype=torch.bool)
        with self._lock:
            for name in factors:
                if name in self._assigned:
                    known |= self._assigned[name]
        known[own] = False
        rows: dict[int, None] = {}
        for row in own:
            rows |= dict.fromkeys(self._nearest_rows(row, known, k))
        examples = []
        for row in rows:
            with self._lock:
                values = {
                    name: entry if len(entry) > 1 else entry[0]
                    for name, entry in self._values.get(row, {}).items()
                    if name in factors
                }
            shown = self._contents[row]
            if shown is not None:
                fields = {
                    name: text[:_MAX_CHARACTERS] for name, text in shown.fields.items()
                }
                examples.append({**fields, "values": values})
        return examples

    def _nearest_rows(self, row: int, known: Tensor, k: int) -> list[int]:
        cosine = (self._features @ self._features[row]).masked_fill_(~known, 0)
        best = cosine.topk(min(k, len(cosine)))
        near: list[int] = best.indices[best.values > 0].tolist()
        return near
