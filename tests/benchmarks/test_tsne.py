"""The benchmark of the items by their factor values: its numbers, and that it runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError


@pytest.fixture
def tsne(training_runs: ModuleType) -> ModuleType:
    import tsne

    return tsne


def test_clusters_are_told_apart(tsne: ModuleType) -> None:
    random = np.random.default_rng(0)
    label = np.repeat(["a", "b", "c"], [40, 30, 30])
    centre = {"a": [9, 0, 0, 0], "b": [0, 9, 0, 0], "c": [0, 0, 9, 0]}
    x = np.array([centre[name] for name in label]) + 0.1 * random.normal(size=(100, 4))
    found = tsne.separation(x, label)
    assert (found["values"], found["items"], found["majority"]) == (3, 100, 0.4)
    assert found["accuracy"] == 1
    assert found["deviation"] == 0
    assert found["silhouette"] > 0.99


def test_noise_is_at_chance(tsne: ModuleType) -> None:
    random = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 500)
    found = tsne.separation(random.normal(size=(1000, 8)), label)
    assert found["accuracy"] == pytest.approx(0.5, abs=0.06)
    assert found["silhouette"] == pytest.approx(0, abs=0.01)


def test_an_item_counts_with_text_and_one_value(tsne: ModuleType) -> None:
    data = HeteroData()
    data["item"].num_nodes = 5
    data["item"].x_text = torch.tensor([[1.0], [1.0], [0.0], [1.0], [1.0]])
    data["value"].name = ["red", "blue", "wool"]
    data["value"].factor = torch.tensor([0, 0, 1])
    data["value"].factor_name = ["color", "material"]
    # Item 1 has two colours, item 2 no text, item 4 no values.
    text = torch.tensor([[0, 0, 1, 1, 2, 3], [0, 2, 0, 1, 0, 1]])
    data["item", "text_value", "value"].edge_index = text
    data["item", "image_value", "value"].edge_index = torch.tensor([[0, 3], [0, 2]])
    labels = tsne.factor_labels(data)
    assert labels["color"].tolist() == ["red", "", "", "blue", ""]
    assert labels["material"].tolist() == ["wool", "", "", "wool", ""]


def test_values_of_few_items_are_left_out(tsne: ModuleType) -> None:
    label = np.array(["a"] * 60 + ["b"] * 30 + ["c"] * 9 + [""] * 5)
    assert tsne.choose_items(label, 10, 1000).tolist() == list(range(90))
    some = tsne.choose_items(label, 10, 50)
    assert len(some) == 50
    assert set(label[some]) == {"a", "b"}
    assert some.tolist() == tsne.choose_items(label, 10, 50).tolist()


def test_the_map_shows_the_values_of_the_paper(tsne: ModuleType) -> None:
    ages = ["infant", "newborn (0-3)", "preschooler (3-5)", "toddler (1-3)"]
    label = np.repeat(ages, [9, 3, 2, 4])
    assert tsne.shown_values(label) == [ages[1], ages[3], ages[2]]
    assert tsne.shown_values(label[label != ages[2]]) == [ages[0], ages[3], ages[1]]


def test_an_unknown_factor_is_named(
    tsne: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "tsne.json"
    command = ["tsne.py", "--quick", "--output", str(output), "--min-items", "5"]
    monkeypatch.setattr(sys, "argv", [*command, "--factor", "smell"])
    with pytest.raises(DataError, match=r"'smell'.*'style'"):
        tsne.main()
    assert not output.exists()


def test_quick(
    tsne: ModuleType,
    training_runs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quick = {**training_runs.QUICK, "num_items": 90}
    monkeypatch.setattr(training_runs, "QUICK", quick)
    output, runs = tmp_path / "tsne.json", tmp_path / "runs"
    command = ["tsne.py", "--quick", "--output", str(output), "--runs", str(runs)]
    command += ["--min-items", "10", "--factor", "material"]
    monkeypatch.setattr(sys, "argv", command)
    tsne.main()
    records = json.loads(output.read_text())
    assert [record["model"] for record in records] == [
        "freedom",
        "mars_letter",
        "text features",
    ]
    for record in records:
        assert "material" in [row["factor"] for row in record["factors"]]
        for row, other in zip(record["factors"], records[0]["factors"], strict=True):
            assert 0 <= row["accuracy"] <= 1
            assert -1 <= row["silhouette"] <= 1
            assert (row["items"], row["majority"]) == (
                other["items"],
                other["majority"],
            )
    table = capsys.readouterr().out
    png = tmp_path / "tsne_synthetic.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "tsne_synthetic.csv").is_file()

    png.unlink()
    monkeypatch.setattr(sys, "argv", ["tsne.py", "--table", "--output", str(output)])
    tsne.main()
    assert capsys.readouterr().out == table[table.index("synthetic, seeds") :]
    assert png.is_file()
