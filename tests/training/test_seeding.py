from __future__ import annotations

import itertools

import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg.nn.recommender import Recommender
from mars_pyg.training import fit
from mars_pyg.training.seeding import epoch_generator, epoch_seed


def test_seeds_differ_by_each_part() -> None:
    parts = itertools.product(range(8), range(40), ("triplets", "model", "global"))
    seeds = [epoch_seed(*part) for part in parts]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A run is not the next one, an epoch later.
    assert epoch_seed(0, 1, "model") != epoch_seed(1, 0, "model")


def test_seeds_are_the_same_everywhere() -> None:
    """A run may be resumed on another machine, with other versions."""
    assert epoch_seed(0, 0, "triplets") == 4386816292584466169
    assert epoch_seed(7, 123, "model") == 3661442215078524142


def test_generators_are_their_own() -> None:
    state = torch.get_rng_state()
    first, again = (
        torch.rand(4, generator=epoch_generator(3, 2, "model")) for _ in range(2)
    )
    other = torch.rand(4, generator=epoch_generator(3, 2, "triplets"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stream", [0, 1])
def test_epochs_of_a_run_draw_differently(
    data: HeteroData, model: Recommender, stream: int
) -> None:
    """From the generator that a model gets, and from PyTorch's global one."""
    drawn: list[float] = []

    def start_epoch(generator: torch.Generator) -> None:
        numbers = torch.rand((), generator=generator), torch.rand(())
        drawn.append(float(numbers[stream]))

    model.start_epoch = start_epoch
    options = {"accelerator": "cpu", "progress": False, "validate_every": 2}
    for state, seed in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(state)
        fit(model, data, max_epochs=4, seed=seed, **options)
    # The seed of the run decides, not what the caller drew before.
    assert drawn[:4] == drawn[4:8]
    assert len(set(drawn)) == 8
