"""Batches of triplets, alone and as a Trainer asks for them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.training import RecommenderDataModule
from mars_pyg.training.data_module import TripletBatches

Pair = tuple[int, int]


def epoch_of(batches: TripletBatches) -> tuple[list[Pair], list[int]]:
    """The positives and negatives of one epoch, in their order."""
    user, positive, negative = (
        torch.cat(part).tolist() for part in zip(*batches, strict=True)
    )
    return list(zip(user, positive, strict=True)), negative


def make(pairs: list[Pair], num_users: int, num_items: int, **options: Any) -> Any:
    edge_index = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t()
    options = {
        "batch_size": 4,
        "max_steps": None,
        "seed": 0,
        "current_epoch": lambda: 0,
        "processes": lambda: (0, 1),
        **options,
    }
    return TripletBatches(edge_index, num_users, num_items, **options)


@pytest.mark.parametrize(
    ("max_steps", "sizes"),
    [(None, [4, 4, 2]), (3, [4, 4, 2]), (2, [5, 5]), (1, [10]), (100, [4, 4, 2])],
)
def test_batches_grow_with_the_data(max_steps: int | None, sizes: list[int]) -> None:
    pairs = [(user, 0) for user in range(10)]
    batches = make(pairs, 10, 3, max_steps=max_steps)
    assert len(batches) == len(sizes)
    assert [user.numel() for user, _, _ in batches] == sizes


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_epoch_is_every_interaction_once(data: st.DataObject) -> None:
    num_users, num_items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    pairs = data.draw(st.lists(pair, max_size=40))
    batch_size = data.draw(st.integers(1, 9))
    options = {
        "batch_size": batch_size,
        "seed": data.draw(st.integers(0, 9)),
        "current_epoch": lambda: data.draw(st.integers(0, 9)),
    }
    items = {user: {i for u, i in pairs if u == user} for user in range(num_users)}
    usable = [(u, i) for u, i in pairs if len(items[u]) < num_items]
    if not usable:
        with pytest.raises(DataError, match="nothing to train on"):
            make(pairs, num_users, num_items, **options)
        return
    batches = make(pairs, num_users, num_items, **options)
    sizes = [len(user) for user, _, _ in batches]
    assert len(batches) == len(sizes)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= batch_size
    positives, negatives = epoch_of(batches)
    # Repeated interactions are repeated here too.
    assert Counter(positives) == Counter(usable)
    for (user, _), negative in zip(positives, negatives, strict=True):
        assert 0 <= negative < num_items
        assert negative not in items[user]


@settings(max_examples=60, deadline=None)
@given(
    num_pairs=st.integers(1, 30),
    world_size=st.integers(1, 5),
    batch_size=st.integers(1, 9),
    max_steps=st.none() | st.integers(1, 9),
)
def test_processes_share_the_triplets_out(
    num_pairs: int, world_size: int, batch_size: int, max_steps: int | None
) -> None:
    def share(rank: int, world_size: int, batch_size: int) -> TripletBatches:
        return make(
            [(user, 0) for user in range(num_pairs)],
            num_pairs,
            5,
            batch_size=batch_size,
            max_steps=max_steps,
            processes=lambda: (rank, world_size),
        )

    alone = list(zip(*epoch_of(share(0, 1, batch_size)), strict=True))
    shares = [share(rank, world_size, batch_size) for rank in range(world_size)]
    sizes = {tuple(user.numel() for user, _, _ in batches) for batches in shares}
    assert len(sizes) == 1  # They wait for each other at every step.
    assert max_steps is None or len(shares[0]) <= max_steps
    taken = Counter(
        triplet
        for batches in shares
        for triplet in zip(*epoch_of(batches), strict=True)
    )
    repeated = -num_pairs % world_size
    expected = Counter(alone)
    expected.update((alone * repeated)[:repeated])
    assert taken == expected


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    pairs = [(u, i) for u in range(10) for i in range(10) if (u + i) % 3]

    def run(seed: int, epoch: int) -> tuple[list[Pair], list[int]]:
        return epoch_of(make(pairs, 10, 10, seed=seed, current_epoch=lambda: epoch))

    first = run(0, 0)
    torch.rand(17)
    state = torch.get_rng_state()
    assert run(0, 0) == first
    # Nothing is drawn from the generator of the user.
    assert torch.equal(torch.get_rng_state(), state)
    for other in (run(1, 0), run(0, 1), run(1, 1)):
        assert other[0] != first[0]
        assert other[1] != first[1]
    # The size of the batches cuts the same sequence elsewhere.
    assert epoch_of(make(pairs, 10, 10, batch_size=7)) == first
    assert first[0] != pairs


def test_the_epoch_is_asked_for_with_the_first_batch() -> None:
    """Lightning makes the iterator of an epoch before the epoch has begun."""
    pairs = [(u, i) for u in range(10) for i in range(5)]
    clock = {"epoch": 0}
    batches = make(pairs, 10, 10, current_epoch=lambda: clock["epoch"])
    iterator = iter(batches)
    clock["epoch"] = 1
    user = torch.cat([batch[0] for batch in iterator])
    assert user.tolist() == [u for u, _ in epoch_of(batches)[0]]
    clock["epoch"] = 0
    assert user.tolist() != [u for u, _ in epoch_of(batches)[0]]


def test_users_with_all_items_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    batches = make([(0, 0), (1, 0), (1, 1), (2, 1)], 3, 2)
    assert "2 of 4 train interactions are left out" in caplog.text
    assert sorted(epoch_of(batches)[0]) == [(0, 0), (2, 1)]
    caplog.clear()
    make([(0, 0), (2, 1)], 3, 2)
    assert caplog.text == ""


def test_bad_input_is_refused(data: HeteroData) -> None:
    with pytest.raises(DataError, match="every user has all items"):
        make([(0, 0), (0, 1)], 1, 2)
    with pytest.raises(DataError, match="no train interactions"):
        make([], 1, 2)
    with pytest.raises(ValueError, match="'batch_size' must be positive"):
        make([(0, 0)], 1, 2, batch_size=0)
    del data["user", "interacts", "item"].edge_index
    with pytest.raises(DataError, match="no train split"):
        RecommenderDataModule(data)


class Recorder(LightningModule):
    """Notes what a Trainer gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self.splits: list[str] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(
        self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int
    ) -> Tensor:
        self.epochs.setdefault(self.current_epoch, []).append(batch)
        return self.weight.square()

    def validation_step(self, batch: str, batch_idx: int) -> None:
        self.splits.append(batch)

    def test_step(self, batch: str, batch_idx: int) -> None:
        self.splits.append(batch)


def test_with_a_trainer(data: HeteroData) -> None:
    module = RecommenderDataModule(data, batch_size=16, seed=5)
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(recorder, datamodule=module)
    trainer.test(recorder, datamodule=module, verbose=False)
    assert recorder.splits == ["val"] * 3 + ["test"]
    edge_index = data["user", "interacts", "item"].edge_index
    pairs = [(int(u), int(i)) for u, i in edge_index.t()]
    assert sorted(recorder.epochs) == [0, 1, 2]
    for epoch, batches in recorder.epochs.items():
        expected = make(
            pairs,
            data["user"].num_nodes,
            data["item"].num_nodes,
            batch_size=16,
            seed=5,
            current_epoch=lambda epoch=epoch: epoch,
        )
        for batch, other in zip(batches, expected, strict=True):
            assert all(torch.equal(*two) for two in zip(batch, other, strict=True))
