"""The commands ``noisycells demo`` and ``noisycells study strategies``: storage on one network."""

from __future__ import annotations

from typing import Any

import click

from ..studies import strategies as of
from ..studies.engine import Study
from .options import Numbers
from .running import study_command

__all__ = ["demo", "strategies"]

_own = (
    click.option(
        "--cells",
        type=Numbers(int),
        metavar="N,N,...",
        default="30,20,10,5,3,2,1",
        show_default=True,
        help="Cells that share each weight, a line of the table each.",
    ),
    click.option(
        "--scope",
        type=click.Choice(["model", "tensor"]),
        default="model",
        show_default=True,
        help="One scale and threshold for the whole network, as in the paper, or for each tensor.",
    ),
)


def _study(**options: Any) -> Study:
    return of.study(of.Options(**options))


strategies = study_command(of.study(), make=_study, own=_own)
demo = study_command(
    of.study(),
    "demo",
    _study,
    _own,
    """Train a network, store it in noisy cells, read it back, show the accuracy.

    Repeats Tables 1 and 8 of Isik et al., "Noisy Neural Network Compression for Analog Storage
    Devices" (2020): a LeNet is trained, 80 % of its weights are pruned, and the rest is stored
    by each strategy of the paper with fewer and fewer cells a weight. As `noisycells study
    strategies`, in a directory of its own.
    """,
    directory="noisycells-demo",
)
