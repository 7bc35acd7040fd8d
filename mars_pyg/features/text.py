"""Text features of items."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from mars_pyg.features.chunks import (
    VectorStore,
    digest_of,
    encode_in_chunks,
    model_identity,
)

#: The encoder that the text features of published results were made with.
DEFAULT_TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
#: The name that chooses the features that need no language model.
TFIDF = "tfidf"


class TextEncoder(Protocol):
    """What is needed of a model of the sentence-transformers library."""

    def encode(self, sentences: list[str], **kwargs: Any) -> np.ndarray:
        """Encode sentences as the rows of a matrix."""


def load_text_encoder(model: str) -> TextEncoder | None:
    r"""Load a model of the sentence-transformers library.

    Args:
        model: The name or path of the model, or ``"tfidf"`` for none.

    Returns:
        The model, or :obj:`None` where none is asked for or the library or the model
        cannot be loaded; the reason is then given in a warning.
    """
    if model == TFIDF:
        return None
    try:
        from sentence_transformers import SentenceTransformer

        return cast(TextEncoder, SentenceTransformer(model))
    # Libraries, hubs and file formats fail in many ways; all mean the same here.
    except Exception as error:
        warnings.warn(
            f"the text model {model!r} cannot be loaded, text features are made by "
            f"TF-IDF and SVD instead ({type(error).__name__}: {error})",
            stacklevel=2,
        )
        return None


def text_features(
    texts: Sequence[str],
    model: str = DEFAULT_TEXT_MODEL,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    chunk_size: int = 1024,
    batch_size: int = 256,
) -> tuple[str, Tensor]:
    r"""Encode texts as vectors that are kept, as :func:`encode_text` does.

    An encoding that was interrupted goes on where it was, and texts that were added to
    others are encoded alone. The model is not loaded where all is stored. Vectors by
    TF-IDF depend on all the texts, and are stored for them together.

    Args:
        texts: ``N`` texts.
        model: The name or path of a model for the sentence-transformers library, or
            ``"tfidf"``. A model in a folder is known by its files, others by their
            names. (default: :obj:`"sentence-transformers/all-MiniLM-L6-v2"`)
        cache_dir: A folder to keep vectors in, by model and content, or :obj:`None`.
            (default: :obj:`None`)
        chunk_size: Number of texts that are encoded before they are stored.
            (default: :obj:`1024`)
        batch_size: Number of texts that are encoded at once. (default: :obj:`256`)

    Returns:
        The name of the encoder, which is ``"tfidf"`` where the model cannot be loaded,
        and features ``[N, D]``, float32, on the CPU.
    """
    keys = [digest_of(text) if text.strip() else "" for text in texts]
    encoder: list[TextEncoder] = []

    def encode(positions: Sequence[int]) -> np.ndarray:
        if not encoder:
            loaded = load_text_encoder(model)
            if loaded is None:
                raise _NoModelError
            encoder.append(loaded)
        chunk = [texts[index] for index in positions]
        return encode_text(
            chunk, encoder[0], batch_size=batch_size, show_progress=False
        ).numpy()

    if model != TFIDF:
        store = VectorStore(cache_dir, f"text {model_identity(model)}")
        try:
            return model, encode_in_chunks(
                keys, encode, store, chunk_size=chunk_size, description="text features"
            )
        except _NoModelError:
            pass
    # Kept under its own name, the fallback never passes for the model.
    store = VectorStore(cache_dir, f"{TFIDF} {digest_of(repr(list(texts)))}")

    def encode_all(positions: Sequence[int]) -> np.ndarray:
        return encode_text(texts, TFIDF)[list(positions)].numpy()

    return TFIDF, encode_in_chunks(
        keys, encode_all, store, chunk_size=max(len(keys), 1)
    )


class _NoModelError(Exception):
    """No model could be loaded; the reason was given."""


def encode_text(
    texts: Sequence[str],
    model: str | TextEncoder = DEFAULT_TEXT_MODEL,
    *,
    batch_size: int = 256,
    dim_fallback: int = 128,
    seed: int = 0,
    show_progress: bool | None = None,
) -> Tensor:
    r"""Encode texts as vectors.

    Texts that are equal are encoded once; blank ones get rows of zeros, which stand
    for missing features. Where the model cannot be loaded, and for
    ``model="tfidf"``, the vectors are the leading left singular vectors, scaled to
    rows of unit length, of the TF-IDF matrix of the distinct texts (latent semantic
    analysis).

    Args:
        texts: ``N`` texts.
        model: The name or path of a model for the sentence-transformers library, a
            loaded one, or ``"tfidf"``.
            (default: :obj:`"sentence-transformers/all-MiniLM-L6-v2"`)
        batch_size: Number of texts that are encoded at once. (default: :obj:`256`)
        dim_fallback: Largest width ``D`` of vectors by TF-IDF.
            (default: :obj:`128`)
        seed: Seed of the singular value decomposition. (default: :obj:`0`)
        show_progress: Whether to show a progress bar, or :obj:`None` for more than a
            thousand distinct texts only. (default: :obj:`None`)

    Returns:
        Features ``[N, D]``, float32, on the CPU.
    """
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    if not distinct:
        return torch.zeros(len(texts), dim_fallback)
    encoder = load_text_encoder(model) if isinstance(model, str) else model
    if encoder is None:
        vectors = _encode_tfidf(distinct, dim_fallback, seed)
    else:
        if show_progress is None:
            show_progress = len(distinct) > 1000
        vectors = encoder.encode(
            distinct,
            batch_size=batch_size,
            show_progress_bar=show_progress,
            convert_to_numpy=True,
        )
    index = {text: row for row, text in enumerate(distinct)}
    # Blank texts take the last row.
    rows = torch.tensor([index.get(text, len(distinct)) for text in texts])
    table = torch.from_numpy(np.asarray(vectors, dtype=np.float32))
    return torch.cat([table, table.new_zeros(1, table.size(1))])[rows]


def _encode_tfidf(texts: list[str], dim: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    # Unlike the default, words of one letter count, so that short texts have words.
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # No text has a word.
        return np.zeros((len(texts), dim), dtype=np.float32)
    if matrix.shape[1] <= dim:
        return matrix.toarray()
    svd = TruncatedSVD(min(dim, len(texts)), random_state=seed)
    return normalize(svd.fit_transform(matrix))
