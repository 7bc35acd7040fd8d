"""Where a dataset keeps its processed graph, and how."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData
from torch_geometric.utils import is_sparse

from mars_pyg.errors import DataError
from mars_pyg.features.chunks import model_identity
from mars_pyg.files import atomic_path, load_tensors, user_cache, user_path
from mars_pyg.tensor_bytes import tensor_bytes
from mars_pyg.transforms.add_text_features import AddTextFeatures

#: Raised whenever the form of processed files changes.
FORMAT = 3


class GraphDataset(InMemoryDataset):
    r"""Base class of datasets that consist of one graph.

    The processed graph is stored as plain tensors, strings and containers, so that
    loading it runs no code, and it is written whole or not at all. The name of its
    file holds a digest of all that it was made from, see :func:`fingerprint`, so that
    a file made from other inputs or with other options is never taken for it.

    A subclass implements :meth:`process`, which hands the graph to :meth:`finish`, and
    calls ``super().__init__`` once the arguments of its own are set.

    Args:
        processed_file: The file of the processed graph.
        transform: Applied to the graph at every access. (default: :obj:`None`)
        pre_transform: Applied to the graph before it is stored.
            (default: :obj:`None`)
        force_reload: Whether to make the graph again if it is stored.
            (default: :obj:`False`)
    """

    def __init__(
        self,
        processed_file: str | os.PathLike[str],
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        self._processed_file = Path(processed_file)
        stored = self._processed_file.exists() and not force_reload
        super().__init__(
            str(self._processed_file.parent),
            transform,
            pre_transform,
            force_reload=force_reload,
        )
        self.load(self.processed_paths[0], data_cls=HeteroData)
        if _pickled(pre_transform) is None:
            # Nobody could tell that it is the graph of this transform.
            self._processed_file.unlink(missing_ok=True)
        self._warn_of_encoder(stored)

    def text_models(self) -> list[str]:
        """The models that were asked for to make text features."""
        return _text_models(self.pre_transform)

    def _warn_of_encoder(self, stored: bool) -> None:
        """Say that a stored graph has features of another encoder than was asked for.

        That was said when they were made, too.
        """
        store = self._data["item"]
        encoder = store.get("text_encoder")
        models = self.text_models()
        for model in models:
            if store.get("text_encoder_digest") == model_identity(model):
                # Its folder may be at another place now.
                encoder = store.text_encoder = model
        if stored and models and encoder is not None and encoder not in models:
            warnings.warn(
                f"x_text was made by {encoder} because {models[0]} could not be "
                f"loaded; use force_reload=True to try again",
                stacklevel=4,
            )

    @property
    def processed_dir(self) -> str:
        """The folder of the processed graph."""
        return str(self._processed_file.parent)

    @property
    def processed_file_names(self) -> list[str]:
        """The name of the file of the processed graph."""
        return [self._processed_file.name]

    def _process(self) -> None:
        # PyG compares the text of pre_transform with a file that it unpickles; here
        # the file's name settles the matter.
        if self.force_reload or not self._processed_file.exists():
            self.process()

    def finish(self, data: HeteroData) -> None:
        """Apply ``pre_transform`` to a graph and store it."""
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        self.save([data], self.processed_paths[0])

    @classmethod
    def save(cls, data_list: Sequence[BaseData], path: str) -> None:
        """Store graphs in a file, as a dictionary and slices."""
        data, slices = cls.collate(data_list)
        with atomic_path(path) as temporary:
            _check_plain(data)
            torch.save((data.to_dict(), slices), temporary)

    def load(self, path: str, data_cls: type[BaseData] = HeteroData) -> None:
        """Load what :meth:`save` stored."""
        data, self.slices = load_tensors(
            path, "delete the file, so that it is made again"
        )
        self.data = data_cls.from_dict(data)


def fingerprint(
    files: Iterable[str | os.PathLike[str]], options: Any, pre_transform: Any = None
) -> str:
    r"""Digest all that a processed graph depends on.

    Args:
        files: The input files, whose contents count.
        options: The options that change the result; their ``repr`` counts.
        pre_transform: The transform applied before the graph is stored, whose class
            and arguments count, and the files of text models; a change of its code does
            not. One that cannot be serialised, such as a lambda, gives a new digest
            each time, so that the graph is made anew. (default: :obj:`None`)

    Returns:
        A hexadecimal number of sixteen digits.
    """
    digest = hashlib.sha256(repr((FORMAT, options)).encode())
    for path in files:
        digest.update(Path(path).name.encode())
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    pickled = _pickled(pre_transform)
    digest.update(uuid.uuid4().bytes if pickled is None else pickled)
    for model in _text_models(pre_transform):
        digest.update(model_identity(model).encode())
    return digest.hexdigest()[:16]


def _check_plain(data: BaseData) -> None:
    """Refuse what could not be loaded again, such as arrays of numpy."""
    for store in data.stores:
        for name, value in store.items():
            if not _is_plain(value) and not _can_be_loaded(value):
                raise DataError(
                    f"'pre_transform' gives a {type(value).__name__}, which cannot be "
                    "stored",
                    mend="make it a tensor, a text, a number, or a list or dictionary "
                    "of these; or do it in 'transform'",
                    field=name,
                )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in (Tensor, str, int, float, bool, type(None))


def _can_be_loaded(value: Any) -> bool:
    stream = io.BytesIO()
    try:
        torch.save(value, stream)
        stream.seek(0)
        torch.load(stream, weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError):
        return False
    return True


class _Pickler(pickle.Pickler):
    """Writes the numbers of tensors, and not where they are in memory."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or is_sparse(value):
            return NotImplemented
        numbers = tensor_bytes(value).tobytes()
        return _as_read, (str(value.dtype), tuple(value.shape), numbers)


def _as_read(*parts: Any) -> Any:
    return parts


def _pickled(transform: Any) -> bytes | None:
    stream = io.BytesIO()
    try:
        _Pickler(stream).dump(transform)
        return stream.getvalue()
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _text_models(transform: Any) -> list[str]:
    """The models of the text features that a transform makes, or one of several."""
    parts = getattr(transform, "transforms", [transform])
    return [part.model for part in parts if isinstance(part, AddTextFeatures)]


def choose_processed_root(
    root: str | os.PathLike[str], processed_root: str | os.PathLike[str] | None
) -> Path:
    """Choose the folder of processed files.

    Args:
        root: The folder of the data.
        processed_root: The folder that the user asks for, if any.

    Returns:
        ``processed_root`` if given, else ``root/processed`` if the folder of the data
        is meant to be written, else ``mars_pyg`` in the user's cache folder.
    """
    if processed_root is not None:
        return user_path(processed_root)
    root = Path(root)
    # os.access allows the superuser everything; the mode says what is meant.
    if os.access(root, os.W_OK) and root.stat().st_mode & 0o222:
        return root / "processed"
    return user_cache()
