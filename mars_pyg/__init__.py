"""Explainable recommendation with LLM-named item factors, in PyTorch Geometric."""

from mars_pyg.datasets import (
    AmazonFactorDataset,
    FactorDataset,
    SyntheticFactorDataset,
)
from mars_pyg.errors import DataError
from mars_pyg.explanations import (
    Counterfactual,
    Explanation,
    ScoreExplainer,
    counterfactuals,
    explain,
)
from mars_pyg.factors import Factor, FactorProfiles, FactorSchema
from mars_pyg.heads import (
    EASE,
    ContentSimilarity,
    FactorAffinity,
    HeadedRecommender,
    Popularity,
)
from mars_pyg.kernels import FactorGraph, SparseMatrix, factor_propagate
from mars_pyg.nn import (
    BPR,
    MARS,
    BPRLoss,
    FactorConv,
    LightGCN,
    MARSConv,
    MARSLoss,
    Recommender,
    SemanticDecoder,
    SemanticFactorLoss,
    ViewConsistencyLoss,
)
from mars_pyg.recommend import Recommendation, recommend
from mars_pyg.serving import load
from mars_pyg.training.evaluation import evaluate
from mars_pyg.transforms import (
    AddFactorValues,
    AddItemCooccurrence,
    AddItemKNN,
    AddItems,
    AddTextFeatures,
    AddUserValues,
    ToTrainGraph,
)

__version__ = "0.1.0"

__all__ = [
    "BPR",
    "EASE",
    "MARS",
    "AddFactorValues",
    "AddItemCooccurrence",
    "AddItemKNN",
    "AddItems",
    "AddTextFeatures",
    "AddUserValues",
    "AmazonFactorDataset",
    "BPRLoss",
    "ContentSimilarity",
    "Counterfactual",
    "DataError",
    "Explanation",
    "Factor",
    "FactorAffinity",
    "FactorConv",
    "FactorDataset",
    "FactorGraph",
    "FactorProfiles",
    "FactorSchema",
    "HeadedRecommender",
    "LightGCN",
    "MARSConv",
    "MARSLoss",
    "Popularity",
    "Recommendation",
    "Recommender",
    "ScoreExplainer",
    "SemanticDecoder",
    "SemanticFactorLoss",
    "SparseMatrix",
    "SyntheticFactorDataset",
    "ToTrainGraph",
    "ViewConsistencyLoss",
    "counterfactuals",
    "evaluate",
    "explain",
    "factor_propagate",
    "load",
    "recommend",
]
