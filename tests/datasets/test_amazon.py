from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mars_pyg.datasets import AmazonFactorDataset
from mars_pyg.errors import DataError
from mars_pyg.tables import read_table
from mars_pyg.transforms import AddItemKNN

INTER = (
    "userID\titemID\tx_label\n"
    "0\t0\t0\n0\t1\t0\n0\t2\t1\n0\t3\t2\n"
    "4\t3\t0\n4\t2\t0\n4\t1\t1\n4\t0\t2\n"
)
# Not in the order of the numbers, with an entity, a quoted quote and holes.
ITEMS = (
    "itemID\tasin\ttitle\tdescription\timage_url\n"
    "3\tB3\tDoll &amp; Bear\t\t\n"
    "0\tB0\t\t\thttp://example.com/0.jpg\n"
    '1\tB1\t"8"" Plate"\tA plate.\t\n'
    "2\tB2\tDoll\t\t\n"
)
SCHEMA = (
    '{"domain": "toys", "modality": "text", "factors": ['
    '{"name": "kind", "values": ["doll", "dish, plate"]},'
    '{"name": "brand", "values": null}]}'
)
PROFILES = "itemID\tasin\tkind\tbrand\n2\tB2\tdoll\tacme\n1\tB1\tdish, plate\t\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "amazon-baby"
    (folder / "factors").mkdir(parents=True)
    (folder / "baby.inter").write_text(INTER)
    (folder / "items.tsv").write_text(ITEMS)
    (folder / "factors/schema.json").write_text(SCHEMA)
    (folder / "factors/profiles.tsv").write_text(PROFILES)
    return tmp_path


def test_one_name_is_no_list_of_names(root: Path) -> None:
    with pytest.raises(TypeError, match=r"'factor_columns' .*write \['title'\]"):
        AmazonFactorDataset(root, factor_columns="title")


def test_graph(root: Path) -> None:
    dataset = AmazonFactorDataset(root)
    assert str(dataset) == "AmazonFactorDataset('baby')"
    data = dataset[0]
    assert data["user"].id == ["0", "4"]
    item = data["item"]
    assert item.id == ["B0", "B1", "B2", "B3"]
    assert item.title == ["", '8" Plate', "Doll", "Doll & Bear"]
    assert item.text == item.title
    assert item.description == ["", "A plate.", "", ""]
    assert item.image_url == ["http://example.com/0.jpg", "", "", ""]
    store = data["user", "interacts", "item"]
    assert store.edge_index.tolist() == [[0, 0, 1, 1], [0, 1, 2, 3]]
    assert store.val_edge_index.tolist() == [[0, 1], [2, 1]]
    assert store.test_edge_index.tolist() == [[0, 1], [3, 0]]
    assert data["value"].name == ["doll", "dish, plate", "acme"]
    assert data["value"].factor_name == ["kind", "brand"]
    edges = data["item", "text_value", "value"].edge_index
    assert edges.tolist() == [[1, 2, 2], [1, 0, 2]]
    assert data.validate()


@pytest.mark.parametrize("place", [".", "amazon-baby", "baby"])
def test_folders(root: Path, place: str) -> None:
    moved = root / "moved" / place
    moved.parent.mkdir(parents=True, exist_ok=True)
    (root / "amazon-baby").rename(moved)
    assert AmazonFactorDataset(root / "moved")[0]["item"].num_nodes == 4


def test_brand_and_categories_are_the_text_and_the_short_text_a_title(
    root: Path,
) -> None:
    (root / "amazon-baby").rename(root / "sports")
    (root / "sports/baby.inter").rename(root / "sports/sports.inter")
    (root / "sports/items.tsv").write_text(
        "itemID\tasin\tbrand_and_categories\tidgenrec_text\n"
        "0\tB0\tAcme | Dolls\tred doll\n1\tB1\t | Dolls &gt; Red\tdoll\n"
        "2\tB2\t\t\n3\tB3\tAcme\tplate\n"
    )
    item = AmazonFactorDataset(root, "sports")[0]["item"]
    assert item.title == ["red doll", "doll", "", "plate"]
    assert item.text == ["Acme | Dolls", "Dolls > Red", "", "Acme"]
    assert "idgenrec_text" not in item
    # A short text alone is shown, and no features are made from it.
    (root / "sports/items.tsv").write_text(
        "itemID\tasin\tidgenrec_text\n0\tB0\tdoll\n1\tB1\t\n2\tB2\t\n3\tB3\t\n"
    )
    item = AmazonFactorDataset(root, "sports")[0]["item"]
    assert item.title == ["doll", "", "", ""]
    assert "text" not in item


def test_ids_of_users(root: Path) -> None:
    file = root / "amazon-baby" / "users.tsv"
    file.write_text("userID\treviewerID\n4\tA4\n0\tA0\n9\tA9\n")
    assert AmazonFactorDataset(root)[0]["user"].id == ["A0", "A4"]
    file.write_text("userID\treviewerID\n4\tA4\n")
    with pytest.raises(DataError, match=r"users\.tsv.*user 0 .* has no id"):
        AmazonFactorDataset(root)
    file.write_text("userID\treviewerID\n4\tA4\n0\tA4\n")
    with pytest.raises(DataError, match="'A4' is there twice") as caught:
        AmazonFactorDataset(root)
    assert (caught.value.row, caught.value.field) == (3, "reviewerID")


