"""The example runs, and the heads help PyG's own LightGCN."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "heads_on_light_gcn.py"


def test_heads_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--epochs", "20"])
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    recall = runpy.run_path(str(EXAMPLE))["main"]()
    assert 0.02 < recall["LightGCN"] < recall["with affinity"]
    assert recall["LightGCN"] < recall["with all heads"]
