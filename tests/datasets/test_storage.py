from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose, Constant

from mars_pyg.datasets import storage
from mars_pyg.datasets.build import build_graph
from mars_pyg.datasets.storage import (
    GraphDataset,
    choose_processed_root,
    fingerprint,
)
from mars_pyg.errors import DataError
from mars_pyg.transforms import AddTextFeatures


class Small(GraphDataset):
    made = 0
    content: ClassVar[dict[str, Any]] = {"features": {"text": torch.eye(2)}}

    def process(self) -> None:
        type(self).made += 1
        none = torch.empty(2, 0, dtype=torch.long)
        self.finish(
            build_graph(
                user_ids=["u"],
                item_ids=["a", "b"],
                train=torch.tensor([[0], [1]]),
                val=none,
                test=none,
                **self.content,
            )
        )


def mark(data: HeteroData) -> HeteroData:
    data.marked = "yes"
    return data


@pytest.fixture(autouse=True)
def count_from_zero() -> None:
    Small.made = 0


def test_made_once_and_loaded_without_running_code(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "graph.pt"
    first = Small(file)[0]
    second = Small(file, transform=mark)[0]
    assert Small.made == 1
    assert second["item"].id == ["a", "b"]
    assert torch.equal(second["item"].x_text, torch.eye(2))
    assert second["user", "interacts", "item"].edge_index.tolist() == [[0], [1]]
    assert second.marked == "yes"
    assert "marked" not in first
    assert second.validate()
    # One file, nothing half done beside it, and only plain content within.
    assert [path.name for path in file.parent.iterdir()] == ["graph.pt"]
    content, slices = torch.load(file, weights_only=True)
    assert isinstance(content, dict)
    assert slices is None


def test_force_reload_and_pre_transform(tmp_path: Path) -> None:
    file = tmp_path / "graph.pt"
    Small(file)
    dataset = Small(file, pre_transform=mark, force_reload=True)
    assert Small.made == 2
    assert dataset[0].marked == "yes"
    assert len(dataset) == 1


def test_fingerprint(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("2")
    base = fingerprint([one, two], ("baby", None), Constant(1.0))
    assert base == fingerprint([one, two], ("baby", None), Constant(1.0))
    assert len(base) == 16
    # PyG's transforms all print as Constant(), whatever their arguments.
    others = [
        fingerprint([one], ("baby", None), Constant(1.0)),
        fingerprint([one, two], ("baby", 0), Constant(1.0)),
        fingerprint([one, two], ("baby", None), Constant(2.0)),
        fingerprint([one, two], ("baby", None)),
    ]
    two.write_text("3")
    others.append(fingerprint([one, two], ("baby", None), Constant(1.0)))
    assert len({base, *others}) == 6


def test_fingerprint_of_a_lambda_is_new_each_time() -> None:
    def same(data: HeteroData) -> HeteroData:
        return data

    assert fingerprint([], (), same) != fingerprint([], (), same)
    assert fingerprint([], (), mark) == fingerprint([], (), mark)


def test_choose_processed_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_processed_root(tmp_path, tmp_path / "x") == tmp_path / "x"
    assert choose_processed_root(tmp_path, None) == tmp_path / "processed"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tmp_path.chmod(0o555)
    try:
        assert choose_processed_root(tmp_path, None) == tmp_path / "cache/mars_pyg"
    finally:
        tmp_path.chmod(0o755)
    monkeypatch.setattr(storage.os, "access", lambda *_: False)
    assert choose_processed_root(tmp_path, None) == tmp_path / "cache/mars_pyg"


def test_a_graph_of_a_lambda_is_not_kept(tmp_path: Path) -> None:
    for _ in range(2):
        name = fingerprint([], (), lambda data: data)
        data = Small(tmp_path / f"{name}.pt", pre_transform=lambda data: mark(data))[0]
        assert data.marked == "yes"
    assert not list(tmp_path.glob("*.pt"))


def test_what_cannot_be_stored_is_named(tmp_path: Path) -> None:
    def price(data: HeteroData) -> HeteroData:
        data["item"].price = np.array([1.5, 2.5])
        return data

    with pytest.raises(DataError, match=r"field 'price'.* ndarray, .*make it a tensor"):
        Small(tmp_path / "graph.pt", pre_transform=price)
    assert not list(tmp_path.iterdir())
    # A transform at every access stores nothing.
    assert Small(tmp_path / "graph.pt", transform=price)[0]["item"].price[1] == 2.5


def test_the_fingerprint_of_tensors_is_that_of_their_numbers() -> None:
    script = """if True:
        import torch
        from mars_pyg import AddItems
        from mars_pyg.datasets.storage import fingerprint
        _ = [torch.zeros(n) for n in range({})]
        x = torch.arange(6.0).view(2, 3)
        for matrix in (x, x.t().contiguous().t(), x + 1, x.view(3, 2), x.double()):
            items = AddItems([{{"id": "a"}}], features={{"text": matrix}})
            print(fingerprint([], (), items))
    """
    found = [
        subprocess.run(
            [sys.executable, "-c", script.format(number)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for number in (0, 7)
    ]
    assert found[0] == found[1]
    assert found[0][0] == found[0][1]
    assert len(set(found[0])) == 4


def test_the_files_of_a_text_model_count(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("1")
    transform = Compose([AddTextFeatures(str(folder))])
    before = fingerprint([], (), transform)
    assert fingerprint([], (), transform) == before
    (folder / "weights").write_text("2")
    assert fingerprint([], (), transform) != before


class Texts(Small):
    content: ClassVar[dict[str, Any]] = {
        "item_text": {"text": ["red chair", "blue sofa"]}
    }


def test_features_of_another_model_are_told_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    transform = AddTextFeatures("some/model")
    with pytest.warns(UserWarning, match="some/model"):
        Texts(tmp_path / "graph.pt", pre_transform=transform)
    with pytest.warns(UserWarning, match="made by tfidf because some/model could not"):
        Texts(tmp_path / "graph.pt", pre_transform=transform)


def test_the_folder_of_a_text_model_may_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mars_pyg.transforms.add_text_features.text_features",
        lambda texts, model, cache_dir: (model, torch.ones(len(texts), 2)),
    )
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("1")
    file = tmp_path / "graph.pt"
    Texts(file, pre_transform=AddTextFeatures(str(tmp_path / "old")))
    made = Texts.made
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = AddTextFeatures(str(tmp_path / "new"))
        data = Texts(file, pre_transform=new)[0]
    assert Texts.made == made
    # New items are encoded by it.
    assert data["item"].text_encoder == str(tmp_path / "new")


@pytest.mark.parametrize("name", ["id", "num_nodes", "x_size"])
def test_texts_with_the_names_of_other_things_are_refused(name: str) -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(DataError, match="for something else than a text"):
        build_graph(
            user_ids=["u"],
            item_ids=["a"],
            train=torch.tensor([[0], [0]]),
            val=none,
            test=none,
            item_text={name: ["1"]},
        )
