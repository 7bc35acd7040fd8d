"""New items are raised to the share of the lists that the likes of them have."""

from math import log1p
from statistics import median

import pytest
import torch
from factor_data import make_data
from torch_geometric.transforms import ToSparseTensor

from mars_pyg import (
    BPR,
    AddItems,
    HeadedRecommender,
    Popularity,
    SyntheticFactorDataset,
)
from mars_pyg.content_digest import content_digests
from mars_pyg.heads import ScoreOffset
from mars_pyg.heads.build import build_heads
from mars_pyg.item_subset import take_items
from mars_pyg.nn import AddedItems
from mars_pyg.training import (
    fit,
    fit_head_weights,
    fit_new_item_weight,
    new_item_exposure,
    rank,
)
from mars_pyg.user_items import INTERACTS, UserItems


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exposure", [0.1, 1.0, 3.0, 100.0])
def test_the_weight_of_popularity_alone(monkeypatch, seed, exposure):
    # Item i is chosen by the users up to i; two places in a list.
    monkeypatch.setattr(new_item_exposure, "LENGTH", 2)
    pairs = [(u, i) for i in range(10) for u in range(i + 1)]
    data = make_data(11, 10, [0], [set()] * 10, pairs)
    recommender = HeadedRecommender(None, data, [Popularity(data)]).double()
    extended = make_data(11, 12, [0], [set()] * 12, pairs)
    weight = fit_new_item_weight(recommender, extended, exposure, seed)

    drawn = []
    draw = new_item_exposure._draw
    monkeypatch.setattr(
        new_item_exposure,
        "_draw",
        lambda *arguments: drawn.append(draw(*arguments)) or drawn[0],
    )
    assert fit_new_item_weight(recommender, extended, exposure, seed) == weight
    (taken,) = drawn[0].tolist()
    counts = [i + 1 for i in range(10) if i != taken]
    # float64, rounded as counts are.
    score = log1p(round(median(counts)))
    thresholds = []
    for u in range(10):
        unseen = sorted(
            (log1p(i + 1) for i in range(10) if i != taken and i < u), reverse=True
        )
        has_history = any(i >= u for i in range(10) if i != taken)
        if has_history and len(unseen) >= 2:
            thresholds.append(unseen[1] - score)
    places, share = 2 * len(thresholds), (taken + 1) / sum(range(1, 11))
    number = min(round(exposure * share * places), len(thresholds) - 1)
    assert weight == pytest.approx(sorted(thresholds)[number])


@pytest.mark.parametrize("with_base", [True, False])
def test_items_taken_out_get_the_share_of_places_that_they_had_of_interactions(
    monkeypatch, with_base
):
    data = SyntheticFactorDataset(num_users=300, num_items=120, seed=2)[0]
    torch.manual_seed(0)
    base = BPR(data, embedding_dim=8) if with_base else None
    recommender = HeadedRecommender(base, data, build_heads(data)).double()
    recommender.requires_grad_(False)
    extended = AddItems([{"id": "n", "product_type": "tent"}])(data.clone())
    draw, drawn = new_item_exposure._draw, []
    monkeypatch.setattr(
        new_item_exposure,
        "_draw",
        lambda *arguments: drawn.append(draw(*arguments)) or drawn[0],
    )
    weight = fit_new_item_weight(recommender, extended)
    out = drawn[0]
    kept = torch.tensor([i for i in range(120) if i not in out.tolist()])
    before, after = take_items(data, kept), take_items(data, torch.cat([kept, out]))
    after[INTERACTS].edge_index = before[INTERACTS].edge_index
    # Of the new item nothing is known but one factor of the texts.
    for modality in ("text", "image"):
        after["item"][f"x_{modality}"][kept.numel() :] = 0
        item, value = after["item", f"{modality}_value", "value"].edge_index
        known = data["value"].factor[value] == data["value"].factor_name.index(
            "product_type"
        )
        left = (item < kept.numel()) | (known & (modality == "text"))
        relation = after["item", f"{modality}_value", "value"]
        relation.edge_index = torch.stack([item, value])[:, left]
    # The same by a recommender of the items that are left, to which those are added.
    heads = [h.keep_items(before, kept) for h in recommender.head_list()]
    model = None
    if base is not None:
        model = BPR(before, embedding_dim=8).double()
        users, items = base()
        model.user_embedding.weight.data = users.clone()
        model.item_embedding.weight.data = items[kept].clone()
        assert isinstance(model.add_items(after), AddedItems)
    again = HeadedRecommender(model, before, heads).add_items(after, exposure=0.0)
    seen = UserItems.from_data(before, "train")
    user = seen.count.nonzero().view(-1)
    score = again.score(user, again())
    score[:, kept.numel() :] += weight + 1e-9
    score[seen.take(user).rows(), seen.take(user).item] = -torch.inf
    places = (score.topk(20, dim=1).indices >= kept.numel()).sum().item()
    train = data[INTERACTS].edge_index[1]
    share = torch.isin(train, out).double().mean().item()
    # The one that the quantile falls on is in.
    assert places == round(share * 20 * user.numel()) + 1


