"""Commands about cells and what is stored in them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from .. import _arguments, devices, storage
from .._text import labeled
from ..channel import Channel
from ..channel.measurements import Measurements
from ..io import Weights, check_output, is_weights, replacing, weight_files
from .modes import MODES, codec_of
from .options import (
    IN_FILE,
    OUT_FILE,
    Numbers,
    check_unread,
    device_option,
    force_option,
    json_option,
    noise_margin_option,
    nonzero_option,
    progress,
    seed_option,
    store_biases_option,
    to_json,
)
from .planning import planned, planning_options
from .weights import state_dict


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=OUT_FILE, required=True, help="File to write.")
@device_option
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="paper",
    show_default=True,
    help="Analog values, as in the paper; quantized: entropy-coded behind an error-correcting "
    "code, or straight in cells of a few levels; or one analog cell a weight, in a closed loop.",
)
@click.option(
    "--step",
    type=float,
    metavar="X",
    default=0.25,
    show_default=True,
    help="Mode coded: distance of neighboring values, in units of each tensor's root mean square.",
)
@click.option(
    "--radices",
    type=Numbers(int),
    metavar="N,N,...",
    default="4",
    show_default=True,
    help="Mode levels: levels of the cells that share each weight, the most significant digit "
    "first.",
)
@noise_margin_option
@click.option(
    "--averaged-reads",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="Mode analog: reads of a cell whose mean is taken.",
)
@click.option(
    "--pulses",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="Mode analog: most pulses of a cell.",
)
@click.option(
    "--verify-reads",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="Mode analog: reads that verify each pulse; 0: an open loop.",
)
@click.option(
    "--cells",
    type=Numbers(int),
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
    type=Numbers(float),
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
@nonzero_option
@store_biases_option
@planning_options
@force_option
@json_option
def store(
    model: Path,
    output: Path,
    channel: Channel,
    mode: str,
    nonzero: bool,
    store_biases: bool,
    as_json: bool,
    **of_modes: Any,
) -> None:
    """Store the weights of a model in cells, and say what that costs.

    MODEL is a .safetensors file, an index of several (model.safetensors.index.json) or a
    directory of transformers that holds one or the other, which are stored tensor by tensor in
    little memory; or a torch state dict (torch.save of model.state_dict()). Biases and
    normalization layers stay digital. Tied weights are stored once and keep all their names.

    With --budget, --max-loss or --max-drop, mode and settings are those that `noisycells plan`
    finds best, or the settings of --mode.
    """
    check_unread(output)
    mask: Literal["nonzero"] | None = "nonzero" if nonzero else None
    chosen = planned(model, channel, mode, nonzero, store_biases, of_modes)
    codec: Any = codec_of(mode, channel, of_modes) if chosen is None else chosen.codec
    overrides = None if chosen is None else chosen.overrides
    if is_weights(model) and (chosen is None or chosen.network is None):
        check_output(output, *weight_files(model))
        with Weights(model) as weights:
            tensors = len(weights.entries)
        with progress("store", tensors) as advance:
            cost = storage.encode_file(
                model,
                output,
                codec,
                mask=mask,
                overrides=overrides,
                store_biases=store_biases,
                progress=lambda name: advance(),
            )
    else:
        from .. import torch as nct

        check_output(output, model)
        network = None if chosen is None else chosen.network
        state = state_dict(model) if network is None else network.model
        moments = None if chosen is None else chosen.moments
        try:
            stored = nct.store(
                state,
                codec,
                mask=mask,
                moments=moments,
                overrides=overrides,
                store_biases=store_biases,
            )
        except TypeError as error:  # of a tensor in the file, so no programming error
            raise ValueError(f"{model}: {error}") from error
        storage.save(output, stored)
        cost = stored.cost
    if chosen is not None and not as_json:
        click.echo(f"mode {chosen.mode}, {chosen.settings}")
    click.echo(to_json(cost.to_dict()) if as_json else cost)


@click.command()
@click.argument("file", type=IN_FILE)
@click.option("-o", "--output", type=OUT_FILE, required=True, help="Safetensors file to write.")
@seed_option("Seed of this read.")
@click.option(
    "--chip",
    type=int,
    metavar="N",
    default=0,
    show_default=True,
    help="Number of the chip, which fixes programming errors where the device tells them apart.",
)
@click.option("--side-errors", is_flag=True, help="Misread signs and ranges now and then, too.")
@force_option
def read(file: Path, output: Path, seed: int, chip: int, side_errors: bool) -> None:
    """Read a stored model back once, with noise.

    FILE was written by `noisycells store`. The output is a plain safetensors file with the names,
    shapes and dtypes of the model. The same seed and chip give the same weights.
    """
    with progress("read", storage.count_tensors(file)) as step:
        storage.read_file(
            file, output, seed, chip, side_errors=side_errors, progress=lambda name: step()
        )


@click.command()
@click.argument("csv", type=IN_FILE)
@click.option("-o", "--output", type=OUT_FILE, help="Write the cell here, for --device.")
@click.option("--plot", type=OUT_FILE, help="Draw measurements and fit to this PNG.")
@force_option
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
@click.option("--robust", is_flag=True, help="Leave out outliers, told by median and MAD.")
@click.option(
    "--empty",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="What to do with rows where a number is missing.",
)
@click.option("--decimal", type=click.Choice([".", ","]), help="Decimal mark. Default: found out.")
@click.option("--name", default="fitted", show_default=True, help="Name of the cell or device.")
@json_option
def fit(
    csv: Path,
    output: Path | None,
    plot: Path | None,
    kind: Literal["auto", "cell", "device"],
    x_column: str | None,
    y_column: str | None,
    time_column: str | None,
    neighbors: int | None,
    robust: bool,
    empty: Literal["refuse", "skip"],
    decimal: str | None,
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
    from ..channel import measurements

    for file in (output, plot):
        check_unread(file, csv)
    if output is not None and output == plot:
        raise click.UsageError(
            f"--plot: {_arguments.expectation('another file than --output', plot)}"
        )
    columns = (_column(column) for column in (x_column, y_column, time_column))
    read = measurements.read(csv, kind, *columns, empty=empty, decimal=decimal)
    source = f"fitted to {csv.name}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if read.kind == "device":
            figures, text, picture = _fit_device(read, neighbors, robust, name, source)
        else:
            channel = Channel.fit(
                read.x, read.y, neighbors, robust=robust, name=name, source=source
            )
            assert channel.goodness is not None
            figures = {
                "range": list(channel.range),
                "branch": list(channel.branch),
                "capacity": _capacity(channel),
                **channel.goodness.to_dict(),
            }
            text, picture = channel.to_json(), lambda: channel.plot(read.x, read.y)
    for warning in caught:
        click.echo(f"warning: {warning.message}", err=True)
    if plot is not None:
        with replacing(plot) as picture_file:
            picture().savefig(picture_file, format=plot.suffix[1:] or "png")
    if output is not None:
        with replacing(output) as text_file:
            text_file.write(f"{text}\n".encode())
    if as_json:
        click.echo(to_json({"read": read.summary(), **figures}))
        return
    for part in (read.summary(), *map(_shown, figures.get("times", [figures]))):
        click.echo("\n".join(labeled(part, 16)))


def _shown(figures: Mapping[str, Any]) -> dict[str, str]:
    """Figures of a cell, or of a device at some time, as text."""
    found = {}
    for key, value in figures.items():
        values = value if isinstance(value, list) else [value]
        numbers = ("any number" if v is None else f"{v:.5g}" for v in values)
        found[key.replace("_", " ")] = " to ".join(numbers)
    return found


def _column(given: str | None) -> str | int | None:
    """A column by its position where it was given by a number, else by its heading."""
    return int(given) if given is not None and given.isdigit() else given


def _fit_device(
    read: Measurements, neighbors: int | None, robust: bool, name: str, source: str
) -> tuple[dict[str, Any], str, Callable[[], Any]]:
    """Figures for each time, the device as JSON, and a function that draws it."""
    from ..channel.fitting import fit_times

    fits = fit_times(read.x, read.y, read.seconds, neighbors, robust=robust)
    device = devices.from_fits(fits, name=name, source=source)
    rows = [
        {
            "seconds": 0.0 if seconds is None else seconds,
            "range": [float(fitted.x[0]), float(fitted.x[-1])],
            "bias": float(np.sqrt(np.mean((fitted.mean - fitted.x) ** 2))),
            "spread": float(np.sqrt(np.mean(fitted.std**2))),
            "capacity": _capacity(device.channel(seconds)),
            **fitted.goodness.to_dict(),
        }
        for seconds, fitted in fits.items()
    ]
    return (
        {"conductance_range": list(device.conductance_range), "times": rows},
        device.to_json(),
        lambda: device.plot([row["seconds"] for row in rows], read.x, read.y),
    )


def _capacity(channel: Channel) -> float | None:
    """Bits a cell; None where they are not bounded."""
    capacity = channel.capacity()
    return capacity if math.isfinite(capacity) else None
