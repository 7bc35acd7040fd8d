"""What a run refuses before any training."""

from __future__ import annotations

from pathlib import Path

import pytest

from mars_pyg import DataError
from mars_pyg.config import make_config
from mars_pyg.runs import load_data, train


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A catalogue of titles, without factors."""
    folder = tmp_path / "shop"
    folder.mkdir()
    items = ["id,title,color", *(f"i{i},Thing {i},c{i % 3}" for i in range(12))]
    pairs = [(u, (u * 5 + 2 * i) % 12) for u in range(20) for i in range(5)]
    lines = ["user,item", *(f"u{user},i{item}" for user, item in pairs)]
    (folder / "items.csv").write_text("\n".join(items))
    (folder / "interactions.csv").write_text("\n".join(lines))
    return folder


def test_items_without_factors(shop: Path) -> None:
    keys = {"dataset": str(shop), "text_model": "tfidf"}
    with pytest.raises(DataError, match="the items have no factors") as caught:
        load_data(make_config(keys))
    assert "--factor-columns" in caught.value.mend
    assert "--item-graphs structure" in caught.value.mend
    # What the message says to do is enough.
    for mended in ({"factor_columns": "color"}, {"item_graphs": "structure"}):
        data = load_data(make_config({**keys, **mended}))
        assert ("item", "similar", "item") in data.edge_types
    assert "x_text" not in load_data(make_config({**keys, "model": "bpr"}))["item"]


@pytest.mark.parametrize(
    ("ratios", "split"), [("0.9,0,0.1", "val"), ("0.9,0.1,0", "test")]
)
def test_an_empty_split_is_told_before_training(
    shop: Path, tmp_path: Path, ratios: str, split: str
) -> None:
    config = make_config({"dataset": str(shop), "model": "bpr", "ratios": ratios})
    with pytest.raises(DataError, match=f"no user has an item in the {split} split"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
