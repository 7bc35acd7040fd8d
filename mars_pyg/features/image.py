"""Image features of items."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.features.chunks import (
    VectorStore,
    digest_of,
    encode_in_chunks,
    model_identity,
)

DEFAULT_IMAGE_MODEL = "sentence-transformers/clip-ViT-B-32"


def plain_picture(opened: Any) -> Any:
    """A picture of Pillow as people see it: upright, and cut-outs on white."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(opened) or opened
    if picture.mode.startswith("I;16"):
        # Of 16 bits, of which all but the darkest would be white.
        picture = picture.point(lambda level: level / 256).convert("L")
        picture.info.pop("transparency", None)
    # Cut-outs have a mode of their own, or one colour that is nothing.
    if picture.mode in ("RGBA", "LA", "P", "PA") or "transparency" in picture.info:
        # Shops show cut-out products on white.
        layer = picture.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(ground, layer)
    return picture.convert("RGB")


class ImageEncoder(Protocol):
    """What is needed of a model of the sentence-transformers library."""

    def encode(self, sentences: list[Any], **kwargs: Any) -> np.ndarray:
        """Encode images as the rows of a matrix."""


def load_image_encoder(model: str) -> ImageEncoder:
    """Load a model of the sentence-transformers library that reads images.

    Args:
        model: The name or path of the model, such as a CLIP.

    Raises:
        DataError: If the library or the model cannot be loaded.
    """
    try:
        import PIL.Image  # noqa: F401, for a clear error where it is missing
        from sentence_transformers import SentenceTransformer

        return cast(ImageEncoder, SentenceTransformer(model))
    # Libraries, hubs and file formats fail in many ways; all mean the same here.
    except Exception as error:
        raise DataError(
            f"the image model {model!r} cannot be loaded "
            f"({type(error).__name__}: {error})",
            mend="install mars-pyg[llm], and give the name or folder of a model",
            field="model",
        ) from error


def encode_images(
    paths: Sequence[str],
    model: str = DEFAULT_IMAGE_MODEL,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    chunk_size: int = 256,
    batch_size: int = 32,
) -> Tensor:
    r"""Encode images as vectors.

    Files of equal bytes are encoded once. Files that are no images get rows of zeros,
    and are counted in a warning.

    Args:
        paths: The paths of ``N`` images, empty where one is missing.
        model: The name or path of a model for the sentence-transformers library that
            reads images. (default: :obj:`"sentence-transformers/clip-ViT-B-32"`)
        cache_dir: A folder to keep vectors in, by model and content, or :obj:`None`.
            (default: :obj:`None`)
        chunk_size: Number of images that are encoded before they are stored.
            (default: :obj:`256`)
        batch_size: Number of images that are open at once. (default: :obj:`32`)

    Returns:
        Features ``[N, D]``, float32, on the CPU; rows of zeros are missing ones.

    Raises:
        DataError: If a file is not there, or the model cannot be loaded or does not
            read images.
    """
    keys = [_digest(path, index) if path else "" for index, path in enumerate(paths)]
    encoder: list[ImageEncoder] = []
    broken: list[str] = []

    def encode(positions: Sequence[int]) -> np.ndarray:
        if not encoder:
            encoder.append(load_image_encoder(model))
        parts = [
            _encode_batch(
                [paths[index] for index in positions[start : start + batch_size]],
                encoder[0],
                model,
                broken,
            )
            for start in range(0, len(positions), batch_size)
        ]
        width = max(part.shape[1] for part in parts)
        # A batch without an image does not know the width.
        return np.concatenate(
            [
                part if part.shape[1] == width else np.full((len(part), width), np.nan)
                for part in parts
            ]
        )

    store = VectorStore(cache_dir, f"plain picture {model_identity(model)}")
    x = encode_in_chunks(
        keys, encode, store, chunk_size=chunk_size, description="image features"
    )
    if broken:
        # Each stands for all files of the same bytes.
        key_of = dict(zip(paths, keys, strict=True))
        lost = {key_of[path] for path in broken}
        number = sum(key in lost for key in keys)
        warnings.warn(
            f"{number} of {sum(map(bool, paths))} images cannot be read and count "
            f"as missing, the first is {broken[0]}",
            stacklevel=2,
        )
    return x


def _digest(path: str, index: int) -> str:
    try:
        return digest_of(Path(path).read_bytes())
    except (OSError, ValueError) as error:  # A zero byte, for one, is in no path.
        mend = "correct the path, or leave it empty"
        if "://" in path:
            mend = "download the images, and give their paths"
        why = getattr(error, "strerror", error)
        raise DataError(
            f"the image {path!r} of item {index} cannot be read: {why}",
            mend=mend,
            field="images",
        ) from error


def _encode_batch(
    paths: list[str], encoder: ImageEncoder, model: str, broken: list[str]
) -> np.ndarray:
    """Encode images, with rows of NaN for files that are none."""
    from PIL import Image

    images, rows = [], []
    for row, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                images.append(plain_picture(image))
            rows.append(row)
        # Broken files make the library fail in many ways.
        except Exception:
            broken.append(path)
    if not images:
        return np.full((len(paths), 1), np.nan)
    try:
        vectors = encoder.encode(
            images,
            batch_size=len(images),
            show_progress_bar=False,
            convert_to_numpy=True,
        )
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise DataError(
            f"the model {model!r} does not encode images: {error}",
            mend="choose one that does, such as a CLIP",
            field="model",
        ) from error
    x = np.full((len(paths), vectors.shape[1]), np.nan, dtype=np.float32)
    x[rows] = vectors
    return x
