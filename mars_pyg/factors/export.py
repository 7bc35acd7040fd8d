"""From the store of answers to files of profiles."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator
from os import PathLike

from mars_pyg.factors.answers import folded
from mars_pyg.factors.content import CatalogueContents
from mars_pyg.factors.planning import AssignmentPlan
from mars_pyg.factors.schema import SEPARATOR
from mars_pyg.factors.store import AnswerStore
from mars_pyg.files import atomic_path

_CHUNK = 1000
Answers = dict[int, tuple[list[str], str | None, int | None]]

PROVENANCE_COLUMNS = (
    "factor",
    "value",
    "reason",
    "model",
    "answered_by",
    "prompt_version",
    "schema_version",
    "date",
    "input_hash",
    "input_tokens",
    "output_tokens",
    "items_in_request",
    "batch",
)


def write_profiles(
    path: str | PathLike[str],
    plan: AssignmentPlan,
    store: AnswerStore,
    contents: CatalogueContents,
    id_column: str = "itemID",
) -> int:
    r"""Write the profiles of a catalogue as a tsv file, from the answers in a store.

    The file is that of :meth:`~mars_pyg.factors.FactorProfiles.read`. Values of an open
    vocabulary that differ in case only are written as they are most often.

    Args:
        path: The file to write.
        plan: What was asked.
        store: The answers.
        contents: The items.
        id_column: The name of the column of the ids. (default: :obj:`"itemID"`)

    Returns:
        The number of values that are written.

    Raises:
        DataError: If a factor has the name of that column.
    """
    plan.schema.check_id_column(id_column)
    spelling = _spellings(plan, store)
    count = 0
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow([id_column, *plan.factor_names(plan.questions)])
        for item, _, answers in _answers(plan, store, contents):
            row = []
            for number in plan.questions:
                values = answers[number][0] if number in answers else []
                names = spelling.get(number)
                if names is not None:
                    # Another process may have stored one since.
                    values = [names.get(folded(v), v) for v in values]
                    values = list(dict.fromkeys(values))
                count += len(values)
                row.append(SEPARATOR.join(values))
            if any(row):
                writer.writerow([item, *row])
    return count


def write_provenance(
    path: str | PathLike[str],
    plan: AssignmentPlan,
    store: AnswerStore,
    contents: CatalogueContents,
    id_column: str = "itemID",
) -> None:
    r"""Write where every value comes from, and why others are missing, as a tsv file.

    Args:
        path: The file to write; a row for each item and factor that was answered.
        plan: What was asked.
        store: The answers.
        contents: The items.
        id_column: The name of the column of the ids. (default: :obj:`"itemID"`)
    """
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow([id_column, *PROVENANCE_COLUMNS])
        # Answers of one request mostly come one after another.
        requests: dict[int, dict[str, object]] = {}
        for index, (item, key, answers) in enumerate(_answers(plan, store, contents)):
            if index % _CHUNK == 0:
                requests.clear()
            for number, (values, reason, request) in answers.items():
                if request is not None and request not in requests:
                    requests[request] = store.request(request)
                source = requests.get(request, {}) if request is not None else {}
                writer.writerow(
                    [
                        item,
                        plan.factor_of[number].name,
                        SEPARATOR.join(values),
                        reason or "",
                        plan.model,
                        source.get("answered_by", ""),
                        plan.prompt,
                        source.get("schema", plan.schema.version),
                        source.get("date", ""),
                        key.hex() if key is not None else "",
                        source.get("input_tokens", ""),
                        source.get("output_tokens", ""),
                        source.get("items", ""),
                        source.get("batch") or "",
                    ]
                )


def read_assignments(
    plan: AssignmentPlan, store: AnswerStore, contents: CatalogueContents
) -> tuple[list[int], list[int], list[str]]:
    """Read triplets of item, factor and value out of a store."""
    spelling = _spellings(plan, store)
    items: list[int] = []
    factors: list[int] = []
    values: list[str] = []
    for index, (_, _, answers) in enumerate(_answers(plan, store, contents)):
        for factor, number in enumerate(plan.questions):
            for value in answers[number][0] if number in answers else []:
                items.append(index)
                factors.append(factor)
                # Another process may have stored one since.
                values.append(spelling.get(number, {}).get(folded(value), value))
    return items, factors, values


def _answers(
    plan: AssignmentPlan, store: AnswerStore, contents: CatalogueContents
) -> Iterator[tuple[str, bytes | None, Answers]]:
    """Look up the keys and answers of all items, in their order."""
    pairs = zip(contents.catalogue.ids, contents, strict=True)
    while chunk := list(itertools.islice(pairs, _CHUNK)):
        keys = list({content.key for _, content in chunk if content is not None})
        found: dict[bytes, Answers] = {}
        for (key, number), entry in store.answers(keys, plan.questions).items():
            found.setdefault(key, {})[number] = entry
        for item, content in chunk:
            if content is None:
                yield item, None, {}
            else:
                yield item, content.key, found.get(content.key, {})


def _spellings(plan: AssignmentPlan, store: AnswerStore) -> dict[int, dict[str, str]]:
    """The most frequent spelling of each value of the open vocabularies."""
    found = {}
    for number, factor in plan.factor_of.items():
        if factor.values is None:
            counts: dict[str, Counter[str]] = {}
            for value, count in store.value_counts(number):
                counts.setdefault(folded(value), Counter())[value] += count
            found[number] = {
                name: max(sorted(entry), key=entry.__getitem__)
                for name, entry in counts.items()
            }
    return found
