"""The benchmarks of serving run, and say what they claim to."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, BENCHMARKS / name, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_serving(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    output = tmp_path / "serving.json"
    shown = run("serving.py", "--quick", "--factory=IVF4,Flat", f"--output={output}")
    records = json.loads(output.read_text())
    assert {record["task"] for record in records} == {
        "known user",
        "history of 10 items",
        "known user, filter",
    }
    assert all(0 < record["p50_ms"] <= record["p99_ms"] for record in records)
    recall = {r["search"]: r["recall@20"] for r in records if "recall@20" in r}
    assert recall == {"exact": 1.0, "IVF4,Flat": recall["IVF4,Flat"]}
    assert recall["IVF4,Flat"] > 0.3
    assert "p99_ms" in shown


def test_items_without_factors_have_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    from mars_pyg import LightGCN, SyntheticFactorDataset

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    serving = importlib.import_module("serving")
    data = SyntheticFactorDataset(30, 40)[0]
    for kind in [kind for kind in data.edge_types if "value" in kind]:
        del data[kind]
    del data["value"]
    records = serving.run(LightGCN(data).eval(), data, 3, "IVF2,Flat")
    tasks = {record["task"] for record in records}
    assert tasks == {"known user", "history of 10 items"}


def test_fold_in(tmp_path: Path) -> None:
    output = tmp_path / "fold_in.json"
    run("fold_in.py", "--quick", f"--output={output}")
    records = {record["way"]: record for record in json.loads(output.read_text())}
    assert records["learned"]["cosine"] == 1.0
    assert records["own"]["cosine"] > 0.9
    assert records["own"]["recall@20"] > 0.8 * records["learned"]["recall@20"]
