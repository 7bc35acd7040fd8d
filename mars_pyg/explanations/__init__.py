"""Scores as sums of reasons, in Python, in words and as a page."""

from mars_pyg.explanations.explainer import ScoreExplainer, counterfactuals, explain
from mars_pyg.explanations.explanation import Counterfactual, Explanation, Reason
from mars_pyg.explanations.page import render_page, write_page
from mars_pyg.explanations.text import format_explanations

__all__ = [
    "Counterfactual",
    "Explanation",
    "Reason",
    "ScoreExplainer",
    "counterfactuals",
    "explain",
    "format_explanations",
    "render_page",
    "write_page",
]
