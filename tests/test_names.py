"""Names of a graph, and graphs made by hand that have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch_geometric.data import HeteroData

from mars_pyg import (
    BPR,
    AddItems,
    DataError,
    FactorAffinity,
    LightGCN,
    SyntheticFactorDataset,
    counterfactuals,
    explain,
    recommend,
)
from mars_pyg.explanations import render_page
from mars_pyg.serving import export


@pytest.fixture
def data() -> HeteroData:
    return SyntheticFactorDataset(num_users=20, num_items=30)[0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("user", "id"), ("item", "id"), ("value", "name"), ("value", "factor_name")],
)
def test_what_shows_names_asks_for_them(
    data: HeteroData, kind: str, name: str, tmp_path: Path
) -> None:
    user = data["user"].id[0]
    del data[kind][name]
    model = BPR(data)
    calls = [
        lambda: recommend(model, data, [user], k=30),
        lambda: explain(model, data, user),
        lambda: export(model, data, tmp_path),
    ]
    if name == "factor_name":
        calls += [lambda: FactorAffinity(data), lambda: AddItems([{"id": "n"}])(data)]
    for call in calls:
        with pytest.raises(DataError, match=f"set data\\['{kind}'\\].{name} to a list"):
            call()


def test_one_name_is_no_list_of_its_letters(data: HeteroData) -> None:
    data["user"].id = [str(u) for u in range(20)]
    data["item"].id = [str(i) for i in range(30)]
    model = LightGCN(data)
    calls = {
        "users": lambda: render_page(model, data, "17"),
        "items": lambda: explain(model, data, "17", "25"),
        "'items'": lambda: counterfactuals(model, data, "17", "25"),
    }
    for argument, call in calls.items():
        with pytest.raises(TypeError, match=f"{argument}.* must be a list of names"):
            call()
