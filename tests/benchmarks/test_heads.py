"""The benchmark of the heads: what it measures, and its own ideas."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg import BPR, HeadedRecommender, Popularity
from mars_pyg.errors import DataError
from mars_pyg.user_items import UserItems

FILE = Path(__file__).parents[2] / "benchmarks" / "heads.py"


@pytest.fixture
def heads() -> ModuleType:
    spec = importlib.util.spec_from_file_location("heads", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def graph() -> HeteroData:
    """Three items; two factors of two values; the last item has no second value."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    data["value"].num_nodes = 4
    data["value"].factor = torch.tensor([0, 0, 1, 1])
    data["value"].factor_name = ["brand", "type"]
    data["item", "text_value", "value"].edge_index = torch.tensor(
        [[0, 0, 1, 1, 2], [0, 2, 0, 3, 1]]
    )
    data["user", "interacts", "item"].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
    return data


def test_the_product_of_two_factors_is_a_factor(heads: ModuleType) -> None:
    head = heads.CrossedAffinity(graph(), 0, 1).requires_grad_(False)
    assert head.parts == ["brand x type"]
    assert head.known[:, 0].tolist() == [True, True, False]
    assert head.factor.numel() == 2


def test_a_value_follows_another_of_another_item(heads: ModuleType) -> None:
    head = heads.ValueTransition(graph()).requires_grad_(False)
    # The first user has values 2 and 3, on two items; 0 and 2 on one item alone.
    assert head.lift[2, 3] > head.lift[1, 3]
    assert head.lift.diagonal().abs().max() == 0
    history = UserItems.from_data(graph(), "train")
    score = head.score(history)
    row, item = torch.cartesian_prod(torch.arange(2), torch.arange(3)).t()
    parts = head.pair_parts(history, row, item)
    torch.testing.assert_close(parts.view(2, 3), score)


def test_a_run_without_affinity_is_refused(
    heads: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured, and also where the data has no factors."""
    data = graph()
    del data["value"], data["item", "text_value", "value"]
    for recommender in (BPR(data), HeadedRecommender(None, data, [Popularity(data)])):
        run = SimpleNamespace(recommender=recommender, data=data)
        monkeypatch.setattr(heads, "load_run", lambda _, run=run: run)
        with pytest.raises(DataError, match="no affinity among its heads"):
            heads.measure(tmp_path, 10)


def test_quick(
    heads: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        heads,
        "QUICK",
        {**heads.QUICK, "num_users": 60, "num_items": 40, "accelerator": "cpu"},
    )
    output = tmp_path / "heads.json"
    arguments = ["heads.py", "--quick", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    heads.main()
    (record,) = json.loads(output.read_text())
    rows = record["valid recall@20"]
    assert {"model alone", "model + ease", "all but affinity", "heads alone"} < set(
        rows
    )
    assert all(0 <= row["recall"] <= 1 for row in rows.values())
    table = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["heads.py", "--table", "--output", str(output)])
    heads.main()
    assert capsys.readouterr().out == table[table.index("| valid") :]
