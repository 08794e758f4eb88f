"""The figure of :mod:`noisycells.studies.frontier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .engine.figures import about
from .engine.tables import grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CHOSEN", "COLUMNS", "NOISE_FREE", "plot_frontier"]

NOISE_FREE, CHOSEN = "Without noise", "Chosen by validation images"  # titles of tables
COLUMNS = {
    "cells/original": "per_original",
    "cells/stored": "per_stored",
    "validation": "validation",
    "test": "test",
    "neighbors": "neighbors",
    "failed reads": "failed",
    "code at capacity": "at_capacity",
}
"""Columns of the table of a way, and what they are in the results of jobs."""
SHOWN = 12.0  # points of accuracy below the best that the figure shows


def plot_frontier(report: Mapping[str, Any]) -> Figure:
    """What is left of the network against all cells an original weight, a curve for each way.

    Of a classifier test accuracies, of an encoder how far embeddings are from those without noise.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots()
    encoded = "encoder" in report["settings"]
    value = "drop" if encoded else "test"
    shown = []
    for i, table in enumerate(table for table in report["tables"] if table["drawn"]):
        rows, _, entries = grid(table)
        found = [(entries[row, "cells/original"]["mean"], entries[row, value]) for row in rows]
        found.sort(key=lambda point: float(point[0]))  # several may take the same cells
        cells, values = zip(*found, strict=True)
        means = [entry["mean"] for entry in values]
        shown += means
        limit = "limit" in table["title"]
        style: dict[str, Any] = (
            {"color": "black", "ls": ":"} if limit else {"marker": "os^v"[i % 4]}
        )
        axes.errorbar(
            cells, means, [entry["half_width"] or 0 for entry in values], capsize=2, ms=4,
            label=table["title"], **style,
        )  # fmt: skip
        capacity = [(row, "code at capacity") for row in rows]
        if all(place in entries for place in capacity):
            axes.plot(
                [entries[place]["mean"] for place in capacity],
                [entries[row, value]["mean"] for row in rows],
                ls="--", lw=0.8, color=axes.lines[-1].get_color(),
            )  # fmt: skip
    if encoded:
        axes.set_yscale("log")
        axes.set_ylabel("1 - cosine with embeddings without noise")
    else:
        axes.set_ylabel("test accuracy (%)")
        _draw_noise_free(axes, report["tables"])
        best, worst = max(shown), min(shown)
        low = max(best - SHOWN, worst - 0.5)
        axes.set_ylim(low, best + 0.05 * (best - low))
    axes.set_xscale("log")
    axes.set_xticks([0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 4, 6, 8], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("all cells an original weight; thin, dashed: a code at the cells' capacity")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"{report['title']}\n{about(report)}", fontsize=11)
    return figure


def _draw_noise_free(axes: Axes, tables: Sequence[Mapping[str, Any]]) -> None:
    """Lines at the accuracies of the first networks without noise."""
    without = next(table for table in tables if table["title"] == NOISE_FREE)
    rows, _, entries = grid(without)
    for row, dashes in zip(rows[:3], ("-", "--", "-."), strict=False):
        accuracy = entries[row, "test accuracy"]["mean"]
        axes.axhline(accuracy, color="gray", lw=0.8, ls=dashes, label=row)
