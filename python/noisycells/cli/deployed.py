"""The command ``noisycells study deployed``: one call for every device, and what helps."""

from __future__ import annotations

from typing import Any

import click

from ..devices import Device
from ..studies import deployed as of
from ..studies.engine import Study
from .options import Words, computing_devices_option, times_option
from .running import study_command

__all__ = ["deployed"]

_own = (
    computing_devices_option("all that come from publications"),
    times_option("86400", "a column of the table each"),
    click.option(
        "--ways",
        type=Words(),
        metavar="WAY,...",
        default=",".join(of.WAYS),
        show_default=True,
        help="What is done for the chips, a line of the table each.",
    ),
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


def _study(found: tuple[Device, ...], **options: Any) -> Study:
    if found:
        options["devices"] = found
    return of.study(of.Options(**options))


deployed = study_command(of.study(), make=_study, own=_own)
