"""The command ``noisycells inspect``: what is in a file of cells, and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .. import _arguments, storage
from ..io import Weights, is_weights, usual_name
from ..io.dtypes import WITHOUT_NUMPY, numbers
from .options import IN_FILE, json_option, to_json
from .weights import state_dict

__all__ = ["inspect"]


@click.command()
@click.argument("file", type=IN_FILE)
@click.option(
    "--audit",
    "audited",
    is_flag=True,
    help="Read it some times: variance and bias of each tensor, and the distance from Shannon's "
    "limits.",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, path_type=Path),
    help="With --audit: the file that was stored, which errors are measured against.",
)
@json_option
def inspect(file: Path, audited: bool, weights: Path | None, as_json: bool) -> None:
    """Show what a file of `noisycells store` holds, and every cell it takes."""
    loaded = storage.load(file)
    if isinstance(loaded, storage.StoredTensor):
        loaded = storage.StoredModel({loaded.name: loaded})
    if audited:
        found = loaded.audit(None if weights is None else _numbers(weights, set(loaded)))
        click.echo(to_json(found.to_dict()) if as_json else found)
        return
    if weights is not None:
        raise _arguments.wrong_value("--weights", "none without --audit", weights)
    if as_json:
        common = {"aliases": loaded.aliases, "cost": loaded.cost.to_dict()}
        click.echo(to_json(_described(loaded) | common))
        return
    for name, tensor in loaded.items():
        click.echo(f"{name}: {_shape(tensor.shape)}, {_tensor(tensor)}")
    for name, array in loaded.digital.items():
        click.echo(f"{name}: {_shape(array.shape)}, digital")
    for alias, name in loaded.aliases.items():
        click.echo(f"{alias}: the same as {name}")
    for line in _mode(loaded):
        click.echo(line)
    click.echo(loaded.cost)


def _numbers(file: Path, names: set[str]) -> dict[str, Any]:
    """The tensors of these names in a file of weights."""
    if not is_weights(file):
        state = state_dict(file)
        return {name: state[name].float().numpy() for name in names & state.keys()}
    with Weights(file) as reader:
        return {
            name: numbers(reader.read(name), reader.entries[name].dtype)
            for name in names & reader.entries.keys()
        }


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _tensor(tensor: storage.StoredTensor | storage.CodedTensor | storage.AnalogTensor) -> str:
    """How a tensor lies in cells, in a few words."""
    if isinstance(tensor, storage.StoredTensor):
        ranges = ", ".join(f"{r.cells} up to {r.threshold:.4g}" for r in tensor.ranges)
        return f"{tensor.codec.channel.name}, cells a weight: {ranges}"
    return f"{tensor.stored:,} weights stored"


def _mode(model: storage.StoredModel | storage.CodedModel | storage.AnalogModel) -> list[str]:
    """What is common to the tensors of a mode, in lines."""
    if isinstance(model, storage.CodedModel):
        layout, codec = model.layout, model.codec
        levels = len(codec.constellation.inputs)
        return [
            f"mode {codec.NAME}, {codec.channel.name}: {layout.size:,} bytes in {layout.blocks} "
            f"blocks of {levels} levels a cell, {model.carried:.3f} bits a cell"
        ]
    if isinstance(model, storage.AnalogModel):
        return list(dict.fromkeys(map(_programming, model.values())))
    return []


def _programming(tensor: storage.AnalogTensor) -> str:
    """How a tensor is programmed and read, in a line."""
    how = tensor.codec.how
    return (
        f"mode analog, {tensor.codec.channel.name}: at most {how.pulses} pulses, "
        f"{how.verify_reads} verifying reads each, {how.reads} reads"
    )


def _described(
    model: storage.StoredModel | storage.CodedModel | storage.AnalogModel,
) -> dict[str, Any]:
    """What a model is in plain JSON types, but for aliases and cost."""
    if isinstance(model, storage.StoredModel):
        return _stored(model)
    described = _coded(model) if isinstance(model, storage.CodedModel) else _analog(model)
    digital = {name: list(array.shape) for name, array in model.digital.items()}
    return described | {"digital": digital}


def _stored(model: storage.StoredModel) -> dict[str, Any]:
    """Of mode paper: codecs without the tables of their channels."""
    tensors = []
    for name, tensor in model.items():
        codec = tensor.codec
        inverse = None if codec.inverse is None else codec.inverse.name
        tensors.append(
            {
                "name": name,
                "shape": list(tensor.shape),
                "dtype": usual_name(tensor.dtype),
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
        {
            "name": name,
            "shape": list(array.shape),
            "dtype": WITHOUT_NUMPY.get(model.digital_dtypes.get(name, ""), array.dtype.name),
        }
        for name, array in model.digital.items()
    ]
    return {"tensors": tensors, "digital": digital}


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
