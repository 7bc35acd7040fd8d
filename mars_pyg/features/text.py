"""Text features of items."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

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
