"""Factors of items: schemas, profiles, and what assigns them."""

from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner
from mars_pyg.factors.schema import Factor, FactorSchema

__all__ = [
    "Factor",
    "FactorProfiles",
    "FactorReasoner",
    "FactorSchema",
    "ItemCatalogue",
]
