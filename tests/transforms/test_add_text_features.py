from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import DatasetAdapter

from mars_pyg import ContentSimilarity
from mars_pyg.content_digest import content_digests
from mars_pyg.errors import DataError
from mars_pyg.transforms import AddTextFeatures


def catalogue(*texts: str) -> HeteroData:
    data = HeteroData()
    data["item"].num_nodes = len(texts)
    data["item"].text = list(texts)
    return data


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the model was asked to encode."""
    calls: list[list[str]] = []

    class Lengths:
        def __init__(self, name: str) -> None:
            pass

        def encode(self, sentences: list[str], **_: object) -> np.ndarray:
            calls.append(sentences)
            return np.array([[len(text), 1.0] for text in sentences])

    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = Lengths  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    return calls


def test_by_model(encoded: list[list[str]]) -> None:
    data = AddTextFeatures("lengths")(catalogue("ab", "", "abc"))
    assert data["item"].x_text.tolist() == [[2, 1], [0, 0], [3, 1]]
    assert data["item"].text_encoder == "lengths"
    assert data.validate()


def test_features_that_are_there_stay(encoded: list[list[str]]) -> None:
    data = catalogue("ab")
    data["item"].x_text = torch.zeros(1, 3)
    assert AddTextFeatures("lengths")(data)["item"].x_text.size() == (1, 3)
    assert encoded == []


def test_cache(tmp_path: Path, encoded: list[list[str]]) -> None:
    transform = AddTextFeatures("lengths", tmp_path / "cache")
    first = transform(catalogue("ab", "c"))["item"].x_text
    assert torch.equal(transform(catalogue("ab", "c"))["item"].x_text, first)
    assert len(encoded) == 1
    transform(catalogue("ab", "d"))
    AddTextFeatures("other", tmp_path / "cache")(catalogue("ab", "c"))
    assert len(encoded) == 3
    # A text that is new is encoded alone.
    assert encoded == [["ab", "c"], ["d"], ["ab", "c"]]
    assert len(list((tmp_path / "cache").glob("*/*.npz"))) == 3


def test_fallback_is_not_kept_as_the_model(
    tmp_path: Path, encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = AddTextFeatures("lengths", tmp_path)
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "sentence_transformers", None)
        for _ in range(2):
            with pytest.warns(UserWarning, match="cannot be loaded"):
                data = transform(catalogue("ab", "c"))
            assert data["item"].text_encoder == "tfidf"
    assert len(list(tmp_path.iterdir())) == 1
    data = transform(catalogue("ab", "c"))
    assert data["item"].text_encoder == "lengths"
    assert data["item"].x_text.tolist() == [[2, 1], [1, 1]]


def test_functional_name() -> None:
    (data,) = list(DatasetAdapter([catalogue("a")]).add_text_features("tfidf"))
    assert data["item"].x_text.tolist() == [[1.0]]


def test_no_text() -> None:
    data = HeteroData()
    data["item"].num_nodes = 2
    for case in (data, catalogue("", " ")):
        with pytest.raises(DataError, match="no item has a text"):
            AddTextFeatures("tfidf")(case)


def test_the_files_of_a_model_tell_which_it_is(
    tmp_path: Path, encoded: list[list[str]]
) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        (folder / "weights").write_text("1")

    def digest(folder: Path) -> dict[str, str]:
        data = AddTextFeatures(str(folder))(catalogue("ab"))
        return content_digests(data, [ContentSimilarity(data)])

    same = [digest(folder) for folder in folders]
    assert same[0] == same[1]
    (folders[0] / "weights").write_text("2")
    assert digest(folders[0]) != same[0]
