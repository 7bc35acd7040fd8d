from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg.errors import DataError
from mars_pyg.features.chunks import (
    VectorStore,
    digest_of,
    encode_in_chunks,
    model_identity,
)


class Encoder:
    """Encodes a content as its length and its first letter, ``!`` as a fault."""

    def __init__(self, contents: Sequence[str], stop_after: int = 10**9) -> None:
        self.contents, self.stop_after = contents, stop_after
        self.calls: list[list[str]] = []

    def __call__(self, positions: Sequence[int]) -> np.ndarray:
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        chunk = [self.contents[index] for index in positions]
        self.calls.append(chunk)
        return np.array(
            [
                [np.nan] * 2 if content == "!" else [len(content), ord(content[0])]
                for content in chunk
            ]
        )


def vector(content: str) -> list[float]:
    known = content not in ("", "!")
    return [float(len(content)), float(ord(content[0]))] if known else [0.0, 0.0]


def run(
    contents: Sequence[str], encoder: Encoder, folder: Path | None, chunk_size: int = 2
) -> list[list[float]]:
    keys = [digest_of(content) if content else "" for content in contents]
    store = VectorStore(folder, "model")
    return encode_in_chunks(keys, encoder, store, chunk_size=chunk_size).tolist()


contents = st.lists(
    st.sampled_from(["", "!", "a", "bb", "cab", "d", "ee"]), max_size=12
)


@settings(deadline=None)
@given(contents, contents, st.integers(1, 5))
def test_vectors_are_those_of_the_contents(
    first: list[str], second: list[str], chunk_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        known: set[str] = set()
        for batch in (first, second):
            encoder = Encoder(batch)
            x = run(batch, encoder, Path(folder), chunk_size)
            if any(content not in ("", "!") for content in batch):
                assert x == [vector(content) for content in batch]
            else:
                assert x == [[0.0]] * len(batch)
            # Each once, in their order, and none that is stored.
            asked = [content for call in encoder.calls for content in call]
            distinct = dict.fromkeys(content for content in batch if content)
            assert asked == [content for content in distinct if content not in known]
            assert all(len(call) <= chunk_size for call in encoder.calls)
            known |= set(batch) - {"!"}


def test_goes_on_after_an_interrupt(tmp_path: Path) -> None:
    contents = list("abcdefg")
    encoder = Encoder(contents, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run(contents, encoder, tmp_path)
    again = Encoder(contents)
    assert run(contents, again, tmp_path) == [vector(content) for content in contents]
    assert encoder.calls == [["a", "b"], ["c", "d"]]
    assert again.calls == [["e", "f"], ["g"]]


def test_models_are_apart_and_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "one")
    store.save([digest_of("a")], np.ones((1, 2)))
    assert list(store.load([digest_of("a")])) == [digest_of("a")]
    assert VectorStore(tmp_path, "other").load([digest_of("a")]) == {}
    nothing = VectorStore(None, "one")
    nothing.save([digest_of("a")], np.ones((1, 2)))
    assert nothing.load([digest_of("a")]) == {}


def test_broken_file(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "one")
    store.save(["a"], np.ones((1, 2)))
    (file,) = tmp_path.glob("*/*.npz")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="delete the file"):
        store.load(["a"])


def test_a_model_in_a_folder_is_its_files(tmp_path: Path) -> None:
    assert model_identity("some/model") == "some/model"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("1")
    first = model_identity(str(tmp_path / "a"))
    assert first == model_identity(str(tmp_path / "b"))
    (tmp_path / "b/weights").write_text("2")
    assert first != model_identity(str(tmp_path / "b"))


def test_what_others_are_writing_is_not_read(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "m")
    store.save(["a"], np.ones((1, 2)))
    assert store.folder is not None
    (store.folder / ".b.npz-x1.npz").write_bytes(b"half of a")
    assert list(VectorStore(tmp_path, "m").load(["a", "b"])) == ["a"]
