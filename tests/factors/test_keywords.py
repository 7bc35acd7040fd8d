from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg.errors import DataError
from mars_pyg.factors import ItemCatalogue, KeywordReasoner


def assign(reasoner: KeywordReasoner, *texts: str) -> list[dict[str, str]]:
    """The values of each text, by factor."""
    ids = [str(number) for number in range(len(texts))]
    profiles = reasoner.assign(ItemCatalogue(ids, {"title": list(texts)}))
    labels = [profiles.labels(k) for k in range(len(profiles.factor_names))]
    return [
        {
            name: column[item]
            for name, column in zip(profiles.factor_names, labels, strict=True)
            if item in column
        }
        for item in range(len(texts))
    ]


def test_whole_words_and_phrases_of_any_case() -> None:
    reasoner = KeywordReasoner(
        {
            "material": {"cotton": ["cotton", "muslin"], "plastic": ["BPA free"]},
            "place": {"bed": ["cot", "crib"], "Straße": []},
        }
    )
    assert assign(
        reasoner,
        "COTTON muslin cloth",
        "cottonwood",
        "bpa-free Crib",
        "bpa, free",
        "STRASSE; cot",
        "free bpa",
        "",
    ) == [
        {"material": "cotton"},
        {},
        {"material": "plastic", "place": "bed"},
        {},
        {"place": "bed|Straße"},
        {},
        {},
    ]


def test_one_value_is_the_first_of_the_file() -> None:
    keywords = {"use": {"b": ["b", "both"], "a": ["a", "both"]}, "x": {"a": []}}
    several = assign(KeywordReasoner(keywords), "a b", "both", "a")
    assert several == [{"use": "b|a", "x": "a"}, {"use": "b|a"}, {"use": "a", "x": "a"}]
    single = assign(KeywordReasoner(keywords, multiple=False), "a b", "both", "a")
    assert single == [{"use": "b", "x": "a"}, {"use": "b"}, {"use": "a", "x": "a"}]


def test_fields() -> None:
    fields = {"title": ["red", "on the"], "description": ["", "go red"]}
    catalogue = ItemCatalogue(["a", "b"], fields)
    keywords = {"colour": {"red": []}, "use": {"travel": ["on the go"]}}
    profiles = KeywordReasoner(keywords).assign(catalogue)
    assert profiles.labels(0).to_dict() == {0: "red", 1: "red"}
    # A phrase does not go from one field to the next.
    assert profiles.labels(1).to_dict() == {}
    profiles = KeywordReasoner(keywords, ["title"]).assign(catalogue)
    assert profiles.labels(0).to_dict() == {0: "red"}
    with pytest.raises(DataError, match="no such field") as caught:
        KeywordReasoner(keywords, ["text"]).assign(catalogue)
    assert caught.value.field == "text"
    with pytest.raises(DataError, match="no texts"):
        KeywordReasoner(keywords).assign(ItemCatalogue(["a"]))
    empty = KeywordReasoner(keywords).assign(ItemCatalogue([], {"title": []}))
    assert len(empty.item_index) == 0


words = st.sampled_from(["a", "b", "ab", "c"])
phrase = st.lists(words, min_size=1, max_size=3).map(" ".join)
texts = st.lists(
    st.lists(st.sampled_from(["a", "B", "ab", "c", "x", ",", "-"]), max_size=8),
    max_size=5,
).map(lambda rows: [" ".join(row) for row in rows])


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.lists(phrase, min_size=1, max_size=3), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    ),
    texts,
)
def test_equals_a_search_for_each_phrase(
    phrases: list[list[list[str]]], texts: list[str]
) -> None:
    keywords = {
        f"f{k}": {f"v{v}": words for v, words in enumerate(values)}
        for k, values in enumerate(phrases)
    }
    expected = []
    for text in texts:
        row = {}
        for factor, values in keywords.items():
            found = [
                value
                for value, entries in values.items()
                if any(
                    re.search(r"\b" + entry.replace(" ", r"[\s-]+") + r"\b", text, re.I)
                    for entry in entries
                )
            ]
            if found:
                row[factor] = "|".join(found)
        expected.append(row)
    assert assign(KeywordReasoner(keywords), *texts) == expected


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "keywords.yaml"
    file.write_text(
        "material:\n  cotton: [cotton, muslin]\n  wood:\n  plastic: bpa free\n"
        "pages:\n  no: [no, 12]\n"
    )
    reasoner = KeywordReasoner.read(file)
    assert [factor.name for factor in reasoner.schema.factors] == ["material", "pages"]
    assert reasoner.schema.factors[0].values == ["cotton", "wood", "plastic"]
    assert reasoner.schema.factors[1].values == ["no"]
    assert assign(reasoner, "wood, bpa free", "12 muslin") == [
        {"material": "wood|plastic"},
        {"material": "cotton", "pages": "no"},
    ]


@pytest.mark.parametrize(
    ("text", "row", "field", "words"),
    [
        ("", None, None, "holds no factor"),
        ("- a\n", 1, "factors", "names with a colon"),
        ("a:\n  - b\n", 2, "a", "names with a colon"),
        ("a:\n  b:\n    c: d\n", 3, "b", "list of words"),
        ("a:\n  b: [[c]]\n", 2, "b", "list of words"),
        ("a:\n  b: [c]\n  b: [d]\n", 3, "a", "'b' is there twice"),
        ("a:\n  b: [c\n", 3, None, "not yaml"),
        ("a:\n  b: ['!']\n", None, "a", "has no word"),
        ("a:\n", 1, "a", "names with a colon"),
        ("a: {}\n", None, None, "no schema"),
        ("a:\n  b|c: [d]\n", None, None, "separates several values"),
    ],
)
def test_faults_of_a_file(
    tmp_path: Path, text: str, row: int | None, field: str | None, words: str
) -> None:
    file = tmp_path / "keywords.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        KeywordReasoner.read(file)
    assert caught.value.file == str(file)
    assert (caught.value.row, caught.value.field) == (row, field)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        KeywordReasoner.read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("a:\n  b: [é]".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        KeywordReasoner.read(tmp_path / "latin.yaml")


def test_marks_part_a_phrase_and_tell_words_apart() -> None:
    reasoner = KeywordReasoner({"c": {"a": ["c++"], "b": ["c#"], "d": ["bpa free"]}})
    texts = ["c# book", "C++", "bpa/free", "bpa & free", "BPA-free"]
    found = assign(reasoner, *texts)
    assert [entry.get("c") for entry in found] == ["b", "a", None, None, "d"]


def test_combining_marks_belong_to_their_words() -> None:
    reasoner = KeywordReasoner({"color": {"black": ["काला"], "red": ["สีแดง"]}})
    found = assign(reasoner, "कीली", "काला जूता", "สีแดง", "สดง")
    assert [entry.get("color") for entry in found] == [None, "black", "red", None]
