"""How far new items have to be raised to be recommended as often as others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.edge_forms import edges_of
from mars_pyg.heads import HeadedRecommender, ScoreHead
from mars_pyg.item_subset import take_items
from mars_pyg.item_values import item_value_edges
from mars_pyg.modalities import feature_modalities
from mars_pyg.nn.added_items import NUM_NEIGHBORS, represent_by_neighbors
from mars_pyg.nn.item_similarity import similar_items
from mars_pyg.training.evaluation import MAX_SCORES, compute_representations
from mars_pyg.user_items import INTERACTS, UserItems

#: The share of the items that are taken out, and their largest number.
SHARE, MAX_ITEMS = 0.1, 2_000
#: Users whose lists are looked at, and the length of the lists.
NUM_USERS, LENGTH = 2_000, 20


@torch.no_grad()
def fit_new_item_weight(
    recommender: HeadedRecommender,
    data: HeteroData,
    exposure: float = 1.0,
    seed: int = 0,
) -> float:
    r"""Finds what to add to the scores of new items.

    A tenth of the known items, drawn at random, are taken out of all histories and
    added again as new ones, which nothing is trained for. Of the best lists of
    :math:`K = 20` items for the users :math:`\mathcal{U}`, they get the share that they
    have of the train interactions, :math:`\rho`, times :obj:`exposure`:

    .. math::
        \frac{1}{K | \mathcal{U} |} \sum_u \sum_{j=1}^K [t_{uj} < b] =
        \textrm{exposure} \cdot \rho, \qquad t_{uj} = w_{u, K + 1 - j} - c_{uj}

    for the :math:`j`-th largest score of a known item :math:`w_{uj}` and of one that
    was taken out :math:`c_{uj}`, which is in the list if it is above the place that it
    takes. So :math:`b` is a quantile of :math:`t`. Nothing that is known of the new
    items is read but what they are described by: those taken out are drawn among items
    with factor values, and features of a modality, where most of the new ones have
    them, and keep values of a factor, and features, as seldom as the new ones have
    them. Validation and test interactions are not read.

    Args:
        recommender: The recommender of the known items.
        data: The graph with new items after them.
        exposure: How often new items are recommended, relative to how often the likes
            of them are chosen. (default: :obj:`1.0`)
        seed: Of the draw of the items and users. (default: :obj:`0`)

    Returns:
        :math:`b`; zero where there is nothing to learn it from.
    """
    generator = torch.Generator().manual_seed(seed)
    known = take_items(data, torch.arange(recommender.num_items))
    train = UserItems.from_data(known, "train")
    popularity = torch.bincount(train.item, minlength=train.num_items).cpu()
    drawn = _draw(data, popularity, generator)
    rest = torch.ones(recommender.num_items, dtype=torch.bool)
    rest[drawn] = False
    kept = rest.nonzero().view(-1)
    if not (drawn.numel() and kept.numel()):
        return 0.0
    before, after = take_items(known, kept), take_items(known, torch.cat([kept, drawn]))
    # Those taken out come last; without their interactions they are new.
    after[INTERACTS].edge_index = before[INTERACTS].edge_index
    _describe_alike(data, recommender.num_items, after, kept.numel(), generator)
    heads = [
        head.keep_items(before, kept).add_items(after)
        for head in recommender.head_list()
    ]
    users, items = _representations(recommender, after, kept)
    history = UserItems.from_data(after, "train")
    user = history.count.nonzero().view(-1)
    order = torch.randperm(user.numel(), generator=generator)
    threshold = _thresholds(
        users, items, heads, history, user[order[:NUM_USERS]], kept.numel()
    )
    # Lists of users who have chosen nearly everything say nothing.
    threshold = threshold[threshold.isfinite().all(dim=1)]
    places = threshold.size(0) * min(LENGTH, kept.numel())
    share = float(popularity[drawn].sum() / popularity.sum())
    entries = threshold.flatten().sort().values
    if not entries.numel():
        return 0.0
    return float(entries[min(round(exposure * share * places), entries.numel() - 1)])


def _draw(data: HeteroData, popularity: Tensor, generator: torch.Generator) -> Tensor:
    """Known items that are described as most of the new ones are, sorted."""
    num_known, num_items = popularity.numel(), data["item"].num_nodes
    eligible = popularity > 0
    described = [
        (data["item"][f"x_{modality}"] != 0).any(dim=1).cpu()
        for modality in feature_modalities(data)
    ]
    if "value" in data.node_types:
        has_value = torch.zeros(num_items, dtype=torch.bool)
        has_value[item_value_edges(data)[0].cpu()] = True
        described.append(has_value)
    for has in described:
        if has[num_known:].double().mean() > 0.5:
            eligible = eligible & has[:num_known]
    item = eligible.nonzero().view(-1)
    number = min(round(SHARE * item.numel()), MAX_ITEMS)
    order = torch.randperm(item.numel(), generator=generator)
    return item[order[:number]].sort().values


def _describe_alike(
    data: HeteroData,
    num_known: int,
    after: HeteroData,
    num_kept: int,
    generator: torch.Generator,
) -> None:
    """Leave the last items of a graph what new items have, and as often.

    Args:
        data: The graph with the new items after the known ones.
        num_known: The number of the known ones.
        after: The graph that is changed, of which the last items stand for new ones.
        num_kept: The number of the others.
        generator: What it is drawn with.
    """
    # One number an item: those that are described by little lack all of it together.
    draw = torch.rand(after["item"].num_nodes - num_kept, generator=generator)[:, None]

    def is_left(wanted: Tensor, there: Tensor) -> Tensor:
        ratio = wanted.double().mean(dim=0) / there.double().mean(dim=0).clamp(min=1e-9)
        return draw < ratio

    for modality in feature_modalities(data):
        wanted = (data["item"][f"x_{modality}"][num_known:] != 0).any(dim=1).cpu()
        x = after["item"][f"x_{modality}"][num_kept:]
        there = (x != 0).any(dim=1).cpu()
        left = is_left(wanted[:, None], there[:, None])
        x.masked_fill_(~left.to(x.device), 0)
    for edge_type in after.edge_types:
        if (edge_type[0], edge_type[2]) != ("item", "value"):
            continue
        wanted, _ = _has_factor(data, edge_type, num_known)
        there, factor = _has_factor(after, edge_type, num_kept)
        edges = after[edge_type].edge_index
        left = torch.ones(after["item"].num_nodes, there.size(1), dtype=torch.bool)
        left[num_kept:] = is_left(wanted, there)
        kept = left[edges[0].cpu(), factor].to(edges.device)
        after[edge_type].edge_index = edges[:, kept]


def _has_factor(
    data: HeteroData, edge_type: tuple[str, str, str], first: int
) -> tuple[Tensor, Tensor]:
    """Which factors the last items have any of ``[M, K]``, and each edge's ``[E]``."""
    item, value = edges_of(data[edge_type]).cpu()
    store = data["value"]
    factor = store.factor.cpu()[value]
    has = torch.zeros(data["item"].num_nodes, len(store.factor_name), dtype=torch.bool)
    has[item, factor] = True
    return has[first:], factor


