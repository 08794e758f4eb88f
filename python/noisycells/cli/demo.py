"""The command ``noisycells demo``: the storage strategies on one network."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ..channel import Channel
from .options import (
    Numbers,
    cache_option,
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
@cache_option
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
    cache: Path | None,
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

    from ..studies import strategies
    from ..studies.engine.cache import Cache, default_directory
    from ..studies.engine.jobs import one_thread
    from ..studies.engine.recipes import Source, isik_recipe, pruned_recipe
    from ..studies.engine.training import network

    settings = strategies.Settings(cells=cells, reads=reads, seed=seed, scope=scope)
    recipe = pruned_recipe(isik_recipe(Source.of(data), "LeNet", seed, epochs))
    networks = Cache(cache or default_directory())
    out.mkdir(parents=True, exist_ok=True)
    with progress("train", sum(part.epochs for part in recipe.lineage())) as step, one_thread():
        dense, pruned = (network(part, networks, step) for part in recipe.lineage())
    with progress("store", len(strategies.STRATEGIES) * len(cells) * reads) as step:
        entries = strategies.evaluate_strategies(pruned, channel, settings, progress=step)
    report = strategies.report(dense, pruned, channel, settings, entries)
    strategies.write_json(report, out / "strategies.json")
    strategies.write_csv(report, out / "strategies.csv")
    strategies.plot(report).savefig(out / "strategies.png")
    click.echo(to_json(report) if as_json else strategies.format_table(report))
    click.echo(f"Wrote strategies.png, .json and .csv to {out}", err=True)
