"""What a run refuses."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from mars_pyg import DataError, load
from mars_pyg.config import make_config
from mars_pyg.files import only_writer
from mars_pyg.runs import load_data, load_run, newest_run, train
from mars_pyg.serving import export
from mars_pyg.training import fit


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A catalogue of titles, without factors."""
    folder = tmp_path / "shop"
    folder.mkdir()
    items = ["id,title,color", *(f"i{i},Thing {i},c{i % 3}" for i in range(12))]
    pairs = [(u, (u * 5 + 2 * i) % 12) for u in range(20) for i in range(5)]
    lines = ["user,item", *(f"u{user},i{item}" for user, item in pairs)]
    (folder / "items.csv").write_text("\n".join(items))
    (folder / "interactions.csv").write_text("\n".join(lines))
    return folder


def test_items_without_factors(shop: Path) -> None:
    keys = {"dataset": str(shop), "text_model": "tfidf"}
    with pytest.raises(DataError, match="the items have no factors") as caught:
        load_data(make_config(keys))
    assert "--factor-columns" in caught.value.mend
    assert "--item-graphs structure" in caught.value.mend
    # What the message says to do is enough.
    for mended in ({"factor_columns": "color"}, {"item_graphs": "structure"}):
        data = load_data(make_config({**keys, **mended}))
        assert ("item", "similar", "item") in data.edge_types
    assert "x_text" not in load_data(make_config({**keys, "model": "bpr"}))["item"]


@pytest.mark.parametrize(
    ("ratios", "split"), [("0.9,0,0.1", "val"), ("0.9,0.1,0", "test")]
)
def test_an_empty_split_is_told_before_training(
    shop: Path, tmp_path: Path, ratios: str, split: str
) -> None:
    config = make_config({"dataset": str(shop), "model": "bpr", "ratios": ratios})
    with pytest.raises(DataError, match=f"no user has an item in the {split} split"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_finished_is_no_trained_one(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"dataset": str(shop), "model": "bpr", "heads": "", "accelerator": "cpu"}
    keys |= {"max_epochs": 4, "validate_every": 1}
    root = tmp_path / "runs"
    train(make_config(keys), root / "whole", progress=False)
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    part = root / "part"
    with pytest.raises(KeyboardInterrupt):
        train(make_config(keys), part, progress=stop)
    assert (part / "best.ckpt").exists()
    with pytest.raises(DataError, match=r"not finished.*--resume"):
        load_run(part)
    assert newest_run(root) == root / "whole"
    # So is a finished run that has gone on to a better epoch.
    file = root / "whole" / "metrics.json"
    metrics = json.loads(file.read_text())
    file.write_text(json.dumps({**metrics, "best_epoch": 77}))
    with pytest.raises(DataError, match="not finished: it has gone on"):
        load_run(root / "whole")
    train(make_config(keys), part, resume=True, progress=False)
    assert newest_run(root) == part
    file.write_text("{")
    with pytest.raises(DataError, match="the file is damaged"):
        load_run(root / "whole")


def test_folders_that_are_no_runs_are_passed_over(shop: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    keys = {"dataset": str(shop), "model": "bpr", "max_epochs": 1, "accelerator": "cpu"}
    for name in ("first", "second"):
        train(make_config(keys), root / name, progress=False)
    # As fit() leaves a folder, and a run of which a file is gone.
    for place, name in enumerate(["bare", "second"]):
        (root / name).mkdir(exist_ok=True)
        path = root / name / "best.ckpt"
        shutil.copy(root / "first" / "best.ckpt", path)
        os.utime(path, (2e9 + place, 2e9 + place))
    assert newest_run(root) == root / "second"
    (root / "second" / "config.yaml").unlink()
    assert newest_run(root) == root / "first"
    shutil.rmtree(root / "first")
    with pytest.raises(DataError, match=r"no trained run: there is no config\.yaml"):
        newest_run(root)
    shutil.rmtree(root)
    with pytest.raises(DataError, match="there is no trained run"):
        newest_run(root)


@pytest.mark.parametrize("values", ["missing", "empty"])
def test_heads_of_items_without_values(shop: Path, tmp_path: Path, values: str) -> None:
    """A factor of which no item has a value is as good as none."""
    keys: dict[str, object] = {"dataset": str(shop), "model": "none"}
    if values == "empty":
        lines = (shop / "items.csv").read_text().splitlines()
        rows = [lines[0], *(f"{line.rsplit(',', 1)[0]}," for line in lines[1:])]
        (shop / "items.csv").write_text("\n".join(rows))
        keys["factor_columns"] = "color"
    for model in ("none", "bpr"):
        alone = make_config({**keys, "model": model, "heads": "affinity"})
        with pytest.raises(DataError, match="no factor values for affinity") as caught:
            train(alone, tmp_path / "run", progress=False)
        assert caught.value.field == "heads"
        assert "--factor-columns" in caught.value.mend
    assert not (tmp_path / "run").exists()
    config = make_config({**keys, "heads": "affinity,ease"})
    metrics = train(config, tmp_path / "run", progress=False)
    assert list(metrics["weights"]) == ["ease"]
    assert load_run(tmp_path / "run").config.model == "none"


def damage(path: Path, how: str) -> None:
    """Spoil a file that torch.save wrote."""
    whole = path.read_bytes()
    if how == "garbage":
        path.write_text("garbage")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"path": path} if how == "code" else {"a": 1}, path)


