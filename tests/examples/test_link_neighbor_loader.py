"""The example runs where PyG can sample, and learns."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch_geometric.typing

EXAMPLE = Path(__file__).parents[2] / "examples" / "link_neighbor_loader.py"


@pytest.mark.skipif(
    not (
        torch_geometric.typing.WITH_PYG_LIB or torch_geometric.typing.WITH_TORCH_SPARSE
    ),
    reason="PyG samples by pyg-lib or torch-sparse",
)
def test_sampled_batches_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--epochs", "3"])
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    recall = runpy.run_path(str(EXAMPLE))["main"]()
    assert recall[-1] > 1.5 * recall[0]
