"""What a language model answers: its form, and the check of what it holds."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mars_pyg.factors.redaction import redact
from mars_pyg.factors.schema import SEPARATOR, Factor

#: The longest value of an open vocabulary, so that no text can pass for one.
MAX_OPEN_CHARACTERS = 60
MAX_OPEN_VALUES = 5
#: What is wrong with an answer that the limit of its tokens has ended, and the times
#: that the limit is doubled for it.
CUT_SHORT, ENLARGEMENTS = "the answer is cut short", 2
Model = TypeVar("Model", bound=BaseModel)
_NOT_TOLD = {"", "null", "none", "unknown", "n/a", "not specified", "cannot be told"}


class MalformedAnswer(ValueError):  # noqa: N818 (it is an answer, not an error)
    """An answer of which nothing can be used."""


class AnswerModel(BaseModel):
    """The base of all answers; what is not in their form is refused."""

    model_config = ConfigDict(extra="forbid")


class InducedFactor(BaseModel):
    """A factor as Stage 1 names it for one sample."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=1)
    description: str
    values: list[str] | None
    several: bool


class InducedFactors(AnswerModel):
    """The factors of one sample."""

    factors: list[InducedFactor]


class NameGroup(AnswerModel):
    """Names that mean the same."""

    name: str
    names: list[str]


class NameGroups(AnswerModel):
    """All groups of names."""

    groups: list[NameGroup]


class FactorValues(AnswerModel):
    """One list of values."""

    values: list[str]


def assignment_model(factors: Sequence[Factor]) -> type[BaseModel]:
    """Make the model of an answer of Stage 2, for any number of items.

    Its json schema holds an enumeration of the values of every closed factor, every
    property is required and no other is allowed, as structured outputs demand.
    """
    # Names of factors may be anything, names of attributes may not.
    properties: dict[str, Any] = {
        f"factor_{index}": (_answer_type(factor), Field(alias=factor.name))
        for index, factor in enumerate(factors)
    }
    values = create_model("Values", __config__=ConfigDict(extra="forbid"), **properties)
    item = create_model(
        "ItemValues", __base__=AnswerModel, item=(str, ...), values=(values, ...)
    )
    items: Any = list[item], ...  # type: ignore[valid-type]
    return create_model("Assignments", __base__=AnswerModel, items=items)


def _answer_type(factor: Factor) -> Any:
    kind: Any = str if factor.values is None else Literal[tuple(factor.values)]
    return list[kind] if factor.multiple else kind | None


def response_format(model: type[BaseModel], name: str) -> dict[str, Any]:
    """Describe a model as the response format of structured outputs."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": name,
            "strict": True,
            "schema": model.model_json_schema(by_alias=True),
        },
    }


@lru_cache(maxsize=64)
def _assignment_format(factors: str) -> dict[str, Any]:
    entries = [Factor.model_validate(entry) for entry in json.loads(factors)]
    return response_format(assignment_model(entries), "assignments")


def assignment_format(factors: Sequence[Factor]) -> dict[str, Any]:
    """Describe an answer of Stage 2; made once for each set of factors."""
    return _assignment_format(json.dumps([entry.model_dump() for entry in factors]))


@dataclass
class CheckedAnswer:
    """What an answer of Stage 2 holds.

    Args:
        values: By item and factor, the values that can be used; none where the model
            says that they cannot be told.
        faults: By item and factor, what is wrong with the values that cannot.
        absent: The items that the answer leaves out.
    """

    values: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    faults: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def check_assignments(
    text: str, factors: Sequence[Factor], codes: Sequence[str]
) -> CheckedAnswer:
    r"""Check an answer of Stage 2, value by value.

    Args:
        text: What the model wrote.
        factors: The factors that were asked for.
        codes: The codes of the items that were shown.

    Returns:
        What can be used of the answer, and what cannot.

    Raises:
        MalformedAnswer: If it has not the form that was asked for.
    """
    answer = parse_object(text)
    entries = answer.get("items", [answer] if "values" in answer else None)
    if not isinstance(entries, list):
        raise MalformedAnswer("the answer has no list of items")
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("values"), dict):
            found.setdefault(str(entry.get("item")), entry["values"])
    checked = CheckedAnswer()
    for code in codes:
        if code not in found:
            checked.absent.append(code)
            continue
        for factor in factors:
            try:
                value = check_value(found[code].get(factor.name, ...), factor)
                checked.values.setdefault(code, {})[factor.name] = value
            except ValueError as error:
                checked.faults.setdefault(code, {})[factor.name] = str(error)
    return checked


def check_value(value: Any, factor: Factor) -> list[str]:
    """Check the values of one factor; an empty list is one that cannot be told.

    Raises:
        ValueError: With what is wrong, as it may be shown to the model and to people.
    """
    if value is ...:
        raise ValueError("the factor is not in the answer")
    given = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(entry, str) for entry in given):
        raise ValueError(f"{_short(value)} is not text")
    check = _check_open if factor.values is None else _closed_check(factor)
    values = []
    for entry in given:
        checked = check(_normal(entry))
        if checked and checked not in values:
            values.append(checked)
    if len(values) > 1 and not factor.multiple:
        raise ValueError(f"{_short(value)} are several values, one is allowed")
    if len(values) > MAX_OPEN_VALUES and factor.values is None:
        raise ValueError(f"{len(values)} values, {MAX_OPEN_VALUES} are allowed")
    return values


def _normal(text: str) -> str:
    """A text with single spaces, and accents in the form that most write them in."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def folded(value: str) -> str:
    """What values that differ in case or in the form of accents have in common."""
    return _normal(value).casefold()


