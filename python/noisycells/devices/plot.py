"""A figure of a device: the error of its conductance over the target, at one or more times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .. import _arguments
from .._figure import figure as new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .device import Device

__all__ = ["plot"]

POINTS = 513


def plot(
    device: Device,
    seconds: Sequence[float | None] = (None,),
    target: npt.ArrayLike | None = None,
    measured: npt.ArrayLike | None = None,
) -> Figure:
    """The figure of :meth:`noisycells.devices.Device.plot`."""
    figure = new_figure("a device")
    if (target is None) != (measured is None):
        raise _arguments.wrong_value("target, measured", "both or neither", "one of them")
    grid = np.linspace(device.g_min, device.g_max, POINTS)
    axes = figure.add_subplot()
    if target is not None and measured is not None:
        wanted = np.asarray(target, np.float64)
        off = np.asarray(measured, np.float64) - wanted
        axes.plot(wanted, off, ".", color="0.6", markersize=2, zorder=0, label="measurements")
    for i, at in enumerate(seconds):
        mean, std = device.moments(grid, at, extrapolate=True)
        label, style = "just programmed", "-"
        if at is not None:
            label = f"{at:g} s"
            if not device.measured(at):
                label, style = label + ", extrapolated", "--"
        axes.plot(grid, mean - grid, style, color=f"C{i}", label=label)
        axes.fill_between(
            grid, mean - std - grid, mean + std - grid, alpha=0.2, color=f"C{i}", linewidth=0
        )
    axes.set(
        xlabel="target conductance (uS)",
        ylabel="conductance - target (uS)",
        title=f"{device.name}: mean and one standard deviation",
    )
    axes.legend()
    return figure