def test_factor_columns(root: Path) -> None:
    data = AmazonFactorDataset(root, factor_columns=["title"])[0]
    names = {
        data["value"].name[v]
        for v in data["item", "catalogue_value", "value"].edge_index[1]
    }
    assert names == {"Doll & Bear", '8" Plate', "Doll"}
    assert ("item", "text_value", "value") in data.edge_types
    plain = AmazonFactorDataset(root)[0]
    assert ("item", "catalogue_value", "value") not in plain.edge_types
    with pytest.raises(DataError, match="the column is missing") as caught:
        AmazonFactorDataset(root, factor_columns=["colour"])
    assert caught.value.field == "colour"
    schema = SCHEMA.replace('"modality": "text"', '"modality": "catalogue"')
    (root / "amazon-baby/factors/schema.json").write_text(schema)
    with pytest.raises(DataError, match="modality 'catalogue' already"):
        AmazonFactorDataset(root, factor_columns=["title"])


def test_interactions_alone(root: Path) -> None:
    folder = root / "amazon-baby"
    (folder / "items.tsv").unlink()
    shutil.rmtree(folder / "factors")
    (folder / "baby.inter").write_text(INTER.replace("\t3\t", "\t9\t"))
    data = AmazonFactorDataset(root)[0]
    assert data["item"].id == ["0", "1", "2", "9"]
    assert data["item"].title == [""] * 4
    assert "text" not in data["item"]
    assert data["user", "interacts", "item"].test_edge_index.tolist() == [
        [0, 1],
        [3, 0],
    ]
    assert data.node_types == ["user", "item"]


def test_profiles_without_items_file_go_by_number(root: Path) -> None:
    (root / "amazon-baby/items.tsv").unlink()
    data = AmazonFactorDataset(root)[0]
    edges = data["item", "text_value", "value"].edge_index
    assert edges.tolist() == [[1, 2, 2], [1, 0, 2]]


def test_features(root: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 6))
    np.save(root / "amazon-baby/text_feat.npy", x)
    np.save(root / "amazon-baby/image_feat.npy", x[:, :2].astype(np.float32))
    item = AmazonFactorDataset(root, text_model="tfidf")[0]["item"]
    assert torch.equal(item.x_text, torch.from_numpy(x).float())
    assert item.x_image.size() == (4, 2)


def test_features_without_items_file_count_the_items(root: Path) -> None:
    (root / "amazon-baby/items.tsv").unlink()
    np.save(root / "amazon-baby/image_feat.npy", np.ones((6, 2), dtype=np.float32))
    assert AmazonFactorDataset(root)[0]["item"].id == list("012345")


def test_text_model(root: Path) -> None:
    dataset = AmazonFactorDataset(
        root, text_model="tfidf", pre_transform=AddItemKNN(k=2)
    )
    item = dataset[0]["item"]
    # Words: 8, plate, doll, bear, less the item without title.
    assert item.x_text.size() == (4, 4)
    assert (item.x_text[0] == 0).all()
    assert item.text_encoder == "tfidf"
    edges = dataset[0]["item", "similar", "item"].edge_index.t().tolist()
    assert [3, 2] in edges
    assert [2, 3] in edges


def test_text_model_that_cannot_be_loaded_is_said_at_each_use(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.warns(UserWarning, match="cannot be loaded") as warned:
        AmazonFactorDataset(root, text_model="some/model")
    assert len(warned) == 1
    with pytest.warns(UserWarning, match="made by tfidf because some/model"):
        data = AmazonFactorDataset(root, text_model="some/model")[0]
    assert data["item"].text_encoder == "tfidf"


def test_no_stale_file_is_met(root: Path) -> None:
    first = AmazonFactorDataset(root)
    again = AmazonFactorDataset(root)
    assert first.processed_paths == again.processed_paths
    folder = root / "amazon-baby"
    (folder / "items.tsv").write_text(ITEMS.replace("Doll\t", "Robot\t"))
    assert AmazonFactorDataset(root)[0]["item"].title[2] == "Robot"
    np.save(folder / "image_feat.npy", np.ones((4, 2)))
    assert "x_image" in AmazonFactorDataset(root)[0]["item"]
    knn = [AmazonFactorDataset(root, pre_transform=AddItemKNN(k=k))[0] for k in (1, 2)]
    assert [data["item", "similar", "item"].num_edges for data in knn] == [4, 8]


def test_processed_root(root: Path) -> None:
    dataset = AmazonFactorDataset(root, processed_root=root / "elsewhere")
    assert dataset.processed_dir == str(root / "elsewhere")
    assert not (root / "processed").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "row", "field", "words"),
    [
        ("items.tsv", "2\tB2", "1\tB2", 5, "itemID", "'1' is there twice"),
        ("items.tsv", "2\tB2", "01\tB2", 5, "itemID", "'1' is there twice"),
        ("items.tsv", "2\tB2", "2\tB1", 5, "asin", "'B1' is there twice"),
        ("items.tsv", "2\tB2", "\tB2", 5, "itemID", "not valid"),
        ("items.tsv", "2\tB2", "2\t", 5, "asin", "not valid"),
        ("items.tsv", "2\tB2", "2.0\tB2", 5, "itemID", "'2.0' is not valid"),
        ("items.tsv", "asin", "ASIN", 1, "asin", "missing"),
        ("baby.inter", "4\t3\t0", "4\t7\t0", 6, "itemID", "unknown item 7"),
        ("factors/profiles.tsv", "B2", "B9", 2, "asin", "unknown item"),
        ("factors/profiles.tsv", "dish, plate", "dish", 3, "kind", "'dish, plate'"),
        ("factors/schema.json", '"kind"', '""', None, "factors.0.name", "character"),
    ],
)
def test_faults(
    root: Path,
    name: str,
    old: str,
    new: str,
    row: int | None,
    field: str,
    words: str,
) -> None:
    file = root / "amazon-baby" / name
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words) as caught:
        AmazonFactorDataset(root)
    assert caught.value.file == str(file)
    assert (caught.value.row, caught.value.field) == (row, field)


