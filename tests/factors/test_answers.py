from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mars_pyg.factors import Factor
from mars_pyg.factors.answers import (
    MalformedAnswer,
    assignment_format,
    assignment_model,
    check_assignments,
    check_value,
    parse_object,
)

ONE = Factor(name="main color", values=["Red", "blue, navy"])
SEVERAL = Factor(name="use", values=["travel", "home"], multiple=True)
OPEN = Factor(name="brand")
FACTORS = [ONE, SEVERAL, OPEN]


def wrap(values: object, code: str = "c1") -> str:
    return json.dumps({"items": [{"item": code, "values": values}]})


@pytest.mark.parametrize(
    ("factor", "value", "expected"),
    [
        (ONE, "Red", ["Red"]),
        (ONE, " red ", ["Red"]),
        (ONE, "Blue,  NAVY", ["blue, navy"]),
        (ONE, ["Red"], ["Red"]),
        (ONE, None, []),
        (ONE, "unknown", []),
        (ONE, [], []),
        (SEVERAL, "home", ["home"]),
        (SEVERAL, ["home", "travel", "Home"], ["home", "travel"]),
        (SEVERAL, None, []),
        (OPEN, "Baby  Tracker", ["Baby Tracker"]),
        (OPEN, "N/A", []),
    ],
)
def test_values_that_can_be_used(
    factor: Factor, value: object, expected: list[str]
) -> None:
    assert check_value(value, factor) == expected


@pytest.mark.parametrize(
    ("factor", "value", "fault"),
    [
        (ONE, "green", "'green' is not among the values"),
        (ONE, ["Red", "blue, navy"], "one is allowed"),
        (ONE, 3, "not text"),
        (ONE, {"a": 1}, "not text"),
        (ONE, ..., "not in the answer"),
        (SEVERAL, ["home", "sea"], "'sea' is not among"),
        (OPEN, "a" * 61, "longer than 60"),
        (OPEN, "a|b", "holds"),
        (OPEN, "a\u202eb", "holds"),
    ],
)
def test_values_that_cannot(factor: Factor, value: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        check_value(value, factor)


def test_a_value_called_unknown_is_a_value() -> None:
    assert check_value("unknown", Factor(name="a", values=["unknown"])) == ["unknown"]


def test_each_value_is_judged_by_itself() -> None:
    values = {"main color": "green", "use": ["home"], "brand": None}
    checked = check_assignments(wrap(values), FACTORS, ["c1", "c2"])
    assert checked.values == {"c1": {"use": ["home"], "brand": []}}
    assert list(checked.faults["c1"]) == ["main color"]
    assert checked.absent == ["c2"]


def test_items_that_were_not_asked_for_do_not_count() -> None:
    checked = check_assignments(wrap({"main color": "Red"}, "c9"), [ONE], ["c1"])
    assert not checked.values
    assert checked.absent == ["c1"]


@pytest.mark.parametrize(
    "text",
    [
        'Sure, {as you wish}:\n```json\n{"a": {"b": 1}}\n```\nAnything else?',
        '{"a": {"b": 1}}',
        '<think>hm {"</think> {"a": {"b": 1}}',
        'Here is the answer:\n{"a": {"b": 1}}',
        'Well, {"a": {"b": 1}}',
    ],
)
def test_json_is_found_in_prose(text: str) -> None:
    assert parse_object(text) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "[1]",
        '[{"a": 1}]',
        '{"a": {"b": 1}',
        '{"items": [{"item": "c"}',
        "{" * 5000,
    ],
)
def test_what_is_not_an_object_or_part_of_one_is_malformed(text: str) -> None:
    with pytest.raises(MalformedAnswer):
        parse_object(text)


@given(
    st.text()
    | st.recursive(
        st.none()
        | st.booleans()
        | st.floats()
        | st.text()
        | st.sampled_from(
            ["items", "item", "values", "c1", "main color", "Red", "home", "use"]
        ),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["items", "item", "values", "main color", "use", "brand"]
                ),
                inner,
            )
        ),
    ).map(json.dumps)
)
def test_nothing_but_values_of_the_schema_comes_through(text: str) -> None:
    try:
        checked = check_assignments(text, FACTORS, ["c1"])
    except MalformedAnswer:
        return
    for values in checked.values.values():
        for factor in FACTORS:
            for value in values.get(factor.name, []):
                assert factor.values is None or value in factor.values
                assert "|" not in value


def test_the_form_of_structured_outputs() -> None:
    """Closed objects with all properties required, and enumerations."""
    form = assignment_format(FACTORS)["json_schema"]
    assert form["strict"] is True
    schema = form["schema"]
    for part in [schema, *schema["$defs"].values()]:
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])
    properties = schema["$defs"]["Values"]["properties"]
    assert list(properties) == ["main color", "use", "brand"]
    first, null = properties["main color"]["anyOf"]
    assert first["enum"] == ["Red", "blue, navy"]
    assert null == {"type": "null"}
    assert properties["use"]["items"]["enum"] == ["travel", "home"]
    model = assignment_model(FACTORS)
    assert model.model_validate_json(
        wrap({"main color": "Red", "use": [], "brand": None})
    )


def test_values_that_differ_in_case_are_told_apart() -> None:
    factor = Factor(name="origin", values=["Polish", "polish", "Thai"])
    assert check_value("Polish", factor) == ["Polish"]
    assert check_value("polish", factor) == ["polish"]
    assert check_value("THAI", factor) == ["Thai"]
    with pytest.raises(ValueError, match="not among the values"):
        check_value("POLISH", factor)


def test_thoughts_are_no_answer() -> None:
    draft, answer = wrap({"brand": "Acme"}), wrap({"brand": "Bolt"})
    for thought in (f"<think>\nPerhaps {draft}?\n</think>\n", f"{draft}</think>"):
        checked = check_assignments(thought + answer, [OPEN], ["c1"])
        assert checked.values == {"c1": {"brand": ["Bolt"]}}
    # What is only mentioned is left as it is.
    assert parse_object('{"a": "</think>"}') == {"a": "</think>"}


def test_accents_in_either_form_are_the_same_value() -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    for value in (composed, apart):
        factor = Factor(name="place", values=[value, "bar"])
        for answer in (composed, apart, "CAF\u00c9"):
            assert check_value(answer, factor) == [value]
    assert check_value(apart, Factor(name="place")) == [composed]
