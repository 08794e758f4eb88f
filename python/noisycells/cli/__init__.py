"""The command line: ``noisycells COMMAND``, each command a thin layer over the library.

Results go to stdout, progress to stderr. A mistake of the user is one line on stderr and exit
code 2. torch, scikit-learn and matplotlib are imported by the commands that need them.
"""

from __future__ import annotations

import click

from .. import __version__
from . import bench, cells, demo, devices, inspecting, planning, studies
from .options import Group

__all__ = ["main"]


def __dir__() -> list[str]:
    return __all__


@click.group(cls=Group, invoke_without_command=True)
@click.version_option(__version__, package_name="noisycells", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Neural networks on noisy analog memory.

    Start with `noisycells demo`: it trains a small network, stores it in simulated memory cells
    and shows how well it survives. `noisycells COMMAND --help` explains each command.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    demo.demo,
    studies.study,
    studies.sweep,
    studies.report,
    planning.plan,
    cells.store,
    cells.read,
    inspecting.inspect,
    devices.group,
    cells.fit,
    bench.bench,
):
    main.add_command(command)
