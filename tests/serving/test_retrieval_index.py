"""The folded inner product is the score of the recommender with its heads."""

from __future__ import annotations

import pytest
import torch
from factor_data import make_data, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from served_data import make_recommender

from mars_pyg import BPR, AddItems, HeadedRecommender, LightGCN, Popularity
from mars_pyg.heads.build import HEADS, build_heads
from mars_pyg.serving import RetrievalIndex
from mars_pyg.user_items import UserItems

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def assert_same_scores(recommender, data, users, dtype):
    index = RetrievalIndex.from_recommender(recommender, data)
    representations = recommender()
    history = UserItems.from_data(data, "train").take(users)
    vectors = index.user_vectors(history, representations[0][users])
    expected = recommender.score(users, representations)
    score = index.score(vectors)
    assert score.dtype == dtype
    torch.testing.assert_close(
        score, expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )
    # One inner product, written out with all columns.
    dense = vectors.dense.new_zeros(len(users), index.ptr.numel() - 1)
    dense.index_put_((vectors.row, vectors.column), vectors.value, accumulate=True)
    queries = torch.cat([vectors.dense, dense], dim=1)
    column = torch.arange(index.ptr.numel() - 1)
    items = index.densify(column).dense
    torch.testing.assert_close(
        queries @ items.t(), expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize(
    "heads", [HEADS, ("affinity",), ("ease",), ("popularity",), ("similarity",)]
)
def test_equals_the_score_with_heads(data, dtype, with_base, heads):
    recommender = make_recommender(data, with_base, heads).to(dtype)
    assert_same_scores(recommender, data, torch.tensor([3, 0, 149, 77]), dtype)


@settings(deadline=None, max_examples=30)
@given(problems(), st.booleans())
def test_equals_the_score_whatever_the_data(problem, with_base):
    data = make_data(*problem)
    heads = (
        HEADS if data["item", "text_value", "value"].edge_index.numel() else HEADS[1:]
    )
    recommender = make_recommender(data, with_base, heads).double()
    assert_same_scores(recommender, data, torch.arange(problem[0]), torch.float64)


def test_a_recommender_without_heads_and_data_without_values(data):
    torch.manual_seed(0)
    model = LightGCN(data, embedding_dim=8).double().requires_grad_(False)
    assert_same_scores(model, data, torch.arange(5), torch.float64)
    plain = data.clone()
    del plain["value"], plain["item", "text_value", "value"]
    del plain["item", "image_value", "value"]
    recommender = make_recommender(plain).double()
    assert list(recommender.heads) == ["ease", "popularity", "similarity"]
    assert_same_scores(recommender, plain, torch.arange(5), torch.float64)


def test_a_history_scores_as_the_heads_say(data):
    recommender = make_recommender(data).double()
    index = RetrievalIndex.from_recommender(recommender, data)
    history = UserItems(torch.tensor([0, 3, 3]), torch.tensor([5, 8, 70]), 80)
    score = index.score(index.user_vectors(history))
    expected = index.fold_in(history) @ recommender()[1].t()
    for head in recommender.head_list():
        expected = expected + head.score(history)
    torch.testing.assert_close(score, expected, atol=1e-10, rtol=1e-10)
    # Of an empty history there is the popularity alone.
    popularity = recommender.heads["popularity"].score(history)[1]
    torch.testing.assert_close(score[1], popularity)


@pytest.mark.parametrize("weight", [1e-3, 0.3, 1.0, 30.0, -1.0])
@pytest.mark.parametrize("k", [1, 10, 80, 100])
def test_a_search_finds_the_best_scores(data, weight, k):
    recommender = make_recommender(data).double()
    recommender.heads["similarity"].weight.data.fill_(weight)
    index = RetrievalIndex.from_recommender(recommender, data)
    train = UserItems.from_data(data, "train")
    for u in range(30):
        history = train.take(torch.tensor([u]))
        users = index.user_vectors(history)
        expected = index.score(users)[0]
        expected[history.item] = -torch.inf
        expected = expected.topk(min(k, 80))
        mask = torch.zeros(80, dtype=torch.bool)
        mask[history.item] = True
        for left_out in (history.item, mask):
            score, item = index.search(users, k, left_out)
            torch.testing.assert_close(score, expected.values)
            known = score > -torch.inf
            assert torch.equal(item[known], expected.indices[known])


def test_new_items_are_served_and_fold_in_users(data):
    recommender = make_recommender(data).double()
    rows = [{"id": "n1", "product_type": "tent"}, {"id": "n2", "brand": "Unheard Of"}]
    extended = AddItems(rows)(data)
    after = recommender.add_items(extended).double()
    assert_same_scores(after, extended, torch.arange(20), torch.float64)
    # An item says what it said, a new one what those that it is like say.
    before = RetrievalIndex.from_recommender(recommender, data).fold_in.item
    item = RetrievalIndex.from_recommender(after, extended).fold_in.item
    torch.testing.assert_close(item[:80], before)
    neighbors = after.base.neighbor[0][after.base.like[0]]
    torch.testing.assert_close(item[80], before[neighbors].mean(dim=0))
    # The other is like none.
    assert not after.base.like[1].any()
    assert not item[81].any()
    # The best of all, however far they are raised.
    after.heads["new"].weight.data.fill_(1e3)
    index = RetrievalIndex.from_recommender(after, extended)
    history = after.history.take(torch.tensor([0]))
    found = index.search(index.user_vectors(history), 2, history.item)[1]
    assert sorted(found.tolist()) == [80, 81]


def test_tensors_are_the_index(data):
    index = RetrievalIndex.from_recommender(make_recommender(data), data)
    again = RetrievalIndex.from_tensors(index.tensors())
    history = UserItems(torch.tensor([0, 2]), torch.tensor([1, 2]), 80)
    assert torch.equal(
        index.score(index.user_vectors(history)),
        again.score(again.user_vectors(history)),
    )


def test_an_export_of_before_new_items_were_raised_is_read(data):
    index = RetrievalIndex.from_recommender(make_recommender(data), data)
    state = index.tensors()
    del state["new_item_weight"]
    history = UserItems(torch.tensor([0, 2]), torch.tensor([1, 2]), 80)
    again = RetrievalIndex.from_tensors(state)
    assert torch.equal(
        index.score(index.user_vectors(history)),
        again.score(again.user_vectors(history)),
    )


def test_what_is_no_inner_product_is_refused(data):
    class Own(BPR):
        def score(self, user, representations):
            return -super().score(user, representations)

    class Other(Popularity):
        name = "other"

    with pytest.raises(ValueError, match="Own scores in a way of its own"):
        RetrievalIndex.from_recommender(Own(data, embedding_dim=4), data)
    heads = [*build_heads(data, heads=["affinity"]), Other(data)]
    with pytest.raises(ValueError, match="the head 'other' cannot be folded"):
        RetrievalIndex.from_recommender(HeadedRecommender(None, data, heads), data)
