from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import DatasetAdapter

from mars_pyg.factors import Factor, FactorProfiles, FactorSchema
from mars_pyg.transforms import AddFactorValues


def catalogue() -> HeteroData:
    data = HeteroData()
    data["item"].num_nodes = 3
    return data


def profiles(
    factors: list[Factor], assignments: list[tuple[int, int, str]], num_items: int = 3
) -> FactorProfiles:
    item, factor, value = zip(*assignments, strict=True)
    return FactorProfiles.from_assignments(
        FactorSchema(factors=factors),
        num_items,
        torch.tensor(item),
        torch.tensor(factor),
        value,
    )


def test_two_modalities_share_factors_and_values() -> None:
    text = profiles(
        [Factor(name="brand"), Factor(name="colour", values=["red", "blue"])],
        [(2, 0, "z"), (0, 0, "a"), (2, 1, "blue")],
    )
    image = profiles(
        [
            Factor(name="colour", values=["green", "blue"], multiple=True),
            Factor(name="shape", values=["round"]),
        ],
        [(1, 0, "blue"), (1, 0, "green")],
    )
    data = AddFactorValues({"text": text, "image": image})(catalogue())
    value = data["value"]
    assert value.factor_name == ["brand", "colour", "shape"]
    assert value.name == ["a", "z", "red", "blue", "green", "round"]
    assert value.factor.tolist() == [0, 0, 1, 1, 1, 2]
    assert value.factor.dtype == torch.long
    assert value.num_nodes == 6
    assert data["item", "text_value", "value"].edge_index.tolist() == [
        [0, 2, 2],
        [0, 1, 3],
    ]
    assert data["item", "image_value", "value"].edge_index.tolist() == [[1, 1], [3, 4]]
    assert data.validate()


def test_open_values_follow_closed_ones_of_the_same_factor() -> None:
    closed = profiles([Factor(name="brand", values=["m", "c"])], [(0, 0, "m")])
    free = profiles([Factor(name="brand")], [(0, 0, "c"), (1, 0, "z"), (2, 0, "b")])
    data = AddFactorValues({"text": closed, "image": free})(catalogue())
    assert data["value"].name == ["m", "c", "b", "z"]
    assert data["item", "image_value", "value"].edge_index.tolist() == [
        [0, 1, 2],
        [1, 3, 2],
    ]


def test_replaces_what_was_there_and_leaves_the_input() -> None:
    text = profiles([Factor(name="brand")], [(0, 0, "a")])
    image = profiles([Factor(name="shape")], [(0, 0, "round"), (1, 0, "flat")])
    first = AddFactorValues({"text": text})(catalogue())
    second = AddFactorValues({"image": image})(first)
    assert second["value"].name == ["flat", "round"]
    assert ("item", "text_value", "value") not in second.edge_types
    assert first["value"].name == ["a"]


def test_functional_name() -> None:
    text = profiles([Factor(name="brand")], [(0, 0, "a")])
    (data,) = list(DatasetAdapter([catalogue()]).add_factor_values({"text": text}))
    assert data["value"].name == ["a"]


def test_wrong_number_of_items_and_no_profiles() -> None:
    text = profiles([Factor(name="brand")], [(0, 0, "a")], num_items=4)
    with pytest.raises(ValueError, match="4 items, the graph has 3"):
        AddFactorValues({"text": text})(catalogue())
    with pytest.raises(ValueError, match="at least one modality"):
        AddFactorValues({})


def test_nothing_of_older_values_stays() -> None:
    data = catalogue()
    data["value"].num_nodes, data["value"].x = 9, torch.ones(9, 3)
    some = profiles([Factor(name="brand")], [(0, 0, "a"), (1, 0, "b")])
    data = AddFactorValues({"text": some})(data)
    assert data["value"].num_nodes == 2
    assert "x" not in data["value"]
