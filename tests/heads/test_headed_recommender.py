"""A recommender with heads scores the sum of its parts."""

import pytest
import torch
from factor_data import make_data

from mars_pyg import (
    BPR,
    AddItems,
    DataError,
    FactorAffinity,
    HeadedRecommender,
    LightGCN,
    Popularity,
    SyntheticFactorDataset,
    evaluate,
    explain,
    recommend,
)
from mars_pyg.heads import ScoreHead
from mars_pyg.heads.build import HEADS, build_heads
from mars_pyg.item_subset import take_items
from mars_pyg.serving.export import fold
from mars_pyg.training import fit_head_weights
from mars_pyg.training.candidate_pool import CandidatePool
from mars_pyg.training.head_weights import maximum_likelihood
from mars_pyg.user_items import UserItems


@pytest.fixture(scope="module")
def data():
    return SyntheticFactorDataset(num_users=150, num_items=80, seed=1)[0]


def make_recommender(data, with_base=True):
    torch.manual_seed(0)
    base = BPR(data, embedding_dim=8) if with_base else None
    recommender = HeadedRecommender(base, data, build_heads(data))
    for head in recommender.head_list():
        head.weight.data.uniform_(0.1, 1.0)
    return recommender.requires_grad_(False)


def test_a_score_is_the_sum_of_the_base_and_the_heads(data):
    recommender = make_recommender(data)
    user = torch.tensor([3, 0, 149])
    score = recommender.score(user, recommender())
    users, items = recommender.base()
    expected = users[user] @ items.t()
    history = UserItems.from_data(data, "train").take(user)
    row, item = torch.cartesian_prod(torch.arange(3), torch.arange(80)).t()
    for head in recommender.head_list():
        expected = expected + head(history, row, item).view(3, 80)
    torch.testing.assert_close(score, expected, atol=1e-5, rtol=1e-5)


def test_heads_alone_and_what_is_refused(data):
    recommender = make_recommender(data, with_base=False)
    assert set(recommender.heads) == set(HEADS)
    assert evaluate(recommender, data, "val")["recall@20"] > 0
    with pytest.raises(ValueError, match="no base"):
        recommender.loss(*[torch.tensor([0])] * 3)
    with pytest.raises(ValueError, match="a base or a head"):
        HeadedRecommender(None, data, [])
    with pytest.raises(ValueError, match="different classes"):
        HeadedRecommender(None, data, [Popularity(data), Popularity(data)])
    with pytest.raises(ValueError, match="'heads' must be some of"):
        build_heads(data, heads=["affinity", "magic"])


def test_popularity_is_the_logarithm_of_the_train_interactions():
    data = make_data(2, 3, [0], [set()] * 3, [(0, 0), (0, 0), (1, 0), (1, 2)])
    head = Popularity(data).requires_grad_(False)
    history = UserItems.from_data(data, "train")
    expected = torch.tensor([2.0, 0.0, 1.0]).log1p()
    torch.testing.assert_close(head.score(history), expected.expand(2, 3))
    leave_out = torch.tensor([True, False])
    pair = head(history, torch.tensor([0, 0]), torch.tensor([0, 0]), leave_out)
    torch.testing.assert_close(pair, torch.tensor([1.0, 2.0]).log1p())


def test_a_pool_ranks_as_the_full_ranking_does(data):
    recommender = make_recommender(data)
    # All items are candidates, so that the recall is the exact one.
    pool = CandidatePool.from_recommender(recommender, data, num_candidates=80)
    before = [head.weight.clone() for head in recommender.head_list()]
    raw = torch.cat([torch.ones(1), *before])
    recall = pool.recall(raw * pool.deviation, 10)
    assert recall == pytest.approx(evaluate(recommender, data, "val")["recall@10"])
    torch.testing.assert_close(pool.to_raw(raw * pool.deviation), raw[1:])
    assert all(
        torch.equal(head.weight, weight)
        for head, weight in zip(recommender.head_list(), before, strict=True)
    )


