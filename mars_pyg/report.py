"""Metrics and recommendations as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mars_pyg.recommend import Recommendation


#: What moves the cursor of a terminal, or worse: titles are written by strangers.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)])


def plain(line: str) -> str:
    """A line without control characters, as it may be shown on a terminal."""
    return line.translate(_CONTROLS)


def format_metrics(head: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Lay metrics out as a table, one row for each of ``rows``."""
    names = list(next(iter(rows.values())))
    width = max(len(head), *map(len, rows))
    lines = [f"{head:<{width}}" + "".join(f"  {name:>10}" for name in names)]
    for row, metrics in rows.items():
        cells = "".join(f"  {metrics[name]:>10.4f}" for name in names)
        lines.append(f"{row:<{width}}{cells}")
    return "\n".join(lines)


def format_weights(weights: Mapping[str, float]) -> str:
    """Lay the weights of the parts of a score out, those of the most weight first."""
    parts = sorted(weights.items(), key=lambda part: -abs(part[1]))
    text = ", ".join(f"{name} {weight:.2f}" for name, weight in parts)
    return f"weights of the parts, of unit deviation: {text}"


def format_recommendations(user: str, items: Sequence[Recommendation]) -> str:
    """Lay a user's recommendations out, with the shared values behind each."""
    lines = [f"user {user}"]
    for place, item in enumerate(items, start=1):
        title = item.title or "(no title)"
        lines.append(f"{place:>3}. {item.item}  {title}  (score {item.score:.3f})")
        if item.shared:
            shared = ", ".join(
                f"{value.factor}: {value.value} ({value.count})"
                for value in item.shared
            )
            lines.append(f"     shares {shared}")
    return "\n".join(map(plain, lines))


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)
) -> str:
    """Lay texts out in columns as wide as they need, those of ``left`` to the left."""
    table = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if column in left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join(lines)
