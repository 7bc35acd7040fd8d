"""``mars-pyg factors batch submit|status|collect``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mars_pyg.cli.factors import factors_app
from mars_pyg.cli.factors_llm import (
    Items,
    Output,
    Overwrite,
    Schema,
    Store,
    write_folder,
)
from mars_pyg.cli.llm_options import (
    CostOptions,
    ItemOptions,
    RequestOptions,
    ServerOptions,
    Settings,
    make_settings,
    with_groups,
)
from mars_pyg.cli.messages import messages
from mars_pyg.errors import DataError
from mars_pyg.factors.batch import BatchOptions, BatchSubmitter
from mars_pyg.factors.batch_collect import BatchCollector
from mars_pyg.factors.batch_store import BatchRow
from mars_pyg.factors.client import ClientOptions
from mars_pyg.factors.llm_reasoner import run_async
from mars_pyg.factors.origin import check_origin
from mars_pyg.factors.schema import FactorSchema
from mars_pyg.factors.store import AnswerStore

T = TypeVar("T")

batch_app = typer.Typer(
    name="batch",
    help="Assign by the batch API: for half the price, within a day.",
    no_args_is_help=True,
)
factors_app.add_typer(batch_app)

StoreFile = Annotated[
    Path,
    typer.Option(
        help="file of the answers", show_default=False, exists=True, dir_okay=False
    ),
]


@batch_app.command()
@with_groups(ItemOptions, ServerOptions, CostOptions, RequestOptions)
@messages()
def submit(
    items: Items,
    schema: Schema,
    store: Store = None,
    max_requests: Annotated[
        int, typer.Option(min=1, help="most requests of a batch")
    ] = 50_000,
    **flags: Any,
) -> None:
    """Submit what has no answer yet as batches.

    An interrupted command goes on when it is given again; no batch is created
    twice. What is in a batch is asked for by nothing else meanwhile.
    """
    settings = make_settings(flags)
    _refuse_examples(settings)
    reasoner = settings.reasoner(items, schema, store)
    catalogue = settings.catalogue(items)
    reasoner.schema.check_id_column(catalogue.id_column)
    contents = reasoner.reader.read(catalogue)
    options = BatchOptions(
        max_requests=max_requests,
        max_cost=settings.max_cost,
        max_output_tokens=settings.max_output_tokens,
        image_size=settings.image_size,
    )
    with reasoner.open() as (plan, answers):
        submitter = BatchSubmitter(
            plan, reasoner.client_options, answers, reasoner.price, options
        )

        async def work() -> list[BatchRow]:
            try:
                return await submitter.submit(contents)
            finally:
                await submitter.close()

        rows = run_async(work())
        for row in rows:
            print(f"{row.remote}  {row.requests} requests")
        if not rows:
            print("there is nothing to submit", file=sys.stderr)
        if submitter.left_out:
            print(
                f"{len(submitter.left_out)} items are left out, whose pictures could "
                "not be had: submit again for them",
                file=sys.stderr,
            )
        if submitter.stopped:
            print("stopped: more may cost more than is left", file=sys.stderr)
            raise typer.Exit(1)
        path = answers.path
    if rows:
        print(
            f"ask with: mars-pyg factors batch status --store {path}", file=sys.stderr
        )


@batch_app.command()
@with_groups(ServerOptions)
@messages()
def status(store: StoreFile, **flags: Any) -> None:
    """Show the batches that are not collected."""
    settings = make_settings(flags)
    entries = _with_collector(store, settings, lambda collector: collector.status())
    for entry in entries:
        name = entry.row.remote or entry.row.id
        counts = f"{entry.completed} of {entry.total} requests, {entry.failed} failed"
        print(f"{name}  {entry.state}  {counts}  {entry.row.model}  {entry.row.date}")
    if not entries:
        print("there are no batches that are not collected", file=sys.stderr)


@batch_app.command()
@with_groups(ItemOptions, ServerOptions, CostOptions, RequestOptions)
@messages()
def collect(
    items: Items,
    schema: Schema,
    output: Output = None,
    store: Store = None,
    overwrite: Overwrite = False,
    drop_lost: Annotated[
        bool,
        typer.Option(
            "--drop-lost",
            help="forget batches that the server does not know, or never got",
        ),
    ] = False,
    **flags: Any,
) -> None:
    """Store the answers of the batches that are done, and write the profiles.

    What a batch did not answer, or not well, is asked for by the next 'batch
    submit' or 'assign'.
    """
    settings = make_settings(flags)
    _refuse_examples(settings)
    folder = items.parent / "factors" if output is None else output
    if not overwrite:
        check_origin(folder, FactorSchema.read(schema))
    reasoner = settings.reasoner(items, schema, store)
    if not reasoner.store.is_file():
        raise DataError(
            "there is no such file of answers",
            mend="give the --store of 'batch submit'",
            file=reasoner.store,
        )
    catalogue = settings.catalogue(items)
    done = _with_collector(
        reasoner.store, settings, lambda each: each.collect(_say, drop_lost)
    )
    cost = "" if reasoner.price is None else f", cost {done.cost:.4f}"
    why = f" ({done.fault})" if done.fault else ""
    print(
        f"{done.batches} batches collected, {done.waiting} under way; {done.requests} "
        f"answers, {done.failed} requests failed{why}{cost}; {done.again} values to "
        f"ask again, {done.missing} missing",
        file=sys.stderr,
    )
    if done.batches or len(reasoner.profiles(catalogue).item_index):
        rest = done.waiting or done.lost or reasoner.estimate(catalogue).requests
        replace = overwrite or not rest
        write_folder(reasoner, catalogue, folder, settings.id_column, replace)
    else:
        print("there are no values to write", file=sys.stderr)
    if done.waiting or (done.lost and not drop_lost):
        raise typer.Exit(1)


def _refuse_examples(settings: Settings) -> None:
    """Answers with examples are others, of which batches have none."""
    if settings.examples:
        raise typer.BadParameter("--examples is for 'assign': batches show none")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _with_collector(
    store: Path, settings: Settings, work: Callable[[BatchCollector], Awaitable[T]]
) -> T:
    answers = AnswerStore(store)
    client = ClientOptions(
        "", settings.base_url, settings.timeout, settings.max_retries
    )

    async def call() -> T:
        collector = BatchCollector(
            client, answers, settings.price_table(), settings.max_reasks
        )
        try:
            return await work(collector)
        finally:
            await collector.close()

    try:
        return run_async(call())
    finally:
        answers.close()
