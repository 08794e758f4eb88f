"""What the commands take of the modes of storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import click
from click.core import ParameterSource

from .. import _arguments, storage
from ..channel import Channel

__all__ = ["MODES", "codec_of"]

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
