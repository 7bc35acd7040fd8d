"""Recommendations from the folder of an export."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.files import user_path
from mars_pyg.recommend import Recommendation, SharedValue
from mars_pyg.serving.folder import SEARCHER, Exported, read_folder, read_manifest
from mars_pyg.user_items import UserItems

if TYPE_CHECKING:
    from mars_pyg.serving.approximate import ApproximateSearch

#: Values that are compared with one that is not there, for a hint.
MAX_MATCHED = 1_000
#: Values to choose from, by the name of the factor.
Filters = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class ItemDescription:
    """What is known of an item.

    Args:
        item: The item's id in the catalogue.
        title: The item's title; empty where it has none.
        values: The item's values, by the names of the factors.
    """

    item: str
    title: str
    values: dict[str, list[str]]


class ServedRecommender:
    """Answers for users and histories, from the folder of an export.

    Made by :func:`load`. Its methods may be called by several threads at once.

    Args:
        exported: What the folder holds.
        approximate: An approximate search over it; :obj:`None` to search exactly.
            (default: :obj:`None`)
    """

    def __init__(
        self, exported: Exported, approximate: ApproximateSearch | None = None
    ) -> None:
        self.index = exported.index
        self.catalogue = exported.catalogue
        self.approximate = approximate
        self._representation = exported.representation
        self._train, self._seen = exported.train, exported.seen
        names = exported.catalogue
        self._user = {name: u for u, name in enumerate(names.user_id)}
        self._item = {name: i for i, name in enumerate(names.item_id)}
        self._factor: dict[str, dict[str, int]] = {k: {} for k in names.factor_name}
        for value, factor in enumerate(self.index.factor.tolist()):
            names_of_factor = self._factor[names.factor_name[factor]]
            names_of_factor[names.value_name[value]] = value
        values = self.index.item_values
        #: The items of each value.
        self._value_items = UserItems.from_edge_index(
            torch.stack([values.item, values.rows()]),
            values.num_items,
            self.index.num_items,
        )

    @property
    def num_users(self) -> int:
        """Number of users whose history is known."""
        return self._train.num_users

    @property
    def num_items(self) -> int:
        """Number of items."""
        return self.index.num_items

    @property
    def values(self) -> dict[str, list[str]]:
        """The names of the values of each factor, of which filters choose."""
        return {factor: list(values) for factor, values in self._factor.items()}

    @torch.inference_mode()
    def recommend(
        self,
        user: str | Sequence[str],
        k: int = 10,
        filters: Filters | None = None,
        exclude_history: bool = True,
    ) -> list[Recommendation]:
        """Recommend items to a user, or for a history.

        A known user gets what :func:`~mars_pyg.recommend` gives. A history is that of
        a user who was never seen before: nothing is trained.

        Args:
            user: The id of a known user, or the ids of the items of a history, in any
                order; repeated ones count once, and there may be none.
            k: Number of items. (default: :obj:`10`)
            filters: For each of some factors, by name, a value or several, of which an
                item has to have one: ``{"brand": ["philips avent", "nuk"]}``.
                (default: :obj:`None`)
            exclude_history: Whether items of the history are left out.
                (default: :obj:`True`)

        Returns:
            Up to :obj:`k` items, best first.

        Raises:
            DataError: If a user, item, factor or value is not known.
            ValueError: If :obj:`k` is not positive.
        """
        if k < 1:
            raise ValueError(f"'k' must be positive (got {k})")
        allowed = self._allowed(filters)
        if isinstance(user, str):
            u = self._find_user(user)
            seen = _row(self._seen, u)
            users = self.index.user_vectors(
                _one(_row(self._train, u), self.num_items),
                self._representation[u : u + 1],
            )
        else:
            seen = self._find_items(user)
            users = self.index.user_vectors(_one(seen, self.num_items))
        left_out = seen if exclude_history else seen[:0]
        if self.approximate is not None and allowed is None:
            score, item = self.approximate.search(users, k, left_out)
        else:
            if allowed is not None:
                barred = ~allowed
                barred[left_out] = True
                left_out = barred
            score, item = self.index.search(users, k, left_out)
        return self._describe(score, item, seen)

    def item(self, name: str) -> ItemDescription:
        """Describe an item.

        Raises:
            DataError: If there is no such item.
        """
        item = int(self._find_items([name])[0])
        names = self.catalogue
        values: dict[str, list[str]] = defaultdict(list)
        for value in _row(self.index.item_values, item).tolist():
            factor = names.factor_name[int(self.index.factor[value])]
            values[factor].append(names.value_name[value])
        return ItemDescription(name, names.title[item], dict(values))

    def _describe(
        self, score: Tensor, item: Tensor, seen: Tensor
    ) -> list[Recommendation]:
        """Recommendations by name, with what they share with the history."""
        names, values = self.catalogue, self.index.item_values
        count = Counter(values.select(seen)[1].tolist())
        result = []
        for s, i in zip(score.tolist(), item.tolist(), strict=True):
            if s == -torch.inf:
                break
            shared = [
                SharedValue(
                    names.factor_name[int(self.index.factor[value])],
                    names.value_name[value],
                    count[value],
                )
                for value in _row(values, i).tolist()
                if value in count
            ]
            shared.sort(key=lambda value: -value.count)
            result.append(
                Recommendation(names.item_id[i], names.title[i], s, tuple(shared))
            )
        return result

    def _find_user(self, name: str) -> int:
        if name not in self._user:
            raise DataError(
                f"there is no user {name!r}",
                mend="give the id of a user of the export, or the items of a history",
                field="user",
            )
        return self._user[name]

    def _find_items(self, names: Sequence[str]) -> Tensor:
        """The items of some names, each once, ascending."""
        for name in names:
            if name not in self._item:
                raise DataError(
                    f"there is no item {name!r}",
                    mend="give ids of items of the export",
                    field="item",
                )
        found = {self._item[name] for name in names}
        return torch.tensor(sorted(found), dtype=torch.int64)

    def _allowed(self, filters: Filters | None) -> Tensor | None:
        """Which items pass the filters ``[N]``; nothing where all do."""
        allowed = None
        for factor, wanted in (filters or {}).items():
            if factor not in self._factor:
                raise DataError(
                    f"there is no factor {factor!r}; the factors are "
                    f"{', '.join(self._factor) or 'none'}",
                    mend="filter by one of the factors",
                    field="filters",
                )
            known = self._factor[factor]
            chosen = [wanted] if isinstance(wanted, str) else wanted
            for name in chosen:
                if name not in known:
                    # Of many values, those that begin alike: each takes its time.
                    likely = [x for x in known if x[:1].lower() == name[:1].lower()]
                    near = get_close_matches(name, likely[:MAX_MATCHED], n=3)
                    raise DataError(
                        f"the factor {factor!r} has no value {name!r}",
                        mend=f"give one of its {len(known)} values"
                        + (f", such as {near}" if near else ""),
                        field="filters",
                    )
            value = torch.tensor([known[name] for name in chosen], dtype=torch.int64)
            passing = torch.zeros(self.num_items, dtype=torch.bool)
            passing[self._value_items.select(value)[1]] = True
            allowed = passing if allowed is None else allowed & passing
        return allowed


def load(path: str | PathLike[str], *, approximate: bool = False) -> ServedRecommender:
    """Load an export, to recommend.

    Nothing but the folder is needed: neither the data nor the run.

    Args:
        path: A folder that ``mars-pyg export`` or :func:`mars_pyg.serving.export`
            wrote.
        approximate: Whether to search approximately, by faiss, where there are no
            filters. For large catalogues: at 20,000 items the exact search is as fast
            (``benchmarks/serving.py``). The index of faiss is built unless the folder
            has one. (default: :obj:`False`)

    Raises:
        DataError: If the folder is no finished export, or a file is missing or
            damaged; if faiss is not installed.
    """
    folder = user_path(path)
    exported = read_folder(folder)
    if not approximate:
        return ServedRecommender(exported)
    from mars_pyg.serving.approximate import ApproximateSearch, read_searcher

    has_searcher = SEARCHER in read_manifest(folder)["sha256"]
    searcher = read_searcher(folder / SEARCHER) if has_searcher else None
    return ServedRecommender(exported, ApproximateSearch(exported.index, searcher))


def _row(items: UserItems, row: int) -> Tensor:
    return items.item[items.ptr[row] : items.ptr[row + 1]]


def _one(item: Tensor, num_items: int) -> UserItems:
    """The history of one user."""
    return UserItems(torch.tensor([0, item.numel()]), item, num_items)
