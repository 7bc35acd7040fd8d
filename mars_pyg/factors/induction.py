"""Stage 1: a language model names the factors of a catalogue."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mars_pyg.errors import DataError
from mars_pyg.factors.answers import (
    FactorValues,
    InducedFactor,
    InducedFactors,
    NameGroups,
)
from mars_pyg.factors.budget import BudgetReached
from mars_pyg.factors.client import ChatClient, ServiceError
from mars_pyg.factors.content import CatalogueContents, ItemContent
from mars_pyg.factors.document_asking import DocumentAsker
from mars_pyg.factors.images import PictureError, load_picture
from mars_pyg.factors.option_bounds import check_least
from mars_pyg.factors.pricing import Price
from mars_pyg.factors.prompts import (
    induction_messages,
    merge_messages,
    values_messages,
)
from mars_pyg.factors.schema import SEPARATOR, Factor, FactorSchema
from mars_pyg.factors.store import AnswerStore
from mars_pyg.factors.words import words_without_underscores

T = TypeVar("T")

#: Tokens that are left in an answer for a factor, and for each of its values.
_FACTOR_OUTPUT, _VALUE_OUTPUT = 60, 8


@dataclass(frozen=True)
class InductionOptions:
    r"""How factors are looked for.

    Args:
        num_samples: Number of samples of the catalogue. (default: :obj:`10`)
        sample_size: Items in a sample. (default: :obj:`30`)
        num_factors: Number of factors that are kept. (default: :obj:`10`)
        max_values: Most values of a factor. (default: :obj:`20`)
        domain: What the catalogue is about. (default: :obj:`""`)
        seed: Seed of the samples. (default: :obj:`0`)
        concurrency: Number of requests at once. (default: :obj:`8`)
        image_size: Longest side of pictures in pixels. (default: :obj:`512`)
        max_cost: What all requests on the store may cost, those of earlier
            runs included; :obj:`None` for no limit. (default: :obj:`None`)

    Raises:
        ValueError: If one is too small.
    """

    num_samples: int = 10
    sample_size: int = 30
    num_factors: int = 10
    max_values: int = 20
    domain: str = ""
    seed: int = 0
    concurrency: int = 8
    image_size: int = 512
    max_cost: float | None = None

    def __post_init__(self) -> None:
        check_least(
            self,
            num_samples=1,
            sample_size=1,
            num_factors=1,
            max_values=1,
            concurrency=1,
            image_size=1,
            max_cost=0,
        )


@dataclass
class InducedGroup:
    """Factors of several samples that are one.

    Args:
        name: The name.
        members: The factors, by the sample that named them.
    """

    name: str
    members: list[tuple[int, InducedFactor]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """In how many samples it was named."""
        return len({sample for sample, _ in self.members})

    @property
    def names(self) -> list[str]:
        """The names that it had, the most frequent first."""
        return [
            name for name, _ in Counter(m.name for _, m in self.members).most_common()
        ]

    @property
    def open(self) -> bool:
        """Whether most samples have named no values."""
        without = sum(not factor.values for _, factor in self.members)
        return 2 * without > len(self.members)


class FactorInduction:
    r"""Has a language model name the factors of a catalogue, Eq. (1) of the MARS paper.

    Several random samples of the catalogue are shown, each in a request of its own.
    Factors whose names mean the same are joined, those of the most samples are kept,
    and their values are made into one list each. All answers go to the store, so that
    an interrupted induction goes on where it was, and a repeated one costs nothing.

    Args:
        client: Who is asked.
        store: Where the answers are kept.
        modality: What items are judged by. (default: :obj:`"text"`)
        price: The price of the model, or :obj:`None`. (default: :obj:`None`)
        options: How factors are looked for. (default: :obj:`None`)

    Raises:
        DataError: If there is a budget and no price is known.
    """

    def __init__(
        self,
        client: ChatClient,
        store: AnswerStore,
        modality: str = "text",
        price: Price | None = None,
        options: InductionOptions | None = None,
    ) -> None:
        self.modality, self.options = modality, options or InductionOptions()
        self._asker = DocumentAsker(client, store, price, self.options.max_cost)
        #: All groups of factors, the most frequent first; kept ones and others.
        self.groups: list[InducedGroup] = []

    @property
    def cost(self) -> float:
        """What the requests have cost so far."""
        return self._asker.cost

    async def run(self, contents: CatalogueContents) -> FactorSchema:
        """Name the factors of a catalogue.

        Raises:
            DataError: If no item has content, or the next request may cost more than
                is left. What was answered is stored.
            ServiceError: If the server cannot be used or gives no usable answer.
        """
        samples, asker = self._draw(contents), self._asker
        try:
            async with asker:
                return await self._name(samples)
        except BudgetReached:
            spent = asker.store.cost()
            raise DataError(
                f"the next request may cost more than is left: {spent:.4f} of "
                f"{self.options.max_cost} are spent",
                mend="allow more, and run again; what was answered is kept",
                field="max_cost",
            ) from None

    async def _name(self, samples: list[list[ItemContent]]) -> FactorSchema:
        options = self.options
        limit = asyncio.Semaphore(options.concurrency)

        async def ask(sample: list[ItemContent]) -> InducedFactors | None:
            async with limit:
                return await self._induce(sample)

        answers = await _together(ask(sample) for sample in samples)
        named = [answer for answer in answers if answer is not None]
        if not named:
            raise DataError(
                "no picture of the samples can be read",
                mend="correct the paths, which are relative to the table, or addresses",
                field="images",
            )
        self.groups = await self._merge(
            [(n, f) for n, answer in enumerate(named) for f in answer.factors]
        )
        kept = self.groups[: options.num_factors]
        factors = await _together(self._make_factor(group) for group in kept)
        usable = [factor for factor in factors if factor is not None]
        if not usable:
            raise ServiceError("the model has named no factor that can be used")
        return FactorSchema(
            domain=options.domain, modality=self.modality, factors=usable
        )

    def _draw(self, contents: CatalogueContents) -> list[list[ItemContent]]:
        """Draw samples; an item is in one sample more than another at most."""
        generator = random.Random(self.options.seed)
        order: list[int] = []
        samples = []
        size = min(self.options.sample_size, len(contents))
        for _ in range(self.options.num_samples):
            sample: list[ItemContent] = []
            # Items without content are passed over, but not for ever.
            for _ in range(20 * size):
                if not order:
                    order = list(range(len(contents)))
                    generator.shuffle(order)
                content = contents[order.pop()]
                if content is not None and content not in sample:
                    sample.append(content)
                if len(sample) == size:
                    break
            if sample:
                samples.append(sample)
        if not samples:
            raise DataError(
                "no item has content",
                mend="name the columns that hold texts or pictures",
                field="items",
            )
        return samples

    async def _induce(self, sample: list[ItemContent]) -> InducedFactors | None:
        """Ask for the factors of a sample; none if none of it can be shown."""
        shown: list[ItemContent] = []
        pictures: dict[str, str] = {}
        for content in sample:
            if content.image:
                try:
                    picture = await asyncio.to_thread(
                        load_picture, content.image, self.options.image_size
                    )
                except (PictureError, OSError):
                    # The others of the sample will do.
                    continue
                pictures[str(len(shown) + 1)] = picture
            shown.append(content)
        if not shown:
            return None
        messages = induction_messages(
            shown,
            pictures,
            domain=self.options.domain,
            modality=self.modality,
            limit=self.options.num_factors + 2,
            max_values=self.options.max_values,
        )
        each = _FACTOR_OUTPUT + _VALUE_OUTPUT * self.options.max_values
        room = (self.options.num_factors + 2) * each
        answer = await self._asker.ask(
            messages, InducedFactors, "induced_factors", room
        )
        return InducedFactors(factors=_distinct(answer.factors))

    async def _merge(
        self, named: Sequence[tuple[int, InducedFactor]]
    ) -> list[InducedGroup]:
        """Join factors that are one: by spelling, then by what the model says."""
        by_name: dict[str, InducedGroup] = {}
        for sample, factor in named:
            folded = fold(factor.name)
            group = by_name.setdefault(folded, InducedGroup(folded))
            group.members.append((sample, factor))
        if len(by_name) > 1:
            shown = [
                {
                    "name": name,
                    "description": group.members[0][1].description,
                    "values": (group.members[0][1].values or [])[:8],
                }
                for name, group in sorted(by_name.items())
            ]
            answer = await self._asker.ask(
                merge_messages(shown), NameGroups, "name_groups"
            )
            for joined in answer.groups:
                names = [fold(name) for name in joined.names]
                # A name counts for the first group that has it; unknown ones for none.
                members = [
                    by_name.pop(name)
                    for name in dict.fromkeys(names)
                    if name in by_name
                ]
                if members:
                    largest = max(members, key=lambda group: group.count)
                    known = {group.name for group in members}
                    name = fold(joined.name)
                    merged = InducedGroup(name if name in known else largest.name)
                    merged.members = [m for group in members for m in group.members]
                    # Under a name of its own, so that no later group meets it.
                    by_name[f"\0{merged.name}"] = merged
        return sorted(by_name.values(), key=lambda group: (-group.count, group.name))

    async def _make_factor(self, group: InducedGroup) -> Factor | None:
        """Make one factor of a group; none if it has not two values."""
        descriptions = Counter(m.description.strip() for _, m in group.members)
        several = sum(m.several for _, m in group.members)
        multiple = 2 * several > len(group.members)
        description = " ".join(descriptions.most_common(1)[0][0].split())

        def make(values: list[str] | None) -> Factor:
            return Factor(
                name=group.name,
                description=description,
                values=values,
                multiple=multiple,
                count=group.count,
            )

        if group.open:
            return make(None)
        counts: Counter[str] = Counter()
        for _, member in group.members:
            counts.update(_clean_values(member.values or [], multiple))
        values = [value for value, _ in counts.most_common(4 * self.options.max_values)]
        if len(group.members) > 1 and len(values) > 1:
            shown = {
                "name": group.name,
                "description": description,
                "values": values,
            }
            messages = values_messages(shown, self.options.max_values)
            answer = await self._asker.ask(messages, FactorValues, "factor_values")
            values = _clean_values(answer.values, multiple) or values
        values = values[: self.options.max_values]
        return make(values) if len(values) > 1 else None


async def _together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Do some works at once; where one fails, the others end."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def fold(name: str) -> str:
    """Write a name in one spelling: lower case, underscores, in singular."""
    words = words_without_underscores().findall(name.casefold())
    if words and len(words[-1]) > 3 and re.search(r"[^su]s$", words[-1]):
        words[-1] = words[-1][:-1]
    return "_".join(words)


def _distinct(factors: Sequence[InducedFactor]) -> list[InducedFactor]:
    """Keep the first factor of each name that has letters."""
    found: dict[str, InducedFactor] = {}
    for factor in factors:
        if fold(factor.name):
            found.setdefault(fold(factor.name), factor)
    return list(found.values())


def _clean_values(values: Sequence[str], multiple: bool) -> list[str]:
    """Write values in one spelling, each once."""
    found: dict[str, str] = {}
    for value in values:
        text = " ".join(value.split())[:80].strip()
        if multiple:
            text = text.replace(SEPARATOR, "/")
        if text and text.isprintable():
            found.setdefault(text.casefold(), text.lower())
    return list(found.values())


def format_induction(
    groups: Sequence[InducedGroup], schema: FactorSchema, num_samples: int
) -> str:
    """Write the factors of an induction for people, with those that are left out."""
    values: Mapping[str, Any] = {
        factor.name: factor.values for factor in schema.factors
    }
    lines = []
    for group in groups:
        others = [name for name in group.names if fold(name) != group.name]
        if group.name in values:
            entry = values[group.name]
            shown = "open vocabulary" if entry is None else f"{len(entry)} values"
        else:
            shown = "left out"
        also = f"  also {', '.join(others)}" if others else ""
        lines.append(
            f"{group.name:<24} {group.count:>3} of {num_samples}  {shown}{also}"
        )
    return "\n".join(lines)
