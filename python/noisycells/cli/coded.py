"""What the commands say and take of the coded modes."""

from __future__ import annotations

from typing import Any, Literal

import click

from .. import _arguments, storage
from ..channel import Channel
from .options import to_json

MARGIN, STEP, RADICES = 1.1, 0.25, (4,)


def coded_codec(
    mode: Literal["coded", "levels"],
    channel: Channel,
    step: float | None,
    radices: tuple[int, ...] | None,
    noise_margin: float | None,
) -> storage.Coded | storage.Levels:
    """The codec of a mode; None stands for the default."""
    margin = MARGIN if noise_margin is None else noise_margin
    if mode == "coded":
        refuse(mode, {"radices": radices})
        step = STEP if step is None else step
        return storage.Coded(channel, step=step, noise_margin=margin)
    refuse(mode, {"step": step})
    return storage.Levels(channel, radices=radices or RADICES, noise_margin=margin)


def refuse(mode: str, options: dict[str, Any]) -> None:
    """Refuse options that are given and mean nothing in this mode."""
    for name, value in options.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise _arguments.wrong_value(option, f"none with --mode {mode}", value)


def inspect_coded(model: storage.CodedModel, as_json: bool) -> None:
    """Print what a model of the coded modes holds."""
    layout, codec = model.layout, model.codec
    if as_json:
        tensors = {name: {"shape": t.shape, "stored": t.stored} for name, t in model.items()}
        described = {
            "mode": codec.NAME,
            "channel": codec.channel.name,
            "options": codec.options(),
            "layout": layout._asdict(),
            "tensors": tensors,
            "digital": {name: list(array.shape) for name, array in model.digital.items()},
            "aliases": model.aliases,
            "cost": model.cost.to_dict(),
        }
        click.echo(to_json(described))
        return
    for name, tensor in model.items():
        shape = " x ".join(map(str, tensor.shape)) or "scalar"
        click.echo(f"{name}: {shape}, {tensor.stored:,} weights stored")
    for name, array in model.digital.items():
        shape = " x ".join(map(str, array.shape)) or "scalar"
        click.echo(f"{name}: {shape}, digital")
    for alias, name in model.aliases.items():
        click.echo(f"{alias}: the same as {name}")
    levels = len(codec.constellation.inputs)
    click.echo(
        f"mode {codec.NAME}, {codec.channel.name}: {layout.size:,} bytes in {layout.blocks} blocks "
        f"of {levels} levels a cell, {8 * layout.size / max(1, len(model.cells)):.3f} bits a cell"
    )
    click.echo(model.cost)
