"""Explanations in words, hand-worked."""

import dataclasses

from mars_pyg.explanations import format_explanations
from mars_pyg.explanations.explanation import (
    ClusterReason,
    Counterfactual,
    Explanation,
    FactorReason,
    HistoryReason,
    PartReason,
    PopularityReason,
    Reason,
)
from mars_pyg.explanations.text import counterfactual_sentence
from mars_pyg.recommend import Recommendation, SharedValue
from mars_pyg.report import format_recommendations

REASONS = (
    HistoryReason("ease", 1.5, "B2", "Bottle"),
    FactorReason("affinity", 0.75, "brand", ("philips avent",), (4,), 7),
    Reason("collaborative", -0.5),
    FactorReason("factors", 0.25, "used_for", ("travel", "home"), (2, 1), 6),
    PopularityReason("popularity", 0.125, 38),
)
EXPLANATION = Explanation("U1", "B1", "", 2.125, REASONS)


def make(without, rank, rank_without, title=""):
    return Counterfactual("B1", without, title, rank, rank_without, 2.0, 1.0)


def test_reasons_in_words():
    assert format_explanations([EXPLANATION]) == (
        "  1. B1  (no title)  (score 2.125)\n"
        "      +1.500  from your history: Bottle\n"
        "      +0.750  brand: philips avent, 4 of your 7\n"
        "      -0.500  what users with similar histories choose\n"
        "      +0.250  items that share used for: travel, home\n"
        "      +0.125  popularity: chosen by 38 users"
    )


def test_smaller_reasons_are_summed_up():
    lines = format_explanations([EXPLANATION], max_reasons=3).split("\n")
    assert lines[-1] == "      +0.375  2 smaller reasons"
    # One alone is shown as it is.
    lines = format_explanations([EXPLANATION], max_reasons=4).split("\n")
    assert lines[-1] == "      +0.125  popularity: chosen by 38 users"


def test_counterfactuals_in_words():
    found = {"B1": [make("B2", 1, 3, "Bottle"), make("B3", 1, 1)]}
    lines = format_explanations([EXPLANATION], 1, found).split("\n")
    assert lines[-1] == '     Without "Bottle" it falls out of the list, to place 3.'


def test_control_characters_do_not_reach_a_terminal():
    title = "\x1b]0;owned\x07\x1b[2JCup \u200d\x9b1m"
    entry = dataclasses.replace(EXPLANATION, title=title)
    text = format_explanations([entry])
    assert "]0;owned[2JCup \u200d1m" in text
    item = Recommendation("B\x1b1", title, 1.0, (SharedValue("a\x1b", "b\x07", 2),))
    text += format_recommendations("u", [item])
    assert "shares a: b (2)" in text
    assert not set(text) & {chr(code) for code in (7, 27, 0x9B)}


def test_sentences():
    assert counterfactual_sentence([], 5) == (
        "There is no history to take an item out of."
    )
    drops = [make("B2", 2, 9), make("B3", 2, 7), make("B4", 2, 6), make("B5", 2, 2)]
    falls = 'Without "B2" it falls out of the list, to place 9'
    assert counterfactual_sentence(drops[:1], 5) == f"{falls}."
    assert counterfactual_sentence(drops[:2], 5) == (
        f"{falls}; so it does without one other."
    )
    assert counterfactual_sentence(drops, 5) == (
        f"{falls}; so it does without any of 2 others."
    )
    # One that was not in the list cannot fall out of it.
    below = [make("B2", 6, 9), make("B3", 6, 7)]
    assert counterfactual_sentence(below, 5) == (
        'No single item of your history decides it: without "B2" it falls furthest, '
        "from place 6 to 9."
    )
    stays = [make("B3", 1, 4), make("B2", 1, 1)]
    assert counterfactual_sentence(stays, 5, "their") == (
        'No single item of their history decides it: without "B3" it falls '
        "furthest, from place 1 to 4."
    )
    assert counterfactual_sentence(stays[1:], 5) == (
        "No single item of your history decides it."
    )


def test_other_reasons_in_words():
    several = FactorReason("affinity", 1.0, "usage", ("travel", "home"), (2, 1), 6)
    assert several.text("their") == "usage: travel, home, 2 and 1 of their 6"
    assert ClusterReason("clusters", 1.0, 0).text() == (
        "items of the same cluster, clustering 1"
    )
    assert PopularityReason("popularity", 1.0, 1).text() == (
        "popularity: chosen by 1 user"
    )
    assert PartReason("freshness", 1.0, "age").text() == "freshness: age"
    assert PartReason("similarity", 1.0, "text similarity").text() == "text similarity"
    assert HistoryReason("ease", 1.0, "B2", "").text() == "from your history: B2"