def _closed_check(factor: Factor) -> Callable[[str], str | None]:
    exact = {_normal(value): value for value in factor.values or []}
    # A model that writes "Cotton" means "cotton"; that needs no second question.
    known: dict[str, list[str]] = {}
    for name, value in exact.items():
        known.setdefault(name.casefold(), []).append(value)

    def check(entry: str) -> str | None:
        folded = entry.casefold()
        if entry in exact:
            return exact[entry]
        if len(known.get(folded, [])) == 1:
            return known[folded][0]
        if folded in _NOT_TOLD:
            return None
        raise ValueError(f"{_short(entry)} is not among the values")

    return check


def _check_open(entry: str) -> str | None:
    if entry.casefold() in _NOT_TOLD:
        return None
    if len(entry) > MAX_OPEN_CHARACTERS:
        raise ValueError(f"{_short(entry)} is longer than {MAX_OPEN_CHARACTERS}")
    if SEPARATOR in entry or not entry.isprintable():
        raise ValueError(f"{_short(entry)} holds {SEPARATOR!r} or a control character")
    if redact(entry) != entry:
        raise ValueError("the value looks like a key")
    return entry


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def parse_object(text: str) -> dict[str, Any]:
    """Find the json object in an answer that may have prose or a fence around it.

    Raises:
        MalformedAnswer: If there is none, or a part of one only.
    """
    # Servers without a parser of thoughts leave them before the answer, drafts and all.
    _, thought, rest = text.partition("</think>")
    if thought and "{" in rest:
        text = rest
    decoder = json.JSONDecoder()
    start, is_broken = text.find("{"), False
    # Prose may hold a brace of its own; a few are passed over, not many.
    for _ in range(8):
        if start < 0:
            break
        try:
            answer, _ = decoder.raw_decode(text, start)
        # Deep nesting is no answer either.
        except (ValueError, RecursionError):
            start, is_broken = text.find("{", start + 1), True
            continue
        # The inside of a broken object, or of a list, may be whole, and is not the
        # answer; the prose before one may end in a colon.
        inside = r"[\[:,]\s*$" if is_broken else r"\[\s*$"
        if isinstance(answer, dict) and not re.search(inside, text[:start]):
            return answer
        break
    raise MalformedAnswer("the answer is not a json object")


def parse_model(text: str, model: type[Model]) -> Model:
    """Parse an answer of Stage 1.

    Raises:
        MalformedAnswer: If it has not the form that was asked for.
    """
    try:
        return model.model_validate(parse_object(text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MalformedAnswer(f"{where}: {first['msg']}") from error