def test_the_likelihood_of_a_hand_worked_pool():
    pool = CandidatePool(
        parts=torch.tensor([[[1.0], [2.0], [9.0]]]),
        valid=torch.tensor([[True, True, False]]),
        row=torch.tensor([0, 0]),
        positive=torch.tensor([[2.0], [0.5]]),
        found=torch.tensor([True, False]),
        deviation=torch.ones(1),
    )
    total = torch.tensor([1.0, 2.0]).logsumexp(0)
    loss = pool.negative_log_likelihood(torch.ones(1))
    torch.testing.assert_close(loss, total - 2.0)
    assert pool.recall(torch.ones(1), 1) == 0.5
    assert pool.recall(-torch.ones(1), 1) == 0.5
    assert pool.recall(-torch.ones(1), 2) == 1.0


def test_a_part_that_is_the_same_everywhere_but_for_rounding_has_no_weight(data):
    class Constant(Popularity):
        name = "constant"

        def pair_parts(self, history, row, item, leave_out=None):
            return 900 + 1e-4 * (item % 3)[:, None]

    heads = [Constant(data), Popularity(data)]
    recommender = HeadedRecommender(BPR(data, embedding_dim=8), data, heads)
    pool = CandidatePool.from_recommender(recommender, data)
    assert (pool.deviation > 0).tolist() == [True, False, True]
    heads[0].parts = ["constant"]
    weights = fit_head_weights(recommender, data)
    first, second = recommender.head_list()
    assert first.weight.item() == weights["constant"] == 0
    assert second.weight.item() != 0
    assert weights["popularity"] != 0
    assert weights["model"] > 0


def test_weights_of_heads_alone_and_of_a_model_that_says_nothing(data):
    alone = HeadedRecommender(None, data, build_heads(data, heads=["popularity"]))
    assert list(fit_head_weights(alone, data)) == ["popularity"]
    base = BPR(data, embedding_dim=8).requires_grad_(False)
    base.item_embedding.weight.zero_()
    heads = build_heads(data, heads=["popularity"])
    recommender = HeadedRecommender(base, data, heads)
    weights = fit_head_weights(recommender, data)
    assert weights["model"] == 0
    assert weights["popularity"] != 0


class StepError(Exception):
    """Raised in the place of a step."""


def test_weights_are_fitted_where_the_pool_is(monkeypatch):
    class Optimizer:
        def __init__(self, weights, **options):
            (self.weight,) = weights

        def step(self, closure):
            assert self.weight.device.type == "meta"
            assert self.weight.requires_grad
            raise StepError

    monkeypatch.setattr("torch.optim.LBFGS", Optimizer)
    with torch.device("meta"):
        pool = CandidatePool(
            parts=torch.ones(2, 3, 4),
            valid=torch.ones(2, 3, dtype=torch.bool),
            row=torch.zeros(2, dtype=torch.int64),
            positive=torch.ones(2, 4),
            found=torch.ones(2, dtype=torch.bool),
            deviation=torch.ones(4),
        )
    with pytest.raises(StepError):
        maximum_likelihood(pool)


@pytest.mark.filterwarnings("ignore:for .*is a no-op")
def test_heads_are_where_the_base_is(data):
    base = BPR(data, embedding_dim=8).to("meta")
    recommender = HeadedRecommender(base, data, build_heads(data))
    affinity = recommender.heads["affinity"]
    found = [*recommender.parameters(), *recommender.buffers(), affinity.share]
    history = recommender.history
    found += [history.ptr, history.item, affinity._item_values.item]
    assert {x.device.type for x in found} == {"meta"}
    # What is loaded is brought there too.
    recommender.heads.load_state_dict(make_recommender(data).heads.state_dict())
    assert {x.device.type for x in recommender.buffers()} == {"meta"}


def test_the_best_candidates_of_a_pool():
    pool = CandidatePool(
        parts=torch.tensor([[[1.0], [2.0], [9.0], [3.0]]]),
        valid=torch.tensor([[True, True, False, True]]),
        row=torch.tensor([0, 0]),
        positive=torch.tensor([[2.0], [1.0]]),
        found=torch.tensor([True, True]),
        deviation=torch.ones(1),
    )
    best = pool.best(torch.ones(1), 2)
    assert best.valid.tolist() == [[False, True, False, True]]
    assert best.found.tolist() == [True, False]
    worst = pool.best(-torch.ones(1), 1)
    assert worst.valid.tolist() == [[True, False, False, False]]
    assert worst.found.tolist() == [False, True]


