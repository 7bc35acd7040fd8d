"""The configuration: one flat set of keys, checked against what they are given to."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from mars_pyg import (
    BPR,
    MARS,
    AmazonFactorDataset,
    DataError,
    FactorDataset,
    LightGCN,
    SyntheticFactorDataset,
)
from mars_pyg.config import TrainConfig, make_config, read_config, write_config
from mars_pyg.heads.build import build_heads
from mars_pyg.training import fit

# What a run decides, not a user's configuration; and where data_seed goes.
NOT_OPTIONS = {
    "data",
    "transform",
    "pre_transform",
    "force_reload",
    "processed_root",
    "url",
    "name",
    "recommender",
    "run_dir",
    "resume",
    "progress",
}


@pytest.mark.parametrize(
    "owner",
    [BPR, MARS, LightGCN, SyntheticFactorDataset, FactorDataset, fit],
)
def test_every_argument_has_a_key(owner: type) -> None:
    arguments = set(inspect.signature(owner).parameters) - NOT_OPTIONS
    assert arguments <= set(TrainConfig.model_fields)


def test_every_key_is_described_and_given_to_something() -> None:
    arguments = {"dataset", "model", "data_seed", "text_model", "num_neighbors"}
    arguments |= {"heads_in_loss"}
    owners = (MARS, SyntheticFactorDataset, FactorDataset, AmazonFactorDataset, fit)
    owners += (build_heads,)
    for owner in owners:
        arguments |= set(inspect.signature(owner).parameters)
    for name, field in TrainConfig.model_fields.items():
        assert field.description
        assert name in arguments


def test_defaults_are_those_of_the_model_and_the_dataset() -> None:
    resolved = make_config({"dataset": "synthetic", "model": "mars"}).resolve()
    for owner in (MARS, SyntheticFactorDataset, fit):
        for name, parameter in inspect.signature(owner).parameters.items():
            if name in TrainConfig.model_fields:
                found = getattr(resolved, name)
                found = tuple(found) if isinstance(found, list) else found
                assert found == parameter.default, name
    assert make_config({"model": "lightgcn"}).resolve().item_graphs is None
    # A default that is given is not another configuration.
    again = make_config(resolved.model_dump(exclude_none=True))
    assert again.resolve() == resolved


def test_arguments_go_where_they_belong() -> None:
    config = make_config(
        {
            "dataset": "synthetic",
            "num_users": 50,
            "data_seed": 3,
            "modalities": "text, id",
            "k": "5,20",
            "seed": 7,
        }
    )
    assert config.dataset_arguments() == {"num_users": 50, "seed": 3}
    assert config.model_arguments() == {"modalities": ["text", "id"]}
    assert config.training_arguments()["seed"] == 7
    assert config.k == [5, 20]
    sports = make_config({"dataset": "sports", "root": "here", "model": "bpr"})
    assert sports.dataset_arguments() == {"root": Path("here"), "name": "sports"}
    own = make_config({"dataset": "shop", "split": "time", "ratios": "0.6,0.2,0.2"})
    assert own.dataset_arguments() == {
        "root": Path("shop"),
        "split": "time",
        "ratios": [0.6, 0.2, 0.2],
    }


def test_resolved_paths_hold_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_config({"dataset": "baby"}).resolve().root == tmp_path / "data"
    own = make_config({"dataset": "shop", "profiles": "mine"}).resolve()
    assert own.dataset == str(tmp_path / "shop")
    assert own.profiles == tmp_path / "mine"
    # A text model is a folder, or else the name of one that is loaded from elsewhere.
    assert make_config({"text_model": "encoder"}).resolve().text_model == "encoder"
    (tmp_path / "encoder").mkdir()
    found = make_config({"text_model": "encoder"}).resolve().text_model
    assert found == str(tmp_path / "encoder")


@pytest.mark.parametrize(
    ("keys", "field", "message"),
    [
        ({"learning_rat": 1}, "learning_rat", "did you mean 'learning_rate'"),
        ({"learning_rate": "fast"}, "learning_rate", "number"),
        ({"learning_rate": -1}, "learning_rate", "greater than 0"),
        ({"fusion": "sum"}, "fusion", "'joint', 'mean' or 'gated'"),
        ({"max_epochs": 1.5}, "max_epochs", "integer"),
        ({"model": "lightgcn", "fusion": "mean"}, None, "no option 'fusion'"),
        ({"model": "bpr", "num_layers": 2}, None, "no option 'num_layers'"),
        ({"dataset": "baby", "num_users": 5}, None, "no option 'num_users'"),
        ({"dataset": "baby", "data_seed": 5}, None, "no option 'data_seed'"),
        ({"split": "time"}, None, "no option 'split'"),
        # Bounds are those of the classes, but are met before any data is read.
        ({"num_users": 0}, "num_users", "greater than or equal to 1"),
        ({"num_factors": 7}, "num_factors", "less than or equal to 6"),
        ({"taste_strength": 1.1}, "taste_strength", "less than or equal to 1"),
        ({"dataset": "shop", "k_core": 0}, "k_core", "greater than or equal to 1"),
        ({"embedding_dim": 0}, "embedding_dim", "greater than or equal to 1"),
        ({"edge_dropout": 1}, "edge_dropout", "less than 1"),
        ({"regularization": -1}, "regularization", "greater than or equal to 0"),
        ({"learning_rate": float("inf")}, "learning_rate", "finite"),
        ({"k": ""}, "k", "at least 1 item"),
        ({"k": [0, 20]}, "k", "greater than 0"),
        ({"monitor": "recall@5"}, None, "'monitor' must be one of .*'recall@10'"),
    ],
)
def test_wrong_keys_and_values(keys: dict, field: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        make_config(keys)
    assert caught.value.field == field


def test_one_number_is_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "dataset: shop\nk: 20\nratios: 0.8\nfactor_columns: 2024\nheads: ''\n"
    )
    config = make_config(read_config(path), path)
    assert (config.k, config.ratios) == ([20], [0.8])
    assert config.factor_columns == ["2024"]
    with pytest.raises(DataError, match="valid list"):
        make_config({"k": True})


def test_a_wrong_value_is_found_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model: mars\n\nmax_epochs: many\n")
    keys = read_config(path)
    with pytest.raises(DataError, match="integer") as caught:
        make_config(keys, path)
    assert (caught.value.file, caught.value.row) == (str(path), 3)
    # A flag in place of the file's value is no fault of the file.
    with pytest.raises(DataError, match="greater than or equal to 1") as caught:
        make_config({**keys, "max_epochs": 0}, path)
    assert (caught.value.file, caught.value.row) == (None, None)
    assert caught.value.field == "max_epochs"


def test_write_and_read(tmp_path: Path) -> None:
    config = make_config({"modalities": ["id"], "learning_rate": 1e-5}).resolve()
    path = tmp_path / "run" / "config.yaml"
    write_config(config, path)
    assert make_config(read_config(path)) == config
    assert "null" not in path.read_text()


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"model: mars\nmodl: mars\n", 2, "unknown key.*did you mean 'model'"),
        (b"model: mars\nseed: 1\nmodel: bpr\n", 3, "there twice"),
        (b"model: [mars\n", 2, "not yaml"),
        (b"- model\n", None, "keys and values"),
        (b"dataset: 2024-02-30\n", None, "day is out of range.*into quotes"),
        (b"model: \xff\n", None, "UTF-8"),
        (None, None, "does not exist"),
    ],
)
def test_wrong_files(
    tmp_path: Path, content: bytes | None, row: int | None, message: str
) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_config(path)
    assert caught.value.row == row
    assert caught.value.file == str(path)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


def test_empty_file_and_exponents(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("")
    assert read_config(path) == {}
    # yaml reads 1e-3, without a point, as text.
    path.write_text("learning_rate: 1e-3\n")
    assert make_config(read_config(path)).learning_rate == 1e-3
