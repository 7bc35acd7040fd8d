"""New items join a graph by their ids, values, texts and features."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg import (
    AddFactorValues,
    AddItems,
    AddTextFeatures,
    DataError,
    Factor,
    FactorDataset,
    FactorProfiles,
    FactorSchema,
    SyntheticFactorDataset,
)


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes = 1
    data["item"].num_nodes = 2
    data["item"].id = ["a", "b"]
    data["item"].title = ["Red mug", ""]
    data["item"].x_text = torch.eye(2)
    data["user", "interacts", "item"].edge_index = torch.tensor([[0], [1]])
    schema = FactorSchema(
        factors=[
            Factor(name="colour", values=["red", "blue"]),
            Factor(name="brand"),
            Factor(name="use", values=["tea", "soup"], multiple=True),
        ]
    )
    table = pd.DataFrame(
        {"itemID": ["a"], "colour": ["red"], "brand": ["acme"], "use": ["tea|soup"]}
    )
    profiles = FactorProfiles.from_table(table, schema, ["a", "b"])
    return AddFactorValues({"text": profiles})(data)


def values_of(data: HeteroData, item: int) -> set[tuple[str, str]]:
    store = data["value"]
    edges = data["item", "text_value", "value"].edge_index
    return {
        (store.factor_name[store.factor[v]], store.name[v])
        for v in edges[1, edges[0] == item].tolist()
    }


def test_items_are_appended(data: HeteroData) -> None:
    before = data.clone()
    rows = [
        {"id": "c", "title": "Blue bowl", "colour": "blue", "use": ["soup", "tea"]},
        {"id": "d", "brand": "newco", "colour": None, "use": " soup |tea"},
        {"id": "e", "brand": math.nan, "use": "soup"},
    ]
    features = {"text": torch.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 0.0]])}
    after = AddItems(rows, features=features)(data)
    assert after.validate()
    assert after["item"].num_nodes == 5
    assert after["item"].id == ["a", "b", "c", "d", "e"]
    assert after["item"].title == ["Red mug", "", "Blue bowl", "", ""]
    assert after["item"].x_text.tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0, 0], [1, 0]]
    assert values_of(after, 2) == {("colour", "blue"), ("use", "soup"), ("use", "tea")}
    assert values_of(after, 3) == {("brand", "newco"), ("use", "soup"), ("use", "tea")}
    assert values_of(after, 4) == {("use", "soup")}
    # The nodes that were there keep their numbers, and the graph before is as it was.
    assert after["value"].name == [*before["value"].name, "newco"]
    assert after["value"].factor.tolist() == [*before["value"].factor.tolist(), 1]
    assert data["item"].num_nodes == 2
    assert data["value"].name == before["value"].name
    for edge_type in before.edge_types:
        for item in range(2):
            assert values_of(after, item) == values_of(before, item)
        edge_index = data[edge_type].edge_index
        assert torch.equal(edge_index, before[edge_type].edge_index)


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        ([{"id": "c", "colour": "bleu"}], {}, r"row 2, field 'colour'.*'blue'"),
        ([{"id": "c"}, {"id": "d", "use": "lunch"}], {}, r"row 3, field 'use'.*lunch"),
        (
            [{"id": "c", "brand": "x"}],
            {"open_factors": []},
            r"row 2, field 'brand'.*'x'",
        ),
        ([{"id": "a"}], {}, "row 2, field 'id'.*already"),
        ([{"id": "c"}, {"id": "c"}], {}, "row 3, field 'id'.*already"),
        ([{"id": " "}], {}, "row 2, field 'id'.*empty"),
        ([{"title": "mug"}], {}, "field 'id'.*no ids"),
        ([{"id": "c", "color": "red"}], {}, r"field 'color'.*\['colour'\]"),
        ([{"id": "c", "title": "mug"}], {}, "field 'text'.*'features'"),
        (
            [{"id": "c"}],
            {"features": {"text": torch.ones(1, 3)}},
            r"field 'x_text'.*\[1, 2\]",
        ),
        (
            [{"id": "c"}],
            {"features": {"text": torch.tensor([[0.0, math.nan]])}},
            "field 'x_text'.*row 0",
        ),
        (
            [{"id": "c"}],
            {"features": {"image": torch.ones(1, 2)}},
            "field 'x_image'.*no x_image",
        ),
        (
            [{"id": "c", "colour": "red"}],
            {"modality": "image"},
            r"field 'modality'.*\['text'\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    data: HeteroData, rows: list, arguments: dict, words: str
) -> None:
    before = data.clone()
    with pytest.raises(DataError, match=words):
        AddItems(rows, **arguments)(data)
    assert data.to_dict().keys() == before.to_dict().keys()
    assert data["item"].id == before["item"].id
    assert data["value"].name == before["value"].name


def test_one_open_factor_is_not_taken_letter_by_letter() -> None:
    with pytest.raises(TypeError, match=r"'open_factors'.*\['brand'\]"):
        AddItems([{"id": "c"}], open_factors="brand")


def test_what_items_have_besides_is_refused(data: HeteroData) -> None:
    data["item"].price = torch.ones(2)
    with pytest.raises(DataError, match="field 'price'"):
        AddItems([{"id": "c"}])(data)


def test_text_features_come_from_the_encoder_of_the_graph(
    data: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    data["item"].text_encoder = "some/model"
    asked = []

    def encode(texts: list[str], model: str) -> tuple[str, torch.Tensor]:
        asked.append((list(texts), model))
        return model, torch.full((len(texts), 2), 0.25)

    monkeypatch.setattr("mars_pyg.transforms.add_items.text_features", encode)
    after = AddItems([{"id": "c", "title": "mug"}])(data)
    assert asked == [(["mug"], "some/model")]
    assert after["item"].x_text[2].tolist() == [0.25, 0.25]
    monkeypatch.setattr(
        "mars_pyg.transforms.add_items.text_features",
        lambda texts, model: ("tfidf", torch.zeros(len(texts), 2)),
    )
    with pytest.raises(DataError, match="'text_model'"):
        AddItems([{"id": "c", "title": "mug"}])(data)


def test_text_features_of_a_file_need_the_model_that_made_them(
    data: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": "c", "title": "mug"}]
    with pytest.raises(DataError, match=r"not known.*as 'text_model'"):
        AddItems(rows)(data)
    monkeypatch.setattr(
        "mars_pyg.transforms.add_items.text_features",
        lambda texts, model: (model, torch.ones(len(texts), 2)),
    )
    after = AddItems(rows, text_model="some/model")(data)
    assert after["item"].x_text[2].tolist() == [1, 1]


def test_features_that_are_made_after_the_items_know_the_new_ones(
    data: HeteroData,
) -> None:
    del data["item"].x_text
    data["item"].text = ["red mug", "blue mug"]
    after = AddTextFeatures("tfidf")(AddItems([{"id": "c", "title": "red mug"}])(data))
    assert after["item"].text[2] == "red mug"
    assert after["item"].x_text[2].tolist() == after["item"].x_text[0].tolist()
    given = AddItems([{"id": "c", "title": "Mug", "text": "blue mug"}])(data)
    assert given["item"].text[2] == "blue mug"


def test_a_dataset_with_two_modalities_takes_items() -> None:
    data = SyntheticFactorDataset(num_users=30, num_items=20)[0]
    row = {"id": "new", "brand": "Unheard Of", "material": "steel"}
    after = AddItems([row])(data)
    assert after.validate()
    names = {after["value"].name[v] for v in range(after["value"].num_nodes)}
    assert names - set(data["value"].name) == {"Unheard Of"}
    assert values_of(after, 20) == {("brand", "Unheard Of"), ("material", "steel")}


def test_cells_as_pandas_and_parquet_have_them(data: HeteroData) -> None:
    table = pd.DataFrame(
        {
            "id": ["c", "d"],
            "use": [np.array(["tea", "soup"], dtype=object), np.array([])],
            "brand": pd.array(["acme", pd.NA], dtype="string"),
        }
    )
    data = AddItems(table, features={"text": torch.ones(2, 2)})(data)
    assert values_of(data, 2) == {("use", "tea"), ("use", "soup"), ("brand", "acme")}
    assert values_of(data, 3) == set()


def test_whole_numbers_entities_and_line_breaks_are_those_of_catalogues(
    tmp_path: Path,
) -> None:
    rows = "item,title,size,brand\nA&amp;1,Cup,2,Black &amp; Decker\n2,Pot,3,Acme\n"
    (tmp_path / "items.csv").write_text(rows)
    pairs = "".join(f"{user},{item}\n" for user in "abc" for item in ("A&amp;1", 2))
    (tmp_path / "interactions.csv").write_text("user,item\n" + pairs)
    ratios = (1.0, 0.0, 0.0)
    catalogue = FactorDataset(
        tmp_path, factor_columns=["size", "brand"], ratios=ratios
    )[0]
    assert catalogue["value"].name == ["2", "3", "Acme", "Black & Decker"]
    new = [
        {"id": "A&amp;2", "title": "Big\n &quot;cup&quot;", "size": 2},
        {"id": "4", "brand": "Black &amp; Decker"},
        {"id": "5", "size": 2.5},
    ]
    # With a missing cell in its column, 2 is a fraction to pandas.
    for rows in (new, pd.DataFrame(new)):
        data = AddItems(rows)(catalogue.clone())
        assert data["item"].id[2:] == ["A&amp;2", "4", "5"]
        assert data["item"].title[2] == 'Big "cup"'
        edges = data["item", "catalogue_value", "value"].edge_index[:, -3:]
        assert edges.tolist() == [[2, 3, 4], [0, 3, 4]]
        assert data["value"].name[4:] == ["2.5"]


@pytest.mark.parametrize(
    ("form", "column", "names"),
    [
        ("parquet", [True, False, True], ["false", "true"]),
        ("csv", [True, False, True], ["False", "True"]),
        ("csv", [42, None, 38], ["38.0", "42.0"]),
        ("parquet", [42, None, 38], ["38", "42"]),
        ("csv", ["1.90", "2.00", "-0.50"], ["-0.50", "1.90", "2.00"]),
    ],
)
def test_what_a_table_makes_of_values_is_known(
    form: str, column: list[object], names: list[str], tmp_path: Path
) -> None:
    items = pd.DataFrame({"id": list("abc"), "kind": column})
    pairs = [(user, item) for user in "xy" for item in "abc"]
    table = pd.DataFrame(pairs, columns=["user", "item"])
    for name, frame in (("items", items), ("interactions", table)):
        getattr(frame, f"to_{form}")(tmp_path / f"{name}.{form}", index=False)
    data = FactorDataset(tmp_path, factor_columns=["kind"])[0]
    assert data["value"].name == names
    again = getattr(pd, f"read_{form}")(tmp_path / f"items.{form}")
    for table in (items, again):
        after = AddItems(table.assign(id=list("def")))(data)
        assert after["value"].name == names


def test_a_text_of_digits_is_no_number(data: HeteroData) -> None:
    data["value"].name[data["value"].name.index("acme")] = "1.10"
    after = AddItems([{"id": "c", "brand": "1.1"}, {"id": "d", "brand": 1.1}])(data)
    assert values_of(after, 2) == {("brand", "1.1")}
    assert values_of(after, 3) == {("brand", "1.10")}


def test_a_title_that_was_cut_within_a_character(data: HeteroData) -> None:
    rows = json.loads('[{"id": "c", "title": "Mug \\ud83c\\udf75 \\ud83c"}]')
    titles = AddItems(rows, {"text": torch.ones(1, 2)})(data)["item"].title
    assert titles[2].encode() == "Mug 🍵 \ufffd".encode()


def test_features_may_be_arrays(data: HeteroData) -> None:
    array = np.array([[0.5, 2.0]])
    after = AddItems([{"id": "c"}], features={"text": array})(data)
    assert after["item"].x_text[2].tolist() == [0.5, 2.0]


def test_no_items_are_nothing_new(data: HeteroData) -> None:
    assert AddItems([])(data)["item"].num_nodes == 2
