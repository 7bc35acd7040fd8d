from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData
from torch_geometric.transforms import ToSparseTensor

from mars_pyg.datasets import AmazonFactorDataset
from mars_pyg.datasets.shipped_profiles import shipped_files
from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles
from mars_pyg.factors.agreement import factor_agreement
from mars_pyg.factors.report import factor_report, profiles_of
from mars_pyg.factors.report_text import format_report
from mars_pyg.transforms import AddFactorValues


def profiles(modality: str = "text", **columns: list[str]) -> FactorProfiles:
    table = pd.DataFrame(columns)
    ids = [str(number) for number in range(len(table))]
    table["id"] = ids
    return FactorProfiles.from_columns(
        table, list(columns), ids, "id", multiple=list(columns), modality=modality
    )


# As in the test of the lift by hand, with a factor of no use beside it.
TRAIN = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2, 3], [0, 1, 0, 2, 4, 1, 2, 3, 4]])
TWO = {"use": ["a", "a", "b", "b", ""], "all": ["x"] * 5, "none": [""] * 5}


def test_by_hand() -> None:
    report = factor_report(profiles(**TWO), TRAIN)
    use, everything, nothing = report.factors
    assert (report.num_items, report.num_interactions) == (5, 9)
    assert [use.factor, everything.factor, nothing.factor] == ["use", "all", "none"]
    assert use.coverage == 0.8
    assert use.interaction_coverage == pytest.approx(7 / 9)
    assert use.entropy == 1
    assert (use.largest, use.largest_share, use.num_values) == ("a", 0.5, 2)
    assert use.lift.lift == pytest.approx(4 / 3)
    assert use.drop == "the interval holds 1"
    assert [value.name for value in use.values] == ["a", "b"]
    assert everything.entropy == 0
    assert everything.lift.lift == pytest.approx(1)
    assert everything.drop
    assert nothing.drop == "no two items of a history have values"
    assert (nothing.num_values, nothing.largest, nothing.entropy) == (0, "", 0)
    assert math.isnan(nothing.lift.lift)


def test_what_to_drop_and_keep() -> None:
    # Everyone keeps to one value.
    train = torch.tensor([[u for u in range(40) for _ in range(2)], [0, 1, 2, 3] * 20])
    four = profiles(use=["a", "a", "b", "b"])
    assert factor_report(four, train).factors[0].drop == ""
    report = factor_report(four, train, min_lift=9)
    assert report.factors[0].drop == "lift below 9"
    assert "What to drop: use (lift below 9)." in format_report(report)
    with pytest.raises(ValueError, match="confidence"):
        factor_report(four, train, confidence=1)


@settings(deadline=None)
@given(
    st.lists(
        st.sets(st.sampled_from("abcd")).map(lambda values: "|".join(sorted(values))),
        min_size=1,
        max_size=20,
    )
)
def test_entropy_and_shares_by_loops(cells: list[str]) -> None:
    (use,) = factor_report(profiles(use=cells), torch.zeros(2, 1).long()).factors
    assigned = [value for cell in cells for value in cell.split("|") if value]
    counts = {value: assigned.count(value) for value in sorted(set(assigned))}
    entropy = -sum(
        count / len(assigned) * math.log2(count / len(assigned))
        for count in counts.values()
    )
    assert use.entropy == pytest.approx(entropy, abs=1e-12)
    assert use.coverage == pytest.approx(np.mean([bool(cell) for cell in cells]))
    assert {value.name: value.num_items for value in use.values} == counts
    for value in use.values:
        known = sum(bool(cell) for cell in cells)
        assert value.share == pytest.approx(value.num_items / known)


def test_repeated_interactions_count_once() -> None:
    once = factor_report(profiles(**TWO), TRAIN)
    twice = factor_report(profiles(**TWO), torch.cat([TRAIN, TRAIN], dim=1))
    assert twice.to_dict() == once.to_dict()


