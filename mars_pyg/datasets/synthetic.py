"""A generated catalogue whose users have planted tastes for factor values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from mars_pyg.datasets import synthetic_catalogue as catalogue
from mars_pyg.datasets.build import build_graph
from mars_pyg.datasets.interactions import split_interactions
from mars_pyg.factors import Factor, FactorProfiles, FactorSchema

#: Every user has at least this many interactions, where there are items enough.
MIN_INTERACTIONS = 5


class SyntheticFactorDataset(InMemoryDataset):
    r"""A generated catalogue of any size, with users who like factor values.

    A user has a taste for some values, and takes an item with the probability

    .. math::
        p(i \mid u) = (1 - s) \, p_i + \frac{s}{|\mathcal{T}_u|}
        \sum_{v \in \mathcal{T}_u} p(i \mid i \textrm{ has } v)

    where :math:`p_i` is the popularity of the item, which follows a power law,
    :math:`\mathcal{T}_u` are the values of the user's taste and :math:`s` is its
    strength. So factors say what a user wants next, and what a model has learned of
    the tastes can be checked: they are the edges ``(user, prefers, value)`` with
    ``edge_weight`` :math:`s / |\mathcal{T}_u|`. These are the truth; no model should
    train on them.

    Each item has a value under every factor, a title and a description by a small
    grammar, and features: the sum of a random vector for each value, and noise. A
    picture shows some of the factors only. The profiles of text and image are what a
    reader would make of these: values are missing, wrong, or more than one, at the
    given rates. Some items have no text: no title, no text features and no text
    profile.

    The graph has the form of :func:`~mars_pyg.datasets.build.build_graph`. The same
    arguments give the same bits.

    Args:
        num_users (int, optional): Number of users. (default: :obj:`2000`)
        num_items (int, optional): Number of items. (default: :obj:`1000`)
        num_interactions (int, optional): About how many interactions there are; a
            user has five at least, and half of the items at most. :obj:`None` for 16 a
            user. (default: :obj:`None`)
        num_factors (int, optional): Number of factors, from 1 to 6.
            (default: :obj:`6`)
        taste_strength (float, optional): :math:`s`, from 0 to 1. (default: :obj:`0.8`)
        tastes_per_user (int, optional): Number of values that a user likes.
            (default: :obj:`2`)
        popularity_exponent (float, optional): The popularity of the item of rank
            :math:`r` is in proportion to :math:`r` to the power of minus this, from 0
            to 1. (default: :obj:`0.4`)
        missing_rate (float, optional): Share of the values that a profile misses.
            (default: :obj:`0.15`)
        error_rate (float, optional): Share of the values that a profile has wrong.
            (default: :obj:`0.05`)
        multiple_rate (float, optional): Share of the items with a second value under
            the factor that allows it. (default: :obj:`0.2`)
        no_text_rate (float, optional): Share of the items without text.
            (default: :obj:`0.1`)
        seed (int, optional): Seed of everything. (default: :obj:`0`)
        transform (callable, optional): Applied to the graph at every access.
            (default: :obj:`None`)

    Raises:
        ValueError: If an argument is out of its bounds.
    """

    def __init__(
        self,
        num_users: int = 2000,
        num_items: int = 1000,
        num_interactions: int | None = None,
        num_factors: int = 6,
        taste_strength: float = 0.8,
        tastes_per_user: int = 2,
        popularity_exponent: float = 0.4,
        missing_rate: float = 0.15,
        error_rate: float = 0.05,
        multiple_rate: float = 0.2,
        no_text_rate: float = 0.1,
        seed: int = 0,
        transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        if num_interactions is None:
            num_interactions = 16 * num_users
        for name, count, low, high in (
            ("num_users", num_users, 1, 2**31),
            ("num_items", num_items, 2, 2**31),
            ("num_interactions", num_interactions, num_users, 2**40),
            ("num_factors", num_factors, 1, len(catalogue.VALUES) + 1),
            ("tastes_per_user", tastes_per_user, 1, 100),
        ):
            if not low <= count <= high:
                raise ValueError(f"'{name}' must be from {low} to {high} (got {count})")
        for name, rate in (
            ("taste_strength", taste_strength),
            ("popularity_exponent", popularity_exponent),
            ("missing_rate", missing_rate),
            ("error_rate", error_rate),
            ("multiple_rate", multiple_rate),
            ("no_text_rate", no_text_rate),
        ):
            if not 0 <= rate <= 1:
                raise ValueError(f"'{name}' must be from 0 to 1 (got {rate})")
        super().__init__(None, transform)
        random = np.random.default_rng(seed)
        values = catalogue.factor_values(num_factors, num_items)
        sizes = np.array([len(names) for names in values.values()])
        offsets = np.cumsum(sizes) - sizes

        popularity = _power_law(num_items, popularity_exponent, random)
        item_value = np.stack(
            [random.choice(s, num_items, p=_power_law(s, 0.5, random)) for s in sizes],
            axis=1,
        )
        second = _second_values(item_value, values, multiple_rate, random)
        taste = _draw_tastes(sizes, offsets, num_users, tastes_per_user, random)
        user, item = _draw_interactions(
            taste,
            _group_by_value(item_value + offsets, second, offsets, int(sizes.sum())),
            popularity,
            num_interactions,
            taste_strength,
            random,
        )
        has_text = random.random(num_items) >= no_text_rate
        profiles, features = {}, {}
        for modality, width, has_any, names in (
            ("text", 64, has_text, tuple(values)),
            ("image", 32, np.ones(num_items, bool), catalogue.VISIBLE),
        ):
            shown = np.array([name in names for name in values]) & has_any[:, None]
            features[modality] = _make_features(
                item_value + offsets, shown, int(sizes.sum()), width, random
            )
            profiles[modality] = _make_profiles(
                modality,
                values,
                item_value,
                second if modality == "text" else second[:0],
                shown & (random.random(shown.shape) >= missing_rate),
                error_rate,
                random,
            )
        label = split_interactions(user, item, seed=seed)
        edge_index = torch.stack([user, item])
        titles = catalogue.write_titles(values, item_value, has_text)
        descriptions = catalogue.write_descriptions(values, item_value, has_text)
        data = build_graph(
            user_ids=_ids("U", num_users),
            item_ids=_ids("I", num_items),
            train=edge_index[:, label == 0],
            val=edge_index[:, label == 1],
            test=edge_index[:, label == 2],
            item_text={
                "title": titles,
                "description": descriptions,
                "text": [
                    f"{title}. {description}".strip() if title else description
                    for title, description in zip(titles, descriptions, strict=True)
                ],
            },
            features=features,
            profiles=profiles,
        )
        _add_tastes(data, values, taste, taste_strength)
        self.data, self.slices = self.collate([data])


def _power_law(size: int, exponent: float, random: np.random.Generator) -> np.ndarray:
    """Probabilities in proportion to ``rank ** -exponent``, in random order."""
    weight = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return random.permutation(weight / weight.sum())


def _ids(prefix: str, count: int) -> list[str]:
    width = len(str(count))
    return [f"{prefix}{number:0{width}}" for number in range(1, count + 1)]


def _second_values(
    item_value: np.ndarray,
    values: dict[str, tuple[str, ...]],
    rate: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Items with a second value under the factor that allows it, as (item, value)."""
    if catalogue.MULTIPLE not in values:
        return np.empty((0, 2), dtype=np.int64)
    item = np.flatnonzero(random.random(len(item_value)) < rate)
    k = list(values).index(catalogue.MULTIPLE)
    size = len(values[catalogue.MULTIPLE])
    # A shift by less than the number of values never meets the first value.
    shift = random.integers(1, size, len(item))
    return np.stack([item, (item_value[item, k] + shift) % size], axis=1)


