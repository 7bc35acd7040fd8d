"""Text features of items, from their texts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mars_pyg.errors import DataError
from mars_pyg.features import DEFAULT_TEXT_MODEL, encode_text, load_text_encoder
from mars_pyg.features.text import TFIDF
from mars_pyg.files import atomic_path


@functional_transform("add_text_features")
class AddTextFeatures(BaseTransform):
    r"""Encodes the texts of items as features
    (functional name: :obj:`add_text_features`).

    Writes ``data['item'].x_text [N, D]``, float32, made of ``data['item'].text`` by
    :func:`~mars_pyg.features.encode_text`, and the name of the encoder as
    ``data['item'].text_encoder``: the model's name, or ``"tfidf"`` where that was
    asked for or the model could not be loaded. A graph that has ``x_text`` is left as
    it is.

    Args:
        model: The name or path of a model for the sentence-transformers library, or
            ``"tfidf"``. (default: :obj:`"sentence-transformers/all-MiniLM-L6-v2"`)
        cache_dir: A folder to keep features in, by encoder and texts, or :obj:`None`
            to make them each time. (default: :obj:`None`)

    Raises:
        DataError: If no item has a text, or a file in ``cache_dir`` is damaged.
    """

    def __init__(
        self,
        model: str = DEFAULT_TEXT_MODEL,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def forward(self, data: HeteroData) -> HeteroData:
        """Add text features to a graph that has none."""
        store = data["item"]
        if "x_text" in store:
            return data
        texts = store.get("text", [])
        if not any(text.strip() for text in texts):
            raise DataError(
                "no item has a text to make features of",
                mend="give the items texts, or bring features of your own",
                field="text",
            )
        name, x = self.model, self._load(self.model, texts)
        if x is None:
            encoder = load_text_encoder(self.model)
            if encoder is None:
                # Kept under its own name, the fallback never passes for the model.
                name = TFIDF
                x = self._load(TFIDF, texts)
            if x is None:
                x = encode_text(texts, encoder or TFIDF)
                self._save(name, texts, x)
        store.x_text = x
        store.text_encoder = name
        return data

    def _path(self, name: str, texts: list[str]) -> Path | None:
        if self.cache_dir is None:
            return None
        digest = hashlib.sha256(repr((name, texts)).encode()).hexdigest()[:16]
        return self.cache_dir / f"text-{digest}.npy"

    def _load(self, name: str, texts: list[str]) -> Tensor | None:
        path = self._path(name, texts)
        if path is None or not path.exists():
            return None
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise DataError(
                "the file of text features is damaged",
                mend="delete the file, so that it is made again",
                file=path,
            ) from error

    def _save(self, name: str, texts: list[str], x: Tensor) -> None:
        path = self._path(name, texts)
        if path is not None:
            with atomic_path(path) as temporary:
                np.save(temporary, x.numpy())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r})"
