"""Factors of items: schemas and profiles."""

from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.schema import Factor, FactorSchema

__all__ = ["Factor", "FactorProfiles", "FactorSchema"]
