"""What the tests of the benchmarks share: small runs, in this process."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def training_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the runs, which are tiny, and not in processes of their own."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import training_runs

    tiny = {"num_users": 40, "num_items": 30, "max_epochs": 5, "accelerator": "cpu"}
    quick = {"dataset": "synthetic", "text_model": "tfidf", **tiny}
    monkeypatch.setattr(training_runs, "QUICK", quick)
    monkeypatch.setattr(training_runs, "run_process", training_runs.run)
    return training_runs
