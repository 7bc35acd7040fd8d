"""Names of a graph's items, users and values, for people."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.item_values import item_value_edges
from mars_pyg.names import names_in
from mars_pyg.user_items import UserItems


class Catalogue:
    """Looks users, items and values up by their places, and places by their ids.

    Args:
        data: The graph, with lists :obj:`id` of users and items, and :obj:`name` and
            :obj:`factor_name` of values.
    """

    def __init__(self, data: HeteroData) -> None:
        self.user_ids = names_in(data, "user")
        self.item_ids = names_in(data, "item")
        empty = [""] * len(self.item_ids)
        self.titles: list[str] = data["item"].get("title", empty)
        self.item_values: UserItems | None = None
        if any((kind[0], kind[2]) == ("item", "value") for kind in data.edge_types):
            store = data["value"]
            self.item_values = UserItems.from_edge_index(
                item_value_edges(data).cpu(), len(self.item_ids), store.num_nodes
            )
            self.value_names = names_in(data, "value", "name")
            self.factor_names = names_in(data, "value", "factor_name")
            #: The factor of each value ``[V]``.
            self.factor: Tensor = store.factor.cpu()
        self._users = {name: place for place, name in enumerate(self.user_ids)}
        self._items = {name: place for place, name in enumerate(self.item_ids)}

    def user(self, name: str) -> int:
        """The place of a user.

        Raises:
            DataError: If there is no such user.
        """
        return _find(self._users, name, "user")

    def items(self, names: Sequence[str]) -> Tensor:
        """The places of items ``[P]``, int64.

        Raises:
            DataError: If there is no such item.
        """
        places = [_find(self._items, name, "item") for name in names]
        return torch.tensor(places, dtype=torch.int64)

    def values_of(self, item: int) -> dict[int, list[int]]:
        """The values of an item by factor; none where they are not known."""
        result: dict[int, list[int]] = {}
        if self.item_values is not None:
            start, stop = self.item_values.ptr[item : item + 2].tolist()
            values = self.item_values.item[start:stop]
            for value, factor in zip(
                values.tolist(), self.factor[values].tolist(), strict=True
            ):
                result.setdefault(factor, []).append(value)
        return result


class HistoryValues:
    """How often the values occur among the items of a history.

    Args:
        catalogue: The catalogue.
        items: Places of the distinct items of the history ``[H]``, int64.
    """

    def __init__(self, catalogue: Catalogue, items: Tensor) -> None:
        self.catalogue = catalogue
        #: Number of items with each value, of those that occur.
        self.count: dict[int, int] = {}
        #: Number of items with a known value of each factor.
        self.known: dict[int, int] = {}
        for item in items.tolist():
            for factor, values in catalogue.values_of(item).items():
                self.known[factor] = self.known.get(factor, 0) + 1
                for value in values:
                    self.count[value] = self.count.get(value, 0) + 1


def _find(places: dict[str, int], name: str, kind: str) -> int:
    if name not in places:
        raise DataError(
            f"there is no {kind} {name!r}",
            mend=f"give the id of one of the data, as {next(iter(places))!r}",
            field=kind,
        )
    return places[name]