@pytest.mark.parametrize("how", ["garbage", "cut", "empty", "code", "foreign"])
def test_damaged_files(shop: Path, tmp_path: Path, how: str) -> None:
    config = make_config(
        {"dataset": str(shop), "model": "bpr", "max_epochs": 1, "accelerator": "cpu"}
    )
    run = tmp_path / "run"
    train(config, run, progress=False)
    best = (run / "best.ckpt").read_bytes()
    damage(run / "best.ckpt", how)
    with pytest.raises(DataError, match=r"damaged|no checkpoint") as caught:
        load_run(run)
    assert caught.value.file == str(run / "best.ckpt")
    (run / "best.ckpt").write_bytes(best)
    assert load_run(run).config.model == "bpr"
    if how == "foreign":
        return
    damage(run / "last.ckpt", how)
    with pytest.raises(DataError, match="damaged") as caught:
        train(config, run, resume=True, progress=False)
    assert caught.value.file == str(run / "last.ckpt")
    (graph,) = (shop / "processed").glob("*.pt")
    damage(graph, how)
    with pytest.raises(DataError, match="damaged") as caught:
        load_run(run)
    assert caught.value.file == str(graph)
    graph.unlink()
    load_run(run)


def test_damaged_text_features(shop: Path) -> None:
    config = make_config(
        {"dataset": str(shop), "text_model": "tfidf", "factor_columns": "color"}
    )
    load_data(config)
    (features,) = (shop / "processed").glob("vectors-*/*.npz")
    for content in (b"garbage", b"", features.read_bytes()[:200]):
        features.write_bytes(content)
        with pytest.raises(DataError, match="stored features cannot") as caught:
            load_data(config)
        assert caught.value.file == str(features)


@pytest.mark.parametrize("model", ["bpr", "none"])
def test_two_trainings_do_not_write_into_one_folder(
    shop: Path, tmp_path: Path, model: str
) -> None:
    pytest.importorskip("fcntl")
    keys = {"dataset": str(shop), "model": model, "max_epochs": 1, "accelerator": "cpu"}
    keys |= {"factor_columns": "color", "heads": "affinity,popularity"}
    config, folder = make_config(keys), tmp_path / "run"
    with only_writer(folder), ThreadPoolExecutor() as pool:
        for resume in (False, True):
            other = pool.submit(train, config, folder, resume=resume, progress=False)
            with pytest.raises(DataError, match="another run writes into the folder"):
                other.result()
        assert not list(folder.iterdir())
    assert train(config, folder, progress=False)["test"]


def test_the_home_folder_in_paths(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    keys = {"dataset": str(shop), "model": "bpr", "max_epochs": 1, "accelerator": "cpu"}
    train(make_config(keys), "~/runs/shop", progress=False)
    assert newest_run("~/runs") == tmp_path / "home" / "runs" / "shop"
    run = load_run("~/runs/shop")
    fit(run.recommender, run.data, max_epochs=1, run_dir="~/fit", progress=False)
    export(run.recommender, run.data, "~/export", k=0, progress=False)
    assert load("~/export").num_items == 12
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("model", ["bpr", "none"])
def test_data_that_has_moved(shop: Path, tmp_path: Path, model: str) -> None:
    keys = {"model": model, "max_epochs": 1, "accelerator": "cpu"}
    keys |= {"factor_columns": "color", "heads": "affinity,popularity"}
    folder = tmp_path / "run"
    before = train(make_config({**keys, "dataset": str(shop)}), folder, progress=False)
    moved = shop.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="which the run was trained on") as caught:
        load_run(folder)
    assert caught.value.file == str(folder / "config.yaml")
    other = shutil.copytree(moved, tmp_path / "other")
    with open(other / "interactions.csv", "a") as stream:
        stream.write("\nu0,i1")
    config = make_config({**keys, "dataset": str(other)})
    with pytest.raises(DataError, match="not what the run was trained on"):
        train(config, folder, resume=True, progress=False)
    assert str(shop) in (folder / "config.yaml").read_text()
    config = make_config({**keys, "dataset": str(moved)})
    after = train(config, folder, resume=True, progress=False)
    assert after["test"] == before["test"]
    assert load_run(folder).config.dataset == str(moved)


def test_a_configuration_of_no_run_is_not_replaced(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"dataset": str(shop), "model": "bpr", "max_epochs": 1, "accelerator": "cpu"}
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "config.yaml"
    for text in ("title: my site\n", "- a\n", f"dataset: {shop}\nmodel: bpr\n"):
        path.write_text(text)
        with pytest.raises(DataError, match=r"of no run.*--config"):
            train(make_config(keys), folder, progress=False)
        assert path.read_text() == text
        assert list(folder.iterdir()) == [path]
    path.unlink()

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    # That of a run which was interrupted before it left anything else gives way.
    with monkeypatch.context() as patch:
        patch.setattr("mars_pyg.runs._train", stop)
        with pytest.raises(KeyboardInterrupt):
            train(make_config({**keys, "seed": 7}), folder, progress=False)
    assert "seed: 7" in path.read_text()
    train(make_config(keys), folder, progress=False)
    assert "seed: 0" in path.read_text()
