from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mars_pyg.errors import DataError
from mars_pyg.features.files import find_features, read_features, write_features


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_written_features_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    x = torch.randn(5, 3)
    file = tmp_path / f"text_feat{suffix}"
    write_features(file, x.t().contiguous().t())
    assert torch.equal(read_features(file), x)
    assert find_features(tmp_path) == {"text": file}
    file.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        read_features(file)


def test_faults_of_safetensors(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, file)
    with pytest.raises(DataError, match="2 tensors, a, b"):
        read_features(file)
    save_file({"a": torch.ones(2, 2) > 0}, file)
    with pytest.raises(DataError, match="matrix of numbers"):
        read_features(file)
    save_file({"a": torch.ones(2, 2).half()}, file)
    assert read_features(file).dtype == torch.float


def test_find(tmp_path: Path) -> None:
    for name in ("text_feat.npy", "image_feat.safetensors", "other.npy"):
        (tmp_path / name).write_bytes(b"")
    assert list(find_features(tmp_path)) == ["image", "text"]
    np.save(tmp_path / "image_feat.npy", np.ones((1, 1)))
    with pytest.raises(DataError, match="two files of the modality 'image'"):
        find_features(tmp_path)


def test_a_missing_safetensors_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(DataError, match="is not installed"):
        write_features(tmp_path / "x_feat.safetensors", torch.ones(1, 1))
    assert not list(tmp_path.iterdir())
