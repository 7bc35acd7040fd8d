from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mars_pyg.features import encode_text, load_text_encoder, text_features


class LetterCounts:
    """A model whose vectors are the counts of a few letters."""

    def __init__(self, name: str = "letters") -> None:
        if name == "missing":
            raise OSError("no such model")
        self.batches: list[list[str]] = []

    def encode(self, sentences: list[str], **_: Any) -> np.ndarray:
        self.batches.append(sentences)
        return np.array(
            [[text.count(letter) for letter in "abc"] for text in sentences]
        )


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = LetterCounts  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)


@pytest.mark.usefixtures("library")
def test_model_by_name() -> None:
    x = encode_text(["abba", "", "cab", " \n", "abba"], model="letters")
    assert x.tolist() == [[2, 2, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0], [2, 2, 0]]
    assert x.dtype == torch.float


def test_equal_texts_are_encoded_once() -> None:
    model = LetterCounts()
    encode_text(["b", "a", "", "b", "a"], model)
    assert model.batches == [["b", "a"]]


@pytest.mark.usefixtures("library")
def test_model_that_cannot_be_loaded() -> None:
    texts = ["red doll", "blue doll", "plate"]
    with pytest.warns(UserWarning, match=r"'missing' cannot.*OSError: no such model"):
        x = encode_text(texts, "missing")
    assert torch.equal(x, encode_text(texts, "tfidf"))


def test_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.warns(UserWarning, match="TF-IDF and SVD instead"):
        assert load_text_encoder("letters") is None


def test_tfidf_by_hand() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = encode_text(["b a", "a", "", "b b b a"], "tfidf")
    # Words in alphabetical order; idf = 1 + log((1 + 3) / (1 + df)), tf = 1 + log.
    rare = 1 + np.log(4 / 3)
    rows = [[1, rare], [1, 0], [0, 0], [1, rare * (1 + np.log(3))]]
    expected = np.array([np.array(row) / (np.linalg.norm(row) or 1) for row in rows])
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-6)


def test_tfidf_with_svd_keeps_what_is_near() -> None:
    generator = np.random.default_rng(0)
    topics = [[f"{topic}{word}" for word in range(30)] for topic in "abcd"]
    kinds = generator.integers(0, 4, size=60)
    texts = [" ".join(generator.choice(topics[kind], 12)) for kind in kinds]
    x = encode_text([*texts, ""], "tfidf", dim_fallback=4)
    assert x.size() == (61, 4)
    assert (x[-1] == 0).all()
    torch.testing.assert_close(x[:-1].norm(dim=1), torch.ones(60))
    cosine = x[:-1] @ x[:-1].t()
    same = torch.from_numpy(kinds[:, None] == kinds)
    assert cosine[same].min() > cosine[~same].max()
    again = encode_text([*texts, ""], "tfidf", dim_fallback=4)
    torch.testing.assert_close(x, again)


@pytest.mark.parametrize("texts", [[], ["", " "], ["!", "…"]])
def test_no_words(texts: list[str]) -> None:
    x = encode_text(texts, "tfidf", dim_fallback=7)
    assert x.size() == (len(texts), 7)
    assert (x == 0).all()


def test_fewer_texts_than_dimensions() -> None:
    texts = [" ".join(f"w{i}{j}" for j in range(9)) for i in range(3)]
    x = encode_text(texts, "tfidf", dim_fallback=5)
    assert x.size() == (3, 3)
    torch.testing.assert_close(x @ x.t(), torch.eye(3), atol=1e-5, rtol=0)


def test_stored_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = LetterCounts  # type: ignore[attr-defined]
    texts = ["abba", "", "cab", " \n", "abba"]
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "sentence_transformers", module)
        name, x = text_features(texts, "letters", cache_dir=tmp_path, chunk_size=1)
    assert name == "letters"
    assert x.tolist() == [[2, 2, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0], [2, 2, 0]]
    # What is stored needs no model.
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    name, again = text_features(texts, "letters", cache_dir=tmp_path)
    assert name == "letters"
    assert torch.equal(again, x)
    with pytest.warns(UserWarning, match="TF-IDF and SVD instead"):
        name, x = text_features([*texts, "new"], "letters", cache_dir=tmp_path)
    assert name == "tfidf"
    assert torch.equal(x, encode_text([*texts, "new"], "tfidf"))
    # The features of other texts are others.
    name, x = text_features(texts, "tfidf", cache_dir=tmp_path)
    assert torch.equal(x, encode_text(texts, "tfidf"))


def test_tiny_model(tiny_text_model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["red doll", "", "blue", "red doll"]
    name, x = text_features(texts, str(tiny_text_model))
    assert name == str(tiny_text_model)
    expected = SentenceTransformer(str(tiny_text_model), device="cpu").encode(texts)
    np.testing.assert_allclose(x[[0, 2]].numpy(), expected[[0, 2]], atol=1e-6)
    assert (x[1] == 0).all()
    assert torch.equal(x[3], x[0])
