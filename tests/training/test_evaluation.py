from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.heads import HeadedRecommender, Popularity
from mars_pyg.nn.recommender import Recommender
from mars_pyg.training import (
    RecommenderModule,
    UserItems,
    evaluate,
    evaluate_users,
    rank,
)


class FixedScores(Recommender):
    """Scores given as a matrix; users are the identity."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(*scores.shape)
        self.scores = torch.nn.Parameter(scores)
        self.calls = 0

    def forward(self) -> tuple[Tensor, Tensor]:
        self.calls += 1
        assert not self.training
        assert not torch.is_grad_enabled()
        return torch.eye(self.num_users, dtype=self.scores.dtype), self.scores.t()

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        raise AssertionError("an evaluation needs no loss")


def graph(
    num_users: int,
    num_items: int,
    train: list[tuple[int, int]],
    val: list[tuple[int, int]],
    test: list[tuple[int, int]],
) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    for name, pairs in (("", train), ("val_", val), ("test_", test)):
        data["user", "interacts", "item"][f"{name}edge_index"] = (
            torch.tensor(pairs, dtype=torch.int64).view(-1, 2).t().contiguous()
        )
    return data


def naive(
    scores: list[list[float]],
    masked: list[tuple[int, int]],
    held_out: list[tuple[int, int]],
    k: int,
) -> tuple[float, float]:
    """Recall and NDCG by one user after the other, in Python floats."""
    recalls, ndcgs = [], []
    for user, row in enumerate(scores):
        relevant = {i for u, i in held_out if u == user}
        if not relevant:
            continue
        seen = {i for u, i in masked if u == user}
        candidates = [i for i in range(len(row)) if i not in seen]
        top = sorted(candidates, key=lambda i: -row[i])[:k]
        recalls.append(len(relevant & set(top)) / len(relevant))
        gain = sum(1 / math.log2(p + 2) for p, i in enumerate(top) if i in relevant)
        ideal = sum(1 / math.log2(p + 2) for p in range(min(len(relevant), k)))
        ndcgs.append(gain / ideal)
    return sum(recalls) / len(recalls), sum(ndcgs) / len(ndcgs)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_metrics_equal_a_naive_oracle(data: st.DataObject) -> None:
    num_users = data.draw(st.integers(1, 7))
    num_items = data.draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    # Distinct scores: ties have no right order.
    scores = torch.rand(num_users * num_items, generator=generator).argsort()
    scores = scores.view(num_users, num_items).double() - 10
    pair = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    split_of = data.draw(st.dictionaries(pair, st.integers(0, 2), max_size=60))
    train, val, test = (
        [key for key, value in split_of.items() if value == split] for split in range(3)
    )
    graph_data = graph(num_users, num_items, train, val, test)
    k = data.draw(st.lists(st.integers(1, 15), min_size=1, max_size=3))
    chunk_size = data.draw(st.integers(1, 9))
    model = FixedScores(scores)
    for split, mask_validation in (("val", False), ("test", False), ("test", True)):
        held_out = val if split == "val" else test
        options = {"split": split, "mask_validation": mask_validation, "k": k}
        if not held_out:
            with pytest.raises(DataError, match=f"{split} split"):
                evaluate(model, graph_data, **options)
            continue
        found = evaluate(model, graph_data, **options, chunk_size=chunk_size)
        assert set(found) == {f"{m}@{cut}" for m in ("recall", "ndcg") for cut in k}
        masked = train + val if mask_validation else train
        for cut in k:
            recall, ndcg = naive(scores.tolist(), masked, held_out, cut)
            assert found[f"recall@{cut}"] == pytest.approx(recall, abs=1e-6)
            assert found[f"ndcg@{cut}"] == pytest.approx(ndcg, abs=1e-6)


def test_worked_by_hand() -> None:
    # User 0 has trained on its best item 3; then 2, 1, 0 follow. User 1 is not held
    # out; user 2 has no train item and two relevant ones.
    scores = torch.tensor([[1.0, 2, 3, 4], [4, 3, 2, 1], [4, 3, 2, 1]])
    data = graph(3, 4, [(0, 3), (1, 0)], [(0, 1)], [(0, 1), (2, 1), (2, 3)])
    found = evaluate(FixedScores(scores), data, "test", k=(1, 2))
    log3 = 1 / math.log2(3)
    assert found["recall@1"] == 0
    assert found["recall@2"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["ndcg@2"] == pytest.approx((log3 + log3 / (1 + log3)) / 2)


def test_metrics_of_users_have_the_means_of_the_evaluation() -> None:
    torch.manual_seed(0)
    pairs = torch.randint(9, (60, 2)).tolist()
    # One user has more held-out items than the cut.
    val = [*pairs[:12], *[(3, item) for item in range(6)]]
    data = graph(9, 9, pairs[12:30], val, [])
    model = FixedScores(torch.rand(9, 9))
    user, recall, ndcg = evaluate_users(model, data, "val", k=4, chunk_size=2)
    assert user.tolist() == sorted({u for u, _ in val})
    expected = evaluate(model, data, "val", k=[4])
    assert float(recall.mean()) == pytest.approx(expected["recall@4"])
    assert float(ndcg.mean()) == pytest.approx(expected["ndcg@4"])


def test_masked_items_never_count() -> None:
    # The user has seen all but item 1, so seen ones fill the top of 3. Item 0 is both
    # trained on and held out, and item 2 is of the validation split.
    data = graph(2, 3, [(0, 0), (1, 0)], [(0, 2)], [(0, 0), (0, 1), (1, 1)])
    scores = torch.tensor([[3.0, 2, 1], [3, 2, 1]])
    found = evaluate(
        FixedScores(scores), data, "test", k=(3,), chunk_size=1, mask_validation=True
    )
    assert found["recall@3"] == pytest.approx((1 / 2 + 1) / 2)


def test_repeated_held_out_edges_count_once() -> None:
    data = graph(1, 3, [(0, 0)], [], [(0, 1), (0, 1), (0, 2)])
    found = evaluate(FixedScores(torch.tensor([[9.0, 8, 1]])), data, "test", k=(1,))
    assert found["recall@1"] == pytest.approx(1 / 2)


def test_mode_is_restored_and_representations_are_computed_once() -> None:
    data = graph(4, 3, [(0, 0)], [(0, 1), (1, 1), (2, 2), (3, 0)], [])
    model = FixedScores(torch.arange(12.0).view(4, 3))
    for training in (True, False):
        model.train(training)
        model.calls = 0
        evaluate(model, data, chunk_size=1)
        assert model.training is training
        assert model.calls == 1


def test_half_precision_is_ranked_in_single_precision() -> None:
    class Half(FixedScores):
        def forward(self) -> tuple[Tensor, Tensor]:
            user, item = super().forward()
            return user.bfloat16(), item.bfloat16()

    model = Half(torch.tensor([[1.0, 2, 3]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, score, item = next(rank(model, torch.tensor([0]), 2))
    assert score.dtype == torch.float32
    assert item.tolist() == [[2, 1]]


def test_rank_marks_missing_candidates() -> None:
    model = FixedScores(torch.tensor([[1.0, 5, 3], [1, 5, 3]]))
    seen = UserItems.from_edge_index(torch.tensor([[0, 0], [1, 2]]), 2, 3)
    user, score, item = next(rank(model, torch.tensor([1, 0]), 5, seen))
    assert user.tolist() == [1, 0]
    assert item.tolist() == [[1, 2, 0], [0, 3, 3]]
    assert score.tolist() == [[5, 3, 1], [1, -math.inf, -math.inf]]


def test_bad_input_is_refused() -> None:
    data = graph(1, 3, [(0, 0)], [(0, 1)], [])
    model = FixedScores(torch.tensor([[1.0, math.nan, 2]]))
    with pytest.raises(FloatingPointError, match="diverged"):
        evaluate(model, data, k=(1,))
    with pytest.raises(ValueError, match="'k'"):
        evaluate(model, data, k=(0, 10))
    with pytest.raises(ValueError, match="'chunk_size'"):
        evaluate(model, data, chunk_size=0)
    with pytest.raises(DataError, match="test split"):
        evaluate(model, data, "test")
    del data["user", "interacts", "item"].val_edge_index
    with pytest.raises(DataError, match="no val split"):
        evaluate(model, data)
    for function in (evaluate, evaluate_users):
        with pytest.raises(ValueError, match="'split' must be 'val' or 'test'"):
            function(model, data, "train")


def test_a_sample_of_the_users_is_the_same_each_time() -> None:
    scores = torch.rand(50, 9, generator=torch.Generator().manual_seed(0))
    held = [(user, user % 9) for user in range(50)]
    data = graph(50, 9, [], held, held)
    model = FixedScores(scores)
    some = evaluate(model, data, "val", (2,), num_users=20)
    assert evaluate(model, data, "val", (2,), chunk_size=3, num_users=20) == some
    everyone = evaluate(model, data, "val", (2,))
    assert evaluate(model, data, "val", (2,), num_users=50) == everyone
    assert evaluate(model, data, "val", (2,), num_users=99) == everyone
    hits = (scores.topk(2).indices == torch.arange(50)[:, None] % 9).any(dim=1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert some["recall@2"] == pytest.approx(float(hits[order[:20]].float().mean()))
    with pytest.raises(ValueError, match="'num_users' must be positive"):
        evaluate(model, data, "val", (2,), num_users=0)


def test_scores_of_many_items_take_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mars_pyg.training.evaluation.MAX_SCORES", 25)
    model = FixedScores(torch.rand(7, 10))
    sizes = [len(user) for user, _, _ in rank(model, torch.arange(7), 3)]
    assert sizes == [2, 2, 2, 1]
    monkeypatch.setattr("mars_pyg.training.evaluation.MAX_SCORES", 5)
    assert len(list(rank(model, torch.arange(7), 3))) == 7


def test_half_precision_as_the_default_changes_no_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    num_users, num_items = 3_000, 12
    scores = torch.rand(num_users, num_items, generator=generator)
    held_out = [(user, user % num_items) for user in range(num_users)]
    data = graph(num_users, num_items, [], held_out, [])
    expected = evaluate(FixedScores(scores), data, "val", k=(5,))
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = evaluate(FixedScores(scores), data, "val", k=(5,), chunk_size=8)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == pytest.approx(expected, abs=1e-6)


class NoParameters(FixedScores):
    """What is not learned is a buffer."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(scores)
        del self.scores
        self.register_buffer("scores", scores)


