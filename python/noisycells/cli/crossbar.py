"""The command ``noisycells study crossbar``: one network on crossbars of every device."""

from __future__ import annotations

from pathlib import Path

import click

from .. import devices
from ..studies.engine.recipes import MODELS
from .options import (
    ComputingDevice,
    Numbers,
    Or,
    Words,
    cache_option,
    data_option,
    json_option,
    progress,
    seed_option,
    to_json,
)


@click.command()
@data_option
@click.option(
    "--model",
    type=click.Choice([*MODELS], case_sensitive=False),
    metavar="NAME",
    default="LeNet",
    show_default=True,
    help=f"The network: {', '.join(MODELS)}; batch normalization is folded into its layers.",
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
    help="Threads of torch and of the products; training has one. Default: those of torch.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default="noisycells-crossbar",
    show_default=True,
    help="Directory for crossbar.png and crossbar.json.",
)
@cache_option
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
    cache: Path | None,
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
    from ..io import replacing
    from ..studies import crossbar as of
    from ..studies import crossbar_view as view
    from ..studies.engine.cache import Cache, default_directory
    from ..studies.engine.jobs import one_thread
    from ..studies.engine.recipes import Source, isik_recipe, pruned_recipe
    from ..studies.engine.report import write_json
    from ..studies.engine.training import network

    settings = of.Settings(
        chips=chips,
        seed=seed,
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
    recipe = isik_recipe(Source.of(data), model, seed, epochs)
    if prune:
        recipe = pruned_recipe(recipe, prune)
    evaluations = of.steps(found, settings, recipe)  # checks the devices
    networks = Cache(cache or default_directory())
    output.mkdir(parents=True, exist_ok=True)
    if threads is not None:
        torch.set_num_threads(threads)
    with progress("train", sum(part.epochs for part in recipe.lineage())) as step, one_thread():
        dense = network(recipe.start or recipe, networks, step)
        trained = network(recipe, networks, step)
    with progress("compute", evaluations) as step:
        entries = of.evaluate_devices(trained, found, settings, step)
    layers = of.layer_reports(trained, found, settings)
    counts = of.layer_counts(trained, settings)
    report = of.report(dense, trained, found, settings, entries, layers, counts)
    with replacing(output / "crossbar.png") as picture:
        view.plot(report).savefig(picture, format="png")
    write_json(report, output / "crossbar.json")
    click.echo(to_json(report) if as_json else view.format_table(report))
    click.echo(f"Wrote crossbar.png and .json to {output}", err=True)
