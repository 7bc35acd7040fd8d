"""``mars-pyg factors induce|estimate|assign``: ask a language model for factors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mars_pyg.cli.factors import factors_app
from mars_pyg.cli.llm_options import (
    CostOptions,
    ItemOptions,
    RequestOptions,
    ServerOptions,
    make_settings,
    store_path,
    with_groups,
)
from mars_pyg.cli.messages import messages
from mars_pyg.errors import DataError
from mars_pyg.factors.assignment_options import AssignmentSummary
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.estimate import format_estimate, format_seconds
from mars_pyg.factors.llm_reasoner import LLMReasoner, run_async
from mars_pyg.factors.origin import check_origin
from mars_pyg.factors.schema import SEPARATOR, FactorSchema
from mars_pyg.tables import read_table

Items = Annotated[
    Path, typer.Argument(help="table of items: csv, tsv or parquet", show_default=False)
]
Schema = Annotated[
    Path, typer.Option(help="schema.json", show_default=False, dir_okay=False)
]
Store = Annotated[
    Path | None,
    typer.Option(
        help="file of the answers", show_default="factors.sqlite, beside the items"
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="folder of the profiles", show_default="factors, beside the items"
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="replace profiles of another origin")
]


@factors_app.command()
@with_groups(ItemOptions, ServerOptions, CostOptions)
@messages()
def induce(
    items: Items,
    schema: Annotated[
        Path, typer.Option(help="schema.json, which is written", show_default=False)
    ],
    domain: Annotated[
        str, typer.Option(help="what the catalogue is about, in some words")
    ] = "",
    modality: Annotated[
        str, typer.Option(help="what items are judged by, text or image")
    ] = "text",
    num_samples: Annotated[
        int, typer.Option(min=1, help="number of samples of the catalogue")
    ] = 10,
    sample_size: Annotated[int, typer.Option(min=1, help="items in a sample")] = 30,
    num_factors: Annotated[
        int, typer.Option(min=1, help="number of factors that are kept")
    ] = 10,
    max_values: Annotated[
        int, typer.Option(min=2, help="most values of a factor")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="seed of the samples")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace a schema that is there")
    ] = False,
    store: Store = None,
    **flags: Any,
) -> None:
    """Have a language model name the factors of a catalogue (Stage 1).

    Several samples are shown; factors that mean the same are joined, and those
    of the most samples are kept. The schema is a file to read and to edit:
    'factors validate' checks it.
    """
    settings = make_settings(flags)
    if schema.exists() and not overwrite:
        raise DataError(
            "there is a schema already, maybe edited by hand",
            mend="give --overwrite to replace it, or name another file",
            file=schema,
        )
    from mars_pyg.factors.client import ChatClient
    from mars_pyg.factors.induction import (
        FactorInduction,
        InductionOptions,
        format_induction,
    )
    from mars_pyg.factors.pricing import find_price
    from mars_pyg.factors.store import AnswerStore

    contents = settings.reader(items, modality).read(settings.catalogue(items))
    client = settings.client()
    answers = AnswerStore(store_path(items, store))
    options = InductionOptions(
        num_samples=num_samples,
        sample_size=sample_size,
        num_factors=num_factors,
        max_values=max_values,
        domain=domain,
        seed=seed,
        image_size=settings.image_size,
        max_cost=settings.max_cost,
    )
    price = find_price(client.model, settings.price_table())

    async def ask() -> FactorInduction:
        chat = ChatClient(client)
        induction = FactorInduction(chat, answers, modality, price, options)
        try:
            result = await induction.run(contents)
        finally:
            await chat.close()
        result.write(schema)
        print(format_induction(induction.groups, result, num_samples))
        return induction

    try:
        induction = run_async(ask())
    finally:
        answers.close()
    cost = "" if price is None else f"; cost {induction.cost:.4f}"
    print(f"the schema is in {schema}{cost}", file=sys.stderr)


@factors_app.command()
@with_groups(ItemOptions, ServerOptions, CostOptions, RequestOptions)
@messages()
def estimate(items: Items, schema: Schema, store: Store = None, **flags: Any) -> None:
    """Say what 'factors assign' will take: requests, tokens, cost and time.

    Nothing is sent. Answers that are there already are left out.
    """
    settings = make_settings(flags)
    reasoner = settings.reasoner(items, schema, store)
    catalogue = settings.catalogue(items)
    print(format_estimate(reasoner.estimate(catalogue), settings.concurrency))


@factors_app.command()
@with_groups(ItemOptions, ServerOptions, CostOptions, RequestOptions)
@messages()
def assign(
    items: Items,
    schema: Schema,
    output: Output = None,
    store: Store = None,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Have a language model assign the values of a schema to items (Stage 2).

    Every answer is kept in the store as it comes. A run that was interrupted,
    or killed, goes on when it is started again, and nothing is asked or paid
    for twice. A changed factor is asked for alone.
    """
    settings = make_settings(flags)
    folder = items.parent / "factors" if output is None else output
    if not overwrite:
        check_origin(folder, FactorSchema.read(schema))
    reasoner = settings.reasoner(items, schema, store)
    catalogue = settings.catalogue(items)
    reasoner.schema.check_id_column(catalogue.id_column)
    try:
        summary = reasoner.run(catalogue)
    except KeyboardInterrupt:
        print("what was answered is kept; run again to go on", file=sys.stderr)
        raise
    print(format_summary(summary, reasoner), file=sys.stderr)
    # Profiles of no value take the place of none, unless there are no others.
    overwrite = overwrite and len(reasoner.profiles(catalogue).item_index) > 0
    replace = overwrite or summary.complete
    write_folder(reasoner, catalogue, folder, settings.id_column, replace)
    if not summary.complete:
        raise typer.Exit(1)