def test_fitted_weights_improve_the_validation_and_are_the_same_each_time(data):
    recommender = make_recommender(data)
    before = evaluate(recommender, data, "val")["recall@20"]
    weights = fit_head_weights(recommender, data)
    assert list(weights) == ["model", *recommender.part_names]
    after = evaluate(recommender, data, "val")["recall@20"]
    assert after > before
    again = make_recommender(data)
    assert fit_head_weights(again, data) == weights
    # The test split is not read.
    changed = data.clone()
    changed["user", "interacts", "item"].test_edge_index = torch.tensor([[0], [0]])
    assert fit_head_weights(make_recommender(data), changed) == weights


def test_a_copy_moves_and_loads(data):
    recommender = make_recommender(data)
    other = make_recommender(data).double()
    other.load_state_dict(recommender.state_dict())
    user = torch.arange(5)
    torch.testing.assert_close(
        other.score(user, other()).float(),
        recommender.score(user, recommender()),
        atol=1e-4,
        rtol=1e-4,
    )


NEW = [
    {"id": "n1", "product_type": "tent", "material": ["nylon", "wool"]},
    {"id": "n2", "brand": "Unheard Of"},
    {"id": "n3"},
]


@pytest.mark.parametrize("with_base", [True, False])
def test_new_items_are_scored_at_once_and_the_others_as_before(data, with_base):
    recommender = make_recommender(data, with_base)
    before = data.clone()
    extended = AddItems(NEW)(data)
    after = recommender.add_items(extended)
    assert after.num_items == 83
    assert after.part_names == [*recommender.part_names, "new item"]
    user = torch.arange(150)
    old = recommender.score(user, recommender())
    new = after.score(user, after())
    assert new.shape == (150, 83)
    # Also where an open vocabulary has got a value.
    torch.testing.assert_close(new[:, :80], old)
    assert torch.isfinite(new).all()
    # To who owns tents the new one is more than an item of which nothing is known.
    history = recommender.history
    tent = data["value"].name.index("tent")
    item, value = data["item", "text_value", "value"].edge_index
    tents = torch.isin(history.item, item[value == tent])
    count = torch.zeros(150).index_add_(0, history.rows(), tents.float())
    lead = new[:, 80] - new[:, 82]
    assert lead[count >= 2].mean() > lead[count == 0].mean()
    # One of the new items can be recommended, explained and saved.
    found = recommend(after, extended, data["user"].id[:30], k=83)
    ids = {entry.item for entries in found.values() for entry in entries}
    assert {"n1", "n2", "n3"} < ids
    other = recommender.add_items(extended)
    other.load_state_dict(after.state_dict())
    torch.testing.assert_close(other.score(user, other()), new)
    assert data["item"].num_nodes == before["item"].num_nodes


def test_new_items_are_raised_together(data):
    recommender = make_recommender(data)
    extended = AddItems(NEW)(data)
    plain = recommender.add_items(extended, exposure=0.0)
    assert plain.part_names == recommender.part_names
    user = torch.arange(150)
    score = plain.score(user, plain())
    weights = []
    for exposure in (0.5, 1.0, 2.0):
        after = recommender.add_items(extended, exposure=exposure)
        raised = after.score(user, after())
        torch.testing.assert_close(raised[:, :80], score[:, :80])
        weight = after.heads["new"].weight
        torch.testing.assert_close(raised[:, 80:], score[:, 80:] + weight)
        weights.append(weight.item())
    assert weights == sorted(weights)
    assert weights[0] < weights[-1]
    # Items that come later are raised as the first ones.
    more = AddItems([{"id": "n4", "product_type": "tent"}])(extended.clone())
    later = after.add_items(more)
    torch.testing.assert_close(later.heads["new"].weight, after.heads["new"].weight)
    assert later.heads["new"].new.tolist() == [False] * 80 + [True] * 4
    for exposure in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'exposure' must not be negative"):
            recommender.add_items(extended, exposure=exposure)


