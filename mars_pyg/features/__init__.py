"""Encoders that make features of items."""

from mars_pyg.features.image import DEFAULT_IMAGE_MODEL, encode_images
from mars_pyg.features.text import (
    DEFAULT_TEXT_MODEL,
    encode_text,
    load_text_encoder,
    text_features,
)

__all__ = [
    "DEFAULT_IMAGE_MODEL",
    "DEFAULT_TEXT_MODEL",
    "encode_images",
    "encode_text",
    "load_text_encoder",
    "text_features",
]
