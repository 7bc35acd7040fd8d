from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.factors import ItemCatalogue


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_from_table(tmp_path: Path, suffix: str, separator: str) -> None:
    file = tmp_path / f"items{suffix}"
    rows = [["id", "title", "photo"], ["b", " A &amp; B ", "b.jpg"], ["a", "", ""]]
    file.write_text("\n".join(separator.join(row) for row in rows))
    catalogue = ItemCatalogue.from_table(file)
    assert catalogue.ids == ["b", "a"]
    assert catalogue.fields == {"title": ["A & B", ""], "photo": ["b.jpg", ""]}
    assert catalogue.images == []
    catalogue = ItemCatalogue.from_table(file, "id", ["title"], "photo")
    assert list(catalogue.fields) == ["title"]
    assert catalogue.images == ["b.jpg", ""]
    assert len(catalogue) == 2


@pytest.mark.parametrize(
    ("text", "options", "row", "field", "words"),
    [
        ("id,title\na,A\na,B\n", {}, 3, "id", "'a' is there twice"),
        ("id,title\n,A\n", {}, 2, "id", "the id is missing"),
        ("name,title\na,A\n", {}, None, None, "no column of ids"),
        ("id,title\na,A\n", {"id_column": "sku"}, 1, "sku", "column is missing"),
        ("id,title\na,A\n", {"text_columns": ["x"]}, 1, "x", "column is missing"),
        ("id,title\na,A\n", {"image_column": "x"}, 1, "x", "column is missing"),
        ("id,title\na,A\nid,title\n", {}, 3, None, "header is repeated"),
    ],
)
def test_faults_of_a_table(
    tmp_path: Path,
    text: str,
    options: dict,
    row: int | None,
    field: str | None,
    words: str,
) -> None:
    file = tmp_path / "items.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        ItemCatalogue.from_table(file, **options)
    assert (caught.value.file, caught.value.row) == (str(file), row)
    assert caught.value.field == field


def test_from_data() -> None:
    data = HeteroData()
    data["item"].num_nodes = 2
    with pytest.raises(DataError, match="no ids"):
        ItemCatalogue.from_data(data)
    data["item"].id = ["a", "b"]
    data["item"].title = ["A", ""]
    data["item"].image_url = ["http://a", ""]
    data["item"].x_text = torch.ones(2, 3)
    data["item"].text_encoder = "tfidf"
    catalogue = ItemCatalogue.from_data(data)
    assert catalogue.ids == ["a", "b"]
    assert catalogue.fields == {"title": ["A", ""]}
    assert catalogue.images == ["http://a", ""]
    assert catalogue.features["text"].shape == (2, 3)
    data["item"].image_path = ["a.jpg", ""]
    assert ItemCatalogue.from_data(data).images == ["a.jpg", ""]


def test_entries_must_fit() -> None:
    with pytest.raises(DataError, match="expected 2 entries") as caught:
        ItemCatalogue(["a", "b"], {"title": ["A"]})
    assert caught.value.field == "title"
    with pytest.raises(DataError, match="is empty"):
        ItemCatalogue(["a", ""])
    with pytest.raises(DataError, match="twice"):
        ItemCatalogue(["a", "a"])


def test_items_are_in_the_order_of_the_file_but_for_their_numbers(
    tmp_path: Path,
) -> None:
    file = tmp_path / "items.csv"
    file.write_text("asin,title\n39,a\n15,b\n22,c\n")
    assert ItemCatalogue.from_table(file).ids == ["39", "15", "22"]
    file.write_text("asin,itemID,title\n39,1,a\n15,2,b\n22,0,c\n")
    assert ItemCatalogue.from_table(file).ids == ["39", "15", "22"]
    # Prepared Amazon data are read by their numbers.
    (tmp_path / "baby.inter").touch()
    assert ItemCatalogue.from_table(file).ids == ["22", "39", "15"]
    assert ItemCatalogue.from_table(file, id_column="itemID").ids == ["0", "1", "2"]


def test_ids_in_the_place_of_titles_are_no_texts() -> None:
    data = HeteroData()
    data["item"].id, data["item"].title = ["a", "b"], ["a", "b"]
    data["item"].text = ["", ""]
    assert ItemCatalogue.from_data(data).fields == {"text": ["", ""]}
