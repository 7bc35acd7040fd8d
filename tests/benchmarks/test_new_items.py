"""The benchmark of new items: nothing of them is in what models are trained on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from mars_pyg import SyntheticFactorDataset
from mars_pyg.item_values import item_value_edges
from mars_pyg.user_items import INTERACTS

FILE = Path(__file__).parents[2] / "benchmarks" / "new_items.py"


@pytest.fixture
def new_items(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("new_items", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "new_items", module)
    spec.loader.exec_module(module)
    return module


def test_new_items_are_taken_out_and_come_back(new_items: ModuleType) -> None:
    data = SyntheticFactorDataset(num_users=60, num_items=50)[0]
    problem = new_items.take_out(data, seed=0)
    before, after = problem.before, problem.after
    first = before["item"].num_nodes
    assert before.validate()
    assert after.validate()
    new = set(after["item"].id[first:])
    assert len(new) == round(0.1 * ((data["item"].x_text != 0).any(dim=1)).sum().item())
    assert not new & set(before["item"].id)
    assert new | set(before["item"].id) == set(data["item"].id)

    def named(graph, edge_index, names):
        return {(int(a), names[b]) for a, b in edge_index.t().tolist()}

    ids, store = data["item"].id, data[INTERACTS]
    splits = {
        name: {(u, ids[i]) for u, i in edge_index.t().tolist()}
        for name, edge_index in store.items()
    }
    kept = before[INTERACTS]
    for name, pairs in splits.items():
        expected = {pair for pair in pairs if pair[1] not in new}
        assert named(before, kept[name], before["item"].id) == expected
    wanted = after[INTERACTS]
    assert torch.equal(wanted.edge_index, kept.edge_index)
    for name, sources in (
        ("test_edge_index", ["test_edge_index"]),
        ("val_edge_index", ["edge_index", "val_edge_index"]),
    ):
        expected = {p for source in sources for p in splits[source] if p[1] in new}
        assert named(after, wanted[name], after["item"].id) == expected

    def profiles(graph):
        names = graph["value"].name
        factor = graph["value"].factor.tolist()
        return {
            (graph["item"].id[i], factor[v], names[v])
            for i, v in item_value_edges(graph).t().tolist()
        }

    assert profiles(after) == profiles(data)
    order = [data["item"].id.index(name) for name in after["item"].id]
    assert torch.equal(after["item"].x_text, data["item"].x_text[order])


def test_quick(
    new_items: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "new_items.json"
    monkeypatch.setattr(
        sys, "argv", ["new_items.py", "--quick", "--output", str(output)]
    )
    monkeypatch.setattr(new_items, "QUICK_EPOCHS", 3)
    new_items.main()
    records = {record["method"]: record for record in json.loads(output.read_text())}
    assert set(records) == set(new_items.METHODS)
    ndcg = {name: r["val_new"]["ndcg@20"] for name, r in records.items()}
    assert ndcg["all"] > ndcg["random"]
    assert "| synthetic | model + heads |" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "new_items_synthetic.csv").set_index("method")
    assert set(table.index) == set(records)
    for method, row in table.iterrows():
        recall = records[method]["test_new"]["recall@20"]
        assert row["new items alone: R@20"] == pytest.approx(recall, rel=1e-5)
    plot = tmp_path / "new_items_synthetic.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
