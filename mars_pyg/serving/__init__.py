"""Recommendations without the data: exports, retrieval indices and a service."""

from mars_pyg.serving.export import export
from mars_pyg.serving.retrieval_index import RetrievalIndex, UserVectors
from mars_pyg.serving.served_recommender import (
    ItemDescription,
    ServedRecommender,
    load,
)

__all__ = [
    "ItemDescription",
    "RetrievalIndex",
    "ServedRecommender",
    "UserVectors",
    "export",
    "load",
]
