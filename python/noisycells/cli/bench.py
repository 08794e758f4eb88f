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
    """Measure sampling, storing and products beside numpy and torch, on this machine.

    The source tree's `python -m bench` has the full tables: more cases and rivals, goals, and the
    limits of the machine.
    """
    from .. import speed

    with progress("measure", speed.steps(len(threads))) as step:
        result = speed.run(
            threads=threads, level=level, shrink=speed.QUICK if quick else 1, progress=step
        )
    click.echo(to_json(result) if as_json else speed.render(result))
