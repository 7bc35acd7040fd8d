"""The contract between a recommender and the training and evaluation code."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import chain

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.nn.item_terms import ItemTerms, Term
from mars_pyg.user_items import UserItems


class Recommender(torch.nn.Module, ABC):
    r"""Base class of models that score a user and an item by an inner product.

    .. math::
        s(u, i) = \langle \mathbf{e}_u, \mathbf{g}_i \rangle

    A subclass implements :meth:`forward`, which returns all user and item
    representations, and :meth:`loss`. Training, evaluation and the command line use
    nothing else, so that every model runs through the same code.

    Args:
        num_users: Number of users.
        num_items: Number of items.
    """

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_users = num_users
        self.num_items = num_items

    @abstractmethod
    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute all user representations ``[U, d]`` and item ones ``[N, d]``."""

    @abstractmethod
    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """Compute the training losses of a batch of triplets.

        Args:
            user: User indices ``[B]``, int64.
            positive: Items that these users interacted with ``[B]``, int64.
            negative: Items that they did not interact with ``[B]``, int64.

        Returns:
            The scalar to minimise as ``"loss"`` and its named parts, for the logs.
        """

    def start_epoch(self, generator: torch.Generator) -> None:
        """Draw what changes from epoch to epoch, such as dropped edges.

        Called before each training epoch with a CPU generator that is seeded by the
        run's seed and the epoch, so that a resumed run draws the same.
        """

    def score(self, user: Tensor, representations: tuple[Tensor, Tensor]) -> Tensor:
        """Score every item for a chunk of users.

        Args:
            user: User indices ``[B]``, int64.
            representations: What :meth:`forward` returned.

        Returns:
            Scores ``[B, N]``; higher is better.
        """
        user_representation, item_representation = representations
        return user_representation[user] @ item_representation.t()

    def item_terms(self) -> ItemTerms:
        """Split the item representations into terms that each say something.

        A subclass whose items are sums overrides this; explanations use it.

        Returns:
            One term, :obj:`"collaborative"`, if not overridden. With gradients, and in
            the mode (training or not) that the model is in.
        """
        users, items = self()
        terms = [Term("collaborative")]
        return ItemTerms(users, terms, lambda item: items[item][:, None])

    def user_without_items(self, user: int, item: Tensor) -> Tensor | None:
        """Represent a user by their train interactions but one.

        Explanations ask what a recommendation depends on.

        Args:
            user: The user.
            item: Items of the user ``[H]``, int64, to leave out one by one.

        Returns:
            Representations ``[H, d]``; :obj:`None`, if not overridden, where that takes
            another training.
        """
        return None

    def fit_fold_in(
        self, representations: tuple[Tensor, Tensor], history: UserItems
    ) -> FoldIn:
        r"""Learn to represent users by their histories; see :class:`FoldIn`.

        From the items' representations, :math:`\mathbf{x}_j = \mathbf{g}_j`. A subclass
        may know better.

        Args:
            representations: What :meth:`forward` returned.
            history: The items that each user was trained on.
        """
        return FoldIn.fit(*representations, history)

    def fold_in(
        self,
        history: UserItems,
        representations: tuple[Tensor, Tensor],
        train: UserItems,
    ) -> Tensor:
        """Represent users whom the model was not trained on by their histories.

        Args:
            history: The items of each of ``B`` users.
            representations: What :meth:`forward` returned.
            train: The items that each user was trained on.

        Returns:
            Representations ``[B, d]``, in the place of those of users.
        """
        return self.fit_fold_in(representations, train)(history)

    def add_items(self, data: HeteroData) -> Recommender:
        """Make a recommender that scores new items too, without training.

        What this one says of its own items stays the same.

        Args:
            data: The graph with the new items after those of this recommender; see
                :class:`~mars_pyg.AddItems`.

        Returns:
            A recommender of the items of :obj:`data`; see
            :class:`~mars_pyg.nn.AddedItems`.
        """
        from mars_pyg.nn.added_items import AddedItems

        return AddedItems.from_data(self, data)


def device_of(module: torch.nn.Module) -> torch.device:
    """The device of a module's parameters or buffers; the CPU where it has none."""
    tensor = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def check_inner_product(recommender: Recommender) -> None:
    """Refuse a recommender whose scores are not what its representations say.

    Raises:
        ValueError: If its class has a :meth:`~Recommender.score` of its own.
    """
    if type(recommender).score is not Recommender.score:
        raise ValueError(
            f"{type(recommender).__name__} scores in a way of its own, and not by an "
            "inner product of representations: its scores have no parts, and nothing "
            "can be added to them; give it representations whose inner product they are"
        )


def check_graph(recommender: Recommender, data: HeteroData) -> None:
    """Refuse a graph of other users or items than a recommender's.

    Raises:
        DataError: If their numbers differ.
    """
    for kind, number in (
        ("user", recommender.num_users),
        ("item", recommender.num_items),
    ):
        if data[kind].num_nodes != number:
            raise DataError(
                f"there are {data[kind].num_nodes} {kind}s, the recommender has "
                f"{number}",
                mend="give the graph that the recommender was made for",
                field=kind,
            )
