"""Files of features: matrices with a row per item."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path

SAFETENSORS = ".safetensors"
#: How the names of feature files end, after ``<modality>_feat``.
FEATURE_SUFFIXES = (".npy", SAFETENSORS)
#: The name of the matrix in a safetensors file.
KEY = "x"


def find_features(folder: Path) -> dict[str, Path]:
    """Find the files ``<modality>_feat.npy`` and ``.safetensors`` by their modality.

    Args:
        folder: The folder.

    Raises:
        DataError: If there are two files of a modality.
    """
    found: dict[str, Path] = {}
    for suffix in FEATURE_SUFFIXES:
        for file in sorted(folder.glob(f"*_feat{suffix}")):
            if file.name.startswith("."):
                continue  # It belongs to a file system, as of macOS.
            modality = file.name.removesuffix(f"_feat{suffix}")
            if modality in found:
                raise DataError(
                    f"there are two files of the modality {modality!r}, "
                    f"{found[modality].name} and {file.name}",
                    mend="keep one of them",
                    file=folder,
                )
            found[modality] = file
    return dict(sorted(found.items()))


def read_features(file: str | PathLike[str]) -> Tensor:
    """Read a matrix of features; its shape and numbers are not checked.

    Args:
        file: A file that was written by ``numpy.save``, or a safetensors file of one
            matrix.

    Returns:
        The features, float32.

    Raises:
        DataError: If the file is not a matrix of numbers.
    """
    path = Path(file)
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    mend = "write a matrix of numbers with numpy.save"
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(
            f"the features cannot be read: {error}", mend=mend, file=path
        ) from error
    is_array = isinstance(array, np.ndarray)
    if not is_array or array.ndim == 0 or array.dtype.kind not in "fiu":
        raise DataError(
            "the features are not a matrix of numbers", mend=mend, file=path
        )
    return torch.from_numpy(array.astype(np.float32))


def write_features(file: str | PathLike[str], x: Tensor) -> None:
    """Write features whole or not at all.

    Args:
        file: The file to write, npy or safetensors by its name.
        x: Features ``[N, D]``.

    Raises:
        DataError: If safetensors is not installed and the file is to be one.
    """
    path = Path(file)
    with atomic_path(path) as temporary:
        if path.suffix == SAFETENSORS:
            try:
                from safetensors.torch import save_file
            except ImportError as error:
                raise DataError(
                    "the safetensors library, which writes the file, is not installed",
                    mend="install it, or name a file that ends in .npy",
                    file=path,
                ) from error
            save_file({KEY: x.contiguous()}, temporary)
        else:
            np.save(temporary, x.numpy())


def _read_safetensors(file: Path) -> Tensor:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise DataError(
            "the safetensors library, which reads the file, is not installed",
            mend="install it, or write the features with numpy.save",
            file=file,
        ) from error
    try:
        tensors = load_file(file)
    # The library's errors are its own, without a common base.
    except Exception as error:
        raise DataError(
            f"the features cannot be read: {error}", mend="write them again", file=file
        ) from error
    if len(tensors) != 1:
        raise DataError(
            f"the file holds {len(tensors)} tensors, {', '.join(sorted(tensors))}",
            mend="keep one matrix in it",
            file=file,
        )
    (x,) = tensors.values()
    if x.is_complex() or x.dtype == torch.bool or x.dim() == 0:
        raise DataError(
            "the features are not a matrix of numbers",
            mend="write a matrix of numbers",
            file=file,
        )
    return x.float()
