"""The cold-start benchmark: which users and items are counted, and its records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.user_items import INTERACTS

TRAIN = [[0, 1, 2], [0, 1, 2, 3, 4], [0], [0, 1, 2, 3, 4]]
VAL: list[list[int]] = [[3], [5], [], []]
#: The last user has five train interactions, and is no test user.
TEST: list[list[int]] = [[4], [6, 7], [5], []]


@pytest.fixture
def cold_start(training_runs: ModuleType) -> ModuleType:
    import cold_start

    return cold_start


def edges(items: list[list[int]]) -> torch.Tensor:
    pairs = [(user, item) for user, row in enumerate(items) for item in row]
    return torch.tensor(pairs).t()


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 8
    data[INTERACTS].edge_index = edges(TRAIN)
    data[INTERACTS].val_edge_index = edges(VAL)
    data[INTERACTS].test_edge_index = edges(TEST)
    return data


def places(*numbers: int) -> pd.DataFrame:
    """The places of items 4, 6, 7 and 5."""
    items = {"user": [0, 1, 1, 2], "item": [4, 6, 7, 5]}
    return pd.DataFrame(items | {"place": np.array(numbers, dtype=np.int8)})


def test_users_and_items_of_a_hand_worked_case(
    cold_start: ModuleType, data: HeteroData
) -> None:
    records = cold_start.measure("baby", data, {"mars": {3: places(1, 3, 15, 0)}})
    run = {"dataset": "baby", "model": "mars", "seed": 3}
    # Of items 6 and 7: 1 / log2(4) = 0.5 and 1 / log2(16) = 0.25, and at best
    # 1 + 1 / log2(3) = 1.63093.
    in_train = 0.5 / 1.63093, 0.75 / 1.63093
    expected = [
        ("all", 3, 1.5 / 3, 2 / 3, (1 + in_train[0]) / 3, (1 + in_train[1]) / 3),
        ("5 in all", 1, 1.0, 1.0, 1.0, 1.0),
        ("5 in train", 1, 0.5, 1.0, *in_train),
    ]
    assert len(records["users"]) == len(expected)
    for record, (group, number, *metrics) in zip(
        records["users"], expected, strict=True
    ):
        names = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
        row = run | {"group": group, "number": number}
        row |= dict(zip(names, metrics, strict=True))
        assert record == pytest.approx(row, abs=1e-5)
    # Items 5, 6 and 7 are in no train interaction, item 4 is in two.
    assert records["items"] == [
        run | {"group": "0", "number": 3, "recall@20": 2 / 3},
        run | {"group": "1 to 2", "number": 1, "recall@20": 1.0},
        run | {"group": "all", "number": 4, "recall@20": 3 / 4},
    ]
    assert records["comparisons"] == []


def test_bounds_of_the_groups_of_items(cold_start: ModuleType) -> None:
    counts = [0, 1, 2, 3, 5, 6, 10, 11, 200]
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 200, len(counts)
    pairs = [(user, item) for item, n in enumerate(counts) for user in range(n)]
    data[INTERACTS].edge_index = torch.tensor(pairs).t()
    assert cold_start.item_groups(data).tolist() == [
        *("0", "1 to 2", "1 to 2", "3 to 5", "3 to 5"),
        *("6 to 10", "6 to 10", "more", "more"),
    ]


def test_comparison_is_paired_over_users_of_mean_seeds(
    cold_start: ModuleType, data: HeteroData
) -> None:
    ours = {0: places(1, 3, 15, 0), 1: places(2, 0, 0, 4)}
    runs = {"mars_letter_heads": ours, "ease": {0: places(0, 0, 0, 0)}}
    rows = cold_start.measure("baby", data, runs)["comparisons"]
    assert [(row["model"], row["group"]) for row in rows] == [
        ("ease", group) for group in cold_start.USER_GROUPS
    ]
    # Recall 1, 1/2 and 1/2 more: t = (2/3) / (1/6) = 4 of two degrees of freedom.
    assert rows[0]["recall@20 difference"] == pytest.approx(2 / 3)
    assert rows[0]["recall@20 p"] == pytest.approx(1 - 4 / 18**0.5)
    assert rows[2]["recall@20 difference"] == pytest.approx(1 / 2)
    assert rows[2]["recall@20 p"] is None


def test_places_of_other_data_are_refused(
    cold_start: ModuleType, data: HeteroData
) -> None:
    wrong = places(1, 3, 15, 0)
    wrong.loc[3, "item"] = 6
    for table in (wrong, places(1, 3, 15, 0)[:3]):
        with pytest.raises(DataError, match=r"baby mars 0 .* Mend: give the --root"):
            cold_start.measure("baby", data, {"mars": {0: table}})


def test_the_plot_has_the_best_other_baseline_without_heads(
    cold_start: ModuleType,
) -> None:
    recall = {
        "bpr": 0.1,
        "mars_letter_heads": 0.3,
        "ease": 0.25,
        "vbpr": 0.2,
        "freedom": 0.22,
        "freedom_heads": 0.4,
    }
    records = [
        {"model": name, "group": "all", "recall@20": value}
        for name, value in recall.items()
    ]
    assert cold_start.models_shown(records) == ["mars_letter_heads", "ease", "freedom"]


def test_kept_places_are_read_and_other_datasets_stay(
    cold_start: ModuleType,
    data: HeteroData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in (
        "baby-mars_letter_heads-2",
        "baby-mars_letter_heads-10",
        "baby-mars-0",
    ):
        places(1, 3, 15, 0).to_parquet(tmp_path / f"{name}.parquet")
    output = tmp_path / "results" / "cold_start.json"
    kept = cold_start.measure("sports", data, {"bpr": {0: places(0, 0, 0, 0)}})
    cold_start.add_records(output, "sports", kept)
    monkeypatch.setattr(cold_start, "load_dataset", lambda config: [data])
    command = ["cold_start.py", "--root", "data", "--places", str(tmp_path)]
    command += ["--output", str(output), "--datasets", "baby", "clothing"]
    monkeypatch.setattr(sys, "argv", command)
    for _ in range(2):
        cold_start.main()
        records = json.loads(output.read_text())
        runs = [
            (row["dataset"], row["model"], row["seed"])
            for row in records["users"]
            if row["group"] == "all"
        ]
        assert runs == [
            ("sports", "bpr", 0),
            ("baby", "mars", 0),
            ("baby", "mars_letter_heads", 2),
            ("baby", "mars_letter_heads", 10),
        ]
    printed = capsys.readouterr().out
    assert f"clothing: no places of its runs in {tmp_path}" in printed
    assert "baby, test users with five interactions in all: 1\n" in printed
    assert printed.index("\nbaby, all test users") < printed.index("sports, all")
    assert "| mars_letter_heads | 2 | .6667 ± .0000 | 1.0000 ± .0000 |" in printed
    assert "| mars_letter_heads | 2 | .5000 ± .0000 | .6667 ± .0000 |" in printed


def test_quick(
    cold_start: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tested = {}

    def run(arguments, job):  # type: ignore[no-untyped-def]
        record = original(arguments, job)
        tested[record["model"], record["seed"]] = record["test"]
        return record

    original = cold_start.run
    monkeypatch.setattr(cold_start, "run", run)
    output = tmp_path / "cold_start.json"
    command = ["cold_start.py", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*command, "--quick"])
    cold_start.main()
    records = json.loads(output.read_text())
    found = {
        (row["model"], row["seed"]): {name: row[name] for name in cold_start.METRICS}
        for row in records["users"]
        if row["group"] == "all"
    }
    assert set(found) == {
        (model, seed) for model in cold_start.QUICK_MODELS for seed in (0, 1)
    }
    for run_key, metrics in found.items():
        assert metrics == pytest.approx(tested[run_key], abs=1e-5)
    numbers = {row["group"]: row["number"] for row in records["items"]}
    assert numbers.pop("all") == sum(numbers.values())
    compared = {row["model"] for row in records["comparisons"]}
    assert compared == set(cold_start.QUICK_MODELS) - {"mars_letter_heads"}
    table = pd.read_csv(tmp_path / "cold_start_synthetic.csv")
    assert set(table["of"]) == {"users", "items"}
    assert (table["seeds"] == 2).all()
    plot = tmp_path / "cold_start_synthetic.png"
    assert plot.stat().st_size > 10_000
    first = capsys.readouterr().out
    assert "synthetic, all test users: " in first

    plot.unlink()
    monkeypatch.setattr(sys, "argv", [*command, "--table"])
    cold_start.main()
    assert first.endswith(capsys.readouterr().out)
    assert plot.is_file()