def test_a_head_that_cannot_leave_items_out_is_added_to_as_it_is(data):
    class Own(Popularity):
        name = "own"

        def keep_items(self, data, item):
            return ScoreHead.keep_items(self, data, item)

    recommender = HeadedRecommender(None, data, [Own(data)])
    extended = AddItems(NEW)(data)
    with pytest.raises(NotImplementedError, match="Own cannot leave items out"):
        recommender.add_items(extended)
    assert recommender.add_items(extended, exposure=0.0).num_items == 83


def test_heads_of_some_items_score_them_as_before(data):
    recommender = make_recommender(data).double()
    kept = torch.arange(80)[torch.arange(80) % 3 > 0]
    some = take_items(data, kept)
    # Histories of kept items alone, by both numbers.
    history = UserItems.from_data(some, "train")
    before = UserItems(history.ptr, kept[history.item], 80)
    for name in ("ease", "similarity"):
        head = recommender.heads[name]
        torch.testing.assert_close(
            head.keep_items(some, kept).score(history), head.score(before)[:, kept]
        )
    head = recommender.heads["popularity"].keep_items(some, kept)
    assert torch.equal(head.count, recommender.heads["popularity"].count[kept])
    # What is rare depends on the items that there are.
    torch.testing.assert_close(
        recommender.heads["affinity"].keep_items(some, kept).share,
        FactorAffinity(some).share,
    )


def test_weights_and_parts_of_pairs_hold_for_new_items(data):
    extended = AddItems(NEW)(data)
    after = make_recommender(data).add_items(extended).double()
    history = after.history.take(torch.arange(20))
    row, item = torch.cartesian_prod(torch.arange(20), torch.arange(83)).t()
    for head in after.head_list():
        torch.testing.assert_close(
            head(history, row, item).view(20, 83), head.score(history)
        )


def test_a_new_item_is_as_popular_as_others_are(data):
    head = Popularity(data)
    head.weight.data.fill_(0.5)
    after = head.add_items(AddItems(NEW)(data))
    assert after.count[:80].tolist() == head.count.tolist()
    assert after.count[80:].tolist() == [int(head.count.double().median())] * 3
    most = head.add_items(AddItems(NEW)(data), quantile=1.0)
    assert most.count[80:].tolist() == [int(head.count.max())] * 3


def test_graphs_that_are_not_those_of_the_training_are_refused(data):
    recommender = make_recommender(data)
    extended = AddItems(NEW)(data)
    with pytest.raises(DataError, match="80 items, the recommender has 83"):
        recommender.add_items(extended).add_items(data)
    store = extended["user", "interacts", "item"]
    store.edge_index = torch.tensor([[0], [81]])
    for model in (recommender, recommender.base):
        with pytest.raises(DataError, match="new items have train interactions"):
            model.add_items(extended)
    other = SyntheticFactorDataset(num_users=10, num_items=80)[0]
    with pytest.raises(DataError, match="10 users, the recommender has 150"):
        recommender.add_items(other)
    with pytest.raises(ValueError, match="train anew"):
        recommender.base.add_items(AddItems(NEW)(data)).loss(*[torch.arange(2)] * 3)


class Biased(LightGCN):
    """Its scores are more than the inner products of its representations."""

    def score(self, user, representations):
        return super().score(user, representations) + 1


def test_a_base_that_scores_in_its_own_way_is_refused(data):
    base = Biased(data, 4)
    with pytest.raises(ValueError, match="Biased scores in a way of its own"):
        HeadedRecommender(base, data, [Popularity(data)])
    with pytest.raises(ValueError, match="Biased scores in a way of its own"):
        base.add_items(AddItems(NEW)(data.clone()))
    with pytest.raises(ValueError, match="Biased scores in a way of its own"):
        explain(base, data, data["user"].id[0])
    assert evaluate(base, data, "val")["recall@20"] > 0


