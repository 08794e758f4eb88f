"""The command ``noisycells study deployed``: one call for every device, and what helps."""

from __future__ import annotations

import click

from ..studies import deployed as of
from .options import computing_devices_option, times_option, ways_option
from .running import of_devices, study_command

__all__ = ["deployed"]

_own = (
    computing_devices_option("all that come from publications"),
    times_option("86400", "a column of the table each"),
    ways_option(of.WAYS),
    click.option(
        "--rank",
        type=int,
        metavar="N",
        default=4,
        show_default=True,
        help="Of corrections; 0: of means alone.",
    ),
    click.option(
        "--eta",
        type=float,
        metavar="X",
        default=0.05,
        show_default=True,
        help="Standard deviation of the noise in training, of each layer's largest weight.",
    ),
    click.option(
        "--examples",
        type=int,
        metavar="N",
        default=500,
        show_default=True,
        help="Training images to calibrate and correct with.",
    ),
)


deployed = study_command(of.study(), make=of_devices(of.study, of.Options), own=_own)
