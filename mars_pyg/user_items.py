"""The items of each user, in compressed rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils.sparse import index2ptr

from mars_pyg.edge_forms import check_range, edges_of, to_edge_index
from mars_pyg.errors import DataError
from mars_pyg.kernels.factor_graph import check_edges

INTERACTS = ("user", "interacts", "item")
EDGE_NAMES = {"train": "edge_index", "val": "val_edge_index", "test": "test_edge_index"}


@dataclass(frozen=True)
class UserItems:
    r"""The distinct items that each user interacted with, sorted, in CSR form.

    Args:
        ptr: Where the items of each user start ``[U + 1]``, int64.
        item: The items ``[E]``, int64, ascending within a user.
        num_items: Number of items :math:`N` of the catalogue.
    """

    ptr: Tensor
    item: Tensor
    num_items: int

    @classmethod
    def from_edge_index(
        cls, edge_index: Tensor, num_users: int, num_items: int
    ) -> UserItems:
        """Group edges by user; repeated edges count once.

        Args:
            edge_index: User and item indices ``[2, E]``.
            num_users: Number of users.
            num_items: Number of items.

        Raises:
            ValueError: If an edge is of a user or an item that is not there.
        """
        edge_index = to_edge_index(edge_index)
        check_edges("edge_index", edge_index, num_users, num_items, "users", "items")
        user, item = edge_index
        key = (user * num_items + item).unique()
        user = key.div(max(num_items, 1), rounding_mode="floor")
        return cls(index2ptr(user, num_users), key - user * num_items, num_items)

    @classmethod
    def from_data(cls, data: HeteroData, *splits: str) -> UserItems:
        """Group the interactions of some splits by user.

        Args:
            data: The graph, with :obj:`edge_index` (train), :obj:`val_edge_index` and
                :obj:`test_edge_index` of :obj:`("user", "interacts", "item")`.
            splits: Some of :obj:`"train"`, :obj:`"val"` and :obj:`"test"`, or none.

        Raises:
            DataError: If the data has no such split.
        """
        found = [split_edges(data, split) for split in splits]
        edges = torch.cat(found or [split_edges(data, "train")[:, :0]], dim=1)
        num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
        return cls.from_edge_index(edges, num_users, num_items)

    @property
    def count(self) -> Tensor:
        """The number of items of each user ``[U]``."""
        return self.ptr.diff()

    def to(self, device: torch.device) -> UserItems:
        """Move to a device."""
        return UserItems(self.ptr.to(device), self.item.to(device), self.num_items)

    def take(self, user: Tensor) -> UserItems:
        """The items of some users alone, in the order in which they are given.

        Args:
            user: User indices ``[B]``, int64.
        """
        ptr = torch.cat([self.ptr[:1] * 0, self.count[user].cumsum(0)])
        return UserItems(ptr, self.select(user)[1], self.num_items)

    @property
    def num_users(self) -> int:
        """The number of users."""
        return self.ptr.numel() - 1

    def rows(self) -> Tensor:
        """The user of each item ``[E]``, int64."""
        user = torch.arange(self.num_users, device=self.ptr.device)
        return user.repeat_interleave(self.count, output_size=self.item.numel())

    def select(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """List the items of some users.

        Args:
            user: User indices ``[B]``, int64.

        Returns:
            The position in :obj:`user` and the item of each of their interactions,
            both ``[E']``.
        """
        row, place = self.places(user)
        return row, self.item[place]

    def places(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """Like :meth:`select`, but where the items stand in :attr:`item`.

        Args:
            user: User indices ``[B]``, int64.

        Returns:
            The position in :obj:`user` and the place in :attr:`item` of each of their
            interactions, both ``[E']``.
        """
        start = self.ptr[user]
        count = self.ptr[user + 1] - start
        position = torch.arange(user.numel(), device=user.device)
        row = position.repeat_interleave(count)
        shift = (start - count.cumsum(0) + count).repeat_interleave(count)
        return row, torch.arange(row.numel(), device=user.device) + shift


def interactions_digest(data: HeteroData) -> str:
    """Digest the interactions of all splits, to tell whether data has changed.

    Args:
        data: The graph; see :meth:`UserItems.from_data`.

    Returns:
        A hexadecimal number.
    """
    digest = hashlib.sha256()
    digest.update(repr((data["user"].num_nodes, data["item"].num_nodes)).encode())
    for split in EDGE_NAMES:
        if split in splits_of(data):
            edges = split_edges(data, split).cpu().contiguous()
            digest.update(split.encode() + edges.numpy().tobytes())
    return digest.hexdigest()


def check_digest(digest: str, data: HeteroData) -> None:
    """Refuse data that is not what a model was trained on.

    Args:
        digest: The :func:`interactions_digest` of what it was trained on.
        data: The graph.

    Raises:
        DataError: If the interactions or their split are not the same.
    """
    if digest != interactions_digest(data):
        raise DataError(
            "the data is not what the run was trained on",
            mend="bring the data back as it was, or train anew",
        )


def splits_of(data: HeteroData) -> tuple[str, ...]:
    """The names of the splits that there are."""
    store = data[INTERACTS]
    has_train = "adj_t" in store
    return tuple(
        split
        for split, name in EDGE_NAMES.items()
        if name in store or (split == "train" and has_train)
    )


def split_edges(data: HeteroData, split: str) -> Tensor:
    """Get the user and item indices ``[2, E]`` of a split, int64.

    Args:
        data: The graph; see :meth:`UserItems.from_data`.
        split: :obj:`"train"`, :obj:`"val"` or :obj:`"test"`.

    Raises:
        DataError: If the data has no such split, or not its users and items.
    """
    if split not in EDGE_NAMES:
        raise ValueError(f"'split' must be one of {list(EDGE_NAMES)} (got {split!r})")
    store = data[INTERACTS]
    if split == "train" and "adj_t" in store:
        return check_range(edges_of(store), data, INTERACTS)
    edge_index = store.get(EDGE_NAMES[split])
    if edge_index is None:
        raise DataError(
            f"the data has no {split} split",
            mend=f"give it '{EDGE_NAMES[split]}' of the edge type {INTERACTS}",
        )
    return check_range(to_edge_index(edge_index), data, INTERACTS)
