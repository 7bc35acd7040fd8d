"""Layers, losses and models."""

from mars_pyg.nn.added_items import AddedItems
from mars_pyg.nn.decoder import SemanticDecoder
from mars_pyg.nn.factor_conv import FactorConv
from mars_pyg.nn.light_gcn import BPR, LightGCN
from mars_pyg.nn.losses import (
    BPRLoss,
    MARSLoss,
    SemanticFactorLoss,
    ViewConsistencyLoss,
)
from mars_pyg.nn.mars import MARS
from mars_pyg.nn.mars_conv import MARSConv
from mars_pyg.nn.recommender import Recommender

__all__ = [
    "BPR",
    "MARS",
    "AddedItems",
    "BPRLoss",
    "FactorConv",
    "LightGCN",
    "MARSConv",
    "MARSLoss",
    "Recommender",
    "SemanticDecoder",
    "SemanticFactorLoss",
    "ViewConsistencyLoss",
]