def test_heads_that_are_summed_in_another_way_have_no_parts(data):
    class Negative(HeadedRecommender):
        def score(self, user, representations):
            return -super().score(user, representations)

    recommender = Negative(None, data, [Popularity(data)])
    for call in (
        lambda: explain(recommender, data, data["user"].id[0]),
        lambda: fold(recommender, data),
        lambda: recommender.add_items(AddItems(NEW)(data.clone()), exposure=0),
    ):
        with pytest.raises(ValueError, match="Negative scores in a way of its own"):
            call()


def test_weights_are_not_fitted_to_new_items(data):
    recommender = make_recommender(data)
    extended = AddItems(NEW)(data.clone())
    after = recommender.add_items(extended)
    with pytest.raises(ValueError, match="fit them first"):
        fit_head_weights(after, extended)


def test_parts_of_the_same_name_are_told_apart(data):
    graph = data.clone()
    others = graph["value"].factor_name[2:]
    graph["value"].factor_name = ["model", "popularity", *others]
    number = len(others) + 2
    heads = [FactorAffinity(graph), Popularity(graph)]
    recommender = HeadedRecommender(LightGCN(graph, 4), graph, heads)
    assert recommender.part_names[:2] == ["affinity: model", "affinity: popularity"]
    assert recommender.part_names[-1] == "popularity: popularity"
    assert len(fit_head_weights(recommender, graph)) == number + 2
    alone = HeadedRecommender(None, graph, heads)
    assert list(fit_head_weights(alone, graph)) == alone.part_names


def test_a_graph_of_other_items_is_refused(data):
    recommender = make_recommender(data)
    extended = AddItems(NEW)(data.clone())
    user = data["user"].id[0]
    for wrong in (
        lambda: recommend(recommender, extended, [user]),
        lambda: evaluate(recommender, extended, "val"),
        lambda: explain(recommender, extended, user),
        lambda: fold(recommender.add_items(extended), data),
        lambda: HeadedRecommender(recommender.base, extended, [Popularity(extended)]),
    ):
        with pytest.raises(DataError, match=r"there are \d+ items, the recommender"):
            wrong()


def test_items_are_added_where_interactions_say_more(data):
    graph = data.clone()
    store = graph["user", "interacts", "item"]
    store.time = torch.arange(store.edge_index.size(1))
    after = make_recommender(graph).add_items(AddItems(NEW)(graph.clone()))
    assert after.num_items == 83


def test_weights_that_nothing_was_fitted_on_are_told():
    # What is held out is in no train interaction, and not among the likely items.
    pairs = [(user, (7 * user + step) % 150) for user in range(40) for step in range(6)]
    data = make_data(40, 400, [0], [{0}] * 400, pairs)
    data["user", "interacts", "item"].val_edge_index = torch.tensor([[0], [390]])
    recommender = HeadedRecommender(None, data, [Popularity(data)])
    with pytest.warns(UserWarning, match="stay at one; bring more validation"):
        weights = fit_head_weights(recommender, data)
    assert weights == {"popularity": 1.0}


def test_a_trained_base_stays_in_evaluation_mode(data):
    model = LightGCN(data, embedding_dim=8).eval()
    recommender = HeadedRecommender(model, data, [Popularity(data)])
    fit_head_weights(recommender, data)
    assert not model.training
    recommender.add_items(AddItems([{"id": "new"}])(data))
    assert not model.training


def test_weights_do_not_depend_on_the_mode_around(data):
    recommender = make_recommender(data)
    expected = fit_head_weights(recommender, data)
    with torch.autocast("cpu", torch.bfloat16):
        assert fit_head_weights(recommender, data) == expected
    with torch.inference_mode():
        assert fit_head_weights(recommender, data) == expected


@pytest.mark.parametrize("name", ["num_users", "num_candidates"])
def test_weights_are_not_fitted_on_nothing(data, name):
    with pytest.raises(ValueError, match=f"'{name}' must be positive"):
        fit_head_weights(make_recommender(data), data, **{name: 0})
