"""Factors of items: schemas, profiles, what assigns them and what they are worth."""

from typing import Any

from mars_pyg.factors.agreement import FactorAgreement, factor_agreement
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.clusters import ClusterReasoner
from mars_pyg.factors.columns import ColumnReasoner
from mars_pyg.factors.keywords import KeywordReasoner
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner
from mars_pyg.factors.report import FactorReport, factor_report, profiles_of
from mars_pyg.factors.schema import Factor, FactorSchema

__all__ = [
    "ClusterReasoner",
    "ColumnReasoner",
    "Factor",
    "FactorAgreement",
    "FactorProfiles",
    "FactorReasoner",
    "FactorReport",
    "FactorSchema",
    "ItemCatalogue",
    "KeywordReasoner",
    "LLMReasoner",
    "factor_agreement",
    "factor_report",
    "profiles_of",
]


def __getattr__(name: str) -> Any:
    # What asks a language model is imported when it is asked for.
    if name != "LLMReasoner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mars_pyg.factors.llm_reasoner import LLMReasoner

    return LLMReasoner
