"""Runs of baselines are runs like those of the package."""

from __future__ import annotations

from pathlib import Path

import pytest
from baselines.runs import make_config_keys, train_baseline

from mars_pyg.config import make_config
from mars_pyg.runs import train

SMALL = {"num_users": 60, "num_items": 40, "max_epochs": 4, "accelerator": "cpu"}


def test_equals_a_run_of_the_package(tmp_path: Path) -> None:
    config = make_config({**SMALL, **make_config_keys("lightgcn"), "seed": 3})
    expected = train(config, tmp_path / "package", progress=False)
    found, _ = train_baseline("lightgcn", {}, config, tmp_path / "baseline", False)
    for key in ("val", "test", "best_epoch", "epochs"):
        assert found[key] == expected[key]


def test_equals_the_head_of_the_package(tmp_path: Path) -> None:
    keys = {**SMALL, "model": "none", "heads": ["ease"], "ease_l2": 200.0}
    alone = make_config({**keys, "ease_clique_weight": 0.0})
    expected = train(alone, tmp_path / "package", progress=False)
    config = make_config({**SMALL, **make_config_keys("ease")})
    found, run = train_baseline("ease", {"l2": 200.0}, config, tmp_path, False)
    assert set(found) == {"val", "test"}
    # The weight of the only head ranks nothing.
    assert found["test"] == pytest.approx(expected["test"], abs=1e-6)
    assert not run.recommender.training
