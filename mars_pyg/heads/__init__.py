"""Scores beside a recommender's: additive, and read off a user's history."""

from mars_pyg.heads.content_similarity import ContentSimilarity
from mars_pyg.heads.ease import EASE
from mars_pyg.heads.factor_affinity import FactorAffinity
from mars_pyg.heads.headed_recommender import HeadedRecommender
from mars_pyg.heads.new_items import NewItems
from mars_pyg.heads.popularity import Popularity
from mars_pyg.heads.score_head import ScoreHead
from mars_pyg.heads.score_offset import ScoreOffset

__all__ = [
    "EASE",
    "ContentSimilarity",
    "FactorAffinity",
    "HeadedRecommender",
    "NewItems",
    "Popularity",
    "ScoreHead",
    "ScoreOffset",
]
