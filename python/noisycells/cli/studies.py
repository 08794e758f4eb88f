"""Commands that run studies: those of the papers, grids of one's own, and their report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..channel import Channel
from ..studies.catalogue import STUDIES
from ..studies.engine.cache import Cache, default_directory
from ..studies.engine.jobs import Workers
from ..studies.engine.recipes import MODELS, Source
from ..studies.engine.study import Settings, Study
from .crossbar import crossbar
from .options import (
    IN_FILE,
    cache_option,
    data_option,
    device_option,
    json_option,
    progress,
    to_json,
)


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


_DIRECTORY = click.Path(file_okay=False, path_type=Path)

_running = (
    click.option(
        "--compute",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="What networks are trained on.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of products in training; bfloat16 is faster where the processor has it.",
    ),
    click.option(
        "--backend",
        default="loky",
        show_default=True,
        metavar="NAME",
        help="Who runs the jobs: loky, processes of this machine; dask; or another backend of "
        "joblib.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(-1),
        default=1,
        show_default=True,
        metavar="N",
        help="Jobs at a time, each on one core; -1: as many as the backend has workers.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="A running Dask cluster. Default: one on this machine, of --jobs processes.",
    ),
    click.option(
        "--out",
        type=_DIRECTORY,
        default="noisycells-studies",
        show_default=True,
        help="Directory for reports and the results of jobs, which all studies share.",
    ),
    cache_option,
    click.option(
        "--plan", "only_plan", is_flag=True, help="Print the jobs and the estimated hours."
    ),
    json_option,
)
_MODEL = click.Choice([*MODELS], case_sensitive=False)
_setting = (
    data_option,
    click.option(
        "--model",
        type=_MODEL,
        metavar="NAME",
        help=f"The network: {', '.join(MODELS)}. Default: the paper's; with --quick a small one.",
    ),
    click.option(
        "--teacher",
        type=_MODEL,
        metavar="NAME",
        help="The network to distil from. Default: the paper's; with --quick a small one.",
    ),
    device_option,
    click.option(
        "--seed", type=int, metavar="N", default=0, show_default=True, help="First training seed."
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        metavar="N",
        default=1,
        show_default=True,
        help="Networks trained, each with a seed of its own.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(1),
        metavar="N",
        help="Passes over the training images. Default: the paper's; with --quick a few.",
    ),
    click.option(
        "--repeats",
        type=click.IntRange(2),
        metavar="N",
        help="Chips or noisy copies for each entry. Default: of the study.",
    ),
    click.option(
        "--subset", type=click.IntRange(1), metavar="N", help="Use so many training images."
    ),
    click.option(
        "--test-subset", type=click.IntRange(1), metavar="N", help="Use so many test images."
    ),
    click.option(
        "--quick",
        is_flag=True,
        help="Small networks, few epochs and fewer entries: a first impression.",
    ),
)  # fmt: skip


def _with(options: tuple[Any, ...], function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(options):
        function = option(function)
    return function


def _run(
    chosen: Study,
    settings: Settings,
    backend: str,
    jobs: int,
    scheduler: str | None,
    out: Path,
    cache: Path | None,
    only_plan: bool,
    as_json: bool,
) -> None:
    """Run a study, write its report and say what came out; or only plan it."""
    # All that is needed further down: better missed now than after the training.
    import joblib  # type: ignore[import-untyped]  # noqa: F401
    import matplotlib  # noqa: F401
    import torch  # noqa: F401

    from ..studies.engine import html, tables
    from ..studies.engine import study as engine

    workers = Workers(backend, jobs, scheduler)
    trained = Cache(cache or default_directory())
    if only_plan:
        plan = engine.plan(chosen, settings, out, trained)
        click.echo(to_json(plan.to_dict()) if as_json else plan)
        return
    report = engine.run_study(chosen, settings, out, trained, workers, progress)
    file = engine.write(report, out)
    click.echo(to_json(report) if as_json else tables.format_tables(report))
    html.write_page(out)
    click.echo(f"Wrote {file.stem}.json, .csv and .png and index.html to {out}", err=True)


def _command(chosen: Study) -> click.Command:
    """The command of a study of the catalogue."""

    def run(
        data: str,
        channel: Channel,
        model: str | None,
        teacher: str | None,
        subset: int | None,
        test_subset: int | None,
        seed: int,
        seeds: int,
        epochs: int | None,
        repeats: int | None,
        quick: bool,
        compute: str,
        precision: str,
        **running: Any,
    ) -> None:
        settings = Settings(
            Source.of(data, subset, test_subset),
            channel,
            model or "",
            teacher or "",
            seed,
            seeds,
            epochs,
            repeats,
            quick,
            compute,
            precision,
        )
        _run(chosen, settings, **running)

    run.__doc__ = f"{chosen.help}\n\n{chosen.source}."
    return click.command(chosen.name)(_with((*_setting, *_running), run))


study.add_command(crossbar)
for _study in STUDIES.values():
    study.add_command(_command(_study))


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
    from ..studies.sweep import read_grid

    grid = read_grid(config)
    _run(grid.study, grid.settings(compute=compute, precision=precision), **running)


sweep = click.command("sweep")(click.argument("config", type=IN_FILE)(_with(_running, _sweep)))


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(directory: Path) -> None:
    """Put the reports of studies in a directory on one HTML page, index.html.

    The papers' numbers stand beside those of the studies.
    """
    from ..studies.engine.html import write_page

    click.echo(write_page(directory))
