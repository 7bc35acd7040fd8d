"""What holds for all baselines."""

from __future__ import annotations

import dense_reference as dense
import pytest
import torch
from baselines import BASELINES
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from mars_pyg import SyntheticFactorDataset, evaluate
from mars_pyg.training import fit

TRAINED = [name for name, baseline in BASELINES.items() if baseline.is_trained]
CONTENT = [name for name, baseline in BASELINES.items() if baseline.needs_content]


@pytest.fixture(scope="module")
def shop() -> HeteroData:
    data = SyntheticFactorDataset(300, 150, seed=0)[0]
    del data["item"].x_image
    return data


def test_names_and_arguments() -> None:
    assert {"bpr", "lightgcn", "ease", *CONTENT} == set(BASELINES)
    assert CONTENT == ["vbpr", "lattice", "freedom", "bm3", "smore"]
    assert BASELINES["freedom"].arguments["edge_dropout"] == 0.8
    assert BASELINES["ease"].arguments == {"l2": 300.0}


@pytest.mark.parametrize("name", TRAINED)
def test_learns(shop: HeteroData, name: str) -> None:
    seed_everything(0)
    model = BASELINES[name].make(shop)
    before = evaluate(model, shop)["recall@20"]
    result = fit(
        model,
        shop,
        max_epochs=10,
        validate_every=5,
        batch_size=960,
        learning_rate=0.02,
        accelerator="cpu",
        progress=False,
    )
    assert result.val["recall@20"] > before + 0.05
    # The best weights are restored, with whatever graphs belong to them.
    assert evaluate(model, shop)["recall@20"] == pytest.approx(
        result.val["recall@20"], abs=1e-6
    )


def test_ease_is_ready(shop: HeteroData) -> None:
    model = BASELINES["ease"].make(shop)
    # A random ranking finds some 15 %.
    assert evaluate(model, shop)["recall@20"] > 0.25


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_all_parameters(data: HeteroData, name: str) -> None:
    seed_everything(0)
    model = BASELINES[name].make(data)
    model.start_epoch(torch.Generator().manual_seed(0))
    model.loss(*dense.triplets(data))["loss"].backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", CONTENT)
def test_features_are_no_state(data: HeteroData, name: str) -> None:
    model = BASELINES[name].make(data)
    assert torch.equal(model.x_text, data["item"].x_text)
    assert not [key for key in model.state_dict() if "x_" in key]
