"""Runs whose items have changed since, beside the interactions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import ToSparseTensor

from mars_pyg import MARS, AddItems, DataError, HeadedRecommender
from mars_pyg.config import make_config
from mars_pyg.content_digest import check_content, content_digests
from mars_pyg.datasets import SyntheticFactorDataset
from mars_pyg.heads import ContentSimilarity, FactorAffinity
from mars_pyg.nn import BPR
from mars_pyg.runs import load_run, train

KEYS = {"text_model": "tfidf", "factor_columns": "color"}
TRAINED = {**KEYS, "max_epochs": 1, "accelerator": "cpu", "embedding_dim": 4}


def write_items(folder: Path, changed: str = "") -> None:
    """A table of items, one column of it as it was or another."""
    title = [f"{i} {'box' if i % 2 else 'can'}" for i in range(12)]
    color = [f"c{i % 3}" for i in range(12)]
    if changed == "title":
        title[3] = "another"
    if changed == "color":
        color[3:5] = reversed(color[3:5])
    rows = [f"i{i},{title[i]},{color[i]}" for i in range(12)]
    (folder / "items.csv").write_text("\n".join(["id,title,color", *rows]))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    write_items(folder)
    pairs = [(u, (u * 5 + 2 * i) % 12) for u in range(20) for i in range(5)]
    lines = ["user,item", *(f"u{user},i{item}" for user, item in pairs)]
    (folder / "interactions.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        # No parameter has the shape of what is read.
        (
            {
                **TRAINED,
                "model": "mars",
                "heads": "",
                "item_input": "id",
                "semantic_weight": 0.0,
                "view_weight": 0.0,
            },
            {"color": "value", "title": "x_text"},
        ),
        ({**TRAINED, "model": "mars", "modalities": "id"}, {"color": "value"}),
        # Clusters are of the features, whatever the views are.
        (
            {
                **TRAINED,
                "model": "mars",
                "modalities": "id",
                "factor_source": "clusters",
            },
            {"color": "value", "title": "x_text"},
        ),
        ({**TRAINED, "model": "lightgcn"}, {}),
        ({**TRAINED, "model": "bpr", "heads": "affinity"}, {"color": "value"}),
        ({**KEYS, "model": "none", "heads": "popularity"}, {}),
        ({**KEYS, "model": "none", "heads": "ease"}, {"color": "value"}),
        ({**KEYS, "model": "none", "heads": "ease", "ease_clique_weight": 0.0}, {}),
        ({**KEYS, "model": "none", "heads": "similarity"}, {"title": "x_text"}),
    ],
)
def test_changed_items_are_told_where_they_are_read(
    keys: dict[str, object], refused: dict[str, str], shop: Path, tmp_path: Path
) -> None:
    if keys.get("modalities") == "id":
        keys = {**keys, "item_graphs": "factors", "heads": "ease,popularity"}
    config = make_config({"dataset": str(shop), **keys})
    run_dir = tmp_path / "run"
    train(config, run_dir, progress=False)
    for changed in ("color", "title"):
        write_items(shop, changed)
        if changed not in refused:
            load_run(run_dir)
            continue
        for again in (
            lambda: load_run(run_dir),
            lambda: train(config, run_dir, resume=True, progress=False),
        ):
            with pytest.raises(DataError, match="not what the run was tra") as caught:
                again()
            assert caught.value.field == refused[changed]
    write_items(shop)
    run = load_run(run_dir)
    if isinstance(run.recommender, HeadedRecommender):
        extended = AddItems([{"id": "new", "color": "c1"}])(run.data)
        assert run.recommender.add_items(extended).num_items == 13


@pytest.fixture
def data() -> HeteroData:
    data = SyntheticFactorDataset(num_users=30, num_items=20)[0]
    data["item"].x_image = torch.randn(20, 5)
    data["item"].x_text = torch.randn(20, 5)
    data["item"].text_encoder = "a model"
    data["item", "similar", "item"].edge_index = torch.tensor([[0], [1]])
    return data


def rename_a_value(data: HeteroData) -> None:
    data["value"].name[0] = "another"


def move_a_value(data: HeteroData) -> None:
    data["value"].factor = data["value"].factor.roll(1)


def change_an_edge(data: HeteroData) -> None:
    store = data["item", "text_value", "value"]
    store.edge_index = store.edge_index[:, 1:]


def drop_values(data: HeteroData) -> None:
    del data["item", "text_value", "value"]


def change_a_feature(data: HeteroData) -> None:
    data["item"].x_image[2, 2] += 1e-6


def widen_features(data: HeteroData) -> None:
    data["item"].x_image = data["item"].x_image.double()


def change_a_text(data: HeteroData) -> None:
    data["item"].text[0] += "!"


def change_the_encoder(data: HeteroData) -> None:
    data["item"].text_encoder = "tfidf"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (rename_a_value, "value"),
        (move_a_value, "value"),
        (change_an_edge, "value"),
        (drop_values, "value"),
        (change_a_feature, "x_image"),
        (widen_features, "x_image"),
        (change_a_text, "x_text"),
        (change_the_encoder, "x_text"),
    ],
)
def test_a_change_of_the_content_is_noticed(
    data: HeteroData, change: Callable[[HeteroData], None], field: str
) -> None:
    model, other = MARS(data, embedding_dim=4), data.clone()
    other["value"].name = list(data["value"].name)
    other["item"].text = list(data["item"].text)
    # Another machine rounds what a model makes of texts otherwise.
    other["item"].x_text = data["item"].x_text + 1e-7
    # How a tensor lies in memory means nothing.
    other["item"].x_image = data["item"].x_image.t().contiguous().t()
    digests = content_digests(data, [model])
    assert set(digests) == {"value", "x_image", "x_text"}
    check_content(digests, other, [model])
    change(other)
    with pytest.raises(DataError, match="of the items have changed") as caught:
        check_content(digests, other, [model])
    assert caught.value.field == field
    check_content(None, other, [model])
    check_content(content_digests(data, []), other, [BPR(data)])


def test_what_is_read(data: HeteroData) -> None:
    class Own(BPR):
        """A model of which nothing is known."""

    every = {"value", "x_image", "x_text"}
    assert set(content_digests(data, [Own(data)])) == every
    base, head = BPR(data), ContentSimilarity(data)
    headed = HeadedRecommender(base, data, [head])
    assert set(content_digests(data, [headed])) == {"x_image", "x_text"}
    model = MARS(data, modalities=["image", "id"], embedding_dim=4)
    assert set(content_digests(data, [model])) == {"value", "x_image"}


def test_features_of_any_dtype_have_a_digest() -> None:
    data = SyntheticFactorDataset(20, 15, seed=1)[0]
    digests = []
    for change in (0, 1):
        data["item"].x_image = torch.full((15, 2), 1.0 + change).bfloat16()
        digests.append(content_digests(data, [ContentSimilarity(data)])["x_image"])
    assert digests[0] != digests[1]


def test_values_of_sparse_graphs_have_a_digest() -> None:
    digests = []
    for edges in ([[0, 1], [0, 1]], [[0, 1], [1, 0]]):
        data = SyntheticFactorDataset(20, 15, seed=1)[0]
        data["item", "text_value", "value"].edge_index = torch.tensor(edges)
        sparse = ToSparseTensor(layout=torch.sparse_csr, fill_cache=False)(data)
        digests.append(content_digests(sparse, [FactorAffinity(sparse)])["value"])
    assert digests[0] != digests[1]