def test_a_recommender_needs_no_parameters() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    data = graph(1, 3, [], [(0, 2)], [])
    assert evaluate(NoParameters(scores), data, "val", k=(1,))["recall@1"] == 1
    recommender = HeadedRecommender(NoParameters(scores), data, [Popularity(data)])
    assert evaluate(recommender, data, "val", k=(1,))["recall@1"] == 1


class Counts(Recommender):
    """The popularity of items, one row of whole numbers for all users."""

    def __init__(self, data: HeteroData, dtype: torch.dtype) -> None:
        super().__init__(data["user"].num_nodes, data["item"].num_nodes)
        item = data["user", "interacts", "item"].edge_index[1]
        self.count = torch.bincount(item, minlength=self.num_items).to(dtype)

    def forward(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(self.num_users, 0), torch.zeros(self.num_items, 0)

    def loss(self, *triplets: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def score(self, user: Tensor, representations: tuple[Tensor, Tensor]) -> Tensor:
        return self.count.expand(user.numel(), -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_scores_may_be_one_row_for_all_users(
    data: HeteroData, dtype: torch.dtype
) -> None:
    model = Counts(data, dtype)
    before = model.count.clone()
    seen = UserItems.from_data(data, "train")
    users = torch.arange(model.num_users)
    for chunk_size in (1, 7):
        for chunk, _, item in rank(model, users, model.num_items, seen, chunk_size):
            for user, items in zip(chunk.tolist(), item.tolist(), strict=True):
                own = seen.item[seen.ptr[user] : seen.ptr[user + 1]].tolist()
                others = set(range(model.num_items)) - set(own)
                assert set(items) - {model.num_items} == others
    assert torch.equal(model.count, before)
    naive = torch.stack([before.double()] * model.num_users)
    naive[seen.rows(), seen.item] = -torch.inf
    best = next(rank(model, users, 1, seen))[1].double()
    assert torch.equal(best, naive.amax(dim=1, keepdim=True))


def test_a_single_cut_may_be_given_as_it_is(data: HeteroData) -> None:
    model = FixedScores(torch.rand(30, 20))
    expected = evaluate(model, data, k=[5])
    assert evaluate(model, data, k=5) == expected
    assert RecommenderModule(model, data, k=5).k == (5,)
    with pytest.raises(ValueError, match=r"positive cuts \(got \[0\]\)"):
        evaluate(model, data, k=0)
