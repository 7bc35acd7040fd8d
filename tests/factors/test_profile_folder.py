from __future__ import annotations

from pathlib import Path

import pytest

from mars_pyg.errors import DataError
from mars_pyg.factors import ColumnReasoner, ItemCatalogue
from mars_pyg.factors.profile_folder import (
    find_profiles,
    read_own_profiles,
    read_profiles,
    write_profile_folder,
)


def test_written_folders_are_read_and_not_lost(tmp_path: Path) -> None:
    catalogue = ItemCatalogue(["a", "b"], {"brand": ["x", ""]})
    profiles = ColumnReasoner(["brand"]).assign(catalogue)
    folder = tmp_path / "factors"
    write_profile_folder(folder, profiles, catalogue.ids, "id")
    found = find_profiles(tmp_path, None)
    assert found == [(folder, folder / "profiles.tsv")]
    again = read_profiles(found, catalogue.ids, "id")["catalogue"]
    assert again.labels(0).to_dict() == {0: "x"}
    (folder / "provenance.tsv").write_text("of other profiles")
    with pytest.raises(DataError, match="holds profiles already"):
        write_profile_folder(folder, profiles, catalogue.ids, "id", ".parquet")
    write_profile_folder(folder, profiles, catalogue.ids, "id", ".parquet", True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "profiles.parquet",
        "schema.json",
    ]
    write_profile_folder(folder / "other", profiles, catalogue.ids, "id")
    with pytest.raises(DataError, match="two profiles of the modality"):
        read_profiles(find_profiles(tmp_path, None), catalogue.ids, "id")


def test_a_schema_without_profiles_is_not_replaced(tmp_path: Path) -> None:
    catalogue = ItemCatalogue(["a"], {"brand": ["x"]})
    profiles = ColumnReasoner(["brand"]).assign(catalogue)
    schema = tmp_path / "schema.json"
    schema.write_text("by hand")
    with pytest.raises(DataError, match="--overwrite"):
        write_profile_folder(tmp_path, profiles, catalogue.ids, "id")
    assert schema.read_text() == "by hand"
    write_profile_folder(tmp_path, profiles, catalogue.ids, "id", overwrite=True)
    assert schema.read_text() != "by hand"


def test_a_factor_may_have_a_usual_name_of_ids(tmp_path: Path) -> None:
    catalogue = ItemCatalogue(["a", "b"], {"item": ["bottle", ""]}, id_column="sku")
    profiles = ColumnReasoner(["item"]).assign(catalogue)
    write_profile_folder(tmp_path, profiles, catalogue.ids, catalogue.id_column)
    (again,) = read_profiles(find_profiles(tmp_path, tmp_path), ["b", "a"]).values()
    assert again.labels(0).to_dict() == {1: "bottle"}
    (own,) = (read_own_profiles(*e) for e in find_profiles(tmp_path, tmp_path))
    assert own.value_names == ["bottle"]


def test_a_missing_id_is_told(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"factors": [{"name": "brand"}]}')
    (tmp_path / "profiles.tsv").write_text("sku\tbrand\na\tx\n\ty\n")
    with pytest.raises(DataError, match="row 3, field 'sku': the id is missing"):
        read_own_profiles(*find_profiles(tmp_path, tmp_path)[0])
