"""The example runs, and the heads help PyG's own LightGCN."""

from __future__ import annotations

import runpy
import sys
from functools import partial
from pathlib import Path

import pytest

import mars_pyg

EXAMPLE = Path(__file__).parents[2] / "examples" / "heads_on_light_gcn.py"


def test_heads_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--epochs", "20"])
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    recall = runpy.run_path(str(EXAMPLE))["main"]()
    assert 0.02 < recall["LightGCN"] < recall["with affinity"]
    assert recall["LightGCN"] < recall["with all heads"]


def test_the_last_epoch_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is the only one: there must be an embedding to take."""
    small = partial(mars_pyg.SyntheticFactorDataset, 60, 40)
    monkeypatch.setattr(mars_pyg, "SyntheticFactorDataset", small)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--epochs", "1"])
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    assert runpy.run_path(str(EXAMPLE))["main"]().keys() >= {"LightGCN"}
