"""What a model does not know of a user, a list and a catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from mars_pyg.explanations.catalogue import Catalogue

#: Below so many train interactions a history says little.
LITTLE_HISTORY = 5


def knowledge_gaps(
    catalogue: Catalogue, history: Tensor, held_out: Tensor, recommended: Tensor
) -> list[str]:
    """Say in sentences what is missing.

    Args:
        catalogue: The catalogue.
        history: The items that the scores know the user by ``[H]``, int64.
        held_out: Items of the user that they do not know ``[H']``, int64.
        recommended: The items that are recommended to the user ``[k]``, int64.
    """
    number = history.numel()
    sentences = []
    if not number:
        sentences.append(
            "The model knows nothing of this user: there is no interaction to learn "
            "from. Take the list as a guess."
        )
    elif number < LITTLE_HISTORY:
        sentences.append(
            f"The model knows this user by {_items(number)} alone: take the list as a "
            "first guess."
        )
    if held_out.numel():
        sentences.append(
            f"{_items(held_out.numel())} of the user, kept for validation and test, "
            "did not enter the scores."
        )
    for place, items in (("history", history), ("list", recommended)):
        if without := _without_values(catalogue, items):
            sentences.append(
                f"{_items(without)} of the {place} ({items.numel()} in all) "
                f"{_have(without)} no known factor value, which a taste could be read "
                "from."
            )
        if untitled := sum(not catalogue.titles[i] for i in items.tolist()):
            sentences.append(
                f"{_items(untitled)} of the {place} ({items.numel()} in all) "
                f"{_have(untitled)} no title, and "
                f"{'stands' if untitled == 1 else 'stand'} under an id."
            )
    total = len(catalogue.item_ids)
    everything = torch.arange(total)
    sentences.append(
        f"In the whole catalogue of {total:,} items, "
        f"{_without_values(catalogue, everything):,} have no known factor value and "
        f"{sum(not title for title in catalogue.titles):,} have no title."
    )
    return sentences


def _without_values(catalogue: Catalogue, items: Tensor) -> int:
    if catalogue.item_values is None:
        return items.numel()
    return int((catalogue.item_values.count[items] == 0).sum())


def _items(number: int) -> str:
    return "1 item" if number == 1 else f"{number} items"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
