from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg.errors import DataError
from mars_pyg.factors import Factor, FactorProfiles, FactorSchema

ITEMS = ["A1", "A2", "A3", "A4"]
SCHEMA = FactorSchema(
    factors=[
        Factor(name="material", values=["cotton, organic", "wool", "silk"]),
        Factor(name="occasion", values=["work", "party"], multiple=True),
        Factor(name="brand"),
    ]
)
HEADER = "asin\tmaterial\toccasion\tbrand\n"


def assignments(profiles: FactorProfiles) -> set[tuple[int, str, str]]:
    return {
        (item, profiles.factor_names[factor], profiles.value_names[value])
        for item, factor, value in zip(
            profiles.item_index.tolist(),
            profiles.factor_index.tolist(),
            profiles.value_index.tolist(),
            strict=True,
        )
    }


def read(tmp_path: Path, content: str, header: str = HEADER) -> FactorProfiles:
    file = tmp_path / "profiles.tsv"
    file.write_text(header + content, "utf-8")
    return FactorProfiles.read(file, SCHEMA, ITEMS, "asin")


def test_read(tmp_path: Path) -> None:
    profiles = read(
        tmp_path,
        "A3\t cotton, organic \tparty|work| party |\tzeta|eta\n"
        "A1\t\t\tAlpha\n"
        "A2\twool\t\t\n",
    )
    assert assignments(profiles) == {
        (2, "material", "cotton, organic"),
        (2, "occasion", "party"),
        (2, "occasion", "work"),
        (2, "brand", "zeta|eta"),
        (0, "brand", "Alpha"),
        (1, "material", "wool"),
    }
    # Closed vocabularies whole and in order, even where no item has the value.
    assert profiles.value_names == [
        *["cotton, organic", "wool", "silk"],
        *["work", "party"],
        *["Alpha", "zeta|eta"],
    ]
    assert profiles.value_factor.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert profiles.num_items == 4
    for index in (profiles.item_index, profiles.factor_index, profiles.value_index):
        assert index.dtype == torch.long
        assert index.size() == (6,)


def test_read_numbers_and_other_columns(tmp_path: Path) -> None:
    # The id column by default is itemID; an asin beside it is not read.
    file = tmp_path / "profiles.csv"
    file.write_text("itemID,asin,brand\n7,B7,x\n")
    schema = FactorSchema(factors=[Factor(name="brand")])
    profiles = FactorProfiles.read(file, schema, ["3", "7"])
    assert assignments(profiles) == {(1, "brand", "x")}


@pytest.mark.parametrize(
    ("content", "row", "field", "words"),
    [
        ("A1\twol\t\t\n", 2, "material", "'wool'"),
        ("A1\t\t\t\nA2\t\tparty|dinner\t\n", 3, "occasion", "'dinner'"),
        ("A1\twool|silk\t\t\n", 2, "material", "multiple"),
        ("A1\t\t\t\nB9\t\t\t\n", 3, "asin", "unknown item: 'B9'"),
        ("A1\t\t\t\nA2\t\t\t\nA1\t\t\t\n", 4, "asin", "two rows"),
        ("A1\t\t\t\n" + HEADER, 3, None, "header is repeated"),
    ],
)
def test_faults(
    tmp_path: Path, content: str, row: int, field: str | None, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)
    assert words in str(caught.value)
    assert caught.value.file == str(tmp_path / "profiles.tsv")
    assert (caught.value.row, caught.value.field) == (row, field)


@pytest.mark.parametrize(
    ("header", "field", "words"),
    [
        ("asin\tmaterial\toccasion\n", "brand", "missing"),
        ("item\tmaterial\toccasion\tbrand\n", "asin", "missing"),
        ("asin\tmaterial\toccasion\tbrand\tmateriel\n", "materiel", "material"),
    ],
)
def test_wrong_columns(tmp_path: Path, header: str, field: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, "", header)
    assert caught.value.field == field


def test_ids_under_another_name() -> None:
    schema = FactorSchema(factors=[Factor(name="colour")])
    table = pd.DataFrame({"item": ["a"], "colour": ["red"]})
    with pytest.raises(DataError, match=r"'id': the column of the items' ids.*name"):
        FactorProfiles.from_table(table, schema, ["a"], id_column="id")


def test_broken_encoding(tmp_path: Path) -> None:
    file = tmp_path / "profiles.tsv"
    file.write_bytes(HEADER.encode() + b"A1\t\t\tCaf\xe9\n")
    with pytest.raises(DataError, match="UTF-8") as caught:
        FactorProfiles.read(file, SCHEMA, ITEMS, "asin")
    assert caught.value.row == 2


