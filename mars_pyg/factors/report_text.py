"""A factor report as text for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mars_pyg.factors.agreement import FactorAgreement, worst_factor
from mars_pyg.factors.lift import Lift
from mars_pyg.factors.report import FactorReport
from mars_pyg.report import format_table

WIDTH = 32


def format_report(report: FactorReport, num_values: int = 0) -> str:
    """Lay a report out as tables, and say what to drop.

    Args:
        report: The report.
        num_values: Number of values to show of each factor, the most frequent ones.
            (default: :obj:`0`)
    """
    percent = f"{100 * report.confidence:g} % interval"
    rows = [
        [
            entry.factor,
            str(entry.num_values),
            _percent(entry.coverage),
            _percent(entry.interaction_coverage),
            f"{entry.entropy:.2f}",
            _percent(entry.largest_share),
            _short(entry.largest),
            *_lift(entry.lift),
            "drop" if entry.drop else "keep",
        ]
        for entry in report.factors
    ]
    head = [
        "factor",
        "values",
        "items",
        "interactions",
        "bits",
        "largest",
        "group",
        "lift",
        percent,
        "",
    ]
    parts = [
        f"{report.modality} profiles, {report.num_items} items, "
        f"{report.num_interactions} train interactions",
        "",
        format_table(head, rows, left=(0, 6, 9)),
        "",
        "Items and interactions: the share that has a value; bits: the entropy of the "
        "values.\nLift: how much more often two items of one train history share a "
        "value than two\nrandom ones, drawn by popularity; its interval is analytic, "
        "with users as the sample.",
    ]
    dropped = [entry for entry in report.factors if entry.drop]
    if dropped:
        reasons = "; ".join(f"{entry.factor} ({entry.drop})" for entry in dropped)
        parts += ["", f"What to drop: {reasons}."]
    else:
        parts += ["", "What to drop: nothing."]
    if num_values:
        for entry in report.factors:
            lines = [
                [
                    _short(value.name),
                    str(value.num_items),
                    _percent(value.share),
                    *_lift(value.lift),
                    str(value.lift.pairs),
                ]
                for value in entry.values[:num_values]
            ]
            head = [entry.factor, "items", "share", "lift", percent, "pairs"]
            parts += ["", format_table(head, lines)]
    if report.agreement is not None:
        parts += ["", format_agreement(report.agreement)]
    return "\n".join(parts)


def format_agreement(agreement: Sequence[FactorAgreement]) -> str:
    """Lay the agreement of two profiles out as a table, with the worst confusions."""
    rows = [
        [
            entry.factor,
            str(entry.both),
            str(entry.only_first),
            str(entry.only_second),
            _percent(entry.equal),
            _number(entry.kappa),
        ]
        for entry in agreement
    ]
    head = ["agreement", "both", "only first", "only second", "equal", "kappa"]
    parts = [format_table(head, rows)]
    worst = worst_factor(list(agreement))
    if worst is not None and worst.confusion:
        lines = [
            [_short(first), _short(second), str(count)]
            for first, second, count in worst.confusion[:10]
        ]
        head = [f"{worst.factor}, first", "second", "items"]
        parts += ["", format_table(head, lines, left=(0, 1))]
    return "\n".join(parts)


def _lift(lift: Lift) -> tuple[str, str]:
    if math.isnan(lift.low):
        return _number(lift.lift), "-"
    return _number(lift.lift), f"{lift.low:.2f} to {lift.high:.2f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
