"""The report of :mod:`noisycells.studies.crossbar` as text and as a figure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._text import paragraphs, table
from .engine.tables import grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["accuracy_row", "format_crossbars", "layer_row", "plot_crossbars", "time_label"]

HOUR, DAY = 3600.0, 86_400.0
MONTH, YEAR = 30 * DAY, 365 * DAY
UNITS = (("year", YEAR), ("month", MONTH), ("day", DAY), ("h", HOUR), ("min", 60.0), ("s", 1.0))
ACCURACIES, EXTRAPOLATED = "Accuracy over time", "Extrapolated"  # titles of the tables
NOISE, LOSSES, COUNTS = "Signal-to-noise ratio", "Clipping and saturation", "Counters"
ZERO_WEIGHTS = ("programmed", "reset")
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
"""Parts of the error budget and their headings in the text."""
PERCENT = ("dac_clipping_percent", "adc_saturation_percent")
SHOWN = {"tiles": "tiles", "cells": "cells", "vectors": "vectors", "reads": "reads",
         "dac_conversions": "DAC", "adc_conversions": "ADC"}  # fmt: skip
"""Counters in the text and their headings."""
COUNTERS = ("outputs", "inputs", "vectors", "tiles", "cells", "allocated_cells", "reads",
            "cell_reads", "dac_conversions", "adc_conversions")  # fmt: skip


def accuracy_row(device: str, compensation: str, zero_weights: str) -> str:
    """The row of a device's accuracies."""
    return f"{device}, {compensation}" + ", zero weights RESET" * (zero_weights == "reset")


def layer_row(device: str, seconds: float | None, layer: str) -> str:
    """The row of a layer's error budget."""
    return f"{device}, {time_label(seconds)}: {layer}"


def time_label(seconds: float | None) -> str:
    """Such as "1 h" or "2 days"; of None, "programmed"."""
    if seconds is None:
        return "programmed"
    for unit, length in UNITS:
        number = seconds / length
        if number >= 1 and number == round(number):
            return f"{number:g} {unit}" + "s" * (number > 1 and unit in ("day", "month", "year"))
    return f"{seconds:g} s"


def format_crossbars(report: Mapping[str, Any]) -> str:
    """The report as text: accuracies over time, error budgets of the layers, counters."""
    return "\n".join(
        [
            *paragraphs(_paragraphs(report)),
            *_accuracy_lines(report),
            *_layer_lines(report),
            *_count_lines(report),
        ]
    )


def _table(report: Mapping[str, Any], title: str) -> Mapping[str, Any]:
    """The table of that title; one without entries is not in the report."""
    found = (table for table in report["tables"] if table["title"] == title)
    return next(found, {"entries": []})


