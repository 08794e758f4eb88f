"""The report of :mod:`noisycells.studies.crossbar` as text of 80 columns and as a figure."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .crossbar import DAY, HOUR, IDEAL, MONTH, YEAR, ZERO_WEIGHTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["format_table", "plot", "time_label"]

UNITS = (("year", YEAR), ("month", MONTH), ("day", DAY), ("h", HOUR), ("min", 60.0), ("s", 1.0))
WIDTH = 80  # of the table, in characters
BUDGET = {
    "weight_slices": "round",
    "programming": "write",
    "zero_weights_programmed": "zeros",
    "zero_weights_reset": "RESET",
    "drift": "drift",
    "drift_compensated": "comp.",
    "ir_drop": "wires",
    "weight_noise": "reads",
    "output_noise": "out",
    "dac": "DAC",
    "adc": "ADC",
    "all": "all",
}
"""Headings of the error budget."""


def time_label(seconds: float | None) -> str:
    """Such as "1 h" or "2 days"; of None, "programmed"."""
    if seconds is None:
        return "programmed"
    for unit, length in UNITS:
        number = seconds / length
        if number >= 1 and number == round(number):
            return f"{number:g} {unit}" + "s" * (number > 1 and unit in ("day", "month", "year"))
    return f"{seconds:g} s"


def format_table(report: dict[str, Any]) -> str:
    """The report as text: accuracies over time, error budgets of the layers, counters."""
    return "\n".join(
        [
            *(textwrap.fill(paragraph, WIDTH) for paragraph in _paragraphs(report)),
            *_accuracy_lines(report),
            *_layer_lines(report),
            *_count_lines(report),
        ]
    )


def _paragraphs(report: dict[str, Any]) -> list[str]:
    data, network, settings = report["data"], report["network"], report["settings"]
    spec = settings["spec"]
    accuracy = f"float32 accuracy {network['accuracy']:.2f} %"
    pruned = network["recipe"]["pruned"]
    if pruned:
        accuracy += (
            f" with {100 * pruned:g} % of the weights pruned, "
            f"{report['dense']['accuracy']:.2f} % before"
        )

    def converter(name: str) -> str:
        bits = spec[f"{name}_bits"]
        if bits is None:
            return f"ideal {name.upper()}"
        source = spec[f"{name}_range"]
        if source == "calibrated" and settings["quantile"] < 1:
            source = f"calibrated, quantile {settings['quantile']:g}"
        return f"{bits}-bit {name.upper()} (range: {source})"

    found = [
        f"{network['name']} on {data['name']}, {data['training_images']} training and "
        f"{data['test_images']} test images: {accuracy}.",
        f"Tiles of {spec['rows']} x {spec['cols']}, {converter('dac')}, {converter('adc')}, read "
        f"noise: {spec['read_noise']}, mapping: {spec['mapping']}; {settings['chips']} chips an "
        f"entry, seed {settings['seed']}. Biases stay digital.",
    ]
    if any(entry["extrapolated"] for entry in report["entries"]):
        found.append("* extrapolated: the device was not measured at that time.")
    elif len(_times(report)) - 1 < len(settings["times"]) or _gaps(report):
        found.append("Times at which a device was not measured are left out (--extrapolate).")
    assumed = [device for device in report["devices"] if device["reset_assumed"]]
    if assumed:
        found.append(
            "RESET: devices of zero weights are left RESET instead of programmed to g_min. "
            f"Published for none of {', '.join(d['name'] for d in assumed)}; assumed: g_min with "
            f"a standard deviation of {settings['reset_noise']:g} % of g_max - g_min."
        )
    return found


def _times(report: dict[str, Any]) -> list[float | None]:
    """Times of all entries in order, None first."""
    found = {entry["seconds"] for entry in report["entries"]}
    return sorted(found, key=lambda t: -1 if t is None else t)


def _gaps(report: dict[str, Any]) -> bool:
    times = len(_times(report))
    return any(len({e["seconds"] for e in row}) < times for _, row in _devices(report)[1:])


def _devices(report: dict[str, Any]) -> list[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Entries of each (device, zero weights), in order."""

    def of(entry: dict[str, Any]) -> tuple[str, str]:
        return entry["device"], entry["zero_weights"]

    return [(key, list(row)) for key, row in itertools.groupby(report["entries"], of)]