def test_schema_without_profiles(root: Path) -> None:
    (root / "amazon-baby/factors/profiles.tsv").unlink()
    with pytest.raises(DataError, match=r"none of profiles\.csv"):
        AmazonFactorDataset(root)


def test_feature_faults(root: Path) -> None:
    file = root / "amazon-baby/text_feat.npy"
    np.save(file, np.ones((5, 2)))
    shape = r"expected the shape \[4, D\], got \[5, 2\]"
    with pytest.raises(DataError, match=shape) as caught:
        AmazonFactorDataset(root)
    assert caught.value.file == str(file)
    np.save(file, np.array([["a"]] * 4))
    with pytest.raises(DataError, match="matrix of numbers"):
        AmazonFactorDataset(root)
    # Objects would be unpickled.
    np.save(file, np.array([[None]] * 4, dtype=object))
    with pytest.raises(DataError, match="cannot be read"):
        AmazonFactorDataset(root)
    file.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        AmazonFactorDataset(root)
    np.save(file, np.ones((4, 2)))
    items = root / "amazon-baby/items.tsv"
    items.write_text(ITEMS.replace("3\tB3", "5\tB3"))
    inter = root / "amazon-baby/baby.inter"
    inter.write_text(INTER.replace("\t3\t", "\t5\t"))
    with pytest.raises(DataError, match="without gaps"):
        AmazonFactorDataset(root)


def test_no_items(root: Path) -> None:
    folder = root / "amazon-baby"
    (folder / "items.tsv").write_text("itemID\tasin\ttitle\n")
    with pytest.raises(DataError, match="there are no items"):
        AmazonFactorDataset(root)
    (folder / "items.tsv").unlink()
    shutil.rmtree(folder / "factors")
    np.save(folder / "text_feat.npy", np.zeros((0, 3)))
    with pytest.raises(DataError, match="there are no items"):
        AmazonFactorDataset(root)
    np.save(folder / "text_feat.npy", np.array(3.5))
    with pytest.raises(DataError, match="not a matrix of numbers"):
        AmazonFactorDataset(root)


def test_name() -> None:
    with pytest.raises(ValueError, match="name must be one of baby, sports"):
        AmazonFactorDataset(".", "toys")


def test_profiles_in_parquet_elsewhere_and_for_each_modality(root: Path) -> None:
    plain = AmazonFactorDataset(root)[0]
    factors = root / "amazon-baby/factors"
    table = read_table(factors / "profiles.tsv")
    (factors / "profiles.tsv").unlink()
    table.to_parquet(factors / "profiles.parquet")
    data = AmazonFactorDataset(root)[0]
    edge_type = ("item", "text_value", "value")
    assert data["value"].name == plain["value"].name
    assert torch.equal(data[edge_type].edge_index, plain[edge_type].edge_index)
    # A folder inside is of another modality.
    image = factors / "image"
    image.mkdir()
    (image / "schema.json").write_text(SCHEMA.replace('"text"', '"image"'))
    (image / "profiles.tsv").write_text("asin\tkind\tbrand\nB3\tdoll\t\n")
    data = AmazonFactorDataset(root)[0]
    assert data["item", "image_value", "value"].edge_index.tolist() == [[3], [0]]
    assert torch.equal(data[edge_type].edge_index, plain[edge_type].edge_index)
    data = AmazonFactorDataset(root, profiles=image)[0]
    assert edge_type not in data.edge_types
    with pytest.raises(DataError, match="no such folder"):
        AmazonFactorDataset(root, profiles=root / "none")


def test_features_in_safetensors(root: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    x = torch.randn(4, 3)
    save_file({"x": x}, root / "amazon-baby/image_feat.safetensors")
    assert torch.equal(AmazonFactorDataset(root)[0]["item"].x_image, x)
    np.save(root / "amazon-baby/image_feat.npy", x.numpy())
    with pytest.raises(DataError, match="two files of the modality 'image'"):
        AmazonFactorDataset(root)
