"""Text features of items, from their texts."""

from __future__ import annotations

import os
from pathlib import Path

from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mars_pyg.errors import DataError
from mars_pyg.features import DEFAULT_TEXT_MODEL, text_features
from mars_pyg.features.chunks import model_identity


@functional_transform("add_text_features")
class AddTextFeatures(BaseTransform):
    r"""Encodes the texts of items as features
    (functional name: :obj:`add_text_features`).

    Writes ``data['item'].x_text [N, D]``, float32, made of ``data['item'].text`` by
    :func:`~mars_pyg.features.text_features`, and the name of the encoder as
    ``data['item'].text_encoder``: the model's name, or ``"tfidf"`` where that was
    asked for or the model could not be loaded. What the encoder is known by wherever it
    is, by the files of a folder, is ``data['item'].text_encoder_digest``. A graph that
    has ``x_text`` is left as it is.

    Args:
        model: The name or path of a model for the sentence-transformers library, or
            ``"tfidf"``. (default: :obj:`"sentence-transformers/all-MiniLM-L6-v2"`)
        cache_dir: A folder to keep features in, by encoder and text, or :obj:`None`
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
        store.text_encoder, store.x_text = text_features(
            texts, self.model, cache_dir=self.cache_dir
        )
        store.text_encoder_digest = model_identity(store.text_encoder)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r})"
