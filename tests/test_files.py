"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path


def write(path: Path, error: Exception) -> None:
    """Fail in the middle of a file."""
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_full_disk_is_told_whatever_the_library_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    path = tmp_path / "graph.pt"
    with pytest.raises(OSError, match=r"No space left on device: '.*graph\.pt'") as got:
        write(path, RuntimeError("unexpected pos 64 vs 0"))  # as torch.save() says
    assert got.value.errno == errno.ENOSPC
    with pytest.raises(DataError, match="not installed"):
        write(path, DataError("safetensors is not installed", mend="install it"))
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="faiss"):
        write(tmp_path / "index.faiss", RuntimeError("faiss"))
    assert not list(tmp_path.iterdir())
