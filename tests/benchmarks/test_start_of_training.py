"""The benchmark of the start of training: all combinations, where features miss."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest


def test_quick(
    training_runs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import start_of_training

    monkeypatch.setattr(start_of_training, "QUICK", training_runs.QUICK)
    output = tmp_path / "records.json"
    command = ["start_of_training.py", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", [*command, "--quick"])
    start_of_training.main()
    records = json.loads(output.read_text())
    combinations = {(r["projection"], r["regularized"]) for r in records}
    assert len(records) == len(combinations) == 4
    assert all(len(r["valid recall@20"]) == len(r["epochs"]) == 2 for r in records)
    printed = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--table"])
    start_of_training.main()
    assert printed.endswith(capsys.readouterr().out)
