"""Runs whose recommender has heads: trained, loaded, continued and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mars_pyg import EASE, DataError, HeadedRecommender, evaluate
from mars_pyg.config import make_config
from mars_pyg.runs import (
    build_recommender,
    load_data,
    load_run,
    newest_run,
    train,
)

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
    assert {"ease", "popularity", "text similarity"} < set(metrics["weights"])
    assert ("model" in metrics["weights"]) == (model != "none")
    assert ("model_val" in metrics) == (model != "none")
    run = load_run(newest_run(tmp_path))
    for split in ("val", "test"):
        again = evaluate(run.recommender, run.data, split)
        assert again == pytest.approx(metrics[split])
    if model == "none":
        with pytest.raises(DataError, match="already holds a run"):
            train(make_config(keys), run_dir, progress=False)


@pytest.mark.parametrize("model", ["mars", "lightgcn"])
def test_heads_in_the_loss(model: str, tmp_path: Path) -> None:
    heads = "affinity,ease,popularity,similarity"
    keys = {**KEYS, "model": model, "heads": heads, "validate_every": 1}
    plain = train(make_config(keys), tmp_path / "plain", progress=False)
    keys["heads_in_loss"] = 0.5
    whole = train(make_config(keys), tmp_path / "whole", progress=False)
    assert whole["model_val"] != plain["model_val"]
    # The metrics of the model are those of the model alone.
    run = load_run(tmp_path / "whole")
    assert isinstance(run.recommender, HeadedRecommender)
    assert run.recommender.base is not None
    for recommender, split, wanted in (
        (run.recommender.base, "val", whole["model_val"]),
        (run.recommender, "val", whole["val"]),
        (run.recommender, "test", whole["test"]),
    ):
        assert evaluate(recommender, run.data, split) == pytest.approx(wanted)

    train(make_config({**keys, "max_epochs": 1}), tmp_path / "parts", progress=False)
    parts = train(make_config(keys), tmp_path / "parts", resume=True, progress=False)
    for name in ("model_val", "val", "test", "weights", "best_epoch"):
        assert parts[name] == whole[name]


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


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ({"model": "none", "heads": "ease,popularity"}, "weights"),
        ({**KEYS, "model": "lightgcn", "heads": "popularity"}, "weights"),
        ({**KEYS, "model": "lightgcn", "heads": "popularity"}, "training"),
        ({**KEYS, "model": "bpr", "heads": "ease", "heads_in_loss": 0.5}, "training"),
    ],
)
def test_a_run_whose_heads_are_not_fitted_is_no_trained_one(
    keys: dict[str, object],
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config({"num_users": 60, "num_items": 40, **keys})
    run_dir = tmp_path / "a run"

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    if where == "weights":
        monkeypatch.setattr("mars_pyg.runs.fit_head_weights", interrupt)
        monkeypatch.setattr("mars_pyg.runs._join_heads", lambda *args: None)
    else:
        monkeypatch.setattr("mars_pyg.runs._fit_heads", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config, run_dir, progress=False)
    monkeypatch.undo()
    for load, folder in ((load_run, run_dir), (newest_run, tmp_path)):
        with pytest.raises(DataError, match="training is not finished") as caught:
            load(folder)
        assert caught.value.file == str(run_dir)
        assert f"--run-dir '{run_dir}' --resume" in caught.value.mend
    metrics = train(config, run_dir, resume=True, progress=False)
    run = load_run(newest_run(tmp_path))
    again = evaluate(run.recommender, run.data, "test")
    assert again == pytest.approx(metrics["test"])


def test_weights_of_another_epoch_of_the_model(tmp_path: Path) -> None:
    train(
        make_config({**KEYS, "model": "bpr", "heads": "ease"}), tmp_path, progress=False
    )
    load_run(tmp_path)
    state = torch.load(tmp_path / "heads.pt", weights_only=True)
    torch.save({**state, "best_epoch": 77}, tmp_path / "heads.pt")
    with pytest.raises(DataError, match="not fitted yet"):
        load_run(tmp_path)


def test_runs_of_older_versions(tmp_path: Path) -> None:
    metrics = train(make_config(KEYS), tmp_path, progress=False)
    for name in ("heads.pt", "best.ckpt"):
        state = torch.load(tmp_path / name, weights_only=True)
        del state["content"]
        state.pop("best_epoch", None)
        torch.save(state, tmp_path / name)
    run = load_run(tmp_path)
    again = evaluate(run.recommender, run.data, "test")
    assert again == pytest.approx(metrics["test"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("heads_in_loss", [None, 0.5])
def test_a_run_with_heads_on_a_gpu(heads_in_loss: float | None, tmp_path: Path) -> None:
    heads = "affinity,ease,popularity,similarity"
    keys = {**KEYS, "accelerator": "gpu", "heads": heads}
    if heads_in_loss is not None:
        keys["heads_in_loss"] = heads_in_loss
    config = make_config(keys)
    metrics = train(config, tmp_path, progress=False)
    run = load_run(tmp_path)
    again = evaluate(run.recommender, run.data, "test")
    assert again == pytest.approx(metrics["test"], abs=0.05)
    resumed = train(config, tmp_path, resume=True, progress=False)
    assert resumed["test"] == pytest.approx(metrics["test"], abs=0.05)


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
        ({"model": "bpr", "heads_in_loss": 1.0}, "needs a model and 'heads'"),
        ({"model": "none", "heads_in_loss": 1.0}, "needs a model and 'heads'"),
        ({"heads_in_loss": -1.0}, "greater than or equal to 0"),
    ],
)
def test_options_of_heads_that_make_no_sense(
    keys: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_config(keys)


def test_similarity_alone_is_not_put_in_the_loss(tmp_path: Path) -> None:
    keys = {**KEYS, "heads": "similarity", "heads_in_loss": 1.0}
    with pytest.raises(DataError, match="needs another head"):
        train(make_config(keys), tmp_path / "run", progress=False)


def test_defaults_of_heads() -> None:
    config = make_config({}).resolve()
    assert config.heads == ["affinity", "ease", "popularity", "similarity"]
    assert config.ease_l2 == 100.0
    assert config.affinity_smoothing == 3.0
    plain = make_config({"model": "lightgcn"}).resolve()
    assert plain.heads == []
    assert plain.ease_l2 is None


def test_similarity_reads_texts_that_the_model_does_not() -> None:
    config = make_config({**KEYS, "model": "mars", "modalities": ["id"]})
    data = load_data(config)
    assert "similarity" in config.head_names
    assert "x_text" in data["item"]
    assert build_recommender(config, data).content_modalities == []


def test_an_ease_without_room_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(num_items: int, dtype: torch.dtype) -> None:
        raise MemoryError(f"{num_items} items are too many; choose solver='local'")

    monkeypatch.setattr("mars_pyg.heads.build.check_memory", refuse)
    keys = {**KEYS, "model": "bpr", "heads": "ease", "ease_solver": "dense"}
    config = make_config(keys)
    with pytest.raises(DataError, match="40 items are too many"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_heads_that_are_not_made_may_have_other_options(tmp_path: Path) -> None:
    keys = {**KEYS, "model": "bpr", "heads": "ease", "ease_clique_weight": 0.0}
    keys |= {"num_users": 5, "num_interactions": 25}
    wrong = make_config({**keys, "ease_l2": 1e-30})
    run_dir = tmp_path / "run"
    with pytest.raises(DataError, match="EASE cannot be solved with an L2 weight"):
        train(wrong, run_dir, progress=False)
    right = make_config({**keys, "ease_l2": 10.0})
    with pytest.raises(DataError, match="started with 0, not 1"):
        train(right.model_copy(update={"seed": 1}), run_dir, resume=True)
    metrics = train(right, run_dir, resume=True, progress=False)
    run = load_run(run_dir)
    assert run.config.ease_l2 == 10.0
    again = evaluate(run.recommender, run.data, "test")
    assert again == pytest.approx(metrics["test"])
    # Now they are made.
    with pytest.raises(DataError, match=r"started with 10\.0, not 20\.0"):
        train(make_config({**keys, "ease_l2": 20.0}), run_dir, resume=True)


def test_an_ease_that_cannot_be_solved_is_said(tmp_path: Path) -> None:
    keys = {"num_users": 5, "num_items": 40, "model": "none", "heads": "ease"}
    keys |= {"ease_l2": 1e-30, "ease_clique_weight": 0.0}
    with pytest.raises(DataError, match="EASE cannot be solved with an L2 weight"):
        train(make_config(keys), tmp_path / "run", progress=False)


def test_heads_that_cannot_be_in_the_loss_leave_no_run(tmp_path: Path) -> None:
    """Else the folder would be refused when the options are changed as is said."""
    keys = {**KEYS, "model": "lightgcn", "heads": "similarity"}
    with pytest.raises(DataError, match=r"needs another head.*leave it out"):
        train(make_config({**keys, "heads_in_loss": 0.5}), tmp_path, progress=False)
    assert train(make_config(keys), tmp_path, progress=False)["weights"]
