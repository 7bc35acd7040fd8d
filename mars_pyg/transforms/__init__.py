"""Transforms that add factor values, neighbours and features to a graph."""

from mars_pyg.transforms.add_factor_values import AddFactorValues
from mars_pyg.transforms.add_item_knn import AddItemKNN
from mars_pyg.transforms.add_text_features import AddTextFeatures

__all__ = ["AddFactorValues", "AddItemKNN", "AddTextFeatures"]
