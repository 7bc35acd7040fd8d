"""A factor report as one page of plots."""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mars_pyg.errors import DataError
from mars_pyg.factors.agreement import worst_factor
from mars_pyg.factors.report import FactorReport, FactorWorth
from mars_pyg.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours of Okabe and Ito, which colour-blind people tell apart.
BLUE, ORANGE, SKY, GREY = "#0072B2", "#D55E00", "#56B4E9", "#666666"
NUM_VALUES = 14
NUM_CONFUSED = 8


def check_plot(path: str | PathLike[str]) -> None:
    """Refuse to draw on a file, before there is a report.

    Args:
        path: The file to write; see :func:`plot_report`.

    Raises:
        DataError: If matplotlib is missing or does not know the kind of file.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise DataError(
            "plots need matplotlib", mend="pip install 'mars-pyg[plot]'", file=path
        ) from error
    known = FigureCanvasAgg.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in known:
        raise DataError(
            f"the plots cannot be drawn: {Path(path).suffix!r} is no known kind of "
            "picture",
            mend="end the name of the file in .png, .pdf or .svg",
            file=path,
        )


def plot_report(report: FactorReport, path: str | PathLike[str]) -> None:
    """Draw a report on one page.

    The lift of the factors with their intervals, how many items and interactions have
    a value, the entropy, and the values that link
    the most pairs beyond chance, with their lifts; with an agreement,
    also kappa and the confusion of the worst factor.

    Args:
        report: The report.
        path: The file to write, such as ``.png``, ``.pdf`` or ``.svg``.

    Raises:
        DataError: If matplotlib is missing or does not know the kind of file.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if report.agreement is None else 3
    # Without pyplot there is no state and no window.
    figure = Figure(figsize=(5.6 * columns, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, columns)
    figure.suptitle(
        f"{report.modality} profiles: {report.num_items:,} items, "
        f"{report.num_interactions:,} train interactions"
    )
    # The first factor is on top.
    factors = report.factors[::-1]
    _plot_lift(axes[0, 0], factors, report)
    _plot_coverage(axes[0, 1], factors)
    _plot_entropy(axes[1, 1], factors)
    _plot_values(axes[1, 0], report)
    if report.agreement is not None:
        _plot_kappa(axes[0, 2], report)
        _plot_confusion(axes[1, 2], report)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _plot_lift(axes: Axes, factors: list[FactorWorth], report: FactorReport) -> None:
    for row, entry in enumerate(factors):
        lift = entry.lift
        if math.isnan(lift.low):
            continue
        dropped = bool(entry.drop)
        axes.errorbar(
            lift.lift,
            row,
            xerr=[[lift.lift - lift.low], [lift.high - lift.lift]],
            fmt="o",
            color=ORANGE if dropped else BLUE,
            markerfacecolor="white" if dropped else BLUE,
            capsize=3,
        )
        axes.annotate(
            f"{lift.lift:.2f}" + ("  drop" if dropped else ""),
            (lift.high, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=ORANGE if dropped else "black",
        )
    _names(axes, [entry.factor for entry in factors])
    axes.axvline(1, color=GREY, linewidth=1)
    axes.margins(x=0.15)
    axes.set_xlabel(f"lift, with its {100 * report.confidence:g} % interval")
    axes.set_title("Lift in train histories (1 = carries nothing)", loc="left")


def _plot_coverage(axes: Axes, factors: list[FactorWorth]) -> None:
    rows = np.arange(len(factors))
    for offset, color, label, shares in [
        (0.2, BLUE, "items", [entry.coverage for entry in factors]),
        (-0.2, SKY, "interactions", [entry.interaction_coverage for entry in factors]),
    ]:
        axes.barh(rows + offset, shares, 0.38, color=color, label=label)
    _names(axes, [entry.factor for entry in factors])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share that has a value")
    axes.set_title("Coverage", loc="left")
    _legend(axes)


def _plot_entropy(axes: Axes, factors: list[FactorWorth]) -> None:
    rows = np.arange(len(factors))
    axes.barh(rows, [entry.entropy for entry in factors], 0.6, color=BLUE)
    axes.plot(
        [math.log2(max(entry.num_values, 1)) for entry in factors],
        rows,
        "|",
        color="black",
        markersize=14,
    )
    for row, entry in zip(rows, factors, strict=True):
        axes.annotate(
            f"{_short(entry.largest, 24)} {100 * entry.largest_share:.0f} %",
            (math.log2(max(entry.num_values, 1)), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=GREY,
        )
    _names(axes, [entry.factor for entry in factors])
    axes.margins(x=0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("bits; the mark: all values equally frequent")
    axes.set_title("Entropy, and the largest group", loc="left")


def _plot_values(axes: Axes, report: FactorReport) -> None:
    # A lift of a hundred from five pairs says less than one of two from thousands.
    values = [
        (value, f"{entry.factor}: {_short(value.name, 30)}")
        for entry in report.factors
        for value in entry.values
        if not math.isnan(value.lift.low)
    ]
    values.sort(key=lambda entry: -entry[0].lift.pairs * (1 - 1 / entry[0].lift.lift))
    values = values[:NUM_VALUES][::-1]
    for row, (value, _) in enumerate(values):
        lift = value.lift
        axes.plot([lift.low, lift.high], [row, row], color=BLUE)
        axes.plot(lift.lift, row, "o", color=BLUE)
    _names(axes, [name for _, name in values])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set_xlabel("lift, with its interval (logarithmic scale)")
    axes.set_title("Values that link the most pairs beyond chance", loc="left")


def _plot_kappa(axes: Axes, report: FactorReport) -> None:
    entries = (report.agreement or [])[::-1]
    rows = np.arange(len(entries))
    axes.plot([entry.equal for entry in entries], rows, "o", color=SKY, label="equal")
    axes.plot(
        [entry.kappa for entry in entries], rows, "D", color=BLUE, label="Cohen's kappa"
    )
    _names(axes, [entry.factor for entry in entries])
    axes.set_xlim(right=1.02)
    axes.set_xlabel("share of items; kappa")
    axes.set_title("Agreement", loc="left")
    _legend(axes)


def _plot_confusion(axes: Axes, report: FactorReport) -> None:
    worst = worst_factor(report.agreement or [])
    if worst is None or not worst.confusion:
        axes.set_axis_off()
        return
    first = list(dict.fromkeys(one for one, _, _ in worst.confusion))[:NUM_CONFUSED]
    second = list(dict.fromkeys(two for _, two, _ in worst.confusion))[:NUM_CONFUSED]
    counts = np.zeros((len(first), len(second)))
    for one, two, number in worst.confusion:
        if one in first and two in second:
            counts[first.index(one), second.index(two)] = number
    axes.imshow(counts, cmap="cividis", aspect="auto")
    limit = counts.max() / 2
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "black" if count > limit else "white"
            axes.text(
                column, row, f"{count:.0f}", ha="center", va="center", color=color
            )
    axes.set_yticks(range(len(first)), [_short(name, 24) for name in first], fontsize=8)
    axes.set_xticks(
        range(len(second)),
        [_short(name, 24) for name in second],
        rotation=40,
        ha="right",
        fontsize=8,
    )
    axes.set_ylabel("first")
    axes.set_xlabel("second")
    axes.set_title(f"Worst factor: where {worst.factor} differs, items", loc="left")


def _legend(axes: Axes) -> None:
    # Above the axes, where no bar is.
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.01, 0.99),
        ncols=2,
        fontsize=8,
        frameon=False,
    )


def _names(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name, 42) for name in names], fontsize=8)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)


def _short(text: str, width: int) -> str:
    # A dollar sign would begin a formula.
    text = text if len(text) <= width else f"{text[: width - 1]}…"
    return text.replace("$", r"\$")