def _entries(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All accuracies, each with what it is of; those right after programming have no compensation.

    The times of an entry are None, right after programming, or seconds.
    """
    settings = report["settings"]
    tables = [(grid(_table(report, title))[2], title) for title in (ACCURACIES, EXTRAPOLATED)]
    rows = itertools.product(
        (device["name"] for device in settings["devices"]), ZERO_WEIGHTS, (None, *settings["times"])
    )
    found = []
    for device, zero_weights, seconds in rows:
        for kind in settings["compensation"][: None if seconds is not None else 1]:
            place = accuracy_row(device, kind, zero_weights), time_label(seconds)
            of = {
                "device": device,
                "zero_weights": zero_weights,
                "compensation": None if seconds is None else kind,
                "seconds": seconds,
            }
            found += [
                {**of, **table[place], "extrapolated": title == EXTRAPOLATED}
                for table, title in tables
                if place in table
            ]
    return found


def _noise_free(report: Mapping[str, Any], pruned: bool) -> float:
    """Mean accuracy of the networks before or after pruning."""
    found = [n["accuracy"] for n in report["networks"] if bool(n["recipe"]["pruned"]) == pruned]
    return float(np.mean(found))


def _paragraphs(report: Mapping[str, Any]) -> list[str]:
    data, settings, entries = report["data"], report["settings"], _entries(report)
    spec, pruned = settings["spec"], settings["pruned"]
    accuracy = f"float32 accuracy {_noise_free(report, bool(pruned)):.2f} %"
    if pruned:
        accuracy += (
            f" with {100 * pruned:g} % of the weights pruned, "
            f"{_noise_free(report, False):.2f} % before"
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
        f"{report['networks'][0]['name']} on {data['name']}, {data['training_images']} training "
        f"and {data['test_images']} test images: {accuracy}.",
        f"Tiles of {spec['rows']} x {spec['cols']}, {converter('dac')}, {converter('adc')}, read "
        f"noise: {spec['read_noise']}, mapping: {spec['mapping']}; {entries[0]['values'][0]} chips "
        f"an entry, seed {settings['seed']}. Biases stay digital.",
    ]
    if any(entry["extrapolated"] for entry in entries):
        found.append("* extrapolated: the device was not measured at that time.")
    elif len(_times(entries)) - 1 < len(settings["times"]) or _gaps(entries):
        found.append("Times at which a device was not measured are left out (--extrapolate).")
    assumed = [device for device in settings["devices"] if device["reset_assumed"]]
    if assumed:
        found.append(
            "RESET: devices of zero weights are left RESET instead of programmed to g_min. "
            f"Published for none of {', '.join(d['name'] for d in assumed)}; assumed: g_min with "
            f"a standard deviation of {settings['reset_noise']:g} % of g_max - g_min."
        )
    return found


def _times(entries: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """Times of all entries in order, None first."""
    found = {entry["seconds"] for entry in entries}
    return sorted(found, key=lambda t: -1 if t is None else t)


def _gaps(entries: Sequence[Mapping[str, Any]]) -> bool:
    times = len(_times(entries))
    return any(len({e["seconds"] for e in row}) < times for _, row in _devices(entries)[1:])


def _devices(
    entries: Sequence[Mapping[str, Any]],
) -> list[tuple[tuple[str, str], list[Mapping[str, Any]]]]:
    """Entries of each (device, zero weights), in order."""

    def of(entry: Mapping[str, Any]) -> tuple[str, str]:
        return entry["device"], entry["zero_weights"]

    return [(key, list(row)) for key, row in itertools.groupby(entries, of)]


def _accuracy_lines(report: Mapping[str, Any]) -> list[str]:
    entries = _entries(report)
    times = _times(entries)
    rows = [["", *map(time_label, times)]]
    for (device, zero_weights), row in _devices(entries):
        rows.append([f"{device}, zero weights RESET" if zero_weights == "reset" else device])
        at = {(entry["compensation"], entry["seconds"]): entry for entry in row}
        for kind in report["settings"]["compensation"]:
            cells = [at.get((None if t is None else kind, t)) for t in times]
            rows.append([f"  {kind}", *map(_accuracy, cells)])
            if set(at) == {(None, None)}:
                break  # nothing happens that could be compensated
    title = "Test accuracy in %, mean and 95 % interval, by drift compensation:"
    return ["", *paragraphs([title]), *table(rows)]


def _accuracy(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    half_width = entry["half_width"]
    digits = 2 if half_width < 10 else 1
    result: str = f"{entry['mean']:.2f}±{half_width:.{digits}f}" + "*" * entry["extrapolated"]
    return result


def _layer_lines(report: Mapping[str, Any]) -> list[str]:
    layers, _, ratios = grid(_table(report, NOISE))
    losses = grid(_table(report, LOSSES))[2]
    kinds = [kind for kind in BUDGET if any((layer, kind) in ratios for layer in layers)]
    places = [layer.rpartition(": ") for layer in layers]  # device and age, and the layer
    rows = [["", *(BUDGET[kind] for kind in kinds), "clip", "sat."]]
    compensation = report["settings"]["compensation"][-1]
    for device, found in itertools.groupby(places, lambda place: place[0]):
        rows.append([f"{device}, compensation: {compensation}"])
        for place in found:
            layer = "".join(place)
            cells = (_ratio(ratios.get((layer, kind))) for kind in kinds)
            percent = (f"{losses[layer, name]['mean']:.2f}" for name in PERCENT)
            rows.append([f"  {place[2]}", *cells, *percent])
    title = (
        "Signal-to-noise ratio of each layer in dB, each error alone and all together, input "
        "values clipped by the DAC and conversions saturated in %, of one chip:"
    )
    return ["", *paragraphs([title]), *table(rows)]


def _ratio(entry: Mapping[str, Any] | None) -> str:
    """A part of an error budget as text."""
    if entry is None:
        return ""
    return "none" if entry["mean"] is None else f"{min(entry['mean'], 99.9):.1f}"


def _count_lines(report: Mapping[str, Any]) -> list[str]:
    layers, _, entries = grid(_table(report, COUNTS))
    counts = {
        layer: {name: round(entries[layer, name]["mean"]) for name in SHOWN} for layer in layers
    }
    total = {name: sum(row[name] for row in counts.values()) for name in SHOWN}
    rows = [["", *SHOWN.values()]]
    for layer, row in (*counts.items(), ("total", total)):
        rows.append([layer, *(f"{row[name]:,}" for name in SHOWN)])
    title = "Tiles, cells and, for one image, reads of tiles and conversions:"
    return ["", *paragraphs([title]), *table(rows)]


def plot_crossbars(report: Mapping[str, Any]) -> Figure:
    """Accuracy over time, a panel for each device; open markers and dashes are extrapolated."""
    from matplotlib.figure import Figure

    panels: dict[str, list[dict[str, Any]]] = {}
    ideal: list[float] = []
    entries = _entries(report)
    for entry in entries:
        if entry["device"] == "ideal":
            ideal.append(entry["mean"])
        else:
            panels.setdefault(entry["device"], []).append(entry)
    across = min(3, max(1, len(panels)))
    down = max(1, math.ceil(len(panels) / across))
    figure = Figure(figsize=(4 * across + 1, 3.2 * down + 0.6), layout="constrained")
    shape = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    noise_free = _noise_free(report, bool(report["settings"]["pruned"]))
    times = _times(entries)
    for axes, (device, found) in zip(shape.flat, panels.items(), strict=False):
        _panel(axes, found, report["settings"]["compensation"], times)
        axes.axhline(noise_free, color="gray", ls=":", label="float32")
        axes.axhline(ideal[0], color="gray", ls="-.", lw=0.8, label="ideal devices")
        axes.set_title(device, fontsize=10)
    for axes in shape.flat[len(panels) :]:
        axes.set_visible(False)
    first = shape.flat[0]
    first.set_xscale("log")
    first.set_xticks([_position(t, times) for t in times], [time_label(t) for t in times])
    first.set_xticks([], minor=True)
    first.set_ylim(*_shown(entries, noise_free))
    for axes in shape.flat:
        axes.tick_params(labelsize=7)
        axes.tick_params("x", rotation=30)
    handles = {
        label: handle
        for axes in shape.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.supylabel("test accuracy (%)", fontsize=10)
    network, data = report["networks"][0]["name"], report["data"]["name"]
    figure.suptitle(
        f"{network} on {data}, computed on noisy crossbars: mean and 95 % interval of "
        f"{entries[0]['values'][0]} chips",
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


def _shown(entries: Sequence[Mapping[str, Any]], noise_free: float) -> tuple[float, float]:
    """Range of accuracies: all that was measured, and what is extrapolated unless far below."""

    def ends(found: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
        low = min(noise_free, *(e["mean"] - e["half_width"] for e in found))
        return low, max(noise_free, *(e["mean"] + e["half_width"] for e in found))

    low, high = ends([e for e in entries if not e["extrapolated"]])
    lowest, highest = ends(entries)
    low = max(lowest, low - 3 * (high - low))
    margin = 0.05 * (highest - low) or 1.0
    return low - margin, highest + margin


def _position(seconds: float | None, times: Sequence[float | None]) -> float:
    """Where a time stands on a logarithmic axis, which has no place for the moment of writing."""
    first = next((t for t in times if t), 1.0)
    return seconds or first / 30