def _draw_tastes(
    sizes: np.ndarray,
    offsets: np.ndarray,
    num_users: int,
    count: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Values that each user likes ``[U, T]``; the factors are equally likely."""
    factor = random.integers(0, len(sizes), (num_users, count))
    rank = random.random((num_users, count))
    return offsets[factor] + (rank * sizes[factor]).astype(np.int64)


def _group_by_value(
    value: np.ndarray, second: np.ndarray, offsets: np.ndarray, num_values: int
) -> tuple[np.ndarray, np.ndarray]:
    """The items of each value: where they start ``[V + 1]``, and the items."""
    item = np.repeat(np.arange(len(value)), value.shape[1])
    k = list(catalogue.VALUES).index(catalogue.MULTIPLE)
    offset = offsets[k] if len(offsets) > k else 0
    item = np.concatenate([item, second[:, 0]])
    group = np.concatenate([value.reshape(-1), second[:, 1] + offset])
    order = np.argsort(group, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=num_values))])
    return start, item[order]


def _draw_interactions(
    taste: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray],
    popularity: np.ndarray,
    num_interactions: int,
    strength: float,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw distinct items for every user, sorted by user and item."""
    num_users, num_items = len(taste), len(popularity)
    start, grouped = groups
    total = np.concatenate([[0], np.cumsum(popularity)])
    within = np.concatenate([[0], np.cumsum(popularity[grouped])])

    # No user gets more than half of the items, so that drawing anew comes to an end.
    most = max(num_items // 2, 1)
    extra = max(num_interactions / num_users - MIN_INTERACTIONS, 0)
    count = MIN_INTERACTIONS + random.geometric(1 / (1 + extra), num_users) - 1
    count = np.minimum(count, most)

    key = np.empty(0, dtype=np.int64)
    for attempt in range(1000):
        lacking = count - np.bincount(key // num_items, minlength=num_users)
        user = np.repeat(np.arange(num_users), lacking)
        if not user.size:
            break
        value = taste[user, random.integers(0, taste.shape[1], user.size)]
        by_taste = random.random(user.size) < strength
        by_taste &= start[value + 1] > start[value]
        point = random.random(user.size)
        item = np.searchsorted(total, point * total[-1], side="right") - 1
        low, high = within[start[value]], within[start[value + 1]]
        place = np.searchsorted(within, low + point * (high - low), side="right") - 1
        place = np.clip(place, start[value], np.maximum(start[value + 1] - 1, 0))
        item = np.where(by_taste, grouped[place], np.minimum(item, num_items - 1))
        if attempt >= 20:
            # What a user likes is used up, or nearly so.
            item = random.integers(0, num_items, user.size)
        key = np.unique(np.concatenate([key, user * num_items + item]))
    return torch.from_numpy(key // num_items), torch.from_numpy(key % num_items)


def _make_features(
    value: np.ndarray,
    shown: np.ndarray,
    num_values: int,
    width: int,
    random: np.random.Generator,
) -> Tensor:
    """Sum a random vector for each value that is shown, and noise ``[N, width]``."""
    prototype = random.standard_normal((num_values, width)).astype(np.float32)
    x = np.zeros((len(value), width), dtype=np.float32)
    for k in range(value.shape[1]):
        x += shown[:, k, None] * prototype[value[:, k]]
    noise = random.standard_normal(x.shape, dtype=np.float32)
    x += shown.any(axis=1, keepdims=True) * noise
    return torch.from_numpy(x / np.sqrt(width, dtype=np.float32))


def _make_profiles(
    modality: str,
    values: dict[str, tuple[str, ...]],
    item_value: np.ndarray,
    second: np.ndarray,
    known: np.ndarray,
    error_rate: float,
    random: np.random.Generator,
) -> FactorProfiles:
    """What a reader makes of a modality: the known values, some of them wrong."""
    schema = FactorSchema(
        domain="synthetic outdoor and household goods",
        modality=modality,
        factors=[
            Factor(
                name=name,
                values=None if name == catalogue.BRAND else list(names),
                multiple=name == catalogue.MULTIPLE,
            )
            for name, names in values.items()
        ],
    )
    sizes = np.array([len(names) for names in values.values()])
    wrong = random.random(item_value.shape) < error_rate
    shift = (random.random(item_value.shape) * (sizes - 1)).astype(np.int64) + 1
    read = np.where(wrong, (item_value + shift) % sizes, item_value)
    item, factor = known.nonzero()
    value = read[item, factor]
    if len(second):
        k = list(values).index(catalogue.MULTIPLE)
        second = second[known[second[:, 0], k]]
        item = np.concatenate([item, second[:, 0]])
        factor = np.concatenate([factor, np.full(len(second), k)])
        value = np.concatenate([value, second[:, 1]])
    offsets = np.cumsum(sizes) - sizes
    names = np.array([name for group in values.values() for name in group], object)
    return FactorProfiles.from_assignments(
        schema,
        len(item_value),
        torch.from_numpy(item),
        torch.from_numpy(factor),
        names[offsets[factor] + value].tolist(),
    )


def _add_tastes(
    data: HeteroData,
    values: dict[str, tuple[str, ...]],
    taste: np.ndarray,
    strength: float,
) -> None:
    """Add the edges ``(user, prefers, value)``; a taste drawn twice weighs twice."""
    store = data["value"]
    node_of = {
        (store.factor_name[factor], name): node
        for node, (factor, name) in enumerate(
            zip(store.factor.tolist(), store.name, strict=True)
        )
    }
    # A brand that no profile names is no node.
    node = np.array(
        [node_of.get((f, n), -1) for f, names in values.items() for n in names]
    )[taste]
    user, place = (node >= 0).nonzero()
    edge_index = torch.from_numpy(np.stack([user, node[user, place]]))
    prefers = data["user", "prefers", "value"]
    edge_index, count = edge_index.unique(dim=1, return_counts=True)
    # As PyG makes it: its EdgeIndex takes no other.
    prefers.edge_index = edge_index.contiguous()
    prefers.edge_weight = count * (strength / taste.shape[1])