def test_write_and_read(tmp_path: Path) -> None:
    profiles = read(tmp_path, 'A1\twool\twork|party\ta, "b"\nA4\t\t\tü\n')
    profiles.write(tmp_path / "copy.tsv", ITEMS, "asin")
    copy = FactorProfiles.read(tmp_path / "copy.tsv", SCHEMA, ITEMS, "asin")
    assert assignments(copy) == assignments(profiles)
    assert copy.value_names == profiles.value_names
    name = SCHEMA.factors[0].name
    with pytest.raises(DataError, match=f"'{name}'.*rename the factor"):
        profiles.write(tmp_path / "copy.tsv", ITEMS, name)


def test_no_assignments(tmp_path: Path) -> None:
    profiles = read(tmp_path, "")
    assert profiles.item_index.size() == (0,)
    assert len(profiles.value_names) == 5
    profiles.write(tmp_path / "copy.tsv", ITEMS, "asin")
    copy = FactorProfiles.read(tmp_path / "copy.tsv", SCHEMA, ITEMS, "asin")
    assert copy.value_names == profiles.value_names


def test_from_columns_of_a_catalogue() -> None:
    table = pd.DataFrame(
        {
            "id": ["A2", "A1"],
            "title": ["t", "u"],
            "tags": ["x|y", None],
            "brand": ["b|c", "a"],
        }
    )
    profiles = FactorProfiles.from_columns(
        table, ["tags", "brand"], ITEMS, "id", multiple=["tags"], modality="image"
    )
    assert profiles.schema.modality == "image"
    assert assignments(profiles) == {
        (1, "tags", "x"),
        (1, "tags", "y"),
        (1, "brand", "b|c"),
        (0, "brand", "a"),
    }
    with pytest.raises(DataError, match="missing"):
        FactorProfiles.from_columns(table, ["colour"], ITEMS, "id")
    with pytest.raises(DataError, match="the ids cannot be a factor"):
        FactorProfiles.from_columns(table, ["brand", "id"], ITEMS, "id")


def test_null_is_missing_and_nan_in_writing_is_a_fault() -> None:
    table = pd.DataFrame({"id": ["A1", "A2"], "brand": ["a", None]}, index=[7, 9])
    profiles = FactorProfiles.from_columns(table, ["brand"], ITEMS, "id")
    assert profiles.labels(0).to_dict() == {0: "a"}
    table["brand"] = ["a", "NaN"]
    with pytest.raises(DataError, match="value is missing") as caught:
        FactorProfiles.from_columns(table, ["brand"], ITEMS, "id")
    assert (caught.value.row, caught.value.field) == (3, "brand")