def test_items_are_drawn_among_those_described_as_new_ones_are():
    data = SyntheticFactorDataset(num_users=60, num_items=100)[0]
    store = data["item", "text_value", "value"]
    item, value = store.edge_index
    store.edge_index = torch.stack([item, value])[:, item < 50]
    del data["item", "image_value", "value"]
    popularity = torch.ones(100, dtype=torch.int64)
    popularity[:20] = 0
    draw = new_item_exposure._draw

    def drawn(rows):
        graph = AddItems(rows)(data.clone())
        return draw(graph, popularity, torch.Generator().manual_seed(0)).tolist()

    with_values = drawn([{"id": "n", "product_type": "tent"}])
    assert len(with_values) == 3
    assert all(20 <= i < 50 for i in with_values)
    without = drawn([{"id": "n"}])
    assert len(without) == 8
    assert any(i >= 50 for i in without)
    assert all(i >= 20 for i in without)


def test_where_there_is_nothing_to_learn_from_nothing_is_added():
    data = make_data(3, 4, [0], [set()] * 4, [])
    recommender = HeadedRecommender(None, data, [Popularity(data)])
    extended = make_data(3, 5, [0], [set()] * 5, [])
    assert fit_new_item_weight(recommender, extended) == 0.0
    # All lists are short.
    pairs = [(u, i) for u in range(3) for i in range(10)]
    data = make_data(3, 10, [0], [set()] * 10, pairs)
    recommender = HeadedRecommender(None, data, [Popularity(data)])
    extended = make_data(3, 11, [0], [set()] * 11, pairs)
    assert fit_new_item_weight(recommender, extended) == 0.0


@pytest.mark.parametrize("described", [(), ("text",), ("text", "image", "values")])
def test_items_taken_out_are_described_as_new_ones_are(described):
    data = SyntheticFactorDataset(800, 200, 8_000, num_factors=3, seed=1)[0]
    recommender = HeadedRecommender(None, data, build_heads(data))
    fit_head_weights(recommender, data)
    # The new items are copies, of which less is known.
    train = data[INTERACTS].edge_index
    count = torch.bincount(train[1], minlength=200)
    copied = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:20]
    extended = AddItems(
        [{"id": f"new{i}"} for i in range(20)],
        features={
            name: data["item"][f"x_{name}"][copied] * (name in described)
            for name in ("text", "image")
        },
    )(data.clone())
    if "values" in described:
        for kind in ("text_value", "image_value"):
            edges = data["item", kind, "value"].edge_index
            place = torch.full((200,), -1)
            place[copied] = torch.arange(200, 220)
            own = torch.stack([place[edges[0]], edges[1]])[:, place[edges[0]] >= 0]
            relation = extended["item", kind, "value"]
            relation.edge_index = torch.cat([edges, own], dim=1)
    after = recommender.add_items(extended)
    user = torch.arange(800)
    seen = UserItems.from_data(extended, "train")
    items = torch.cat([item for *_, item in rank(after, user, 20, seen)])
    share = float((items >= 200).double().mean())
    expected = float(count[copied].sum() / count.sum())
    assert 0.4 * expected < share < 2.5 * expected


def test_graphs_after_to_sparse_tensor_train_and_take_new_items():
    data = SyntheticFactorDataset(60, 40, 600, num_factors=2, seed=1)[0]
    sparse = ToSparseTensor(layout=torch.sparse_csr, fill_cache=False)(data.clone())
    fit(BPR(sparse, 4), sparse, max_epochs=1, progress=False)
    name = data["value"].factor_name[0]
    scores = []
    for graph in (data, sparse):
        heads = build_heads(graph)
        assert content_digests(graph, heads)
        offset = ScoreOffset(data, heads, num_folds=2)
        assert torch.equal(
            ScoreOffset(graph, heads, num_folds=2).positive, offset.positive
        )
        recommender = HeadedRecommender(None, graph, heads)
        new = [{"id": "new", name: data["value"].name[0]}]
        after = recommender.add_items(AddItems(new, modality="text")(graph))
        scores.append(after.score(torch.arange(60), after()))
    torch.testing.assert_close(*scores)
