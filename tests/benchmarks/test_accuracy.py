"""The accuracy benchmark: its records, and that it goes on where it was."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "accuracy.py"


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = {"num_users": 40, "num_items": 30, "max_epochs": 5, "accelerator": "cpu"}
    monkeypatch.setattr(module, "QUICK", {"dataset": "synthetic", **tiny})

    def run_here(arguments, dataset, model, seed):  # type: ignore[no-untyped-def]
        arguments.record = arguments.output.parent / "record.json"
        one = {"datasets": [dataset], "models": [model], "seeds": [seed]}
        module.run(type(arguments)(**{**vars(arguments), **one}))
        module.keep_users(arguments, arguments.record, dataset, model, seed)
        return json.loads(arguments.record.read_text())

    monkeypatch.setattr(module, "run_process", run_here)
    return module


def test_records_and_table(
    accuracy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "accuracy.json"
    command = ["accuracy.py", "--quick", "--output", str(output)]
    command += ["--models", "bpr", "mars", "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", command)
    accuracy.main()
    records = json.loads(output.read_text())
    runs = [(r["dataset"], r["model"], r["seed"]) for r in records]
    assert runs == [
        ("synthetic", "bpr", 0),
        ("synthetic", "bpr", 1),
        ("synthetic", "mars", 0),
        ("synthetic", "mars", 1),
    ]
    for record in records:
        for split in ("valid", "test"):
            assert set(record[split]) == set(accuracy.METRICS)
        assert record["epochs"] == 5
        assert record["seconds_per_epoch"] > 0
        assert record["peak_mib"] > 0
        assert record["config"]["batch_size"] == 8192
    first = capsys.readouterr().out
    assert "recorded before" not in first
    assert len(first.strip().split("\n|")) == 5

    # Again: nothing is run twice.
    accuracy.main()
    again = capsys.readouterr().out
    assert again.count("recorded before") == 4
    assert again.split("\n|", 1)[1] == first.split("\n|", 1)[1]
    assert json.loads(output.read_text()) == records


def test_recorded_configurations_are_those_of_the_models(accuracy: ModuleType) -> None:
    """What the repository records was run with the settings that the script has."""
    for record in accuracy.read_records(accuracy.RESULTS):
        config = accuracy.make_config(
            {
                "dataset": record["dataset"],
                "seed": record["seed"],
                **accuracy.MODELS[record["model"]],
            }
        )
        assert record["config"] == accuracy.describe(config)
