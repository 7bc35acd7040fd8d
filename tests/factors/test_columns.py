from __future__ import annotations

import pytest

from mars_pyg.errors import DataError
from mars_pyg.factors import ColumnReasoner, ItemCatalogue


def test_columns() -> None:
    fields = {"brand": ["b", "", "a"], "tags": ["x|y", "y", ""], "title": ["t"] * 3}
    catalogue = ItemCatalogue(["2", "1", "3"], fields, id_column="sku")
    profiles = ColumnReasoner(["tags", "brand"]).assign(catalogue)
    assert profiles.schema.modality == "catalogue"
    assert profiles.factor_names == ["tags", "brand"]
    assert profiles.labels(0).to_dict() == {0: "x|y", 1: "y"}
    assert profiles.labels(1).to_dict() == {0: "b", 2: "a"}
    assert ColumnReasoner(["tags"], "text").assign(catalogue).schema.modality == "text"
    with pytest.raises(DataError, match="missing") as caught:
        ColumnReasoner(["colour"]).assign(catalogue)
    assert caught.value.field == "colour"
    catalogue.fields["brand"][1] = "NaN"
    with pytest.raises(DataError, match="value is missing"):
        ColumnReasoner(["brand"]).assign(catalogue)