def test_from_assignments_merges_and_checks() -> None:
    def make(items: list[int], factors: list[int], values: list[str]) -> FactorProfiles:
        return FactorProfiles.from_assignments(
            SCHEMA, 4, torch.tensor(items), torch.tensor(factors), values
        )

    profiles = make([1, 0, 1], [1, 0, 1], ["work", "wool", "work"])
    assert assignments(profiles) == {(1, "occasion", "work"), (0, "material", "wool")}
    with pytest.raises(ValueError, match="item 2 has several values under 'material'"):
        make([2, 2], [0, 0], ["wool", "silk"])
    with pytest.raises(ValueError, match="not a value of the factor 'occasion'"):
        make([2], [1], ["wool"])
    with pytest.raises(ValueError, match="cannot be a value"):
        make([2], [2], [" "])
    with pytest.raises(ValueError, match="item_index"):
        make([4], [0], ["wool"])
    with pytest.raises(ValueError, match="factor_index"):
        make([0], [3], ["wool"])
    with pytest.raises(ValueError, match="as many"):
        make([0, 1], [0], ["wool"])


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(ITEMS),
        st.tuples(
            st.sampled_from(["", "cotton, organic", "wool", "silk"]),
            st.sets(st.sampled_from(["work", "party"])),
            st.text("ab |,\"'\n", max_size=4),
        ),
    )
)
def test_table_equals_loop(
    rows: dict[str, tuple[str, set[str], str]],
) -> None:
    table = pd.DataFrame(
        [[item, a, "|".join(b), c] for item, (a, b, c) in rows.items()],
        columns=["asin", "material", "occasion", "brand"],
    )
    expected = set()
    for item, (material, occasions, brand) in rows.items():
        cells = [("material", material), ("brand", " ".join(brand.split()))]
        cells += [("occasion", value) for value in occasions]
        expected |= {(ITEMS.index(item), name, value) for name, value in cells if value}
    profiles = FactorProfiles.from_table(table, SCHEMA, ITEMS, "asin")
    assert assignments(profiles) == expected


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_written_profiles_are_read_again(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame(
        [["A1", "wool", "party|work", '"x", y'], ["A3", "", "", "z|t"]],
        columns=["asin", "material", "occasion", "brand"],
    )
    profiles = FactorProfiles.from_table(table, SCHEMA, ITEMS, "asin")
    file = tmp_path / f"profiles{suffix}"
    profiles.write(file, ITEMS, "asin")
    again = FactorProfiles.read(file, SCHEMA, ITEMS, "asin")
    assert assignments(again) == assignments(profiles)
    empty = FactorProfiles.from_table(table[:0], SCHEMA, ITEMS, "asin")
    empty.write(file, ITEMS, "asin")
    assert assignments(FactorProfiles.read(file, SCHEMA, ITEMS, "asin")) == set()


def test_labels() -> None:
    table = pd.DataFrame(
        [["A2", "wool", "party|work"], ["A1", "", "work"]],
        columns=["asin", "material", "occasion"],
    )
    table["brand"] = ""
    profiles = FactorProfiles.from_table(table, SCHEMA, ITEMS, "asin")
    assert profiles.labels(0).to_dict() == {1: "wool"}
    expected = {0: "work", 1: "work|party"}
    assert profiles.labels(1).to_dict() == expected
    assert profiles.labels(2).to_dict() == {}


@pytest.mark.parametrize(
    ("columns", "modality", "words"),
    [
        (["brand", "brand"], "text", "twice"),
        ([], "text", "at least 1 item"),
        ([""], "text", "at least 1 character"),
        (["brand"], " ", "at least 1 character"),
    ],
)
def test_from_columns_that_make_no_schema(
    columns: list[str], modality: str, words: str
) -> None:
    table = pd.DataFrame({"id": ["A1"], "brand": ["a"]})
    with pytest.raises(DataError, match=f"no schema: .*{words}") as caught:
        FactorProfiles.from_columns(
            table, columns, ITEMS, "id", modality=modality, file="items.csv"
        )
    assert caught.value.file == "items.csv"


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_line_breaks_in_values(tmp_path: Path, suffix: str) -> None:
    schema = FactorSchema(
        factors=[Factor(name="brand"), Factor(name="use", values=["a\rb"])]
    )
    profiles = FactorProfiles.from_assignments(
        schema,
        4,
        torch.tensor([0, 1, 2, 3]),
        torch.tensor([0, 0, 0, 1]),
        ["c\rr", "c \r\n r", " d\te", "a\rb"],
    )
    assert profiles.value_names == ["c r", "d e", "a\rb"]
    file = tmp_path / f"profiles{suffix}"
    profiles.write(file, ITEMS, "asin")
    again = FactorProfiles.read(file, schema, ITEMS, "asin")
    assert assignments(again) == assignments(profiles)
    assert again.value_names == profiles.value_names


def test_parquet_column_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "profiles.parquet"
    table = {"asin": ["A1"], "material": [""], "occasion": [""], "brand": [[0.5]]}
    pd.DataFrame(table).to_parquet(file)
    with pytest.raises(DataError, match="cannot be read as text") as caught:
        FactorProfiles.read(file, SCHEMA, ITEMS, "asin")
    assert caught.value.field == "brand"


def test_pairs_and_labels_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    schema = FactorSchema(
        factors=[Factor(name="tags", multiple=True), Factor(name="use", multiple=True)]
    )
    item, factor, value = (
        torch.randint(size, (500,), generator=generator) for size in (40, 2, 30)
    )
    profiles = FactorProfiles.from_assignments(
        schema, 40, item, factor, [f"v{number}" for number in value.tolist()]
    )
    expected: list[dict[int, set[str]]] = [{}, {}]
    for i, f, v in zip(item.tolist(), factor.tolist(), value.tolist(), strict=True):
        expected[f].setdefault(i, set()).add(f"v{v}")
    pairs = list(
        zip(profiles.item_index.tolist(), profiles.value_index.tolist(), strict=True)
    )
    assert pairs == sorted(set(pairs))
    for index in range(2):
        labels = profiles.labels(index)
        assert labels.index.is_monotonic_increasing
        assert labels.to_dict() == {
            i: "|".join(sorted(names)) for i, names in expected[index].items()
        }
