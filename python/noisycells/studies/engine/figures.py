"""Figures of assembled tables: curves over numbers, bars over names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .tables import grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot"]


def plot(report: Mapping[str, Any]) -> Figure:
    """A panel for each table that is drawn; the paper's numbers are hollow."""
    from matplotlib.figure import Figure

    tables = [table for table in report["tables"] if table["drawn"]]
    bars = [any(isinstance(entry["column"], str) for entry in t["entries"]) for t in tables]
    across = 1 if any(bars) else min(2, len(tables))
    down = math.ceil(len(tables) / across)
    figure = Figure(figsize=(max(9, 6.5 * across), 4.6 * down + 0.6), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, table, of_names in zip(panels, tables, bars, strict=False):
        (_bars if of_names else _curves)(axes, table)
        axes.set_title(table["title"], fontsize=10)
        axes.set_xlabel(table["columns"])
        axes.set_ylabel(table["unit"])
        if table["unit"].endswith("accuracy (%)"):
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -1), min(high, 101))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    for axes in list(panels)[len(tables) :]:
        axes.set_visible(False)
    figure.suptitle(f"{report['title']}\n{about(report)}", fontsize=11)
    return figure


def about(report: Mapping[str, Any]) -> str:
    """Which networks, data and cells, in a line."""
    names = dict.fromkeys(network["name"] for network in report["networks"])
    parts = [f"{', '.join(names)} on {report['data']['name']}"] if names else []
    if report["channel"] is not None:
        parts.append(f"{report['channel']['name']} cells")
    return ", ".join(parts)


def _curves(axes: Axes, table: Mapping[str, Any]) -> None:
    rows, columns, entries = grid(table)
    markers = "o" if len(columns) < 30 else ""
    drawn = False
    for i, row in enumerate(rows):
        found = [entries[row, column] for column in columns if (row, column) in entries]
        found = [entry for entry in found if entry["mean"] is not None]
        x = [entry["column"] for entry in found]
        errors = [entry["half_width"] or 0.0 for entry in found]
        style: dict[str, Any] = {"color": f"C{i}", "marker": markers, "markersize": 4}
        axes.errorbar(
            x, [entry["mean"] for entry in found], errors, capsize=2, label=row, **style
        )  # fmt: skip
        paper = [entry for entry in found if entry["paper"] is not None]
        if paper:
            axes.plot(
                [entry["column"] for entry in paper],
                [entry["paper"] for entry in paper],
                ls="--", lw=0.8, mfc="white", **style,
            )  # fmt: skip
            drawn = True
    if drawn:
        axes.plot([], [], "o--", color="gray", lw=0.8, mfc="white", ms=4, label="paper")
    if table["log"]:
        axes.set_xscale("log")
        axes.set_xticks(columns, [f"{column:g}" for column in columns])
        axes.set_xticks([], minor=True)


def _bars(axes: Axes, table: Mapping[str, Any]) -> None:
    rows, columns, entries = grid(table)
    width = 0.8 / len(rows)
    drawn = False
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            entry = entries.get((row, column))
            if entry is None or entry["mean"] is None:
                continue
            x = j + (i - (len(rows) - 1) / 2) * width
            axes.bar(
                x, entry["mean"], width, yerr=entry["half_width"] or 0.0, color=f"C{i}",
                capsize=2, label="_" * (j > 0) + row,
            )  # fmt: skip
            if entry["paper"] is not None:
                axes.plot(
                    x, entry["paper"], "D", color="black", mfc="white", ms=4,
                    label="_" * drawn + "paper",
                )  # fmt: skip
                drawn = True
    axes.set_xticks(range(len(columns)), list(map(str, columns)), fontsize=7, rotation=20)
