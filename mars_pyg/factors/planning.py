"""From items and a schema to the requests that ask for their values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mars_pyg.factors.answers import assignment_format
from mars_pyg.factors.content import ItemContent
from mars_pyg.factors.prompts import (
    PROMPT_VERSION,
    Message,
    assignment_instructions,
    complaint_message,
    items_message,
)
from mars_pyg.factors.schema import Factor, FactorSchema
from mars_pyg.factors.store import AnswerStore
from mars_pyg.factors.tokens import IMAGE_TOKENS, MESSAGE_OVERHEAD, TokenCounter

#: Tokens that are left for an answer beyond its values.
_SPARE_OUTPUT = 300
#: Tokens that are left for the thought of models that think before they answer.
_SPARE_THOUGHT = 4000
_THINKING = ("o1", "o3", "o4", "gpt-5")
#: Tokens of ``{"item": "a1b2c3", "values": {}}`` in an answer.
_ITEM_OUTPUT = 14


@dataclass(frozen=True)
class Group:
    """Items that are asked together for the same factors.

    Args:
        contents: The items.
        questions: The numbers of the questions in the store.
    """

    contents: tuple[ItemContent, ...]
    questions: tuple[int, ...]


class AssignmentPlan:
    r"""Says what is to be asked, and what that will take.

    Args:
        schema: The factors.
        model: The model that will be asked.
        store: The answers that are there already.
        items_per_request: Number of items that are asked together.
            (default: :obj:`1`)
        variant: What else sets the prompts apart, such as examples; part of the key of
            the answers. (default: :obj:`""`)
        image_tokens: Input tokens of a picture. (default: :obj:`85`)
    """

    def __init__(
        self,
        schema: FactorSchema,
        model: str,
        store: AnswerStore,
        items_per_request: int = 1,
        variant: str = "",
        image_tokens: int = IMAGE_TOKENS,
    ) -> None:
        self.schema, self.model = schema, model
        self.items_per_request = items_per_request
        self.image_tokens = image_tokens
        #: Whether the model is known to think, in tokens that no one can foresee.
        self.thinks = model.startswith(_THINKING)
        self.prompt = PROMPT_VERSION + (f"+{variant}" if variant else "")
        self.questions = store.question_ids(schema, model, self.prompt)
        self.factor_of = dict(zip(self.questions, schema.factors, strict=True))
        self.counter = TokenCounter(model)
        self._instructions: dict[tuple[int, ...], tuple[Message, int, int]] = {}
        self._outputs = {
            number: self._output_of(factor) for number, factor in self.factor_of.items()
        }

    @property
    def request_prompt(self) -> str:
        """The prompt as requests are recorded: those of pictures by themselves."""
        # Text is as in stores of older versions, which have no other mark.
        modality = self.schema.modality
        return self.prompt if modality == "text" else f"{self.prompt} {modality}"

    def factors(self, questions: Iterable[int]) -> list[Factor]:
        """The factors of questions."""
        return [self.factor_of[number] for number in questions]

    def factor_names(self, questions: Iterable[int]) -> list[str]:
        """The names of the factors of questions."""
        return [self.factor_of[number].name for number in questions]

    def group(
        self, items: Iterable[tuple[ItemContent, Sequence[int]]]
    ) -> Iterator[Group]:
        """Put items that lack the same answers together; the last ones come short."""
        waiting: dict[tuple[int, ...], list[ItemContent]] = {}
        for content, questions in items:
            entry = waiting.setdefault(tuple(questions), [])
            entry.append(content)
            if len(entry) == self.items_per_request:
                yield Group(tuple(entry), tuple(questions))
                entry.clear()
        for questions, contents in waiting.items():
            if contents:
                yield Group(tuple(contents), tuple(questions))

    def messages(
        self,
        group: Group,
        pictures: Mapping[str, str] | None = None,
        examples: Sequence[Mapping[str, Any]] = (),
        faults: Mapping[tuple[bytes, int], str] | None = None,
    ) -> list[Message]:
        """Write the request of a group, with what was wrong with earlier answers."""
        instructions, *_ = self._instruct(group.questions)
        codes = item_codes(group.contents)
        messages = [instructions, items_message(codes, pictures or {}, examples)]
        complaints: dict[str, dict[str, str]] = {}
        for code, content in codes.items():
            for number in group.questions:
                fault = (faults or {}).get((content.key, number))
                if fault:
                    name = self.factor_of[number].name
                    complaints.setdefault(code, {})[name] = fault
        if complaints:
            messages.append(complaint_message(complaints))
        return messages

    def response_format(self, questions: Sequence[int]) -> dict[str, Any]:
        """The form of an answer, for structured outputs."""
        return assignment_format(self.factors(questions))

    def input_tokens(
        self, group: Group, messages: Sequence[Message], mode: str = "json_schema"
    ) -> int:
        """Count the input tokens of a request."""
        _, fixed, form = self._instruct(group.questions)
        rest = self.counter.count_messages(list(messages[1:]), self.image_tokens)
        return fixed + rest + (form if mode == "json_schema" else 0)

    def output_tokens(self, group: Group) -> int:
        """Expect the tokens of an answer: that of its json, with mean values."""
        each = _ITEM_OUTPUT + sum(
            self._outputs[number][0] for number in group.questions
        )
        return round(6 + each * len(group.contents))

    def output_limit(self, group: Group) -> int:
        """The most tokens that an answer can need."""
        each = _ITEM_OUTPUT + sum(
            self._outputs[number][1] for number in group.questions
        )
        return spare_output(self.model) + 2 * each * len(group.contents)

    def _instruct(self, questions: tuple[int, ...]) -> tuple[Message, int, int]:
        """The instructions, their tokens, and the tokens of the answer's form."""
        if questions not in self._instructions:
            if len(self._instructions) > 64:
                self._instructions.clear()
            text = assignment_instructions(
                self.factors(questions), self.schema.domain, self.schema.modality
            )
            form = json.dumps(self.response_format(questions)["json_schema"])
            self._instructions[questions] = (
                {"role": "system", "content": text},
                self.counter.count(text) + MESSAGE_OVERHEAD,
                self.counter.count(form),
            )
        return self._instructions[questions]

    def _output_of(self, factor: Factor) -> tuple[float, int]:
        """Tokens of a factor in an answer: expected, and at most."""
        values = factor.values or ["two words"]
        name = json.dumps(factor.name)
        pairs = [self.counter.count(f'{name}: "{value}",') for value in values]
        mean = sum(pairs) / len(pairs)
        if factor.values is None:
            return mean, 20 + max(pairs) + (80 if factor.multiple else 0)
        return mean + 2 * factor.multiple, sum(pairs) if factor.multiple else max(pairs)


def spare_output(model: str) -> int:
    """Tokens that are left for an answer beyond what it holds."""
    return _SPARE_THOUGHT if model.startswith(_THINKING) else _SPARE_OUTPUT


def item_codes(contents: Sequence[ItemContent]) -> dict[str, ItemContent]:
    """Give items short codes, which come of their content.

    An answer that is shifted by an item, or meant for another request, names codes that
    were not asked for.
    """
    codes: dict[str, ItemContent] = {}
    for content in contents:
        name, length = content.key.hex(), 6
        while name[:length] in codes:
            length += 2
        codes[name[:length]] = content
    return codes
