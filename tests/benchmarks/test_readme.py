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


def test_tables_are_those_of_the_records(readme: ModuleType) -> None:
    tables = list(readme.record_tables())
    number = 0
    for file in readme.FILES:
        text = file.read_text()
        assert readme.replace_tables(text, tables)[1] == []
        number += sum(table.split("\n")[0] in text.split("\n") for table in tables)
    assert number >= 5
