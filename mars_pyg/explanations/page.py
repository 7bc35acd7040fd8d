"""A page that shows users' recommendations with their reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from torch_geometric.data import HeteroData

from mars_pyg.explanations.catalogue import Catalogue
from mars_pyg.explanations.explainer import ScoreExplainer
from mars_pyg.explanations.explanation import Explanation, Reason, readable
from mars_pyg.explanations.gaps import knowledge_gaps
from mars_pyg.explanations.taste import FactorTaste, Tastes
from mars_pyg.explanations.text import counterfactual_sentence, signed, split_reasons
from mars_pyg.files import atomic_path
from mars_pyg.names import names_of
from mars_pyg.nn.recommender import Recommender
from mars_pyg.user_items import UserItems, splits_of

#: How the page speaks of the user.
WHOSE = "their"
#: Reasons, and items of a history, that are shown before the others are folded.
MAX_REASONS, MAX_HISTORY = 6, 12
#: Factors of a taste, and values of each.
MAX_FACTORS, MAX_VALUES = 6, 3


@dataclass(frozen=True)
class Item:
    """An item as the page names it.

    Args:
        id: Its id.
        title: Its title; empty where it has none.
        values: The name of each factor, and the item's values under it.
    """

    id: str
    title: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Card:
    """A recommended item with its reasons.

    Args:
        item: The item.
        score: Its score, in words.
        shown: The largest reasons.
        others: The smaller ones.
        others_sum: What these add together.
        sentence: What its place depends on; empty where that is not known.
    """

    item: Item
    score: str
    shown: Sequence[Reason]
    others: Sequence[Reason]
    others_sum: float
    sentence: str


@dataclass(frozen=True)
class Section:
    """What the page shows of one user.

    Args:
        user: The user's id.
        history: The items that the scores know the user by.
        tastes: The user's taste, the most telling factors.
        cards: The recommendations, best first.
        zero: Where the bars begin, as a share of their room: negative ones go left.
        span: What fills that room, from the largest negative reason to the largest.
        gaps: What the model does not know.
    """

    user: str
    history: Sequence[Item]
    tastes: Sequence[FactorTaste]
    cards: Sequence[Card]
    zero: float
    span: float
    gaps: Sequence[str]


def write_page(
    path: str | PathLike[str],
    recommender: Recommender,
    data: HeteroData,
    users: Sequence[str],
    *,
    k: int = 10,
    splits: Sequence[str] | None = None,
) -> None:
    """Write a page of users' recommendations; see :func:`render_page`.

    Args:
        path: The file, written whole or not at all.
        recommender: See :func:`render_page`.
        data: See :func:`render_page`.
        users: See :func:`render_page`.
        k: See :func:`render_page`.
        splits: See :func:`render_page`.

    Raises:
        DataError: If a user is not in the catalogue.
    """
    text = render_page(recommender, data, users, k=k, splits=splits)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render_page(
    recommender: Recommender,
    data: HeteroData,
    users: Sequence[str],
    *,
    k: int = 10,
    splits: Sequence[str] | None = None,
) -> str:
    """Show users' recommendations, and why they are recommended, as one html page.

    The page has a section for each user: the history, the taste, the recommendations
    with their reasons as bars (:func:`explain`), what their places depend on
    (:func:`counterfactuals`, where they are known without another training), and what
    the model does not know. It is self-contained: it loads nothing and runs no script.
    All text of the catalogue is escaped.

    Args:
        recommender: The recommender; its mode (training or not) is left as it was.
        data: The graph that the recommender was made for.
        users: Ids of users in the catalogue.
        k: Number of items per user. (default: :obj:`10`)
        splits: The splits whose items are not recommended. (default: :obj:`None`, those
            that there are)

    Raises:
        DataError: If a user is not in the catalogue.
    """
    import jinja2

    users = names_of("users", users)
    explainer = ScoreExplainer(recommender, data)
    tastes = Tastes(explainer.catalogue, explainer.history)
    splits = splits_of(data) if splits is None else splits
    known = UserItems.from_data(data, *splits)
    sections = [
        _section(explainer, tastes, known, user, k, splits)
        for user in dict.fromkeys(users)
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mars_pyg", "explanations"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=lambda value: typeset(signed(value)),
        percent=lambda part: f"{100 * part:.2f}%",
        share=lambda part: f"{100 * part:.1f} %" if part >= 5e-4 else "< 0.1 %",
        lift=lambda lift: f"{lift:.1f}" if lift < 10 else f"{lift:.0f}",
        readable=readable,
    )
    template = environment.get_template("page.html")
    return template.render(
        sections=sections,
        whose=WHOSE,
        max_history=MAX_HISTORY,
        max_values=MAX_VALUES,
    )


def _section(
    explainer: ScoreExplainer,
    tastes: Tastes,
    known: UserItems,
    user: str,
    k: int,
    splits: Sequence[str],
) -> Section:
    catalogue = explainer.catalogue
    explanations = explainer.explain(user, k=k, splits=splits)
    ids = [entry.item for entry in explanations]
    sentences = [""] * len(ids)
    if explainer.has_counterfactuals:
        found = explainer.counterfactuals(user, ids, splits=splits)
        sentences = [counterfactual_sentence(found[i], len(ids), WHOSE) for i in ids]
    row = torch.tensor([catalogue.user(user)])
    history = explainer.history.take(row.to(explainer.history.ptr.device)).item.cpu()
    everything = known.take(row).item.cpu()
    held_out = everything[~torch.isin(everything, history)]
    sizes = [r.contribution for entry in explanations for r in entry.reasons]
    below, above = -min(sizes, default=0.0), max(sizes, default=0.0)
    span = max(below, 0.0) + max(above, 0.0) or 1.0
    return Section(
        user=user,
        history=[_item(catalogue, i) for i in history.tolist()],
        tastes=tastes.of(history)[:MAX_FACTORS],
        cards=[
            _card(catalogue, entry, sentence)
            for entry, sentence in zip(explanations, sentences, strict=True)
        ],
        zero=max(below, 0.0) / span,
        span=span,
        gaps=knowledge_gaps(catalogue, history, held_out, catalogue.items(ids)),
    )


def _card(catalogue: Catalogue, entry: Explanation, sentence: str) -> Card:
    shown, others = split_reasons(entry.reasons, MAX_REASONS)
    return Card(
        item=_item(catalogue, int(catalogue.items([entry.item]))),
        score=typeset(f"{entry.score:.3f}"),
        shown=shown,
        others=others,
        others_sum=sum(reason.contribution for reason in others),
        sentence=sentence,
    )


def _item(catalogue: Catalogue, place: int) -> Item:
    values = [
        (
            readable(catalogue.factor_names[factor]),
            ", ".join(catalogue.value_names[value] for value in own),
        )
        for factor, own in sorted(catalogue.values_of(place).items())
    ]
    title = catalogue.titles[place]
    return Item(catalogue.item_ids[place], title, tuple(values))


def typeset(number: str) -> str:
    """A number with a minus sign, as wide as a plus, in the place of the hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")
