"""A figure of a channel: its mean and noise over the input, beside measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy.typing as npt

from .. import _arguments
from .._figure import figure as new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .channel import Channel

__all__ = ["plot"]


def plot(
    channel: Channel, x: npt.ArrayLike | None = None, y: npt.ArrayLike | None = None
) -> Figure:
    """The figure of :meth:`noisycells.Channel.plot`."""
    figure = new_figure("a channel")
    if (x is None) != (y is None):
        raise _arguments.wrong_value("x, y", "both or neither", "one of them")
    knots, mean, _, _ = channel._knots
    std = channel.std_at(knots)
    axes = figure.add_subplot()
    if x is not None and y is not None:
        axes.plot(x, y, ".", color="0.6", markersize=2, zorder=0, label="measurements")
    for k, alpha in ((2, 0.15), (1, 0.3)):
        axes.fill_between(
            knots, mean - k * std, mean + k * std, alpha=alpha, color="C0", linewidth=0
        )
    axes.plot(knots, mean, color="C0", label="mean, 1 and 2 standard deviations")
    axes.plot(*channel._branch_knots, color="C1", linewidth=2, label="branch in use")
    axes.set(xlabel="cell input", ylabel="cell output", title=channel.name)
    axes.legend()
    return figure