def _count_values(table: Path) -> int:
    """The values of written profiles; none where there are none."""
    if not table.is_file():
        return 0
    cells = read_table(table).iloc[:, 1:].to_numpy().ravel()
    return sum(len(cell.split(SEPARATOR)) for cell in cells if cell)


def write_folder(
    reasoner: LLMReasoner,
    catalogue: ItemCatalogue,
    folder: Path,
    id_column: str | None,
    replace: bool,
) -> None:
    """Write profiles out of the store, and say so.

    Unless ``replace`` is set, profiles of more values are left as they are, and none
    without a value are written.
    """
    if not replace:
        known = _count_values(folder / "profiles.tsv")
        values = len(reasoner.profiles(catalogue).item_index)
        if values < known:
            print(
                f"{folder} is left as it is: its profiles have {known} values, and "
                f"there are answers for {values} so far",
                file=sys.stderr,
            )
            return
        if not values:
            print("there are no values to write", file=sys.stderr)
            return
    column = id_column or catalogue.id_column
    count = reasoner.write(catalogue, folder, column)
    print(f"{count} values; the profiles are in {folder}", file=sys.stderr)


def format_summary(summary: AssignmentSummary, reasoner: LLMReasoner) -> str:
    """Write what a run has done for people."""
    lines = [
        f"{summary.items} items: {summary.asked} asked now, {summary.answered} "
        f"answered before or equal to others, {summary.without_content} without content"
    ]
    cost = "" if reasoner.price is None else f", cost {summary.cost:.4f}"
    lines.append(
        f"{summary.requests} requests, {summary.input_tokens} tokens in, "
        f"{summary.output_tokens} out{cost}, {summary.repeated} repeated, "
        f"{format_seconds(summary.seconds)}"
    )
    if summary.missing:
        lines.append(
            f"{summary.missing} values are missing for want of a usable answer; "
            "provenance.tsv says why"
        )
    if summary.elsewhere:
        lines.append(
            f"{summary.elsewhere} items are in batches: submit or collect them"
        )
    if summary.failed:
        lines.append(
            f"{summary.failed} items could not be had ({summary.fault}): run again for "
            "them"
        )
    if summary.stopped:
        lines.append(f"stopped: {summary.stopped}")
    return "\n".join(lines)
