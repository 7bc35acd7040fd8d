"""The heads in the loss of a model: what they say of a triplet, unseen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg import EASE, MARS, LightGCN, SyntheticFactorDataset
from mars_pyg.heads import HeadedRecommender, ScoreHead, ScoreOffset
from mars_pyg.heads.build import build_heads
from mars_pyg.training import fit
from mars_pyg.user_items import INTERACTS, UserItems

NUM_USERS, NUM_ITEMS, FOLDS = 30, 20, 3


@pytest.fixture
def data() -> HeteroData:
    return SyntheticFactorDataset(NUM_USERS, NUM_ITEMS)[0]


def make_heads(data: HeteroData) -> list[ScoreHead]:
    heads = build_heads(data, ["affinity", "ease", "popularity"], ease_l2=5.0)
    generator = torch.Generator().manual_seed(0)
    for head in heads:
        head.weight.data = torch.randn(head.weight.shape, generator=generator)
    return heads


def make_triplets(data: HeteroData) -> tuple[Tensor, Tensor, Tensor]:
    """Each train interaction, and an item that its user has not chosen."""
    user, positive = data[INTERACTS].edge_index
    chosen = set(zip(user.tolist(), positive.tolist(), strict=True))
    negative = [
        next(
            j % NUM_ITEMS
            for j in range(i, i + NUM_ITEMS)
            if (u, j % NUM_ITEMS) not in chosen
        )
        for u, i in zip(user.tolist(), positive.tolist(), strict=True)
    ]
    return user, positive, torch.tensor(negative)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_of_a_graph_on_a_gpu(data: HeteroData) -> None:
    heads, triplets = make_heads(data), make_triplets(data)
    wanted = ScoreOffset(data, heads, num_folds=FOLDS)(*triplets)
    offset = ScoreOffset(data.clone().cuda(), heads, num_folds=FOLDS)
    torch.testing.assert_close(offset(*triplets), wanted)


def test_as_one_triplet_at_a_time(data: HeteroData) -> None:
    affinity, ease, popularity = heads = make_heads(data)
    offset = ScoreOffset(data, heads, 0.5, FOLDS)
    triplets = make_triplets(data)
    found = offset(*triplets)
    edges = data[INTERACTS].edge_index
    count = torch.bincount(edges[1], minlength=NUM_ITEMS)
    solutions = []
    for fold in range(FOLDS):
        others = data.clone()
        others[INTERACTS].edge_index = edges[:, offset.fold[edges[0]] != fold]
        solutions.append(EASE(NUM_ITEMS, 5.0).fit(others))
    assert len(set(offset.fold.tolist())) == FOLDS
    for place, (u, i, j) in enumerate(zip(*triplets, strict=True)):
        own = edges[1, edges[0] == u].unique()
        whole, rest = (
            UserItems(torch.tensor([0, x.numel()]), x, NUM_ITEMS)
            for x in (own, own[own != i])
        )
        with torch.no_grad():
            wanted = affinity.score(rest)[0, i] - affinity.score(whole)[0, j]
            score = solutions[int(offset.fold[u])].score(whole)[0] * ease.weight
            gain = math.log1p(int(count[i]) - 1) - math.log1p(int(count[j]))
            wanted += score[i] - score[j] + popularity.weight[0] * gain
        assert float(found[place]) == pytest.approx(0.5 * float(wanted), abs=1e-5)
    # In any order, and more than once; with the weights of before.
    for head in heads:
        head.weight.data.zero_()
    order = torch.randint(found.numel(), (100,))
    again = offset(*(x[order] for x in triplets))
    torch.testing.assert_close(again, found[order])


def test_ease_has_not_seen_its_users(data: HeteroData) -> None:
    offset = ScoreOffset(data, make_heads(data), num_folds=FOLDS)
    edges = data[INTERACTS].edge_index
    changed = data.clone()
    is_changed = offset.fold[edges[0]] == 1
    moved = torch.where(is_changed, (edges[1] + 1) % NUM_ITEMS, edges[1])
    changed[INTERACTS].edge_index = torch.stack([edges[0], moved])
    again = ScoreOffset(changed, make_heads(data), num_folds=FOLDS)
    same = [
        torch.equal(first.value, second.value)
        for (first,), (second,) in zip(offset.fold_heads, again.fold_heads, strict=True)
    ]
    assert same == [False, True, False]


@pytest.mark.parametrize("model_class", [LightGCN, MARS])
def test_the_loss_knows_the_heads(
    model_class: type[LightGCN], data: HeteroData
) -> None:
    options = {"semantic_weight": 0.0, "view_weight": 0.0, "item_graphs": "factors"}
    model = model_class(
        data, regularization=0.0, **(options if model_class is MARS else {})
    )
    triplets = make_triplets(data)
    users, items = model()
    difference = (users[triplets[0]] * (items[triplets[1]] - items[triplets[2]])).sum(1)
    plain = -difference.sigmoid().log().mean()
    torch.testing.assert_close(model.loss(*triplets)["loss"], plain)
    heads = make_heads(data)
    model.score_offset = ScoreOffset(data, heads, 0.7)
    loss = model.loss(*triplets)["loss"]
    wanted = -(difference + model.score_offset(*triplets)).sigmoid().log().mean()
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert model.user_embedding.weight.grad is not None
    assert all(head.weight.grad is None for head in heads)
    assert not any("offset" in name for name in model.state_dict())


def test_what_the_heads_explain_is_not_learned_again(data: HeteroData) -> None:
    """A model beside heads that know the answers stays where it was."""

    def moved(scale: float) -> float:
        torch.manual_seed(0)
        model = LightGCN(data, regularization=0.0)
        heads = make_heads(data)
        for head in heads:
            head.requires_grad_(False)
        offset = ScoreOffset(data, heads, scale)
        offset.positive.fill_(1000.0)
        model.score_offset = offset
        weight = model.item_embedding.weight.detach()
        before = weight.clone()
        joint = HeadedRecommender(model, data, heads)
        fit(joint, data, max_epochs=2, accelerator="cpu", progress=False)
        return float((weight - before).abs().max())

    assert moved(1.0) < 1e-6 < 1e-3 < moved(0.0)


def test_users_without_items(data: HeteroData) -> None:
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, edges[0] > 3]
    offset = ScoreOffset(data, make_heads(data), num_folds=2)
    assert offset(*make_triplets(data)).isfinite().all()
    data[INTERACTS].edge_index = edges[:, :0]
    empty = ScoreOffset(data, make_heads(data))
    none = torch.empty(0, dtype=torch.int64)
    assert empty(none, none, none).shape == (0,)


def test_refusals(data: HeteroData) -> None:
    heads = make_heads(data)
    with pytest.raises(ValueError, match="'num_folds' must be at least 2"):
        ScoreOffset(data, heads, num_folds=1)
    with pytest.raises(ValueError, match="'scale' must not be negative"):
        ScoreOffset(data, heads, scale=-1.0)
    user, positive, negative = make_triplets(data)
    with pytest.raises(ValueError, match="must hold train interactions"):
        ScoreOffset(data, heads)(user, negative, positive)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_default_precision_changes_nothing(
    data: HeteroData, dtype: torch.dtype
) -> None:
    offset = ScoreOffset(data, make_heads(data), 0.5, FOLDS)
    triplets = make_triplets(data)
    expected = offset(*triplets)
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(offset(*triplets), expected)
    finally:
        torch.set_default_dtype(torch.float32)
