"""The report of :mod:`noisycells.studies.strategies` as text and as a figure."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._text import paragraphs, table
from .engine.tables import grid
from .measures import NO_NOISE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ACCURACIES", "CAPACITY", "COST", "cost_row", "format_strategies", "plot_strategies"]

ACCURACIES, COST, CAPACITY = "Strategies", "Cost", "Capacity"  # titles of the tables


def _table(report: Mapping[str, Any], title: str) -> Mapping[str, Any]:
    (found,) = (table for table in report["tables"] if table["title"] == title)
    return dict(found)


def _noise_free(report: Mapping[str, Any], pruned: bool) -> tuple[float, Mapping[str, Any]]:
    """Mean accuracy of the networks before or after pruning, and one of them."""
    found = [n for n in report["networks"] if bool(n["recipe"]["pruned"]) == pruned]
    return float(np.mean([network["accuracy"] for network in found])), found[0]


def format_strategies(report: Mapping[str, Any]) -> str:
    """The report as text; a line of each block is one number of cells."""
    rows, cells, entries = grid(_table(report, ACCURACIES))
    costs = grid(_table(report, COST))[2]
    strategies = [row for row in rows if row != NO_NOISE]
    headings = [textwrap.wrap(strategy, 13) for strategy in strategies]

    def block(title: str, text: Callable[[str, int], str]) -> list[str]:
        heads = itertools.zip_longest(("", "cells"), *headings, fillvalue="")
        lines = [[str(number), *(text(name, number) for name in strategies)] for number in cells]
        return ["", *paragraphs([title]), *table([*heads, *lines], ">")]

    def accuracy(name: str, number: int) -> str:
        entry = entries[name, number]
        return f"{entry['mean']:.2f} ±{entry['half_width']:.2f}"

    def cost(name: str, number: int) -> str:
        row = cost_row(name, number)
        return " / ".join(f"{costs[row, f'per_{of}']['mean']:.2f}" for of in ("stored", "original"))

    chips = entries[strategies[0], cells[0]]["values"][0]
    return "\n".join(
        [
            *paragraphs(_paragraphs(report, chips)),
            *block("Test accuracy in %, mean and 95 % interval:", accuracy),
            *block("Cells in all (data, side, index) per stored / per original weight:", cost),
        ]
    )


def cost_row(strategy: str, cells: int) -> str:
    """The row of the costs of a strategy with so many cells a weight."""
    return f"{strategy}, {cells} cell" + "s" * (cells > 1)


def _paragraphs(report: Mapping[str, Any], chips: int) -> list[str]:
    data, settings, channel = report["data"], report["settings"], report["channel"]
    before, _ = _noise_free(report, pruned=False)
    after, network = _noise_free(report, pruned=True)
    (bits,) = (entry["mean"] for entry in _table(report, CAPACITY)["entries"])
    synthetic = " (synthetic)" if channel["synthetic"] else ""
    return [
        f"{network['name']} on {data['name']}, {data['training_images']} training and "
        f"{data['test_images']} test images. Noise-free accuracy {before:.2f} %, with "
        f"{100 * network['recipe']['pruned']:g} % of the weights pruned {after:.2f} %.",
        f"Cells: {channel['name']}{synthetic}, "
        + ("exact" if bits is None else f"up to {bits:.2f} bits each")
        + f"; {chips} chips an entry, seed {settings['seed']}, scale per "
        f"{settings['scope']}. Biases stay digital. k-NN: learnt inverse, the mean of "
        f"{settings['neighbors']} neighbors among {settings['measurements']} measured cells, "
        "measured anew for each chip. Redundancy: on average up to "
        f"{settings['extra_cells']:g} data cells a weight more.",
    ]


def plot_strategies(report: Mapping[str, Any]) -> Figure:
    """Accuracy against the cells of the column, as the paper counts, and against all cells."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    rows, cells, entries = grid(_table(report, ACCURACIES))
    costs = grid(_table(report, COST))[2]
    after, network = _noise_free(report, pruned=True)
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    strategies = [row for row in rows if row != NO_NOISE]
    for name in strategies:
        for axis, count in zip(axes, ("mean_cells", "per_stored"), strict=True):
            axis.errorbar(
                [costs[cost_row(name, number), count]["mean"] for number in cells],
                [entries[name, number]["mean"] for number in cells],
                [entries[name, number]["half_width"] for number in cells],
                marker="o",
                capsize=3,
                label=name,
            )
    for axis in axes:
        axis.axhline(after, color="gray", ls=":", label="noise-free")
        axis.set_xscale("log")
        axis.set_xticks([1, 2, 3, 5, 10, 20, 30, 50, 100], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set_xlim(*axis.dataLim.intervalx * [0.9, 1.1])
        axis.grid(alpha=0.3)
    axes[0].set(xlabel="data cells per stored weight", ylabel="test accuracy (%)")
    axes[1].set_xlabel("all cells per stored weight: data, side and index")
    axes[0].legend()
    chips = entries[strategies[0], cells[0]]["values"][0]
    figure.suptitle(
        f"{network['name']} on {report['data']['name']} in {report['channel']['name']} "
        f"cells, mean and 95 % interval of {chips} chips"
    )
    return figure
