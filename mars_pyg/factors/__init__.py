"""Factors of items: schemas, profiles, and what assigns them."""

from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.clusters import ClusterReasoner
from mars_pyg.factors.columns import ColumnReasoner
from mars_pyg.factors.keywords import KeywordReasoner
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner
from mars_pyg.factors.schema import Factor, FactorSchema

__all__ = [
    "ClusterReasoner",
    "ColumnReasoner",
    "Factor",
    "FactorProfiles",
    "FactorReasoner",
    "FactorSchema",
    "ItemCatalogue",
    "KeywordReasoner",
]
