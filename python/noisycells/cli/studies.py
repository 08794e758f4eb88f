"""Commands that run studies: those of the papers, grids of one's own, and their report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..studies.catalogue import STUDIES
from .crossbar import crossbar
from .demo import strategies
from .deployed import deployed
from .frontier import frontier
from .options import IN_FILE
from .running import require_packages, run, running_options, study_command, with_options
from .transformer import transformer


@click.group(invoke_without_command=True)
@click.option("--list", "as_list", is_flag=True, help="List the studies.")
@click.pass_context
def study(context: click.Context, as_list: bool) -> None:
    """Run a study: networks, trained, and what noise makes of them.

    `noisycells study --list` lists them, `noisycells study NAME --help` explains each. A study
    that was interrupted goes on from what it finished when it is run again.
    """
    if context.invoked_subcommand is None:
        for name, command in sorted(study.commands.items()):
            click.echo(f"{name}: {command.get_short_help_str(120)}")


for command in (crossbar, deployed, frontier, strategies, transformer):
    study.add_command(command)
for _study in STUDIES.values():
    if _study.name not in study.commands:
        study.add_command(study_command(_study))


def _sweep(config: Path, compute: str, precision: str, **running: Any) -> None:
    """Run a grid of one's own: networks, cells or crossbars, and seeds.

    CONFIG is a TOML or JSON file; each list in its tables is an axis of the grid:

    \b
        data = "digits"
        seeds = [0, 1]
        repeats = 10
        devices = ["pcm_array", "rram_wan2022@3600"]
        columns = "codec.cells"
        [network]
        model = ["LeNet", "MLP"]
        epochs = 10
        pruned = 0.8
        [codec]
        cells = [1, 3, 10]
        adaptive_mapping = [false, true]

    With a table crossbar (fields of CrossbarSpec, such as rows or adc_bits, and seconds since
    programming) in place of codec, chips compute with the network. With a table noise (arguments
    of inject_noise, such as eta and norm) in place of devices and codec, noise acts on the
    weights. Interrupted sweeps go on when run again.
    """
    require_packages()
    from ..studies.sweep import read_grid

    grid = read_grid(config)
    run(grid.study, grid.settings(compute=compute, precision=precision), **running)


sweep = click.command("sweep")(
    click.argument("config", type=IN_FILE)(with_options(running_options(), _sweep))
)


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(directory: Path) -> None:
    """Put the reports of studies in a directory on one HTML page, index.html.

    The papers' numbers stand beside those of the studies.
    """
    from ..studies.engine.html import write_page

    click.echo(write_page(directory))