def _representations(
    recommender: HeadedRecommender, after: HeteroData, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Those of the users, and of the items, of which those taken out come last."""
    users, items = compute_representations(recommender)
    items = items[kept.to(items.device)]
    if recommender.base is None:
        return users, items.new_zeros(after["item"].num_nodes, 0)
    near = similar_items(after, kept.numel(), NUM_NEIGHBORS)
    neighbor, like = (x.to(items.device) for x in near)
    return users, torch.cat([items, represent_by_neighbors(items, neighbor, like)])


def _thresholds(
    users: Tensor,
    items: Tensor,
    heads: list[ScoreHead],
    history: UserItems,
    user: Tensor,
    num_known: int,
) -> Tensor:
    """What each place of the lists takes for an item at the end to be in it."""
    history, user = history.to(users.device), user.to(users.device)
    length = min(LENGTH, num_known)
    reach = min(length, items.size(0) - num_known)
    found = [users.new_empty(0, reach)]
    for chunk in user.split(max(1, MAX_SCORES // items.size(0))):
        score = users[chunk] @ items.t()
        own = history.take(chunk)
        for head in heads:
            score += head.score(own)
        score[own.rows(), own.item] = -torch.inf
        known = score[:, :num_known].topk(length, dim=1).values.flip(1)
        new = score[:, num_known:].topk(reach, dim=1).values
        found.append(known[:, :reach] - new)
    return torch.cat(found)