def test_json_and_text() -> None:
    first = profiles(**TWO)
    second = profiles(use=["a", "b", "b", "b", "a"], all=["x", "x", "y", "y", "y"])
    agreement = factor_agreement(first, second)
    report = factor_report(first, TRAIN, agreement=agreement)
    entry = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert entry["factors"][2]["lift"]["lift"] is None
    assert entry["factors"][0]["values"][0]["name"] == "a"
    assert entry["agreement"][0]["equal"] == 0.75
    text = format_report(report, num_values=1)
    lines = text.split("\n")
    assert lines[2].split()[:4] == ["factor", "values", "items", "interactions"]
    assert lines[3].split()[:3] == ["use", "2", "80.0"]
    assert "1.33" in lines[3]
    assert lines[3].endswith("drop")
    assert "none (no two items of a history have values)" in text
    assert "kappa" in text
    assert "nan" not in text


def test_profiles_of_a_graph_without_values() -> None:
    data = HeteroData()
    data["item"].num_nodes = 2
    data = AddFactorValues({"text": profiles(use=["", ""])})(data)
    with pytest.raises(DataError, match="no item has a value"):
        profiles_of(data)


def test_profiles_of_a_graph() -> None:
    text = profiles(use=["a|b", "", "a"], kind=["k", "l", ""])
    image = profiles("image", color=["red", "blue", ""], use=["c", "", ""])
    data = HeteroData()
    data["item"].num_nodes = 3
    with pytest.raises(DataError, match="no factor profiles"):
        profiles_of(data)
    data = AddFactorValues({"text": text})(data)
    assert profiles_of(data).labels(0).to_dict() == {0: "a|b", 2: "a"}
    sparse = ToSparseTensor(layout=torch.sparse_csr, fill_cache=False)(data.clone())
    assert profiles_of(sparse).labels(0).to_dict() == {0: "a|b", 2: "a"}
    data = AddFactorValues({"text": text, "image": image})(data)
    with pytest.raises(DataError, match="profiles of text, image"):
        profiles_of(data)
    for name, expected in (("text", text), ("image", image)):
        found = profiles_of(data, name)
        assert sorted(found.factor_names) == sorted(expected.factor_names)
        for k, factor in enumerate(found.factor_names):
            labels = expected.labels(expected.factor_names.index(factor))
            assert found.labels(k).to_dict() == labels.to_dict()


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_plots(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    from mars_pyg.factors.report_plot import plot_report

    first = profiles(**TWO)
    file = tmp_path / f"report{suffix}"
    plot_report(factor_report(first, TRAIN), file)
    plain = file.stat().st_size
    second = profiles(use=["$a$", "b", "b", "a", "a"])
    agreement = factor_agreement(first, second)
    plot_report(factor_report(first, TRAIN, agreement=agreement), file)
    assert file.stat().st_size > plain
    if suffix == ".svg":
        drawn = file.read_text()
        for words in ("Coverage", "Worst factor: where use differs"):
            assert words in drawn
    with pytest.raises(DataError, match="cannot be drawn"):
        plot_report(factor_report(first, TRAIN), tmp_path / "report.doc")
    assert not (tmp_path / "report.doc").exists()


REAL = Path(os.environ.get("MARS_PYG_DATA", "data"))


@pytest.mark.skipif(
    not (REAL / "amazon-baby/baby.inter").is_file(), reason="needs the real data"
)
def test_lifts_of_baby(tmp_path: Path) -> None:
    data = AmazonFactorDataset(REAL, processed_root=tmp_path)[0]
    report = factor_report(
        profiles_of(data, "text"), data["user", "interacts", "item"].edge_index
    )
    lifts = {entry.factor: entry.lift.lift for entry in report.factors}
    expected = {"brand": 3.9, "product_type": 2.9, "usage_scenario": 1.6}
    expected |= {"key_benefit": 1.4, "form": 1.3, "target_age": 1.25, "color": 1.25}
    expected |= {"material": 1.2, "style": 1.2, "brand_tier": 1.1, "gender_appeal": 1.0}
    for name, lift in expected.items():
        assert lifts[name] == pytest.approx(lift, rel=0.05)
    assert [entry.factor for entry in report.factors if entry.drop] == ["gender_appeal"]
    files = shipped_files("baby")
    assert files is not None
    card = (files[0].parent / "README.md").read_text()
    assert all(line in card for line in format_report(report).split("\n")[:14])
