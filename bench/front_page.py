"""The picture of the README, drawn from recorded results: ``python bench/front_page.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results" / "studies" / "fashion-mnist"
PICTURE = ROOT / "docs" / "front-page.png"
DEVICE = "pcm_joshi2020"
STRATEGIES = (
    "inversion (exact)",
    "+ sign protection",
    "+ adaptive mapping",
    "+ adaptive redundancy",
)
MARKS = {
    "1 s": 1.0,
    "1 h": 3600.0,
    "1 day": 86_400.0,
    "1 month": 2_592_000.0,
    "1 year": 31_536_000.0,
}


def main() -> None:
    """Draw both panels and write the picture."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    cells, year = figure.subplots(1, 2)
    draw_cells(cells, read("strategies-fashion-mnist-LeNet-pcm_array.json"))
    draw_year(year, read("crossbar-fashion-mnist-LeNet.json"))
    for axes in (cells, year):
        axes.set_ylabel("test accuracy (%)")
        axes.grid(alpha=0.3)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def read(name: str) -> dict[str, Any]:
    """What a study has written."""
    report: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return report


def row_of(report: dict[str, Any], title: str, row: str) -> dict[Any, dict[str, Any]]:
    """Entries of a row of a table, by their columns."""
    (table,) = (table for table in report["tables"] if table["title"] == title)
    return {entry["column"]: entry for entry in table["entries"] if entry["row"] == row}


def draw_cells(axes: Axes, report: dict[str, Any]) -> None:
    """Accuracy over data cells a weight, a curve for each strategy."""
    for strategy in STRATEGIES:
        found = row_of(report, "Strategies", strategy)
        curve(axes, list(found), list(found.values()), strategy)
    ticks = sorted(row_of(report, "Strategies", STRATEGIES[0]))
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(title="Stored in PCM cells and read back", xlabel="data cells a weight")
    noise_free(axes, report)
    axes.legend(fontsize=7, loc="lower right")


def draw_year(axes: Axes, report: dict[str, Any]) -> None:
    """Accuracy over time on one device, with and without drift compensation."""
    for compensation, label in (
        ("none", "without compensation"),
        ("global", "with global drift compensation"),
    ):
        row = f"{DEVICE}, {compensation}"
        entries = row_of(report, "Accuracy over time", row) | row_of(report, "Extrapolated", row)
        found = {MARKS[time]: entry for time, entry in entries.items() if time in MARKS}
        curve(axes, list(found), list(found.values()), label)
    axes.set_xscale("log")
    axes.set_xticks(list(MARKS.values()), list(MARKS), fontsize=8)
    axes.minorticks_off()
    axes.axvspan(1.6e6, 5e7, color="0.92", label="beyond what was measured")
    axes.set(title="Computed on PCM crossbars", xlabel="time since programming", xlim=(0.6, 5e7))
    noise_free(axes, report)
    axes.legend(fontsize=7, loc="lower left")


def curve(axes: Axes, x: list[float], entries: list[dict[str, Any]], label: str) -> None:
    """Means with their 95 % intervals."""
    means = [entry["mean"] for entry in entries]
    widths = [entry["half_width"] for entry in entries]
    axes.errorbar(x, means, widths, marker="o", markersize=3, capsize=2, linewidth=1.2, label=label)


def noise_free(axes: Axes, report: dict[str, Any]) -> None:
    """The accuracy of the same network in float32."""
    accuracy = report["networks"][-1]["accuracy"]  # the pruned one
    axes.axhline(accuracy, color="0.4", linewidth=0.8, linestyle="--", label="noise-free")


if __name__ == "__main__":
    main()
