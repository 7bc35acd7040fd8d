"""Files that are written whole or not at all, by one, and read without running code."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch

from mars_pyg.errors import DataError

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

#: A disk with less room than so many bytes is full.
FULL = 2**16
#: The folders that are this context's own; see :func:`only_writer`.
_own: ContextVar[frozenset[Path]] = ContextVar("own folders", default=frozenset())


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block succeeds.

    A reader never sees half a file: the block writes to the temporary path, which is
    renamed at the end, or deleted when the block raises or is interrupted.

    Args:
        path: Where the finished file belongs; its folder is created when missing.

    Yields:
        The temporary path, with the same suffix as ``path``.

    Raises:
        OSError: If the disk is full, whatever the library that writes makes of it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes files private; the result should have the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        os.replace(temporary, target)
    except DataError:
        raise
    except Exception as error:
        # torch, safetensors and faiss have errors of their own, which say no reason.
        if shutil.disk_usage(target.parent).free >= FULL:
            raise
        full = errno.ENOSPC
        raise OSError(full, os.strerror(full), str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def only_writer(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Refuse to write into a folder that another process or thread writes into.

    The system locks the folder itself: nothing is left of a process that is killed. A
    block within a block of the same folder has it already.

    Args:
        folder: The folder; created when missing.

    Raises:
        DataError: If another one writes into it.
    """
    path, own = Path(folder).resolve(), _own.get()
    path.mkdir(parents=True, exist_ok=True)
    if path in own or fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                "another run writes into the folder",
                mend="wait until it has ended, or choose another folder",
                file=path,
            ) from None
        except OSError:
            pass  # Some file systems have no locks.
        token = _own.set(own | {path})
        try:
            yield
        finally:
            _own.reset(token)
    finally:
        os.close(handle)


def load_tensors(path: str | os.PathLike[str], mend: str) -> Any:
    """Load tensors and plain containers that :func:`torch.save` stored, on the CPU.

    Args:
        path: The file.
        mend: What the user can do about a damaged one.

    Raises:
        DataError: If the file is damaged, or holds anything but tensors and plain
            containers.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    # A file that is cut short is an invalid argument to torch, an OSError.
    except (pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        raise DataError(
            "the file is damaged, or was not written by mars_pyg", mend=mend, file=path
        ) from error


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path that a user gives, the home folder in the place of a leading ``~``."""
    # Unlike Path's own, it takes "~x" for a name where there is no user x.
    return Path(os.path.expanduser(path))


def user_cache() -> Path:
    """The folder for files of mars_pyg in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mars_pyg"
