"""Factor profiles without a language model, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mars_pyg.datasets import FactorDataset

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    items = [f"i{number}" for number in range(6)]
    rows = [
        f"{item},Cotton bib {item},{'Acme' if i % 2 else ''}"
        for i, item in enumerate(items)
    ]
    (folder / "items.csv").write_text("\n".join(["item,title,brand", *rows]))
    pairs = [f"u{user},i{(user + i) % 6}" for user in range(6) for i in range(4)]
    (folder / "interactions.csv").write_text("\n".join(["user,item", *pairs]))
    return folder


def values(shop: Path) -> set[str]:
    return set(FactorDataset(shop)[0]["value"].name)


@pytest.mark.parametrize("file_format", ["tsv", "csv", "parquet"])
def test_columns(run: Run, shop: Path, file_format: str) -> None:
    flags = ["--columns=brand", f"--format={file_format}"]
    status, _, err = run("factors", "columns", "shop/items.csv", *flags)
    assert status == 0
    assert err == "3 of 6 items have a value; the profiles are in shop/factors\n"
    assert values(shop) == {"Acme"}
    status, _, err = run("factors", "columns", "shop/items.csv", *flags)
    assert status == 1
    assert "--overwrite" in err
    assert run("factors", "columns", "shop/items.csv", *flags, "--overwrite")[0] == 0


def test_keywords(run: Run, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text("material:\n  cotton:\n  wool:\n")
    flags = ["--keywords=words.yaml", "--text-columns=title"]
    status, _, err = run("factors", "keywords", "shop/items.csv", *flags)
    assert status == 0
    assert "6 of 6 items" in err
    assert values(shop) == {"cotton", "wool"}
    (tmp_path / "words.yaml").write_text("material:\n  - cotton\n")
    status, _, err = run("factors", "keywords", "shop/items.csv", *flags, "--overwrite")
    assert status == 1
    assert "words.yaml, row 2, field 'material'" in err


def test_clusters(run: Run, shop: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(6)[:, :4])
    flags = ["--num-factors=2", "--num-values=3"]
    status, _, err = run(
        "factors", "clusters", "shop/items.csv", "--features=x.npy", *flags
    )
    assert status == 0
    assert "4 of 6 items" in err
    table = pd.read_csv(shop / "factors/profiles.tsv", sep="\t")
    assert list(table) == ["item", "text cluster 0", "text cluster 1"]
    status, _, err = run(
        "factors", "clusters", "shop/items.csv", "--text-model=tfidf", "--output=f"
    )
    assert status == 0
    np.save(tmp_path / "x.npy", np.eye(5))
    status, _, err = run(
        "factors", "clusters", "shop/items.csv", "--features=x.npy", "--output=g"
    )
    assert status == 1
    assert "expected 6 entries, one per item, got 5" in err
