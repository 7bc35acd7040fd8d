"""Tests of the tables of the READMEs."""

from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture
def readme() -> ModuleType:
    import readme

    return readme


def test_tables_are_found_by_their_headers(readme: ModuleType) -> None:
    text = "a\n\n| x |\n|---|\n| 1 |\n\n| y |\n|---|\n\n| x |\n|---|\n| 2 |\n\nb\n"
    first, second = "| x |\n|---|\n| 1 |\n| 5 |", "| x |\n|---|\n| 2 |"
    updated, changed = readme.replace_tables(text, [first, second, "| z |\n|---|"])
    assert updated == text.replace("| 1 |\n", "| 1 |\n| 5 |\n")
    assert changed == ["| x |"]
    assert readme.replace_tables(updated, [first, second]) == (updated, [])
    assert readme.replace_tables("| x |\n| 3 |", [second]) == (second, ["| x |"])


def test_a_training_that_records_share_counts_once(readme: ModuleType) -> None:
    def record(dataset: str, model: str, seconds: float | None) -> dict:
        times = {"epochs": 30, "seconds_per_epoch": seconds}
        return {"dataset": dataset, "model": model, "seed": 0, **times}

    records = [
        record("baby", "mars", 60.0),
        record("baby", "mars_heads", 60.0),
        record("baby", "bpr", 12.0),
        record("baby", "bm3", None),
        {"dataset": "baby", "model": "ease", "seed": 0},
        record("sports", "mars", 120.0),
    ]
    *_, baby, sports = readme.training_hours({"a.py": records}).split("\n")
    assert baby == "| `a.py` | baby | 2 | 0.6 |"
    assert sports == "| `a.py` | sports | 1 | 1.0 |"


def test_tables_are_those_of_the_records(readme: ModuleType) -> None:
    tables = list(readme.record_tables())
    number = 0
    for file in readme.FILES:
        text = file.read_text()
        assert readme.replace_tables(text, tables)[1] == []
        number += sum(table.split("\n")[0] in text.split("\n") for table in tables)
    assert number >= 5
