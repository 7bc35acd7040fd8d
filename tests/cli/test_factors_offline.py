"""Factor profiles without a language model, from the command line."""

from __future__ import annotations

import json
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
    assert "6 of 6 items" in err
    status, _, err = run(
        *("factors", "clusters", "shop/items.csv", "--features=x.npy", "--output=g"),
        "--text-columns=title",
    )
    assert (status, "--text-columns is for texts" in err) == (2, True)
    np.save(tmp_path / "x.npy", np.eye(5))
    status, _, err = run(
        "factors", "clusters", "shop/items.csv", "--features=x.npy", "--output=g"
    )
    assert status == 1
    assert "x.npy: expected the shape [6, D], got [5, 5]" in err


def test_validate(run: Run, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(
        '{"factors": [{"name": "use", "description": "when", "values": ["a", "b"]},'
        '{"name": "brand", "multiple": true}]}'
    )
    status, out, _ = run("factors", "validate", "schema.json")
    assert status == 0
    rows = [line.split() for line in out.split("\n")[3:5]]
    assert rows == [["use", "2", "one", "when"], ["brand", "open", "several"]]
    status, _, err = run("factors", "validate", "none.json")
    assert status == 1
    assert "none.json: there is no such file" in err
    assert run("factors", "columns", "shop/items.csv", "--columns=brand")[0] == 0
    status, out, _ = run("factors", "validate", "shop/factors")
    assert out.split("\n")[3].split() == ["brand", "3", "1", "(open)", "3", "Acme"]
    (tmp_path / "baby").mkdir()
    status, out, _ = run("factors", "validate", "baby")
    assert status == 0
    assert "3416 items" in out
    # Profiles of one's own go before those that come with the package.
    (tmp_path / "shop" / "factors").rename(tmp_path / "baby" / "factors")
    status, out, _ = run("factors", "validate", "baby")
    assert out.split("\n")[3].split() == ["brand", "3", "1", "(open)", "3", "Acme"]


def test_report(run: Run, shop: Path, tmp_path: Path) -> None:
    status, _, err = run("factors", "report", "--dataset=shop")
    assert status == 1
    assert "the items have no factor profiles" in err
    assert run("factors", "columns", "shop/items.csv", "--columns=brand,title")[0] == 0
    flags = ["--dataset=shop", "--json=report.json", "--values=2"]
    status, out, _ = run("factors", "report", *flags)
    assert status == 0
    assert "catalogue profiles, 6 items" in out
    assert "What to drop: " in out
    report = json.loads((tmp_path / "report.json").read_text())
    brand = next(entry for entry in report["factors"] if entry["factor"] == "brand")
    assert brand["coverage"] == 0.5
    # The split is that of a training with the same seed.
    data = FactorDataset(shop, seed=3)[0]
    flags = ["--dataset=shop", "--data-seed=3", "--against=shop/factors"]
    status, out, _ = run("factors", "report", *flags)
    assert f"{data['user', 'interacts', 'item'].num_edges} train interactions" in out
    assert "kappa" in out
    status, _, err = run("factors", "report", "--dataset=shop", "--modality=image")
    assert status == 1
    assert "there are profiles of catalogue" in err
    status, _, err = run("factors", "report", "--dataset=shop", "--k-core=x")
    assert status == 2


def test_report_draws(run: Run, shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("factors", "columns", "shop/items.csv", "--columns=brand")[0] == 0
    status, _, _ = run("factors", "report", "--dataset=shop", "--plot=page.png")
    assert status == 0
    assert (tmp_path / "page.png").stat().st_size > 10_000
    # A kind that is not known is refused before the report, not after it.
    status, out, err = run("factors", "report", "--dataset=shop", "--plot=page.xyz")
    assert (status, out, "'.xyz' is no known kind of picture" in err) == (1, "", True)
