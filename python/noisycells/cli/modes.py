"""What the commands take of the modes of storage, and say of the coded ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import click
from click.core import ParameterSource

from .. import _arguments, storage
from ..channel import Channel
from .options import to_json

__all__ = ["MODES", "codec_of", "inspect_whole"]

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
    "analog": ("averaged_reads", "pulses", "verify_reads"),
}
"""What each mode takes."""
MODES = (*OPTIONS,)


def codec_of(
    mode: str, channel: Channel, given: Mapping[str, Any]
) -> storage.Codec | storage.Coded | storage.Levels | storage.Analog:
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
    if mode == "analog":
        return storage.Analog(channel, reads=own.pop("averaged_reads"), **own)
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


def inspect_whole(model: storage.CodedModel | storage.AnalogModel, as_json: bool) -> None:
    """Print what a model of the coded modes or in analog cells holds."""
    described = _coded(model) if isinstance(model, storage.CodedModel) else _analog(model)
    if as_json:
        common = {
            "digital": {name: list(array.shape) for name, array in model.digital.items()},
            "aliases": model.aliases,
            "cost": model.cost.to_dict(),
        }
        click.echo(to_json(described | common))
        return
    for name, tensor in model.items():
        kept = tensor.stored if isinstance(tensor, storage.CodedTensor) else tensor.size
        click.echo(f"{name}: {_shape(tensor.shape)}, {kept:,} weights stored")
    for name, array in model.digital.items():
        click.echo(f"{name}: {_shape(array.shape)}, digital")
    for alias, name in model.aliases.items():
        click.echo(f"{alias}: the same as {name}")
    if isinstance(model, storage.CodedModel):
        layout, codec = model.layout, model.codec
        levels = len(codec.constellation.inputs)
        click.echo(
            f"mode {codec.NAME}, {codec.channel.name}: {layout.size:,} bytes in {layout.blocks} "
            f"blocks of {levels} levels a cell, {model.carried:.3f} bits a cell"
        )
    else:
        for text in dict.fromkeys(map(_programming, model.values())):
            click.echo(text)
    click.echo(model.cost)


def _coded(model: storage.CodedModel) -> dict[str, Any]:
    return {
        "mode": model.codec.NAME,
        "channel": model.codec.channel.name,
        "options": model.codec.options(),
        "layout": model.layout._asdict(),
        "tensors": {name: {"shape": t.shape, "stored": t.stored} for name, t in model.items()},
    }


def _analog(model: storage.AnalogModel) -> dict[str, Any]:
    tensors = {
        name: {
            "shape": tensor.shape,
            "channel": tensor.codec.channel.name,
            "options": tensor.codec.options(),
            "feedback": tensor.feedback is not None,
        }
        for name, tensor in model.items()
    }
    return {"mode": storage.Analog.NAME, "tensors": tensors}


def _programming(tensor: storage.AnalogTensor) -> str:
    """How a tensor is programmed and read, in a line."""
    how = tensor.codec.how
    return (
        f"mode analog, {tensor.codec.channel.name}: at most {how.pulses} pulses, "
        f"{how.verify_reads} verifying reads each, {how.reads} reads"
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"
