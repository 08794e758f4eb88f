"""The command ``noisycells study crossbar``: one network on crossbars of every device."""

from __future__ import annotations

from typing import Any

import click

from ..crossbar import CrossbarSpec
from ..devices import Device
from ..studies import crossbar as of
from ..studies.engine import Study
from .options import Or, Words, computing_devices_option, times_option
from .running import study_command

__all__ = ["crossbar"]

_own = (
    computing_devices_option("all that come from publications"),
    times_option("1,3600,86400,2592000,31536000", "a column of the table each"),
    click.option(
        "--extrapolate",
        is_flag=True,
        help="Go on to times at which a device was not measured; they are marked.",
    ),
    click.option(
        "--compensation",
        type=Words(),
        metavar="KIND,...",
        default="none,global",
        show_default=True,
        help="Drift compensation, a line of the table each: none, global, column.",
    ),
    click.option(
        "--prune",
        type=float,
        metavar="SHARE",
        default=0.0,
        show_default=True,
        help="Share of the weights to prune, by magnitude. The devices of zero weights are "
        "programmed to g_min, and, on other chips, left RESET.",
    ),
    click.option(
        "--rows", type=int, metavar="N", default=256, show_default=True, help="Inputs of a tile."
    ),
    click.option(
        "--cols", type=int, metavar="N", default=256, show_default=True, help="Outputs of a tile."
    ),
    click.option(
        "--dac-bits",
        type=Or(int, "none"),
        metavar="N|none",
        default=8,
        show_default=True,
        help="Bits of the inputs, sign included; none: ideal.",
    ),
    click.option(
        "--adc-bits",
        type=Or(int, "none"),
        metavar="N|none",
        default=8,
        show_default=True,
        help="Bits of the sums of a tile, sign included; none: ideal.",
    ),
    click.option(
        "--dac-range",
        type=Or(float, "vector", "calibrated"),
        metavar="vector|calibrated|X",
        default="calibrated",
        show_default=True,
        help="Full scale: the largest of each input vector, from training images, or X.",
    ),
    click.option(
        "--adc-range",
        type=Or(float, "weights", "calibrated"),
        metavar="weights|calibrated|X",
        default="calibrated",
        show_default=True,
        help="Largest sum: from the weights, from training images, or X in full scale x w_max.",
    ),
    click.option(
        "--quantile",
        type=float,
        metavar="Q",
        default=1.0,
        show_default=True,
        help="Of the magnitudes of inputs and sums that calibrated ranges cover, in (0, 1].",
    ),
    click.option(
        "--mapping",
        type=click.Choice(["tensor", "column", "row"]),
        default="tensor",
        show_default=True,
        help="What shares one w_max: a layer's weights, those of an output, those of an input.",
    ),
    click.option(
        "--read-noise",
        type=click.Choice(["none", "output", "weight", "both"]),
        default="weight",
        show_default=True,
        help="Fresh noise of every read: of each sum, of each device, or both.",
    ),
    click.option(
        "--output-noise",
        type=float,
        metavar="X",
        default=0.04,
        show_default=True,
        help="Standard deviation of the noise of each sum, in full scale x w_max.",
    ),
    click.option(
        "--reset-noise",
        type=float,
        metavar="PERCENT",
        default=0.5,
        show_default=True,
        help="Standard deviation of devices left RESET in percent of g_max - g_min, assumed where "
        "it is not published.",
    ),
)


def _study(
    found: tuple[Device, ...],
    prune: float,
    times: tuple[float, ...],
    compensation: tuple[str, ...],
    extrapolate: bool,
    quantile: float,
    reset_noise: float,
    **circuit: Any,
) -> Study:
    options = of.Options(
        found or of.published_devices(),
        pruned=prune,
        times=times,
        compensation=compensation,
        spec=CrossbarSpec(**circuit),
        extrapolate=extrapolate,
        quantile=quantile,
        reset_noise=reset_noise,
    )
    return of.study(options)


crossbar = study_command(of.study(), make=_study, own=_own)
