"""The table and the plot of the scaling benchmark."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

OURS = ("torch", "numba", "triton")
BOTH = "forward+backward"
#: What results that are compared have in common, beside the scenario, items and pass.
PROBLEM = ("device", "dtype", "channels", "factors", "values")
#: Name, colour (of Okabe and Ito, for all eyes) and marker of each method.
STYLES = {
    "dense": ("dense clique", "#000000", "v"),
    "metapaths": ("AddMetaPaths", "#CC79A7", "D"),
    "sage": ("SAGEConv hops (another function)", "#999999", "P"),
    "hypergraph": ("HypergraphConv per factor", "#E69F00", "^"),
    "scatter": ("scatter per factor", "#D55E00", "s"),
    "torch": ("mars_pyg torch", "#56B4E9", "o"),
    "numba": ("mars_pyg numba", "#0072B2", "o"),
    "triton": ("mars_pyg triton", "#009E73", "o"),
}


def table(records: list[dict]) -> str:
    """The records as tables, one for each device, dtype and size of the problem."""
    groups = defaultdict(list)
    for record in records:
        groups[tuple(record[name] for name in PROBLEM)].append(record)
    tables = []
    for (device, dtype, channels, factors, values), group in groups.items():
        title = f"{device}, {dtype}, {factors} factors of {values} values, "
        title += f"{channels} channels\n\n"
        tables.append((title if len(groups) > 1 else "") + _table(group))
    return "\n\n".join(tables)


def _table(records: list[dict]) -> str:
    """Records as an aligned Markdown table, a row for each measurement."""
    heads = ["scenario", "items", "pass", "method", "ms", "items/s", "edges/s"]
    heads += ["peak MiB", "x our best", "x floor", "x rows", "other load"]
    rows = []
    groups = defaultdict(list)
    for record in records:
        groups[record["scenario"], record["items"], record["pass"]].append(record)
    order = list(STYLES)
    for (scenario, items, name), group in sorted(groups.items()):
        ours = [r["ms"] for r in group if r["method"] in OURS and r["status"] == "ok"]
        for record in sorted(group, key=lambda r: order.index(r["method"])):
            row = [scenario, f"{items:,}", name, STYLES[record["method"]][0]]
            if record["status"] != "ok":
                rows.append([*row, record["status"], *[""] * 7])
                continue
            row += [f"{record['ms']:.3g}" if record["ms"] < 100 else ""]
            row[-1] = row[-1] or f"{record['ms']:,.0f}"
            row += [_short(record["items_per_s"]), _short(record["edges_per_s"])]
            row += [f"{record['peak_mib']:,.0f}"]
            row += [f"{record['ms'] / min(ours):.1f}" if ours else ""]
            row += [f"{record['floor_ratio']:.1f}", f"{rows_ratio(record):.1f}"]
            row += [f"{record['other_load']:.2f}"]
            rows.append(row)
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    numeric = [head not in ("scenario", "pass", "method") for head in heads]

    def line(cells: list[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * (w - 1) + (":" if n else "-")
        for w, n in zip(widths, numeric, strict=True)
    ]
    return "\n".join([line(heads), line(rule), *map(line, rows)])


def rows_ratio(record: dict) -> float:
    """The time over that of moving a row for each edge twice in each pass.

    An item's row goes to its values and the values' rows come back, and so do their
    gradients: that is moved at the speed of a copy where no row stays in a cache.
    """
    bits = int(record["dtype"].removeprefix("bfloat").removeprefix("float"))
    row_size = record["channels"] * bits // 8
    passes = 2 if record["pass"] == BOTH else 1
    moved = 2 * passes * record["edges"] * row_size
    ratio: float = record["ms"] / (moved / record["copy_gb_s"] / 1e6)
    return ratio


def _short(number: float) -> str:
    """A rate with three digits."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def plot(records: list[dict], path: Path) -> None:
    """Draw time and memory of forward and backward against the number of items.

    Drawn is the scenario with even values, of the device, dtype and size of the problem
    recorded last.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullLocator

    drawn = [r for r in records if r["scenario"] == "even" and r["pass"] == BOTH]
    if not drawn:
        drawn = [r for r in records if r["pass"] == BOTH]
    last = drawn[-1]
    same = ("scenario", *PROBLEM)
    drawn = [r for r in drawn if all(r[name] == last[name] for name in same)]
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    fields = (("ms", "time (ms)"), ("peak_mib", "peak memory (MiB)"))
    lines: dict[str, tuple] = {}
    for axis, (field, name) in zip(axes, fields, strict=True):
        for method, (label, colour, marker) in STYLES.items():
            mine = sorted(
                (r for r in drawn if r["method"] == method), key=lambda r: r["items"]
            )
            good = [r for r in mine if r["status"] == "ok"]
            if not good:
                continue
            x = [r["items"] for r in good]
            y = [max(r[field], 0.1) for r in good]
            wide = 2.8 if method in OURS else 1.6
            (line,) = axis.plot(x, y, color=colour, marker=marker, lw=wide, ms=5)
            if len(good) < len(mine):
                # Where it came to no result.
                axis.plot(x[-1], y[-1], color=colour, marker="x", ms=14, mew=2.5)
                label += f"\n(x: {mine[len(good)]['status']} beyond)"
            lines.setdefault(label, (line, y[-1] / x[-1]))
        if field == "ms":
            floor: dict[int, list[float]] = {}
            for r in drawn:
                if r["status"] == "ok":
                    floor.setdefault(r["items"], []).append(r["floor_ms"])
            x = sorted(floor)
            y = [min(floor[items]) for items in x]
            (line,) = axis.plot(x, y, color="#444444", ls="--", lw=1.6)
            lines["floor: bytes at copy speed"] = (line, 0.0)
        axis.set(xscale="log", yscale="log", xlabel="items")
        axis.set_title(name, loc="left", fontsize=13, fontweight="bold")
        axis.grid(which="major", color="#e5e5e5", lw=0.8)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_minor_locator(NullLocator())
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    # In the order in which the lines lie, the slowest one on top.
    order = sorted(lines, key=lambda label: -lines[label][1])
    figure.legend(
        [lines[label][0] for label in order],
        order,
        loc="outside right center",
        frameon=False,
        fontsize=10.5,
        labelspacing=1.0,
    )
    where = f"{last['machine']}, {last['threads']} threads, {last['dtype']}"
    if last["device"] == "cuda":
        where = f"{last['machine']}, {last['dtype']}"
    figure.suptitle(
        f"Factor propagation, forward and backward: {last['factors']} factors of "
        f"{last['values']} values, {last['channels']} channels\n{where}",
        fontsize=13,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)
