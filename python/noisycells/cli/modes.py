"""What the commands take of the modes of storage, and say of the coded ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import click
from click.core import ParameterSource

from .. import _arguments, storage
from ..channel import Channel
from .options import to_json

__all__ = ["codec_of", "inspect_coded"]

OPTIONS = {
    "paper": (
        "cells",
        "mean_cells",
        "sign_protection",
        "adaptive_mapping",
        "thresholds",
        "scope",
        "write_bits",
    ),
    "coded": ("step", "noise_margin"),
    "levels": ("radices", "noise_margin"),
}
"""What each mode takes."""


def codec_of(
    mode: Literal["paper", "coded", "levels"], channel: Channel, given: Mapping[str, Any]
) -> storage.Codec | storage.Coded | storage.Levels:
    """The codec of a mode; an option that the user gave and it does not take is refused."""
    context = click.get_current_context()
    for name, value in given.items():
        source = context.get_parameter_source(name)
        if name not in OPTIONS[mode] and source is not ParameterSource.DEFAULT:
            option = f"--{name.replace('_', '-')}"
            raise _arguments.wrong_value(option, f"none with --mode {mode}", value)
    own = {name: given[name] for name in OPTIONS[mode]}
    if mode == "coded":
        return storage.Coded(channel, **own)
    if mode == "levels":
        return storage.Levels(channel, **own)
    cells, thresholds = own["cells"], own["thresholds"]
    own["cells"] = cells[0] if len(cells) == 1 else cells
    own["thresholds"] = "auto" if thresholds is None else thresholds
    own["write_bits"] = _write_bits(own["write_bits"])
    return storage.Codec(channel, **own)


def _write_bits(text: str | None) -> int | Literal["auto"] | None:
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(
            _arguments.expectation("a number of bits or auto", repr(text)),
            param_hint="--write-bits",
        ) from None


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
