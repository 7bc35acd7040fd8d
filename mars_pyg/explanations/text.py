"""Explanations as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mars_pyg.explanations.explanation import Counterfactual, Explanation, Reason
from mars_pyg.report import plain


def format_explanations(
    explanations: Sequence[Explanation],
    max_reasons: int = 8,
    counterfactuals: Mapping[str, Sequence[Counterfactual]] | None = None,
) -> str:
    """Lay the explanations of a user's items out, the largest reasons first.

    Args:
        explanations: The explanations of one user.
        max_reasons: Number of reasons that are shown of each item; what the others add
            is one line. (default: :obj:`8`)
        counterfactuals: Those of each item, by its id, to be told in a sentence.
            (default: :obj:`None`)
    """
    lines = []
    for place, entry in enumerate(explanations, start=1):
        title = entry.title or "(no title)"
        lines.append(f"{place:>3}. {entry.item}  {title}  (score {entry.score:.3f})")
        shown, others = split_reasons(entry.reasons, max_reasons)
        lines += [f"     {signed(r.contribution):>7}  {r.text()}" for r in shown]
        if others:
            rest = sum(reason.contribution for reason in others)
            lines.append(f"     {signed(rest):>7}  {len(others)} smaller reasons")
        if counterfactuals is not None:
            found = counterfactuals[entry.item]
            lines.append(f"     {counterfactual_sentence(found, len(explanations))}")
    return "\n".join(map(plain, lines))


def split_reasons(
    reasons: Sequence[Reason], number: int
) -> tuple[Sequence[Reason], Sequence[Reason]]:
    """The reasons to show one by one, and the smaller ones to sum up.

    A single one is never summed up: it takes no more room by itself.
    """
    if len(reasons) <= number + 1:
        return reasons, []
    return reasons[:number], reasons[number:]


def counterfactual_sentence(
    counterfactuals: Sequence[Counterfactual], k: int, whose: str = "your"
) -> str:
    """Say what an item's place in a list depends on.

    Args:
        counterfactuals: Those of the item, as
            :func:`~mars_pyg.explanations.counterfactuals` gives them.
        k: The length of the list.
        whose: How the user is spoken of. (default: :obj:`"your"`)
    """
    if not counterfactuals:
        return "There is no history to take an item out of."
    first = counterfactuals[0]
    name = f'"{first.without_title or first.without}"'
    if first.rank <= k < first.rank_without:
        others = sum(entry.rank_without > k for entry in counterfactuals) - 1
        so = f"; so it does without any of {others} others" if others > 1 else ""
        so = "; so it does without one other" if others == 1 else so
        place = first.rank_without
        return f"Without {name} it falls out of the list, to place {place}{so}."
    if first.rank_without > first.rank:
        return (
            f"No single item of {whose} history decides it: without {name} it falls "
            f"furthest, from place {first.rank} to {first.rank_without}."
        )
    return f"No single item of {whose} history decides it."


def signed(value: float) -> str:
    """A number with its sign, three decimals."""
    return f"{value:+.3f}"
