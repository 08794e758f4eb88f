"""Commands about devices: what they are, and how they compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from .. import devices
from .._arguments import expectation
from .._text import labeled, paragraphs, table
from ..channel import Channel
from ..devices.comparison import describe, plot_comparison
from ..io import replacing
from .options import (
    OUT_FILE,
    Device,
    check_unread,
    force_option,
    json_option,
    times_option,
    to_json,
)

moments_option = times_option("1,3600,86400", "besides just programmed")
extrapolate_option = click.option(
    "--extrapolate", is_flag=True, help="Tell of times that were not measured, too; marked *."
)
plot_option = click.option("--plot", type=OUT_FILE, help="Draw to this PNG.")


@click.group("devices", invoke_without_command=True)
@json_option
@click.pass_context
def group(context: click.Context, as_json: bool) -> None:
    """List cells and devices; show one, or compare several.

    Cells only store weights; devices compute as well, in crossbars, and have a range of
    conductances and times that was measured. Without a command, all that come with the package
    are listed.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(
                f"--json: {expectation('a place behind the command', 'one before it')}"
            )
        return
    rows = devices.table()
    if as_json:
        click.echo(to_json(rows))
        return
    for row in rows:
        _echo(paragraphs([f"{row['name']}: {row['summary']}"]))
        _echo(paragraphs(_about(row), indent="    "))


def _about(row: dict[str, Any]) -> Iterator[str]:
    """What a cell or device is, in lines."""
    kind = "synthetic" if row["synthetic"] else "measured"
    overall = "any number" if row["capacity"] is None else f"{row['capacity']:.2f}"
    yield (
        f"{kind} {row['kind']}, {row['branch_capacity']:.2f} bits a cell where weights are "
        f"stored, {overall} overall"
    )
    if row["conductance_range"] is not None:
        low, high = row["conductance_range"]
        yield f"valid from {low:g} to {high:g} uS, {_span(row['time_range'])}"
    yield f"source: {row['source']}"
    if row["doi"]:
        yield f"DOI: {row['doi']}"
    yield f"license: {row['license']}"


@group.command()
@click.argument("device", type=Device(devices.find), metavar="NAME|FILE")
@moments_option
@extrapolate_option
@plot_option
@force_option
@json_option
def show(
    device: Channel | devices.Device,
    times: tuple[float, ...],
    extrapolate: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Show capacity, errors by conductance and drift of one device.

    FILE was written by `noisycells fit`.
    """
    check_unread(plot)
    row = describe(device, (None, *times), extrapolate)
    if plot is not None:
        moments = [one["seconds"] for one in row["times"]]
        figure = device.plot() if isinstance(device, Channel) else device.plot(moments)
        _write(figure, plot)
    if as_json:
        click.echo(to_json(row))
        return
    kind = "synthetic" if row["synthetic"] else "measured"
    _echo([f"{row['name']}: {kind} {row['kind']}, {_bits(row['capacity'])} bits a cell"])
    labels = {key: row[key] for key in ("source", "doi", "license") if row[key]}
    if row["times"]:
        low, high = row["conductance_range"]
        labels["valid"] = f"{low:g} to {high:g} uS, {_span(row['time_range'])}"
    _echo(labeled(labels, 9))
    if row["times"]:
        targets = [f"{e['target']:.3g} uS" for e in row["times"][0]["errors"]]
        lines = [["time", "bits", "left", "error", *targets]]
        for one in row["times"]:
            errors = [f"{e['mean']:.3g} ± {e['std']:.2g}" for e in one["errors"]]
            lines.append([*_cells(one), *errors])
        _echo([*table(lines, "<"), *paragraphs([_LEGEND])])


@group.command()
@click.argument("found", type=Device(devices.find), metavar="NAME|FILE...", nargs=-1, required=True)
@moments_option
@extrapolate_option
@plot_option
@force_option
@json_option
def compare(
    found: tuple[Channel | devices.Device, ...],
    times: tuple[float, ...],
    extrapolate: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare devices: capacity, error and drift, a line for each time.

    FILE was written by `noisycells fit`. Cells, which only store, have their capacity alone.
    """
    check_unread(plot)
    rows = [describe(device, (None, *times), extrapolate) for device in found]
    if plot is not None:
        drawn = [device for device in found if isinstance(device, devices.Device)]
        if not drawn:
            raise click.UsageError(f"--plot: {expectation('at least one device', 'cells alone')}")
        _write(plot_comparison(drawn, (None, *times)), plot)
    if as_json:
        click.echo(to_json(rows))
        return
    lines = [["", "range, uS", "time", "bits", "left", "error"]]
    for row in rows:
        if not row["times"]:
            lines.append([row["name"], "", "", _bits(row["capacity"]), "", ""])
        for i, one in enumerate(row["times"]):
            low, high = row["conductance_range"]
            lines.append([*((row["name"], f"{low:g} to {high:g}") if not i else ("", "")),
                          *_cells(one)])  # fmt: skip
    _echo([*table(lines, "<"), *paragraphs([_LEGEND])])


_LEGEND = (
    "bits: capacity of a cell; left: of the mean in the middle of the range; error: root mean "
    "square spread, % of the range"
)


def _cells(one: dict[str, Any]) -> list[str]:
    """Time, capacity, drift and error of one time."""
    time = "programmed" if one["seconds"] is None else f"{one['seconds']:g} s"
    return [
        time + "*" * one["extrapolated"],
        _bits(one["capacity"]),
        f"{100 * one['left']:.1f} %",
        f"{one['error']:.2f} %",
    ]


def _bits(capacity: float | None) -> str:
    return "any" if capacity is None else f"{capacity:.2f}"


def _span(times: Sequence[float] | None) -> str:
    if times is None:
        return "any time"
    return " to ".join(f"{t:g}" for t in times) + " s after programming"


def _echo(lines: list[str]) -> None:
    click.echo("\n".join(lines))


def _write(figure: Any, file: Path) -> None:
    with replacing(file) as picture:
        figure.savefig(picture, format=file.suffix[1:] or "png")
