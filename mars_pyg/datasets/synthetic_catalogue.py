"""A small grammar of outdoor and household goods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Factors of the catalogue, the most telling first, and their values.
VALUES: dict[str, tuple[str, ...]] = {
    "product_type": (
        "backpack",
        "blanket",
        "bottle",
        "chair",
        "hammock",
        "jacket",
        "lantern",
        "mug",
        "pillow",
        "sleeping bag",
        "stove",
        "tent",
    ),
    "usage_scenario": (
        "camping",
        "city trips",
        "cycling",
        "family picnics",
        "fishing",
        "the beach",
        "the garden",
        "winter hikes",
    ),
    "material": (
        "bamboo",
        "canvas",
        "cotton",
        "leather",
        "nylon",
        "recycled plastic",
        "steel",
        "wool",
    ),
    "style": ("classic", "colourful", "minimalist", "rugged", "vintage"),
    "color": (
        "black",
        "blue",
        "green",
        "grey",
        "orange",
        "red",
        "sand",
        "white",
        "yellow",
    ),
}
#: Factors that a picture shows.
VISIBLE = ("product_type", "material", "style", "color")
#: The factor of which an item may have several values.
MULTIPLE = "usage_scenario"
#: An open vocabulary, which grows with the catalogue.
BRAND = "brand"

_FIRST = ("Al", "Bor", "Cal", "Dun", "El", "Fjor", "Gran", "Hel", "Is", "Kar", "Nor")
_LAST = ("da", "dal", "gen", "holm", "la", "mont", "na", "ra", "ton", "ve", "vik")


def factor_values(num_factors: int, num_items: int) -> dict[str, tuple[str, ...]]:
    """The first ``num_factors`` factors and their values, the brand last."""
    values = dict(list(VALUES.items())[:num_factors])
    if num_factors > len(VALUES):
        values[BRAND] = _brands(max(4, round(num_items**0.5)))
    return values


def _brands(count: int) -> tuple[str, ...]:
    names = [first + last for first in _FIRST for last in _LAST]
    # Beyond the names that the syllables give, series are numbered.
    return tuple(
        names[i % len(names)] + (f" {i // len(names) + 1}" if i >= len(names) else "")
        for i in range(count)
    )


def write_titles(
    values: dict[str, tuple[str, ...]], item_value: np.ndarray, known: np.ndarray
) -> list[str]:
    """Titles such as "Norvik rugged blue canvas tent", empty where nothing is known.

    Args:
        values: The factors and their values.
        item_value: Value of each item under each factor ``[N, K]``.
        known: Whether an item has text ``[N]``.
    """
    order = [BRAND, "style", "color", "material", "product_type"]
    used = [name for name in order if name in values]
    return _sentences(values, item_value, known, used, "{}")


def write_descriptions(
    values: dict[str, tuple[str, ...]], item_value: np.ndarray, known: np.ndarray
) -> list[str]:
    """Descriptions that name the use; see :func:`write_titles`."""
    if MULTIPLE not in values:
        return [""] * len(item_value)
    return _sentences(values, item_value, known, [MULTIPLE], "Made for {}.")


def _sentences(
    values: dict[str, tuple[str, ...]],
    item_value: np.ndarray,
    known: np.ndarray,
    used: Sequence[str],
    template: str,
) -> list[str]:
    names = list(values)
    words = [
        np.array(values[name], dtype=object)[item_value[:, names.index(name)]]
        for name in used
    ]
    return [
        template.format(" ".join(row)) if is_known else ""
        for *row, is_known in zip(*words, known, strict=True)
    ]
