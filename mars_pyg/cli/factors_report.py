"""``mars-pyg factors report``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.cli.options import with_configuration
from mars_pyg.config import AmazonOptions, CatalogueOptions, make_config
from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles
from mars_pyg.factors.agreement import factor_agreement
from mars_pyg.factors.profile_folder import find_profiles, read_profiles
from mars_pyg.factors.report import factor_report, profiles_of
from mars_pyg.factors.report_text import format_report
from mars_pyg.files import atomic_path


@with_configuration(CatalogueOptions, AmazonOptions)
@messages()
def report(
    dataset: Annotated[
        str,
        typer.Option(help="baby, sports, clothing, or the folder of your catalogue"),
    ],
    root: Annotated[
        Path, typer.Option(help="folder of the Amazon data; downloaded when absent")
    ] = Path("data"),
    data_seed: Annotated[
        int | None, typer.Option(help="seed of the split of your catalogue")
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="modality of the profiles", show_default="the only one"),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="folder of other profiles, to tell how far both agree"),
    ] = None,
    values: Annotated[
        int, typer.Option(min=0, help="values to show of each factor")
    ] = 0,
    min_lift: Annotated[
        float, typer.Option(min=0, help="smallest lift of a factor worth keeping")
    ] = 1.05,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="coverage of the intervals")
    ] = 0.95,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="file to write the report to")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="file to draw it on, one page: png, pdf or svg"),
    ] = None,
    **flags: Any,
) -> None:
    """Tell what factors are worth before any training, and what to drop.

    Reads the factor profiles of a dataset and its train interactions, no others.
    """
    keys = {"data_seed": data_seed, **flags}
    keys = {name: value for name, value in keys.items() if value is not None}
    try:
        config = make_config({"dataset": dataset, "root": root, **keys})
    except DataError as error:
        raise typer.BadParameter(str(error)) from None
    from mars_pyg.factors.report_plot import check_plot, plot_report
    from mars_pyg.runs import load_dataset

    if plot is not None:
        check_plot(plot)
    data = load_dataset(config)[0]
    profiles = profiles_of(data, modality)
    agreement = None
    if against is not None:
        agreement = factor_agreement(
            profiles, _read_other(against, data["item"].id, profiles.schema.modality)
        )
    result = factor_report(
        profiles,
        data["user", "interacts", "item"].edge_index,
        confidence=confidence,
        min_lift=min_lift,
        agreement=agreement,
    )
    print(format_report(result, values))
    if json_file is not None:
        with atomic_path(json_file) as temporary:
            temporary.write_text(json.dumps(result.to_dict(), indent=1) + "\n")
        print(f"written: {json_file}", file=sys.stderr)
    if plot is not None:
        plot_report(result, plot)
        print(f"drawn: {plot}", file=sys.stderr)


def _read_other(folder: Path, item_ids: list[str], modality: str) -> FactorProfiles:
    """Read the profiles in a folder: those of the modality, or the only ones."""
    found = read_profiles(find_profiles(folder, folder), item_ids)
    if len(found) == 1:
        return next(iter(found.values()))
    if modality not in found:
        raise DataError(
            f"there are profiles of {', '.join(found)}, and none of {modality!r}",
            mend="give the folder of one of them",
            file=folder,
        )
    return found[modality]
