"""Batches of training triplets for Lightning."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.training.negative_sampling import NegativeSampler
from mars_pyg.training.seeding import epoch_generator
from mars_pyg.user_items import split_edges

logger = logging.getLogger(__name__)


class TripletBatches:
    """The shuffled triplets of an epoch, in batches.

    An iteration shuffles all train interactions and draws a negative for each, as whole
    tensors, and yields slices of them. It asks for the epoch when its first batch is
    asked for, not before, since Lightning makes iterators ahead of time.

    Processes that train together shuffle alike and share the triplets out. All take as
    many steps, since they wait for each other: the first triplets are repeated where
    the processes do not divide them.

    Args:
        edge_index: Users and items of the train interactions ``[2, E]``, int64.
        num_users: Number of users.
        num_items: Number of items.
        batch_size: Number of triplets in a batch; the last one may be smaller.
        max_steps: The most batches of an epoch, for which batches grow; :obj:`None`
            for any number.
        seed: The seed of the run.
        current_epoch: Tells the epoch that an iteration is for.
        processes: Tells the rank of this process and the number of processes.

    Raises:
        DataError: If there is nothing to train on.
    """

    def __init__(
        self,
        edge_index: Tensor,
        num_users: int,
        num_items: int,
        batch_size: int,
        max_steps: int | None,
        seed: int,
        current_epoch: Callable[[], int],
        processes: Callable[[], tuple[int, int]],
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"'batch_size' must be positive (got {batch_size})")
        if max_steps is not None and max_steps < 1:
            raise ValueError(f"'max_steps' must be positive (got {max_steps})")
        edge_index = edge_index.cpu()  # As is what is drawn.
        self.sampler = NegativeSampler(edge_index, num_users, num_items)
        usable = self.sampler.has_negative[edge_index[0]]
        left_out = int((~usable).sum())
        if left_out == usable.numel():
            raise DataError(
                "there is nothing to train on: "
                + ("every user has all items" if left_out else "no train interactions"),
                mend="give train interactions of users who have not seen every item",
            )
        if left_out:
            logger.warning(
                "%d of %d train interactions are left out of the loss: their users "
                "have trained on every item, so that there is no negative",
                left_out,
                usable.numel(),
            )
        self.user, self.positive = edge_index[:, usable].contiguous()
        self._batch_size = int(batch_size)
        self.max_steps = max_steps
        self.seed = seed
        self.current_epoch = current_epoch
        self.processes = processes

    @property
    def batch_size(self) -> int:
        """Number of triplets in a batch of this process."""
        if self.max_steps is None:
            return self._batch_size
        return max(self._batch_size, -(-self._share // self.max_steps))

    @property
    def _share(self) -> int:
        return -(-self.user.numel() // self.processes()[1])

    def __len__(self) -> int:
        return -(-self._share // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        generator = epoch_generator(self.seed, self.current_epoch(), "triplets")
        order = torch.randperm(self.user.numel(), generator=generator)
        user, positive = self.user[order], self.positive[order]
        triplets = (user, positive, self.sampler.sample(user, generator))
        rank, world_size = self.processes()
        if world_size > 1:
            share = torch.arange(rank, self._share * world_size, world_size)
            user, positive, negative = (part[share % len(part)] for part in triplets)
            triplets = (user, positive, negative)
        batches = (part.split(self.batch_size) for part in triplets)
        yield from zip(*batches, strict=True)


class RecommenderDataModule(LightningDataModule):
    r"""Gives Lightning the triplets to train on and the splits to evaluate.

    A training batch is a tuple of users, their train items and items that they have not
    trained on, each ``[B]``, int64. Users who have trained on every item have no
    negative: their interactions are left out, with a warning that counts them. Under
    Lightning's :obj:`strategy="ddp"` every process trains on triplets of its own.

    Args:
        data (HeteroData): The graph; see
            :class:`~mars_pyg.user_items.UserItems`.
        batch_size (int, optional): Number of triplets in a batch of a process.
            (default: :obj:`8192`)
        max_steps (int, optional): The most steps of an epoch. Every step propagates
            over the whole graph, so that an epoch of batches of one size takes time in
            proportion to the square of the interactions; with this many steps at most,
            larger data has larger batches instead. (default: :obj:`None`, any number)
        seed (int, optional): Seed of the shuffles and negatives. Those of an epoch
            depend on the seed and the epoch alone. (default: :obj:`0`)

    Raises:
        DataError: If there is nothing to train on.
    """

    def __init__(
        self,
        data: HeteroData,
        batch_size: int = 8192,
        max_steps: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batches = TripletBatches(
            split_edges(data, "train"),
            data["user"].num_nodes,
            data["item"].num_nodes,
            batch_size,
            max_steps,
            seed,
            self._current_epoch,
            self._processes,
        )

    # Methods, since lambdas can't be sent to processes that are spawned.
    def _current_epoch(self) -> int:
        return 0 if self.trainer is None else self.trainer.current_epoch

    def _processes(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> TripletBatches:
        """The shuffled triplets of the current epoch."""
        return self.batches

    def val_dataloader(self) -> Iterable[str]:
        """One batch, the name of the split: evaluation makes chunks of its own."""
        return ("val",)

    def test_dataloader(self) -> Iterable[str]:
        """One batch, the name of the split."""
        return ("test",)
