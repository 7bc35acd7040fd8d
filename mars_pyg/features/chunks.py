"""Encoding in chunks that are kept, so that no content is encoded twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, user_path

#: Raised whenever the same model would give other vectors, or the files another form.
FORMAT = 1


def digest_of(content: str | bytes) -> str:
    """The digest that stands for a content, a hexadecimal number of 64 digits."""
    content = content.encode() if isinstance(content, str) else content
    return hashlib.sha256(content).hexdigest()


def model_identity(model: str) -> str:
    """What a model is known by: its files where it is a folder, else its name.

    Args:
        model: The name of a model, or the folder that it is in.
    """
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(repr(str(path.relative_to(folder))).encode())
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


class VectorStore:
    """Vectors in a folder, by model and content.

    Every chunk of vectors is a file of its own, written whole or not at all, so that
    an interrupted encoding goes on where it was, and two at once do no harm.

    Args:
        cache_dir: The folder of all models, or :obj:`None` to keep nothing.
        identity: What the vectors are made by, see :func:`model_identity`.
    """

    def __init__(self, cache_dir: str | os.PathLike[str] | None, identity: str) -> None:
        self.folder: Path | None = None
        if cache_dir is not None:
            name = digest_of(repr((FORMAT, identity)))[:16]
            self.folder = user_path(cache_dir) / f"vectors-{name}"

    def load(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Load the vectors that are there.

        Args:
            keys: The digests of the contents.

        Returns:
            The vectors by digest.
        """
        wanted, found = set(keys), {}
        files = [] if self.folder is None else sorted(self.folder.glob("*.npz"))
        for file in files:
            # Another process may be writing it, or may have been killed as it did.
            if file.name.startswith("."):
                continue
            try:
                with np.load(file, allow_pickle=False) as part:
                    names, x = part["keys"].astype(str), part["x"]
            except (ValueError, EOFError, OSError, KeyError, BadZipFile) as error:
                raise DataError(
                    f"stored features cannot be read: {error}",
                    mend="delete the file; its features are then made again",
                    file=file,
                ) from error
            for row, name in enumerate(names):
                if name in wanted:
                    found[str(name)] = x[row]
        return found

    def save(self, keys: Sequence[str], x: np.ndarray) -> None:
        """Store a chunk of vectors.

        Args:
            keys: The digests of the contents.
            x: The vectors ``[len(keys), D]``.
        """
        if self.folder is not None and len(keys):
            name = digest_of("".join(keys))[:24]
            with atomic_path(self.folder / f"{name}.npz") as temporary:
                np.savez(temporary, keys=np.array(keys, dtype="S64"), x=x)


def encode_in_chunks(
    keys: Sequence[str],
    encode: Callable[[Sequence[int]], np.ndarray],
    store: VectorStore,
    *,
    chunk_size: int = 1024,
    description: str = "features",
) -> Tensor:
    r"""Encode what is not stored yet, a chunk at a time, and store every chunk.

    Args:
        keys: The digest of each of ``N`` contents; equal ones are encoded once, and
            an empty one stands for a missing content.
        encode: Gives the vectors ``[n, D]`` of contents by their ``n`` positions; rows
            with NaN are of contents that cannot be encoded and are not stored.
        store: Where vectors are kept.
        chunk_size: Number of contents that are encoded and stored at once.
            (default: :obj:`1024`)
        description: What the progress bar shows. (default: :obj:`"features"`)

    Returns:
        Features ``[N, D]``, float32, with rows of zeros for what is missing or cannot
        be encoded; ``D`` is 1 where all is.
    """
    position: dict[str, int] = {}
    for index, key in enumerate(keys):
        if key:
            position.setdefault(key, index)
    vectors = store.load(list(position))
    missing = [key for key in position if key not in vectors]
    with tqdm(
        total=len(position),
        initial=len(position) - len(missing),
        desc=description,
        disable=len(missing) <= chunk_size,  # Short work needs no bar.
    ) as progress:
        for start in range(0, len(missing), chunk_size):
            chunk = missing[start : start + chunk_size]
            x = np.asarray(encode([position[key] for key in chunk]), dtype=np.float32)
            rows = np.flatnonzero(~np.isnan(x).any(axis=1))
            names = [chunk[row] for row in rows]
            store.save(names, x[rows])
            vectors.update(zip(names, x[rows], strict=True))
            progress.update(len(chunk))
    if not vectors:
        return torch.zeros(len(keys), 1)
    names = list(vectors)
    table = np.stack([*vectors.values(), np.zeros_like(vectors[names[0]])])
    row = {key: index for index, key in enumerate(names)}
    return torch.from_numpy(table)[[row.get(key, len(names)) for key in keys]]
