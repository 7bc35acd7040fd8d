from __future__ import annotations

from typing import Any

import pytest
import torch

from mars_pyg.datasets.build import build_graph
from mars_pyg.errors import DataError
from mars_pyg.factors import Factor, FactorProfiles, FactorSchema


def profiles(num_items: int = 3) -> FactorProfiles:
    return FactorProfiles.from_assignments(
        FactorSchema(factors=[Factor(name="brand")]),
        num_items,
        torch.tensor([2]),
        torch.tensor([0]),
        ["acme"],
    )


def arguments(**changes: Any) -> dict[str, Any]:
    return {
        "user_ids": ["u", "v"],
        "item_ids": ["a", "b", "c"],
        "train": torch.tensor([[1, 0, 0], [2, 1, 0]]),
        "val": torch.tensor([[0], [2]]),
        "test": torch.tensor([[1], [0]]),
        **changes,
    }


def test_graph() -> None:
    data = build_graph(
        **arguments(
            item_text={"title": ["A", "", "C"], "text": ["x", "y", "z"]},
            features={"text": torch.ones(3, 4, dtype=torch.double)},
            profiles={"text": profiles()},
        )
    )
    assert data["user"].num_nodes == 2
    assert data["user"].id == ["u", "v"]
    assert data["item"].num_nodes == 3
    assert data["item"].id == ["a", "b", "c"]
    assert data["item"].title == ["A", "", "C"]
    assert data["item"].text == ["x", "y", "z"]
    assert data["item"].x_text.dtype == torch.float
    store = data["user", "interacts", "item"]
    assert store.edge_index.tolist() == [[0, 0, 1], [0, 1, 2]]
    assert store.val_edge_index.tolist() == [[0], [2]]
    assert store.test_edge_index.tolist() == [[1], [0]]
    assert data["item", "text_value", "value"].edge_index.tolist() == [[2], [0]]
    assert data["value"].name == ["acme"]
    assert data.validate()


def test_smallest_graph() -> None:
    none = torch.empty(2, 0, dtype=torch.long)
    data = build_graph(**arguments(val=none, test=none))
    assert data["item"].title == ["", "", ""]
    assert set(data.node_types) == {"user", "item"}
    assert data["user", "interacts", "item"].val_edge_index.size() == (2, 0)
    assert data.validate()


def test_repeated_interactions_are_merged_and_counted() -> None:
    train = torch.tensor([[1, 0, 1, 1, 0], [2, 1, 2, 2, 0]])
    with pytest.warns(UserWarning, match="2 of 5 train interactions repeat"):
        data = build_graph(**arguments(train=train))
    edge_index = data["user", "interacts", "item"].edge_index
    assert edge_index.tolist() == [[0, 0, 1], [0, 1, 2]]


def test_users_without_train_interaction_are_kept_and_counted() -> None:
    train = torch.tensor([[0], [1]])
    with pytest.warns(UserWarning, match="1 of 2 users have no train interaction"):
        data = build_graph(**arguments(train=train))
    assert data["user"].num_nodes == 2


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"user_ids": ["u", "u"]}, "user", "'u' is there twice, at position 1"),
        ({"item_ids": ["a", "", "c"]}, "item", "id is empty, at position 1"),
        ({"user_ids": []}, "user", "no users"),
        ({"train": torch.empty(2, 0, dtype=torch.long)}, "train", "no train"),
        ({"train": torch.tensor([[0, 2], [0, 1]])}, "train", "unknown user 2"),
        ({"val": torch.tensor([[0], [3]])}, "val", "unknown item 3 in interaction 0"),
        ({"val": torch.tensor([[0], [-1]])}, "val", "unknown item -1"),
        ({"test": torch.tensor([0, 1])}, "test", r"shape \[2, E\]"),
        ({"test": torch.tensor([[0.0], [1.0]])}, "test", "int64"),
        (
            {"test": torch.tensor([[1], [2]])},
            "interactions",
            "1 interactions are in two splits, the first is of user 'v' and item 'c'",
        ),
        ({"item_text": {"title": ["A"]}}, "title", "expected 3 texts"),
        (
            {"features": {"image": torch.ones(2, 4)}},
            "x_image",
            r"expected the shape \[3, D\], got \[2, 4\]",
        ),
        ({"features": {"image": torch.ones(3)}}, "x_image", r"got \[3\]"),
        ({"features": {"image": torch.ones(3, 0)}}, "x_image", r"got \[3, 0\]"),
        (
            {"features": {"image": torch.tensor([[0.0], [torch.nan], [torch.inf]])}},
            "x_image",
            "2 rows hold NaN .* row 1 of the matrix, item 'b'",
        ),
        ({"features": {"id": torch.ones(3, 2)}}, "x_id", "'id' cannot be the name"),
        ({"profiles": {"text": profiles(4)}}, "text", "4 items, the catalogue has 3"),
    ],
)
def test_faults(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        build_graph(**arguments(**changes))
    assert caught.value.field == field
