"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, only_writer, user_path


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


def test_one_writes_into_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    folder = tmp_path / "run"
    with only_writer(folder), only_writer(tmp_path / "other"):
        # What is called from within writes for the same one.
        with only_writer(folder):
            pass
        with (
            ThreadPoolExecutor() as pool,
            pytest.raises(DataError, match="another run writes into the folder"),
        ):
            pool.submit(lambda: only_writer(folder).__enter__()).result()
    with only_writer(folder):
        assert not list(folder.iterdir())


def test_a_process_that_is_killed_leaves_no_lock(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    code = (
        "import sys, time\nfrom mars_pyg.files import only_writer\n"
        "with only_writer(sys.argv[1]):\n print('in', flush=True)\n time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in" + os.linesep.encode()
        with pytest.raises(DataError, match="another run"), only_writer(tmp_path):
            pass
        process.kill()
    with only_writer(tmp_path):
        pass


def test_where_there_are_no_locks_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def fail(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with only_writer(tmp_path), only_writer(tmp_path):
        pass


def test_the_home_folder_in_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/run") == tmp_path / "run"
    # No user's home is a name like any other.
    assert user_path("~nobody-of-this-name/run") == Path("~nobody-of-this-name/run")
