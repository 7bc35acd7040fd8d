"""What the figures of the benchmarks have in common."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pandas as pd

from mars_pyg.files import atomic_path

#: Colours that people of any colour vision tell apart (Okabe and Ito).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MUTED = "#9aa0a6"
#: The metrics that tables of experiments show.
SHOWN = ("recall@20", "ndcg@20")


@contextmanager
def drawing(
    path: Path, title: str, size: tuple[float, float], **subplots: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, written when the block ends.

    Args:
        path: The png file.
        title: What stands above all axes.
        size: Width and height in inches; text is readable at half the width of a page.
        subplots: Arguments of ``matplotlib.pyplot.subplots``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    style = {
        "font.size": 13,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#e5e5e5",
        "legend.frameon": False,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=size, layout="constrained", **subplots)
        figure.suptitle(title, x=0.01, ha="left", fontsize=15, fontweight="bold")
        yield figure, axes
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")
        plt.close(figure)


def bars(
    axis: Any,
    places: Sequence[Any],
    rows: list[dict[str, Any]],
    name: str,
    **style: Any,
) -> None:
    """Bars with their values on top, and the intervals of those of several seeds.

    Args:
        axis: The axis to draw on.
        places: Where the bars stand.
        rows: Rows with a column of the name, and one of its interval.
        name: The column.
        style: Arguments of ``bar``.
    """
    drawn = axis.bar(places, [row[name] for row in rows], **style)
    for bar, row in zip(drawn, rows, strict=True):
        height, interval = row[name], row[f"{name} interval"] or 0
        middle = bar.get_x() + bar.get_width() / 2
        if interval:
            axis.errorbar(middle, height, interval, color="black", capsize=4)
        axis.annotate(
            f"{height:.4f}".lstrip("0"),
            (middle, height + interval),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=10,
        )
    axis.grid(visible=False, axis="x")


def write_csv(rows: list[dict[str, Any]] | pd.DataFrame, path: Path) -> None:
    """Write rows as csv."""
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def markdown(rows: list[dict[str, Any]]) -> str:
    """Rows as a table, of the columns of the first one."""
    names = list(rows[0]) if rows else []
    lines = [names, ["---"] * len(names)]
    lines += [[str(row.get(name, "")) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def by_dataset(records: list[dict[str, Any]]) -> dict[str, dict[str, list[dict]]]:
    """The records of each dataset, those of each model together.

    Datasets are in the order of their names, whatever was recorded last.
    """
    groups: dict[str, dict[str, list[dict]]] = {}
    for record in sorted(records, key=lambda record: record["dataset"]):
        models = groups.setdefault(record["dataset"], {})
        models.setdefault(record["model"], []).append(record)
    return groups


def report_summaries(
    summaries: dict[str, tuple[list[dict], list[dict]]],
    output: Path,
    plot: Callable[[list[dict], str, Path], None],
) -> None:
    """Print a table for each dataset, and write it as csv and as a plot.

    Args:
        summaries: Of each dataset the rows, as cells of a table and as numbers.
        output: The file of the records, by which the others are named.
        plot: Draws the numbers of a dataset into a file.
    """
    for dataset, (rows, numbers) in summaries.items():
        print(f"{dataset}\n\n{markdown(rows)}\n")
        stem = output.with_name(f"{output.stem}_{dataset}")
        write_csv(numbers, stem.with_suffix(".csv"))
        plot(numbers, dataset, stem.with_suffix(".png"))


def format_mean(values: Sequence[float]) -> str:
    """Mean and deviation over seeds, without the zero before the point."""
    spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{spread}".replace("0.", ".")


def summarize(
    records: list[dict[str, Any]], metrics: Sequence[str] = SHOWN
) -> tuple[dict[str, str], dict[str, float]]:
    """The metrics of the runs of a model, as cells of a table and as numbers.

    Args:
        records: A record for each seed.
        metrics: Those to show.
    """
    settings = [{**record.get("config", {}), "seed": None} for record in records]
    if any(other != settings[0] for other in settings):
        first = records[0]
        warnings.warn(
            f"the seeds of {first['dataset']} {first['model']} were trained with "
            "different settings, so that their mean is of no model; give them all as "
            "--seeds, and those of other settings are run anew",
            stacklevel=2,
        )
    cells, numbers = {}, {}
    for split in ("valid", "test"):
        for name in metrics:
            values = [record[split][name] for record in records]
            cells[f"{split} {name}"] = format_mean(values)
            numbers[f"{split} {name}"] = mean(values)
            numbers[f"{split} {name} interval"] = interval(values)
    return cells, numbers


def interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of a mean over seeds; zero for one seed."""
    from scipy.stats import t

    if len(values) < 2:
        return 0.0
    quantile = t.ppf(0.975, len(values) - 1)
    return float(quantile * stdev(values) / len(values) ** 0.5)
