"""Devices side by side: capacity, error of the conductance, and drift, at one or more times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _arguments
from .._figure import figure as new_figure
from ..channel import Channel
from .device import Device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LEVELS", "TIMES", "describe", "plot_comparison"]

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the range of conductances: where :func:`describe` looks at errors."""

TIMES: tuple[float | None, ...] = (None, 1.0, 3600.0, 86_400.0)
"""Just programmed, a second, an hour and a day later."""

POINTS = 257


def describe(
    device: Device | Channel,
    seconds: Sequence[float | None] = TIMES,
    extrapolate: bool = False,
) -> dict[str, Any]:
    """What a device is and how well it holds conductances, in plain JSON types.

    Parameters
    ----------
    device : Device or Channel
        Of a channel, a cell that only stores, there is no conductance to tell.
    seconds : sequence of float or None
        Times since programming; None: just programmed.
    extrapolate : bool
        Tell of times that were not measured, too; otherwise they are left out.

    Returns
    -------
    dict
        ``name``, ``kind`` ("device" or "cell"), ``synthetic``, ``source``, ``doi``, ``license``,
        ``capacity`` (bits per cell just after programming; None where noise vanishes);
        ``conductance_range`` (uS) and ``time_range`` (s), as measured; and ``times``, for each one
        ``seconds``, ``extrapolated``, ``capacity``, ``left`` (mean conductance of targets in the
        middle of the range over that just after programming), ``error`` (root mean square spread
        over the range, in percent of it) and ``errors``: at each of ``LEVELS`` of the range
        ``target``, ``mean`` and ``std`` (uS). Cells have no ``times``.

    Raises
    ------
    TypeError, ValueError
        If a time is none.
    """
    if isinstance(device, Channel):
        return {
            "name": device.name, "kind": "cell", "synthetic": device.synthetic,
            "source": device.source, "doi": "", "license": device.license,
            "capacity": _capacity(device), "conductance_range": None, "time_range": None,
            "times": [],
        }  # fmt: skip
    extrapolate = _arguments.flag("extrapolate", extrapolate)
    asked = [None if t is None else _arguments.number("seconds", t, 0) for t in seconds]
    known = [t for t in asked if t is None or extrapolate or device.measured(t)]
    rows = [_at(device, t) for t in known]
    return {
        "name": device.name, "kind": "device", "synthetic": device.synthetic,
        "source": device.source, "doi": device.doi, "license": device.license,
        "capacity": _capacity(device.channel()),
        "conductance_range": list(device.conductance_range),
        "time_range": None if device.time_range is None else list(device.time_range),
        "times": rows,
    }  # fmt: skip


def _at(device: Device, seconds: float | None) -> dict[str, Any]:
    span = device.g_max - device.g_min
    levels = device.g_min + span * np.array(LEVELS)
    mean, std = device.moments(levels, seconds, extrapolate=True)
    spread = device.moments(np.linspace(device.g_min, device.g_max, POINTS), seconds, True)[1]
    middle = LEVELS.index(0.5)
    fresh = device.moments(levels, None, True)[0][middle]
    return {
        "seconds": seconds,
        "extrapolated": seconds is not None and not device.measured(seconds),
        "capacity": _capacity(device.channel(seconds, extrapolate=True)),
        "left": float(mean[middle] / fresh),
        "error": float(100 * np.sqrt(np.mean(spread**2)) / span),
        "errors": [
            {"target": float(t), "mean": float(m), "std": float(s)}
            for t, m, s in zip(levels, mean, std, strict=True)
        ],
    }


def _capacity(channel: Channel) -> float | None:
    """Bits a cell; None where they are not bounded."""
    capacity = channel.capacity()
    return capacity if math.isfinite(capacity) else None


def plot_comparison(devices: Sequence[Device], seconds: Sequence[float | None] = TIMES) -> Figure:
    """Spread over the range just after programming, and the drift of the middle of the range.

    Parameters
    ----------
    devices : sequence of Device
    seconds : sequence of float or None
        Times of the second figure; those that a device was not measured at are left out.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    figure = new_figure("devices", 10)
    spread, left = figure.subplots(1, 2)
    share = np.linspace(0, 1, POINTS)
    for i, device in enumerate(devices):
        span = device.g_max - device.g_min
        _, std = device.moments(device.g_min + span * share, None, True)
        spread.plot(100 * share, 100 * std / span, color=f"C{i}", label=device.name)
        rows = [row for row in describe(device, seconds)["times"] if row["seconds"] is not None]
        x = [row["seconds"] for row in rows]
        left.plot(x, [100 * row["left"] for row in rows], "o-", color=f"C{i}", label=device.name)
    spread.set(
        xlabel="target (% of the range)", ylabel="standard deviation (% of the range)",
        title="just programmed",
    )  # fmt: skip
    left.set_xscale("symlog", linthresh=1.0)
    left.set(
        xlabel="seconds since programming",
        ylabel="left in the middle of the range (%)",
        title="drift",
    )
    spread.legend()
    return figure
