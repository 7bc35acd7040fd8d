"""A language model behind the interface of factor reasoners."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import torch

from mars_pyg.errors import DataError
from mars_pyg.factors.assignment import AssignmentRun
from mars_pyg.factors.assignment_options import AssignmentOptions, AssignmentSummary
from mars_pyg.factors.budget import check_priced
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.client import ChatClient, ClientOptions, ServiceError
from mars_pyg.factors.content import CatalogueContents, ContentReader
from mars_pyg.factors.estimate import Estimate, estimate
from mars_pyg.factors.export import read_assignments, write_profiles, write_provenance
from mars_pyg.factors.option_bounds import check_least
from mars_pyg.factors.planning import AssignmentPlan
from mars_pyg.factors.pricing import PRICES, Price, find_price
from mars_pyg.factors.profile_folder import PROVENANCE, SCHEMA, drop_other_tables
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner
from mars_pyg.factors.retrieval import ExampleIndex
from mars_pyg.factors.schema import FactorSchema
from mars_pyg.factors.store import AnswerStore
from mars_pyg.factors.tokens import IMAGE_TOKENS
from mars_pyg.features.text import DEFAULT_TEXT_MODEL, encode_text
from mars_pyg.files import atomic_path

T = TypeVar("T")


class LLMReasoner(FactorReasoner):
    r"""Has a language model assign the values of a schema, Eq. (2) of the MARS paper.

    Every item is shown by its texts, or its picture or caption where the schema is for
    images, and the model picks values out of those of the schema. Answers go to a store
    as they come; whatever is in it is not asked for again.

    .. code-block:: python

        reasoner = LLMReasoner(FactorSchema.read("schema.json"), "gpt-4o-mini")
        print(reasoner.estimate(catalogue).cost)
        profiles = reasoner.assign(catalogue)

    Args:
        schema: The factors. Its modality says what items are judged by.
        model: The name of the model, or how its server is asked.
        store: The file of the answers. (default: :obj:`"factors.sqlite"`)
        reader: What is shown of an item; :obj:`None` for the texts of the usual names,
            or the pictures. (default: :obj:`None`)
        items_per_request: Number of items that are asked together. More take fewer
            tokens, and are judged less carefully. (default: :obj:`1`)
        options: How the catalogue is asked for. (default: :obj:`None`)
        prices: The price table. (default: the package's, see
            :mod:`~mars_pyg.factors.pricing`)
        text_model: The model of the text features by which examples are found, if any
            are wanted and the catalogue has no features.
            (default: :obj:`"sentence-transformers/all-MiniLM-L6-v2"`)

    Raises:
        DataError: If there is a budget and no price is known.
        ValueError: If ``items_per_request`` is too small.
    """

    def __init__(
        self,
        schema: FactorSchema,
        model: str | ClientOptions,
        *,
        store: str | PathLike[str] = "factors.sqlite",
        reader: ContentReader | None = None,
        items_per_request: int = 1,
        options: AssignmentOptions | None = None,
        prices: Mapping[str, Price] = PRICES,
        text_model: str = DEFAULT_TEXT_MODEL,
    ) -> None:
        super().__init__(schema.modality)
        self.schema = schema
        self.client_options = ClientOptions(model) if isinstance(model, str) else model
        self.store = Path(store)
        self.items_per_request = items_per_request
        check_least(self, items_per_request=1)
        self.options = options or AssignmentOptions()
        self.reader = reader or ContentReader(
            schema.modality, image_size=self.options.image_size
        )
        self.price = find_price(self.client_options.model, prices)
        self.text_model = text_model
        check_priced(self.client_options.model, self.price, self.options.max_cost)

    @contextmanager
    def open(self) -> Iterator[tuple[AssignmentPlan, AnswerStore]]:
        """Open the store, and plan what is asked."""
        store = AnswerStore(self.store)
        try:
            yield self._plan(store), store
        finally:
            store.close()

    def _plan(self, store: AnswerStore) -> AssignmentPlan:
        examples = self.options.num_examples
        return AssignmentPlan(
            self.schema,
            self.client_options.model,
            store,
            self.items_per_request,
            f"examples={examples}" if examples else "",
            IMAGE_TOKENS if self.price is None else self.price.image_tokens,
        )

    def estimate(self, catalogue: ItemCatalogue) -> Estimate:
        """Count what :meth:`run` will take; nothing is sent.

        Raises:
            DataError: If examples are wanted of pictures.
        """
        contents = self.reader.read(catalogue)
        self._check_examples(contents)
        with self.open() as (plan, store):
            return estimate(
                plan,
                store,
                contents,
                self.price,
                self.options.concurrency,
                self.options.num_examples,
                self.client_options.mode,
            )

    def run(self, catalogue: ItemCatalogue) -> AssignmentSummary:
        """Ask for all items whose answers are not in the store.

        Raises:
            DataError: If no item has content, or examples are wanted of pictures.
            ServiceError: If the server cannot be used. What was answered is stored.
        """
        contents = self.reader.read(catalogue)
        if len(catalogue) and all(content is None for content in contents):
            # Profiles without a value would take the place of those that are there.
            raise DataError(
                "no item has content",
                mend="name the columns that hold texts or pictures",
                field="items",
            )
        examples = self._examples(catalogue, contents)

        async def ask(plan: AssignmentPlan, store: AnswerStore) -> AssignmentSummary:
            client = ChatClient(self.client_options)
            try:
                run = AssignmentRun(
                    plan, client, store, self.price, self.options, examples
                )
                return await run.run(contents, len(catalogue))
            finally:
                await client.close()

        with self.open() as (plan, store):
            return run_async(ask(plan, store))

    def assign(self, catalogue: ItemCatalogue) -> FactorProfiles:
        """Ask for all items, and return their profiles.

        Raises:
            ServiceError: If the server cannot be used, or some items were not answered.
                What was answered is stored, so that the next call goes on from there.
        """
        summary = self.run(catalogue)
        if not summary.complete:
            why = summary.stopped or (summary.fault if summary.failed else None)
            raise ServiceError(
                f"{summary.failed + summary.elsewhere} of {summary.items} items have "
                f"no answer{f' ({why})' if why else ''}; what was answered is kept: "
                "call again to go on"
            )
        return self.profiles(catalogue)

    def profiles(self, catalogue: ItemCatalogue) -> FactorProfiles:
        """Make profiles of the answers that are in the store."""
        with self.open() as (plan, store):
            items, factors, values = read_assignments(
                plan, store, self.reader.read(catalogue)
            )
        return FactorProfiles.from_assignments(
            self.schema,
            len(catalogue),
            torch.tensor(items, dtype=torch.long),
            torch.tensor(factors, dtype=torch.long),
            values,
        )

    def write(
        self,
        catalogue: ItemCatalogue,
        folder: str | PathLike[str],
        id_column: str = "itemID",
        provenance: bool = True,
    ) -> int:
        r"""Write schema, profiles and provenance, from the answers in the store.

        Other tables of profiles in the folder are deleted.

        Args:
            catalogue: The items.
            folder: The folder for ``schema.json``, ``profiles.tsv`` and
                ``provenance.tsv``.
            id_column: The column of the ids in the files.
                (default: :obj:`"itemID"`)
            provenance: Whether to write where each value comes from; if not, what
                was written of it before is deleted. (default: :obj:`True`)

        Returns:
            The number of values that are written.
        """
        folder, contents = Path(folder), self.reader.read(catalogue)
        table = folder / "profiles.tsv"
        source = folder / PROVENANCE
        # Both are of the same answers, and neither is there without the other.
        with (
            self.open() as (plan, store),
            store.transaction("DEFERRED"),
            atomic_path(table) as values,
            atomic_path(source) as sources,
        ):
            count = write_profiles(values, plan, store, contents, id_column)
            if provenance:
                write_provenance(sources, plan, store, contents, id_column)
            self.schema.write(folder / SCHEMA)
        if not provenance:
            source.unlink(missing_ok=True)
        drop_other_tables(table)
        return count

    def _examples(
        self, catalogue: ItemCatalogue, contents: CatalogueContents
    ) -> ExampleIndex | None:
        self._check_examples(contents)
        if not self.options.num_examples:
            return None
        features = catalogue.features.get("text")
        if features is None:
            features = encode_text(list(map(_text, contents)), self.text_model)
        return ExampleIndex(contents, features)

    def _check_examples(self, contents: CatalogueContents) -> None:
        if self.options.num_examples and not contents.names:
            # Neither could they be found, nor would they show a thing.
            raise DataError(
                "examples are of texts, and the items are shown by their pictures",
                mend="ask without examples",
                field="num_examples",
            )


def _text(content: Any) -> str:
    return "" if content is None else " ".join(content.fields.values())


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, in a thread of its own where a loop runs already (notebooks).

    An interrupt cancels it, and is raised once it has ended.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    begun: Future[Callable[[], object]] = Future()

    async def begin() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        return await work

    with ThreadPoolExecutor(1) as thread:
        return _wait(thread.submit(asyncio.run, begin()), begun)


def _wait(result: Future[T], begun: Future[Callable[[], object]]) -> T:
    try:
        return result.result()
    except BaseException:
        # An interrupt meets the thread that waits, not the one that works.
        futures: list[Future[Any]] = [result, begun]
        wait(futures, return_when=FIRST_COMPLETED)
        if not result.done():
            with suppress(RuntimeError):  # It has ended just now.
                begun.result()()
            # A second interrupt ends the wait for answers on their way, too.
            with suppress(Exception, asyncio.CancelledError):
                _wait(result, begun)
        raise
