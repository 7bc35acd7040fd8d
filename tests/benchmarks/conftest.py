"""What the tests of the benchmarks share: small runs."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def _scripts_import_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def training_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the runs, whose quick ones are tiny."""
    import training_runs

    tiny = {"num_users": 40, "num_items": 30, "max_epochs": 5, "accelerator": "cpu"}
    quick = {"dataset": "synthetic", "text_model": "tfidf", **tiny}
    monkeypatch.setattr(training_runs, "QUICK", quick)
    return training_runs
