"""Encoders that make features of items."""

from mars_pyg.features.text import DEFAULT_TEXT_MODEL, encode_text, load_text_encoder

__all__ = ["DEFAULT_TEXT_MODEL", "encode_text", "load_text_encoder"]
