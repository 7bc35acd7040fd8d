"""The example runs, and finds in the titles what shoppers go by."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "own_catalogue"


def test_from_csv_to_recommendations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # So that the values that the example sets are taken back.
    monkeypatch.setenv("MARS_PYG_MODEL", "")
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    shop = tmp_path / "shop"
    arguments = ["run.py", "--output", str(shop), "--max-epochs", "10"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(FOLDER / "run.py"), run_name="__main__")
    out, err = capfd.readouterr()
    assert "requests                  240" in out
    assert "240 items: 240 asked now" in err
    assert "user u001" in out
    assert "shares" in out
    assert "from your history" in out
    # Again, nothing is paid for or trained twice.
    runpy.run_path(str(FOLDER / "run.py"), run_name="__main__")
    again, err = capfd.readouterr()
    assert "0 asked now" in err
    assert again.split("recommend --run-dir")[1] == out.split("recommend --run-dir")[1]
    page = (shop / "u001.html").read_text(encoding="utf-8")
    assert "What the model does not know" in page
    names = [
        factor["name"]
        for factor in json.loads((shop / "schema.json").read_text())["factors"]
    ]
    material = next(n for n in names if n in ("material", "fabric", "made_of"))
    with open(shop / "factors" / "profiles.tsv", encoding="utf-8") as stream:
        rows = {row["item"]: row for row in csv.DictReader(stream, delimiter="\t")}
    with open(shop / "items.csv", encoding="utf-8") as stream:
        titles = {row["item"]: row["title"] for row in csv.DictReader(stream)}
    for item, title in titles.items():
        assert rows[item][material] in title
        assert rows[item]["brand"] in title
