from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mars_pyg import DataError, FactorDataset, LightGCN

INTERACTS = ("user", "interacts", "item")

ITEMS = """\
item,title,brand,color,picture
007,Red mug,Acme,red,
008,Blue mug,Acme|Bolt,blue,
é9,,,,
010,Green hat,Bolt,green,
011,Grey   hat,Bolt,grey,
"""
#: User b comes first; each user has five items, of which 007 comes last for a.
INTERACTIONS = """\
user,item,when
b,007,1
a,008,50
a,é9,40
a,010,30
a,011,20
a,007,60
b,008,2
b,é9,3
b,010,4
b,011,5
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "items.csv").write_text(ITEMS, encoding="utf-8")
    (folder / "interactions.csv").write_text(INTERACTIONS, encoding="utf-8")
    return folder


def edges(data, name: str = "edge_index") -> set[tuple[str, str]]:
    user, item = data["user"].id, data["item"].id
    return {(user[u], item[i]) for u, i in data[INTERACTS][name].t().tolist()}


def values(data, modality: str) -> set[tuple[str, str, str]]:
    store = data["value"]
    pairs = data["item", f"{modality}_value", "value"].edge_index.t().tolist()
    return {
        (data["item"].id[i], store.factor_name[int(store.factor[v])], store.name[v])
        for i, v in pairs
    }


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_by_time(root: Path) -> None:
    data = FactorDataset(root, timestamp_column="when", split="time")[0]
    assert data.validate()
    assert data["user"].id == ["b", "a"]
    assert data["item"].id == ["007", "008", "é9", "010", "011"]
    assert data["item"].title == ["Red mug", "Blue mug", "", "Green hat", "Grey hat"]
    assert data["item"].text == data["item"].title
    assert edges(data, "test_edge_index") == {("a", "007"), ("b", "011")}
    assert edges(data, "val_edge_index") == {("a", "008"), ("b", "010")}
    assert edges(data) == {
        ("a", "é9"),
        ("a", "010"),
        ("a", "011"),
        ("b", "007"),
        ("b", "008"),
        ("b", "é9"),
    }
    user, item = LightGCN(data)()
    assert (len(user), len(item)) == (2, 5)


def test_dates_are_times(root: Path) -> None:
    numbers = FactorDataset(root, timestamp_column="when", split="time")[0]
    table = pd.read_csv(root / "interactions.csv", dtype=str)
    days = pd.to_datetime(table["when"].astype(int), unit="D")
    table["when"] = days.dt.strftime("%Y-%m-%d")
    table.to_csv(root / "interactions.csv", index=False)
    dates = FactorDataset(root, timestamp_column="when", split="time")[0]
    for name in ("edge_index", "val_edge_index", "test_edge_index"):
        assert edges(dates, name) == edges(numbers, name)


def test_random_split_and_seed(root: Path) -> None:
    first, again, other = (
        FactorDataset(root, seed=seed, force_reload=True)[0] for seed in (0, 0, 1)
    )
    names = ("edge_index", "val_edge_index", "test_edge_index")
    assert [len(edges(first, name)) for name in names] == [6, 2, 2]
    assert [edges(first, name) for name in names] == [
        edges(again, name) for name in names
    ]
    assert any(edges(first, name) != edges(other, name) for name in names)
    none = FactorDataset(root, ratios=(0.8, 0.0, 0.2))[0]
    assert [len(edges(none, name)) for name in names] == [8, 0, 2]


@pytest.mark.parametrize("suffix", ["parquet", "tsv"])
def test_other_files_give_the_same_graph(root: Path, suffix: str) -> None:
    options = {
        "timestamp_column": "when",
        "split": "time",
        "factor_columns": ["brand", "color"],
    }
    expected = FactorDataset(root, **options)[0]
    for name in ("items", "interactions"):
        table = pd.read_csv(root / f"{name}.csv", dtype=str, keep_default_na=False)
        if suffix == "parquet":
            if "when" in table:
                table["when"] = table["when"].astype(int)
            table.replace({"": None}).to_parquet(root / f"{name}.parquet")
        else:
            table.to_csv(root / f"{name}.tsv", sep="\t", index=False)
        (root / f"{name}.csv").unlink()
    data = FactorDataset(root, **options)[0]
    assert data["user"].id == expected["user"].id
    assert data["item"].id == expected["item"].id
    for name in ("edge_index", "val_edge_index", "test_edge_index"):
        assert edges(data, name) == edges(expected, name)
    assert values(data, "catalogue") == values(expected, "catalogue")


def test_factor_columns(root: Path) -> None:
    data = FactorDataset(root, factor_columns=["brand", "color"])[0]
    assert values(data, "catalogue") == {
        ("007", "brand", "Acme"),
        ("008", "brand", "Acme"),
        ("008", "brand", "Bolt"),
        ("010", "brand", "Bolt"),
        ("011", "brand", "Bolt"),
        ("007", "color", "red"),
        ("008", "color", "blue"),
        ("010", "color", "green"),
        ("011", "color", "grey"),
    }


@pytest.mark.parametrize("cell", ["nan", "Acme| NaN "])
def test_factor_values_that_are_nan(root: Path, cell: str) -> None:
    replace(root / "items.csv", "Acme|Bolt", cell)
    with pytest.raises(DataError, match="the value is missing") as caught:
        FactorDataset(root, factor_columns=["color", "brand"])
    error = caught.value
    assert (error.file, error.row) == (str(root / "items.csv"), 3)
    assert error.field == "brand"
    assert "Mend: leave the field of a missing value empty" in str(error)


def test_a_name_with_nan_in_it_is_a_value(root: Path) -> None:
    replace(root / "items.csv", "Acme|Bolt", "Nando|banana")
    data = FactorDataset(root, factor_columns=["brand"])[0]
    found = {value for item, _, value in values(data, "catalogue") if item == "008"}
    assert found == {"Nando", "banana"}


def test_ids_are_no_factor(root: Path) -> None:
    with pytest.raises(DataError, match="ids cannot be a factor") as caught:
        FactorDataset(root, factor_columns=["brand", "item"])
    assert caught.value.file == str(root / "items.csv")
    assert caught.value.field == "item"


def write_profiles(folder: Path, modality: str, rows: str) -> None:
    folder.mkdir(parents=True)
    schema = {"modality": modality, "factors": [{"name": "use", "values": None}]}
    (folder / "schema.json").write_text(json.dumps(schema))
    (folder / "profiles.csv").write_text(rows, encoding="utf-8")


def test_profiles_of_two_modalities(root: Path) -> None:
    write_profiles(root / "factors" / "a", "text", "item,use\n007,tea\né9,sun\n")
    write_profiles(root / "factors" / "b", "image", "item,use\n007,tea\n")
    data = FactorDataset(root, factor_columns=["brand"])[0]
    assert values(data, "text") == {("007", "use", "tea"), ("é9", "use", "sun")}
    assert values(data, "image") == {("007", "use", "tea")}
    assert ("007", "brand", "Acme") in values(data, "catalogue")


def test_profiles_elsewhere(root: Path, tmp_path: Path) -> None:
    write_profiles(tmp_path / "mine", "text", "item,use\n010,sun\n")
    data = FactorDataset(root, profiles=tmp_path / "mine")[0]
    assert values(data, "text") == {("010", "use", "sun")}


def test_profiles_and_factor_columns_of_one_modality(root: Path) -> None:
    write_profiles(root / "factors", "catalogue", "item,use\n007,tea\n")
    data = FactorDataset(root)[0]
    assert values(data, "catalogue") == {("007", "use", "tea")}
    with pytest.raises(DataError, match="modality 'catalogue'") as caught:
        FactorDataset(root, factor_columns=["brand"])
    assert caught.value.field == "brand"
    assert "give the profiles another modality" in caught.value.mend


def test_two_profiles_of_one_modality(root: Path) -> None:
    for name in "ab":
        write_profiles(root / "factors" / name, "text", "item,use\n007,tea\n")
    with pytest.raises(DataError, match="two profiles of the modality 'text'"):
        FactorDataset(root)


def test_profiles_that_lack_a_file(root: Path) -> None:
    write_profiles(root / "factors", "text", "item,use\n007,tea\n")
    schema = (root / "factors" / "schema.json").read_text()
    (root / "factors" / "schema.json").unlink()
    with pytest.raises(DataError, match="without a schema") as caught:
        FactorDataset(root)
    assert caught.value.file == str(root / "factors" / "schema.json")
    (root / "factors" / "profiles.csv").unlink()
    with pytest.raises(DataError, match="holds no profiles"):
        FactorDataset(root)
    (root / "factors" / "schema.json").write_text(schema)
    with pytest.raises(DataError, match=r"none of profiles\.csv"):
        FactorDataset(root)


def test_profile_of_an_unknown_item(root: Path) -> None:
    write_profiles(root / "factors", "text", "item,use\n007,tea\n00X,tea\n")
    with pytest.raises(DataError, match="unknown item: '00X'") as caught:
        FactorDataset(root)
    assert caught.value.file == str(root / "factors" / "profiles.csv")
    assert (caught.value.row, caught.value.field) == (3, "item")


def test_images_of_a_folder_that_moved(root: Path, tmp_path: Path) -> None:
    (root / "mug.jpg").write_bytes(b"picture")
    replace(root / "items.csv", "Acme,red,", "Acme,red,mug.jpg")
    FactorDataset(root, image_column="picture")
    moved = tmp_path / "moved"
    shutil.move(root, moved)
    data = FactorDataset(moved, image_column="picture")[0]
    assert data["item"].image_path[0] == str(moved / "mug.jpg")


def test_a_picture_in_the_place_of_its_path(root: Path) -> None:
    picture = f"data:image/png;base64{'x' * 5000}"
    replace(root / "items.csv", "Acme,red,", f"Acme,red,{picture}")
    with pytest.raises(DataError, match=r"no image 'data:image/png.{80,90}'") as caught:
        FactorDataset(root, image_column="picture")
    assert (caught.value.row, caught.value.field) == (2, "picture")


def test_images_hold_from_any_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "mug.jpg").write_bytes(b"picture")
    replace(root / "items.csv", "Acme,red,", "Acme,red,mug.jpg")
    monkeypatch.chdir(root.parent)
    data = FactorDataset(root.name, image_column="picture")[0]
    assert data["item"].image_path[0] == str(root / "mug.jpg")


def test_ids_in_place_of_titles(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    replace(root / "items.csv", "item,title", "item,name")
    with caplog.at_level(logging.INFO, logger="mars_pyg"):
        data = FactorDataset(root)[0]
    assert data["item"].title == data["item"].id
    # An id is nothing to make features of.
    assert data["item"].text == [""] * 5
    assert "no column 'title'; the ids of the items serve as titles" in caplog.text
    with pytest.raises(DataError, match="column is missing") as caught:
        FactorDataset(root, title_column="heading")
    assert (caught.value.row, caught.value.field) == (1, "heading")


def test_columns_that_are_not_read_are_logged(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mars_pyg"):
        FactorDataset(root, factor_columns=["brand"], text_columns=["color"])
    assert "items.csv: columns not read: picture" in caplog.text
    assert "interactions.csv: columns not read: when" in caplog.text


def test_integer_ids_of_parquet(root: Path) -> None:
    for name in ("items", "interactions"):
        (root / f"{name}.csv").unlink()
    pd.DataFrame({"item": [7, 5, 6], "brand": [["A", "B"], None, ["B"]]}).to_parquet(
        root / "items.parquet"
    )
    pd.DataFrame({"user": [20] * 3 + [3] * 3, "item": [5, 6, 7] * 2}).to_parquet(
        root / "interactions.parquet"
    )
    data = FactorDataset(root, factor_columns=["brand"])[0]
    assert data["user"].id == ["20", "3"]
    assert data["item"].id == ["7", "5", "6"]
    assert values(data, "catalogue") == {
        ("7", "brand", "A"),
        ("7", "brand", "B"),
        ("6", "brand", "B"),
    }


def test_faults_in_parquet(root: Path) -> None:
    items = pd.read_csv(root / "items.csv", dtype=str)
    (root / "items.csv").unlink()
    items.rename(columns={"item": "sku"}).to_parquet(root / "items.parquet")
    with pytest.raises(DataError, match="column is missing") as caught:
        FactorDataset(root)
    # A header of parquet is no row of the file.
    assert (caught.value.row, caught.value.field) == (None, "id")
    items.loc[2, "item"] = "007"
    items.to_parquet(root / "items.parquet")
    with pytest.raises(DataError, match="'007' is there twice") as caught:
        FactorDataset(root)
    assert (caught.value.row, caught.value.field) == (4, "item")
    (root / "items.parquet").write_bytes(b"none")
    with pytest.raises(DataError, match="not parquet"):
        FactorDataset(root)


def test_ties_keep_the_order_of_the_rows(root: Path) -> None:
    (root / "interactions.csv").write_text(
        "user,item,when\nb,010,5\nb,008,5\nb,007,5\nb,011,4\n"
    )
    data = FactorDataset(root, timestamp_column="when", split="time")[0]
    assert edges(data) == {("b", "011"), ("b", "010")}
    assert edges(data, "val_edge_index") == {("b", "008")}
    assert edges(data, "test_edge_index") == {("b", "007")}


def test_texts_features_and_images(root: Path) -> None:
    x = np.arange(10, dtype=np.float64).reshape(5, 2)
    np.save(root / "sound_feat.npy", x)
    (root / "mug.jpg").write_bytes(b"picture")
    replace(root / "items.csv", "Acme,red,", "Acme,red,mug.jpg")
    data = FactorDataset(root, text_columns=["title", "color"], image_column="picture")[
        0
    ]
    assert data["item"].text[:3] == ["Red mug red", "Blue mug blue", ""]
    assert data["item"].title[0] == "Red mug"
    assert torch.equal(data["item"].x_sound, torch.from_numpy(x).float())
    assert data["item"].image_path == [str(root / "mug.jpg"), "", "", "", ""]


def test_other_names_of_columns(root: Path) -> None:
    replace(root / "items.csv", "item,title", "id,name")
    replace(root / "interactions.csv", "user,item", "who,what")
    data = FactorDataset(
        root, user_column="who", item_column="what", title_column="name"
    )[0]
    assert data["item"].title[0] == "Red mug"
    assert len(edges(data)) == 6


def test_repeated_pairs_are_counted(root: Path) -> None:
    with (root / "interactions.csv").open("a") as stream:
        stream.write("a,007,10\na,007,70\n")
    with pytest.warns(UserWarning, match="2 of 12 interactions repeat"):
        data = FactorDataset(root, timestamp_column="when", split="time")[0]
    # The earliest counts, so that 007 is now the first item of a.
    assert ("a", "007") in edges(data)
    assert edges(data, "test_edge_index") == {("a", "008"), ("b", "011")}


def test_unknown_items(root: Path) -> None:
    replace(root / "interactions.csv", "b,007,1\n", "b,00X,1\nb,007,1\n")
    with pytest.raises(DataError, match="unknown item '00X'") as caught:
        FactorDataset(root)
    assert (caught.value.row, caught.value.field) == (2, "item")
    with pytest.warns(UserWarning, match="1 of 11 interactions are of items"):
        data = FactorDataset(root, unknown_items="drop")[0]
    assert data["item"].num_nodes == 5
    assert data["user"].id == ["b", "a"]


def test_users_who_are_left_out_are_counted(root: Path) -> None:
    replace(root / "interactions.csv", "b,007,1\n", "c,00X,1\nd,00X,1\nb,007,1\n")
    with pytest.warns(UserWarning, match="2 of 12 .* left out, and with them 2 users"):
        data = FactorDataset(root, unknown_items="drop")[0]
    assert data["user"].id == ["b", "a"]


def test_k_core(root: Path) -> None:
    with (root / "interactions.csv").open("a") as stream:
        stream.write("c,007,10\n")
    with pytest.warns(UserWarning, match="1 of 11 interactions are not in the 2-core"):
        data = FactorDataset(root, k_core=2)[0]
    assert data["user"].id == ["b", "a"]
    with (
        pytest.warns(UserWarning, match="11 of 11 interactions"),
        pytest.raises(DataError, match="no interaction"),
    ):
        FactorDataset(root, k_core=6)


def test_changed_files_and_options_are_noticed(root: Path) -> None:
    first = FactorDataset(root)[0]
    assert len(list((root / "processed").glob("*.pt"))) == 1
    assert FactorDataset(root)[0]["item"].title == first["item"].title
    assert len(list((root / "processed").glob("*.pt"))) == 1
    replace(root / "items.csv", "Red mug", "Red cup")
    assert FactorDataset(root)[0]["item"].title[0] == "Red cup"
    assert "x_sound" not in first["item"]
    np.save(root / "sound_feat.npy", np.ones((5, 2)))
    assert "x_sound" in FactorDataset(root)[0]["item"]
    replace(root / "interactions.csv", "a,007,60", "z,007,60")
    assert FactorDataset(root)[0]["user"].id == ["b", "a", "z"]
    write_profiles(root / "factors", "text", "item,use\n007,tea\n")
    assert values(FactorDataset(root)[0], "text") == {("007", "use", "tea")}
    replace(root / "factors" / "profiles.csv", "tea", "sun")
    assert values(FactorDataset(root)[0], "text") == {("007", "use", "sun")}


@pytest.mark.parametrize(
    ("file", "old", "new", "row", "field", "message"),
    [
        ("items.csv", "008,Blue", "007,Blue", 3, "item", "'007' is there twice"),
        ("items.csv", "008,Blue", ",Blue", 3, "item", "id is missing"),
        (
            "items.csv",
            "008,",
            "item,title,brand,color,picture\n008,",
            3,
            None,
            "header",
        ),
        ("items.csv", "item,title", "sku,title", 1, "id", "column is missing"),
        ("items.csv", "red,", "red,no.jpg", 2, "picture", "no image 'no.jpg'"),
        ("items.csv", "Blue mug", "Blue,mug,x,y", 3, None, "cannot be read"),
        ("interactions.csv", "a,008", "nan,008", 3, "user", "id is missing"),
        ("interactions.csv", "a,008", "a,", 3, "item", "id is missing"),
        ("interactions.csv", "008,50", "008,NaN", 3, "when", "not a time"),
        ("interactions.csv", "008,50", "008,soon", 3, "when", "not a time"),
        ("interactions.csv", "user,", "customer,", 1, "user", "column is missing"),
        (
            "interactions.csv",
            "b,008",
            "user,item,when\nb,008",
            8,
            None,
            "header is repeated",
        ),
    ],
)
def test_faults(
    root: Path,
    file: str,
    old: str,
    new: str,
    row: int,
    field: str | None,
    message: str,
) -> None:
    replace(root / file, old, new)
    with pytest.raises(DataError, match=message) as caught:
        FactorDataset(root, timestamp_column="when", image_column="picture")
    assert caught.value.file == str(root / file)
    assert (caught.value.row, caught.value.field) == (row, field)
    assert str(caught.value).endswith(f"Mend: {caught.value.mend}")
    assert caught.value.mend


def test_a_header_without_items(root: Path) -> None:
    (root / "items.csv").write_text("item,title\n")
    with pytest.raises(DataError, match=r"items\.csv: there are no items"):
        FactorDataset(root)


def test_broken_encoding(root: Path) -> None:
    (root / "items.csv").write_bytes(ITEMS.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8") as caught:
        FactorDataset(root)
    assert caught.value.row == 4


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((4, 2)), r"expected the shape \[5, D\], got \[4, 2\]"),
        (np.ones(5), r"got \[5\]"),
        (np.full((5, 2), np.nan), "row 0 of the matrix holds NaN"),
        (np.array([["a"]] * 5), "not a matrix of numbers"),
    ],
)
def test_features_that_do_not_fit(root: Path, x: np.ndarray, message: str) -> None:
    np.save(root / "text_feat.npy", x)
    with pytest.raises(DataError, match=message) as caught:
        FactorDataset(root)
    assert caught.value.file == str(root / "text_feat.npy")


@pytest.mark.parametrize("name", ["", "id", "joint", "union", "a.b", "my-x", "values"])
def test_features_of_a_name_that_no_model_can_use(root: Path, name: str) -> None:
    np.save(root / f"{name}_feat.npy", np.ones((5, 2)))
    with pytest.raises(DataError, match="cannot be the name of a modality") as caught:
        FactorDataset(root)
    assert caught.value.file == str(root / f"{name}_feat.npy")


def test_files_that_are_missing_or_too_many(root: Path) -> None:
    (root / "items.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"more than one of items\.csv"):
        FactorDataset(root)
    (root / "items.parquet").unlink()
    with pytest.raises(DataError, match="no such folder"):
        FactorDataset(root, profiles=root / "nowhere")
    with pytest.raises(DataError, match="no such folder"):
        FactorDataset(root / "nowhere")
    (root / "items.csv").unlink()
    with pytest.raises(DataError, match=r"none of items\.csv"):
        FactorDataset(root)


def test_empty_splits(root: Path) -> None:
    (root / "interactions.csv").write_text("user,item\na,007\nb,008\n")
    with pytest.raises(DataError, match="validation split is empty"):
        FactorDataset(root)
    (root / "interactions.csv").write_text("user,item\n")
    with pytest.raises(DataError, match="no interaction is left"):
        FactorDataset(root)


def test_every_user_has_a_train_item(root: Path) -> None:
    (root / "interactions.csv").write_text(
        "user,item\nx,007\ny,007\ny,008\n"
        + "".join(f"{u},{i}\n" for u in "abc" for i in ("007", "008", "é9"))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = FactorDataset(root)[0]
    assert {user for user, _ in edges(data)} == {"x", "y", "a", "b", "c"}


def test_wrong_arguments(root: Path) -> None:
    for options, message in (
        ({"split": "date"}, "'split'"),
        ({"split": "time"}, "'timestamp_column'"),
        ({"unknown_items": "keep"}, "'unknown_items'"),
        ({"k_core": 0}, "'k_core'"),
        ({"factor_columns": ["brand", "brand"]}, "repeat a column"),
        ({"ratios": (0.5, 0.1, 0.1)}, "ratios"),
    ):
        with pytest.raises(ValueError, match=message):
            FactorDataset(root, **options)


def test_one_name_is_no_list_of_names(root: Path) -> None:
    for name in ("factor_columns", "text_columns"):
        with pytest.raises(TypeError, match=rf"'{name}' .*write \['brand'\]"):
            FactorDataset(root, **{name: "brand"})


def test_no_text_columns(root: Path) -> None:
    data = FactorDataset(root, text_columns=[])[0]
    assert data["item"].text == [""] * 5
    assert data["item"].title[0] == "Red mug"


def test_entities_are_resolved(root: Path) -> None:
    (root / "items.csv").write_text(
        "id,title,brand\n007,Tom &amp; co,A&amp;B\n008,x,\n010,y,\n011,z,\né9,w,\n"
    )
    data = FactorDataset(root, factor_columns=["brand"])[0]
    assert data["item"].title[0] == "Tom & co"
    assert data["item"].text[0] == "Tom & co"
    assert data["value"].name == ["A&B"]
