"""Recommendations against a naive loop over sets."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg import DataError, LightGCN, SyntheticFactorDataset, recommend
from mars_pyg.recommend import SharedValue

INTERACTS = ("user", "interacts", "item")


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return SyntheticFactorDataset(30, 25, seed=1)[0]


@pytest.fixture(scope="module")
def model(data: HeteroData) -> LightGCN:
    torch.manual_seed(0)
    return LightGCN(data, embedding_dim=8)


def items_of(data: HeteroData, user: int, names: tuple[str, ...]) -> set[int]:
    store = data[INTERACTS]
    edges = torch.cat([store[name] for name in names], dim=1).t().tolist()
    return {item for other, item in edges if other == user}


def values_of(data: HeteroData, item: int) -> set[int]:
    return {
        value
        for relation in ("text_value", "image_value")
        for other, value in data["item", relation, "value"].edge_index.t().tolist()
        if other == item
    }


@pytest.mark.parametrize(
    ("splits", "names"),
    [
        (("train", "val", "test"), ("edge_index", "val_edge_index", "test_edge_index")),
        (("train",), ("edge_index",)),
    ],
)
def test_equals_naive(
    data: HeteroData, model: LightGCN, splits: tuple[str, ...], names: tuple[str, ...]
) -> None:
    users, items = (table.double() for table in model.eval()())
    k = 6
    found = recommend(model, data, data["user"].id, k, splits=splits, chunk_size=7)
    assert list(found) == data["user"].id
    for user, identity in enumerate(data["user"].id):
        seen = items_of(data, user, names)
        score = (items @ users[user]).tolist()
        left = sorted(set(range(25)) - seen, key=lambda item: -score[item])[:k]
        recommended = found[identity]
        assert [r.item for r in recommended] == [data["item"].id[i] for i in left]
        for item, recommendation in zip(left, recommended, strict=True):
            assert recommendation.title == data["item"].title[item]
            assert recommendation.score == pytest.approx(score[item], abs=1e-5)
            counts = {
                value: sum(value in values_of(data, other) for other in seen)
                for value in values_of(data, item)
            }
            store = data["value"]
            expected = {
                SharedValue(
                    store.factor_name[int(store.factor[v])], store.name[v], count
                )
                for v, count in counts.items()
                if count
            }
            assert set(recommendation.shared) == expected
            order = [shared.count for shared in recommendation.shared]
            assert order == sorted(order, reverse=True)


def test_order_and_repeats_of_users(data: HeteroData, model: LightGCN) -> None:
    one, two = data["user"].id[:2]
    found = recommend(model, data, [two, one, two], k=1)
    assert list(found) == [two, one]


def test_all_items_where_there_are_fewer(data: HeteroData, model: LightGCN) -> None:
    identity = data["user"].id[0]
    found = recommend(model, data, [identity], k=1000)[identity]
    names = ("edge_index", "val_edge_index", "test_edge_index")
    assert len(found) == 25 - len(items_of(data, 0, names))


def test_catalogue_without_values_and_titles(data: HeteroData) -> None:
    bare = HeteroData()
    bare["user"].num_nodes, bare["item"].num_nodes = 2, 3
    bare["user"].id, bare["item"].id = ["a", "b"], ["x", "y", "z"]
    bare[INTERACTS].edge_index = torch.tensor([[0, 1], [0, 1]])
    model = LightGCN(bare)
    found = recommend(model, bare, ["b"], splits=["train"])
    assert {r.item for r in found["b"]} == {"x", "z"}
    assert all(not r.shared and r.title == "" for r in found["b"])


def test_one_user_is_no_list_of_users(data: HeteroData, model: LightGCN) -> None:
    with pytest.raises(TypeError, match=r"'users' must be a list .*write \['17'\]"):
        recommend(model, data, users="17")


def test_unknown_user(data: HeteroData, model: LightGCN) -> None:
    with pytest.raises(DataError, match=r"no user 'nobody'.*Mend"):
        recommend(model, data, ["nobody"])


def test_the_splits_are_those_that_there_are(data: HeteroData, model: LightGCN) -> None:
    some = data.clone()
    del some[INTERACTS].test_edge_index
    user = some["user"].id[:5]
    expected = recommend(model, data, user, splits=("train", "val"))
    assert recommend(model, some, user) == expected
