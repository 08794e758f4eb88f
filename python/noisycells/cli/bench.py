"""The command that measures speed."""

from __future__ import annotations

import click

from .options import Numbers, json_option, progress, to_json


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
@json_option
def bench(threads: tuple[int, ...], level: str | None, quick: bool, as_json: bool) -> None:
    """Measure the speed of the compiled core against numpy, torch and others, on this machine."""
    from ..benchmarks import QUICK, render, run, steps

    shrink = QUICK if quick else 1
    with progress("measure", steps(len(threads), shrink)) as step:
        result = run(threads=threads, level=level, shrink=shrink, progress=step)
    click.echo(to_json(result) if as_json else render(result))
