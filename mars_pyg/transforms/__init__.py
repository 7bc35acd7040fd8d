"""Transforms that add features, factor values and item graphs to a graph."""

from mars_pyg.transforms.add_factor_values import AddFactorValues
from mars_pyg.transforms.add_item_cooccurrence import AddItemCooccurrence
from mars_pyg.transforms.add_item_knn import AddItemKNN
from mars_pyg.transforms.add_items import AddItems
from mars_pyg.transforms.add_text_features import AddTextFeatures
from mars_pyg.transforms.add_user_values import AddUserValues
from mars_pyg.transforms.to_train_graph import ToTrainGraph

__all__ = [
    "AddFactorValues",
    "AddItemCooccurrence",
    "AddItemKNN",
    "AddItems",
    "AddTextFeatures",
    "AddUserValues",
    "ToTrainGraph",
]
