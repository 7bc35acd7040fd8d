"""Recommendations from a folder are those of the model that it was made of."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import mars_pyg
from mars_pyg import DataError, recommend
from mars_pyg.serving import ItemDescription, export
from mars_pyg.user_items import UserItems


@pytest.fixture(scope="module")
def folder(data, recommender, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export(recommender, data, folder, k=0, progress=False)
    return folder


@pytest.fixture(scope="module")
def served(folder):
    return mars_pyg.load(folder)


def values_of(data, item):
    """The names of the values of an item, by factor."""
    store = data["value"]
    found = {
        value
        for relation in ("text_value", "image_value")
        for other, value in data["item", relation, "value"].edge_index.t().tolist()
        if other == item
    }
    result = {}
    for value in sorted(found):
        name = store.factor_name[int(store.factor[value])]
        result.setdefault(name, []).append(store.name[value])
    return result


def test_known_users_get_what_the_model_recommends(data, recommender, served):
    users = data["user"].id[:40]
    expected = recommend(recommender, data, users, k=7)
    for user in users:
        found = served.recommend(user, k=7)
        assert [r.item for r in found] == [r.item for r in expected[user]]
        assert [r.title for r in found] == [r.title for r in expected[user]]
        assert [r.shared for r in found] == [r.shared for r in expected[user]]
        assert [r.score for r in found] == pytest.approx(
            [r.score for r in expected[user]], abs=1e-4
        )


def test_unseen_users_get_their_heads_and_a_folded_in_representation(
    data, recommender, served
):
    items = [70, 5, 8, 5]
    history = UserItems(torch.tensor([0, 3]), torch.tensor([5, 8, 70]), 80)
    train = UserItems.from_data(data, "train")
    representations = recommender()
    folded = recommender.fold_in(history, representations, train)
    score = folded @ representations[1].t()
    for head in recommender.head_list():
        score = score + head.score(history)
    names = data["item"].id
    for excluded in (True, False):
        expected = score[0].clone()
        if excluded:
            expected[[5, 8, 70]] = -torch.inf
        found = served.recommend(
            [names[i] for i in items], k=6, exclude_history=excluded
        )
        top = expected.topk(6)
        assert [r.item for r in found] == [names[i] for i in top.indices.tolist()]
        assert [r.score for r in found] == pytest.approx(top.values.tolist(), abs=1e-4)
    # What is shared is counted over the history.
    counts = [v for i in (5, 8, 70) for vs in values_of(data, i).items() for v in vs[1]]
    for value in found[0].shared:
        assert value.count == counts.count(value.value)
    assert len(served.recommend([], k=3)) == 3


def test_filters_keep_items_with_a_value_of_each_factor(data, served):
    filters = {"color": ["red", "blue"], "style": "vintage"}
    everything = served.recommend([], k=80)
    assert len(everything) == 80
    expected = [
        r.item
        for r in everything
        if {"red", "blue"}
        & set(values_of(data, data["item"].id.index(r.item)).get("color", []))
        and "vintage" in values_of(data, data["item"].id.index(r.item)).get("style", [])
    ]
    assert 0 < len(expected) < 40
    assert [r.item for r in served.recommend([], 80, filters)] == expected
    assert [r.item for r in served.recommend([], 2, filters)] == expected[:2]
    assert served.recommend([], 5, {"color": []}) == []


def test_items_are_described(data, served):
    for i in (0, 17, 79):
        name = data["item"].id[i]
        assert served.item(name) == ItemDescription(
            name, data["item"].title[i], values_of(data, i)
        )
    assert set(served.values) == set(data["value"].factor_name)
    assert "red" in served.values["color"]


def test_mistakes(served):
    for wrong, message in (
        (lambda: served.recommend("nobody"), "field 'user': there is no user 'nobody'"),
        (lambda: served.recommend(["I01", "thing"]), "there is no item 'thing'"),
        (lambda: served.item("thing"), "field 'item': there is no item"),
        (lambda: served.recommend([], filters={"size": "M"}), "no factor 'size'"),
        (lambda: served.recommend([], filters={"color": "rad"}), r"such as \['red'"),
    ):
        with pytest.raises(DataError, match=message):
            wrong()
    with pytest.raises(ValueError, match="'k' must be positive"):
        served.recommend([], k=0)


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("index.pt", "cut", "damaged, or is of another export"),
        ("index.pt", "missing", "no such file"),
        ("items.parquet", "flip", "damaged, or is of another export"),
        ("users.parquet", "missing", "no such file"),
        ("index.json", "cut", "the file is damaged"),
        ("index.json", "missing", "no finished export"),
        ("index.json", "list", "the file is damaged"),
        ("index.json", "format", "has the format 99, and this version"),
    ],
)
def test_damaged_folders_are_told(folder, tmp_path, name, how, message):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-20])
    elif how == "flip":
        middle = len(content) // 2
        changed = bytes([content[middle] ^ 1])
        path.write_bytes(content[:middle] + changed + content[middle + 1 :])
    elif how == "list":
        path.write_text("[]")
    else:
        path.write_text(json.dumps({**json.loads(content), "format": 99}))
    with pytest.raises(DataError, match=message):
        mars_pyg.load(copy)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="no finished export"):
        mars_pyg.load(tmp_path / "nowhere")