def _accuracy_lines(report: dict[str, Any]) -> list[str]:
    times = _times(report)
    lines = ["", "Test accuracy in %, mean and 95 % interval, by drift compensation:"]
    lines.append(" " * 8 + "".join(f"{time_label(t):>12}" for t in times))
    for (device, zero_weights), row in _devices(report):
        lines.append(f"{device}, zero weights RESET" if zero_weights == "reset" else device)
        at = {(entry["compensation"], entry["seconds"]): entry for entry in row}
        for kind in report["settings"]["compensation"]:
            cells = [at.get((None if t is None else kind, t)) for t in times]
            lines.append(f"  {kind:<6}" + "".join(f"{_accuracy(cell):>12}" for cell in cells))
            if set(at) == {(None, None)}:
                break  # nothing happens that could be compensated
    return lines


def _accuracy(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    half_width = entry["half_width"]
    digits = 2 if half_width < 10 else 1
    result: str = f"{entry['mean']:.2f}±{half_width:.{digits}f}" + "*" * entry["extrapolated"]
    return result


def _layer_lines(report: dict[str, Any]) -> list[str]:
    layers = report["layers"]
    kinds = [kind for kind in BUDGET if any(kind in layer["snr_db"] for layer in layers)]
    width = max(len(layer["layer"]) for layer in layers) + 2
    lines = ["", "Signal-to-noise ratio of each layer in dB, each error alone and all together,"]
    lines.append("input values clipped by the DAC and conversions saturated in %, of one chip:")
    lines.append(" " * width + "".join(f"{BUDGET[kind]:>6}" for kind in kinds) + "  clip  sat.")
    for device, row in itertools.groupby(layers, lambda layer: layer["device"]):
        for i, layer in enumerate(row):
            if not i:
                age = time_label(layer["seconds"])
                lines.append(f"{device}, {age}, compensation: {layer['compensation']}")
            values = (layer["snr_db"].get(kind, math.nan) for kind in kinds)
            cells = (
                "none" if v is None else "" if math.isnan(v) else f"{min(v, 99.9):.1f}"
                for v in values
            )
            lines.append(
                f"  {layer['layer']:<{width - 2}}" + "".join(f"{cell:>6}" for cell in cells)
                + f"{layer['dac_clipping_percent']:>6.2f}{layer['adc_saturation_percent']:>6.2f}"
            )  # fmt: skip
    return lines


def _count_lines(report: dict[str, Any]) -> list[str]:
    counts = report["counts"]
    lines = ["", "Tiles, cells and, for one image, reads of tiles and conversions:"]
    names = ("tiles", "cells", "vectors", "reads", "dac_conversions", "adc_conversions")
    headings = ("tiles", "cells", "vectors", "reads", "DAC", "ADC")
    width = max(len("total"), *(len(row["layer"]) for row in counts)) + 2
    lines.append(" " * width + "".join(f"{heading:>12}" for heading in headings))
    for row in (*counts, {"layer": "total", **{n: sum(c[n] for c in counts) for n in names}}):
        lines.append(f"{row['layer']:<{width}}" + "".join(f"{row[n]:>12,}" for n in names))
    return lines


def plot(report: dict[str, Any]) -> Figure:
    """Accuracy over time, a panel for each device; open markers and dashes are extrapolated."""
    from matplotlib.figure import Figure

    panels: dict[str, list[dict[str, Any]]] = {}
    ideal: list[float] = []
    for entry in report["entries"]:
        if entry["device"] == IDEAL.name:
            ideal.append(entry["mean"])
        else:
            panels.setdefault(entry["device"], []).append(entry)
    across = min(3, max(1, len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    figure = Figure(figsize=(4 * across + 1, 3.2 * down + 0.6), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    times = _times(report)
    for axes, (device, entries) in zip(grid.flat, panels.items(), strict=False):
        _panel(axes, entries, report["settings"]["compensation"], times)
        axes.axhline(report["network"]["accuracy"], color="gray", ls=":", label="float32")
        axes.axhline(ideal[0], color="gray", ls="-.", lw=0.8, label="ideal devices")
        axes.set_title(device, fontsize=10)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    first = grid.flat[0]
    first.set_xscale("log")
    first.set_xticks([_position(t, times) for t in times], [time_label(t) for t in times])
    first.set_xticks([], minor=True)
    first.set_ylim(*_shown(report))
    for axes in grid.flat:
        axes.tick_params(labelsize=7)
        axes.tick_params("x", rotation=30)
    handles = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.supylabel("test accuracy (%)", fontsize=10)
    network, data = report["network"]["name"], report["data"]["name"]
    figure.suptitle(
        f"{network} on {data}, computed on noisy crossbars: mean and 95 % interval of "
        f"{report['settings']['chips']} chips",
        fontsize=11,
    )
    return figure


def _panel(
    axes: Axes,
    entries: list[dict[str, Any]],
    kinds: Sequence[str],
    times: Sequence[float | None],
) -> None:
    for zero_weights, (i, kind) in itertools.product(ZERO_WEIGHTS, enumerate(kinds)):
        row = [
            e for e in entries
            if e["zero_weights"] == zero_weights and e["compensation"] in (None, kind)
        ]  # fmt: skip
        if not row:
            continue
        reset = zero_weights == "reset"
        color = f"C{i + len(kinds) * reset}"
        # Often on top of one another: those left RESET are larger, and behind.
        marker, size, layer = ("s", 8, 1) if reset else ("o", 4, 3)
        x = [_position(e["seconds"], times) for e in row]
        y = [e["mean"] for e in row]
        axes.errorbar(x, y, [e["half_width"] for e in row], fmt="none", ecolor=color, capsize=2)
        for known, style, fill in ((True, "-", color), (False, "--", "white")):
            points = [e["extrapolated"] != known for e in row]
            name = f"compensation: {kind}" + ", zero weights RESET" * reset
            axes.plot(
                x, [v if shown else math.nan for v, shown in zip(y, points, strict=True)],
                marker=marker, ms=size, color=color, mfc=fill, ls="none",
                label=name if known else None, zorder=layer,
            )  # fmt: skip
            for j, shown in enumerate(points[1:]):
                if shown:
                    axes.plot(x[j : j + 2], y[j : j + 2], color=color, ls=style, lw=1)
    axes.grid(alpha=0.3)


def _shown(report: dict[str, Any]) -> tuple[float, float]:
    """Range of accuracies: all that was measured, and what is extrapolated unless far below."""
    noise_free = report["network"]["accuracy"]

    def ends(entries: list[dict[str, Any]]) -> tuple[float, float]:
        low = min(noise_free, *(e["mean"] - e["half_width"] for e in entries))
        return low, max(noise_free, *(e["mean"] + e["half_width"] for e in entries))

    low, high = ends([e for e in report["entries"] if not e["extrapolated"]])
    lowest, highest = ends(report["entries"])
    low = max(lowest, low - 3 * (high - low))
    margin = 0.05 * (highest - low) or 1.0
    return low - margin, highest + margin


def _position(seconds: float | None, times: Sequence[float | None]) -> float:
    """Where a time stands on a logarithmic axis, which has no place for the moment of writing."""
    first = next((t for t in times if t), 1.0)
    return seconds or first / 30
