"""The example runs, and its model learns more than the one it extends."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "mars_conv_in_light_gcn.py"


def test_factors_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--epochs", "30"])
    best = runpy.run_path(str(EXAMPLE))["main"]()
    assert 0.05 < best["LightGCN"] < best["FactorLightGCN"]
