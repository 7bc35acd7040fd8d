"""The benchmark of annotation: its records, and its costs."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "annotation.py"


@pytest.fixture
def annotation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("annotation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_records_and_table(
    annotation: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "records.json"
    command = ["annotation.py", "--quick", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    annotation.main()
    throughput, memory = json.loads(output.read_text())
    assert throughput["items"] == 32
    assert throughput["bound_seconds"] == pytest.approx(0.2)
    assert 0 < throughput["share_of_bound"] <= 1
    assert len(memory["mib_by_tenth"]) == 10
    printed = capsys.readouterr().out
    monkeypatch.setattr(
        sys, "argv", ["annotation.py", "--table", "--output", str(output)]
    )
    annotation.main()
    assert capsys.readouterr().out == printed
    assert "| 0.05 s | 8 | 32 |" in printed


def test_costs(
    annotation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("mine: {input: 2, output: 0}\n")
    file = annotation.read_prices(prices)
    assert file["mine"].input == 2
    annotation.MODELS = ("gpt-4.1",)
    annotation.print_costs(None, number=300)
    first, second = capsys.readouterr().out.splitlines()[2:4]
    cells = [cell.strip() for cell in first.split("|")[1:-1]]
    assert cells[:2] == ["gpt-4.1", "1"]
    tokens_in, tokens_out, cost, batch = map(float, cells[2:])
    assert cost == pytest.approx(2 * tokens_in + 8 * tokens_out, abs=0.06)
    assert batch == pytest.approx(cost / 2, abs=0.01)
    assert float(second.split("|")[5]) < cost
