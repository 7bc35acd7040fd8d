"""Runs whose recommender has heads: trained, loaded, continued and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mars_pyg import EASE, DataError, evaluate
from mars_pyg.config import make_config
from mars_pyg.runs import load_run, newest_run, train

KEYS = {
    "num_users": 60,
    "num_items": 40,
    "max_epochs": 2,
    "embedding_dim": 8,
    "accelerator": "cpu",
    "text_model": "tfidf",
}


@pytest.mark.parametrize("model", ["mars", "lightgcn", "none"])
def test_a_run_is_loaded_with_its_heads(model: str, tmp_path: Path) -> None:
    keys = {**KEYS, "model": model, "heads": "affinity,ease,popularity,similarity"}
    if model == "none":
        del keys["embedding_dim"]
    run_dir = tmp_path / "run"
    metrics = train(make_config(keys), run_dir, progress=False)
    assert json.loads((run_dir / "metrics.json").read_text()) == metrics
    assert {"model", "ease", "popularity", "text similarity"} < set(metrics["weights"])
    assert ("model_val" in metrics) == (model != "none")
    run = load_run(newest_run(tmp_path))
    for split in ("val", "test"):
        again = evaluate(run.recommender, run.data, split)
        assert again == pytest.approx(metrics[split])
    if model == "none":
        with pytest.raises(DataError, match="already holds a run"):
            train(make_config(keys), run_dir, progress=False)


def test_a_continued_run_does_not_solve_ease_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(make_config(KEYS), tmp_path / "whole", progress=False)
    run_dir = tmp_path / "run"

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mars_pyg.runs.fit_head_weights", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(KEYS), run_dir, progress=False)
    assert not (run_dir / "metrics.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(EASE, "fit", interrupt)
    metrics = train(make_config(KEYS), run_dir, resume=True, progress=False)
    assert metrics["weights"] == first["weights"]
    assert metrics["test"] == first["test"]


@pytest.mark.parametrize("how", ["garbage", "foreign", "missing", "other"])
def test_damaged_heads_are_told(tmp_path: Path, how: str) -> None:
    train(make_config(KEYS), tmp_path, progress=False)
    path = tmp_path / "heads.pt"
    if how == "garbage":
        path.write_text("garbage")
    elif how == "foreign":
        torch.save({"a": 1}, path)
    elif how == "missing":
        path.unlink()
    else:
        state = torch.load(path, weights_only=True)
        del state["state_dict"]["popularity.weight"]
        torch.save(state, path)
    with pytest.raises(DataError, match=r"damaged|no heads|heads\.pt|do not fit"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"heads": "magic"}, "'heads' are some of"),
        ({"model": "none", "heads": ""}, "model 'none' needs 'heads'"),
        ({"heads": "ease", "affinity_smoothing": 1.0}, "no head 'affinity'"),
        ({"model": "bpr", "ease_l2": 1.0}, "no head 'ease'"),
    ],
)
def test_options_of_heads_that_make_no_sense(
    keys: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_config(keys)


def test_defaults_of_heads() -> None:
    config = make_config({}).resolve()
    assert config.heads == ["affinity", "ease", "popularity", "similarity"]
    assert config.ease_l2 == 100.0
    assert config.affinity_smoothing == 3.0
    plain = make_config({"model": "lightgcn"}).resolve()
    assert plain.heads == []
    assert plain.ease_l2 is None
