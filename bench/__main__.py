"""``python -m bench``: measure all cases, or print a recorded run again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from noisycells.cli.options import IN_FILE, Numbers, json_option, progress, to_json
from noisycells.speed import QUICK

from .measure import run, steps
from .report import render


@click.command()
@click.option(
    "--threads",
    type=Numbers(int),
    metavar="N,N,...",
    default="1,2",
    show_default=True,
    help="Numbers of threads to measure with.",
)
@click.option("--level", help="SIMD level to measure at. Default: the best of this machine.")
@click.option("--quick", is_flag=True, help="Smaller arrays, for a first impression.")
@click.option(
    "--show",
    type=IN_FILE,
    metavar="FILE",
    help="Measure nothing, and print the table of a recorded run, such as bench/results/speed.json",
)
@json_option
def main(
    threads: tuple[int, ...], level: str | None, quick: bool, show: Path | None, as_json: bool
) -> None:
    """Measure the speed of noisycells against its rivals, its goals and this machine's limits."""
    if show is not None:
        result = json.loads(show.read_text())
    else:
        shrink = QUICK if quick else 1
        try:
            with progress("measure", steps(len(threads), shrink)) as step:
                result = run(threads=threads, level=level, shrink=shrink, progress=step)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    click.echo(to_json(result) if as_json else render(result))


if __name__ == "__main__":
    main(prog_name="python -m bench")
