from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from mars_pyg.datasets import AmazonFactorDataset
from mars_pyg.datasets.shipped_profiles import read_shipped_profiles, shipped_files
from mars_pyg.factors import FactorProfiles, FactorSchema
from mars_pyg.factors.profile_text import format_profiles
from mars_pyg.tables import read_table


@pytest.mark.parametrize(("name", "rows"), [("baby", 3416), ("sports", 18204)])
def test_shipped_files(name: str, rows: int) -> None:
    files = shipped_files(name)
    assert files is not None
    schema = FactorSchema.read(files[0])
    table = read_table(files[1])
    assert len(table) == rows
    profiles = FactorProfiles.read(files[1], schema, table["asin"].tolist(), "asin")
    assert len(profiles.item_index.unique()) == rows
    # They go into the package, and into repositories with limits.
    assert sum(file.stat().st_size for file in files) < 1_400_000
    # The card beside them shows what 'mars-pyg factors validate' prints.
    card = (files[0].parent / "README.md").read_text()
    assert format_profiles(profiles) in card


def test_matched_by_asin() -> None:
    # Of the first two rows, and of none.
    ids = ["none", "9729375011", "097293751X"]
    with pytest.warns(UserWarning, match="2 of 3 items have factor profiles"):
        profiles = read_shipped_profiles("baby", ids)["text"]
    product_type = profiles.labels(profiles.factor_names.index("product_type"))
    assert product_type.to_dict() == dict.fromkeys(
        [1, 2], "keepsake, journal or gift set"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_shipped_profiles("baby", ["none"]) == {}
        assert read_shipped_profiles("clothing", ids) == {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "baby.inter").write_text(
        "userID\titemID\tx_label\n0\t0\t0\n0\t1\t0\n0\t2\t1\n1\t0\t0\n1\t1\t0\n1\t2\t2\n"
    )
    (tmp_path / "items.tsv").write_text(
        "itemID\tasin\ttitle\tbrand\n0\t097293751X\tA\tX\n1\tnone\tB\t\n"
        "2\t9729375011\tC\tY\n"
    )
    return tmp_path


def test_dataset_finds_them(root: Path) -> None:
    with pytest.warns(UserWarning, match="2 of 3 items"):
        data = AmazonFactorDataset(root)[0]
    assert "product_type" in data["value"].factor_name
    edges = data["item", "text_value", "value"].edge_index
    assert edges[0].unique().tolist() == [0, 2]
    # A switch does without, and so does a folder of one's own.
    plain = AmazonFactorDataset(root, shipped_profiles=False)[0]
    assert plain["value"].factor_name == ["brand"]
    (root / "factors").mkdir()
    (root / "factors/schema.json").write_text('{"factors": [{"name": "kind"}]}')
    (root / "factors/profiles.tsv").write_text("asin\tkind\n097293751X\tbook\n")
    own = AmazonFactorDataset(root)[0]
    assert own["value"].factor_name == ["kind"]


def test_numbers_are_no_asins(root: Path) -> None:
    (root / "items.tsv").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = AmazonFactorDataset(root)[0]
    assert "value" not in data.node_types
