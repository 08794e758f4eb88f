"""Ready-made devices: ``noisycells.devices.get(name)``, or a function of that name.

A :class:`Device` computes in crossbars and, through its ``channel``, stores; cells that are known
as a :class:`~noisycells.Channel` alone only store. One module for each technology;
``docs/devices.md`` has the sources and license notices in full.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..channel import Channel
from .device import Device
from .flash import sonos_agrawal2022
from .generic import fitted, gaussian, ideal
from .measured import fit, from_fits
from .pcm import gaussian_standin, pcm_array, pcm_hermes, pcm_joshi2020, synthetic_pcm
from .registry import from_dict
from .rram import rram_cmo, rram_milo2021, rram_mlc_1bit, rram_mlc_2bit, rram_mlc_3bit, rram_wan2022

__all__ = [
    "Device",
    "cell",
    "find",
    "fit",
    "fitted",
    "from_dict",
    "from_fits",
    "from_json",
    "gaussian",
    "gaussian_standin",
    "get",
    "ideal",
    "names",
    "pcm_array",
    "pcm_hermes",
    "pcm_joshi2020",
    "rram_cmo",
    "rram_milo2021",
    "rram_mlc_1bit",
    "rram_mlc_2bit",
    "rram_mlc_3bit",
    "rram_wan2022",
    "sonos_agrawal2022",
    "synthetic_pcm",
    "table",
]

_PRESETS: dict[str, Callable[..., Channel | Device]] = {
    function.__name__: function
    for function in (
        pcm_array,
        synthetic_pcm,
        gaussian_standin,
        rram_mlc_1bit,
        rram_mlc_2bit,
        rram_mlc_3bit,
        ideal,
        pcm_joshi2020,
        pcm_hermes,
        rram_wan2022,
        rram_milo2021,
        rram_cmo,
        sonos_agrawal2022,
    )
}


def names() -> list[str]:
    """Names of the presets: cells that only store, then devices."""
    return list(_PRESETS)


def get(name: str, **arguments: Any) -> Channel | Device:
    """The preset of that name: a :class:`~noisycells.Channel` or a :class:`Device`.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **arguments
        Those of the function of that name.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    if name not in _PRESETS:
        raise ValueError(f"name: expected one of {', '.join(_PRESETS)}, got {name!r}")
    return _PRESETS[name](**arguments)


def find(name: str) -> Channel | Device:
    """The preset of that name, or what a JSON file of :func:`from_json` holds.

    Raises
    ------
    ValueError, TypeError, OSError
        If there is no such preset, or the file cannot be read or holds neither.
    """
    if name.endswith(".json"):
        return from_json(Path(name).read_text(encoding="utf-8"))
    return get(name)


def cell(text: str) -> Channel:
    """The cell that ``NAME`` or ``NAME@SECONDS`` says, with names as for :func:`find`.

    Of a device, its cell right after programming, or so many seconds later.

    Raises
    ------
    ValueError, TypeError, OSError
        As :func:`find`; or if a cell without times is given one.
    """
    name, _, time = text.partition("@")
    found = find(name)
    seconds = float(time) if time else None
    if isinstance(found, Device):
        return found.channel(seconds)
    if seconds is not None:
        raise ValueError(f"{name}: a cell without times, got {text!r}")
    return found


def from_json(text: str) -> Channel | Device:
    """The cell or device of its ``to_json()``, which is what ``noisycells fit`` writes.

    Raises
    ------
    ValueError, TypeError
        If the text is neither.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"text: expected a cell or a device as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"text: expected a JSON object, got {type(data).__name__}")
    return from_dict(data) if "device" in data else Channel.from_dict(data)


def table() -> list[dict[str, Any]]:
    """One row for each preset, of plain JSON types.

    Keys: ``name``, ``summary``, ``kind`` ("cell", which only stores, or "device"), ``synthetic``,
    ``capacity`` (bits per cell over everything that can be written, just after programming; None
    where noise vanishes, if only at one input), ``branch_capacity`` (over 257 levels of the
    branch that weights are stored on), ``range`` (of outputs on the branch), ``write_bits``,
    ``conductance_range`` (measured, in microsiemens), ``time_range`` (measured, in seconds since
    programming; None where time does not matter or, for cells, is not known), ``source``,
    ``doi``, ``license``.
    """
    return [dict(_row(name)) for name in _PRESETS]


@cache
def _row(name: str) -> dict[str, Any]:
    preset = get(name)
    device = preset if isinstance(preset, Device) else None
    channel = preset.channel() if isinstance(preset, Device) else preset
    capacity = channel.capacity()
    branch_capacity = channel.capacity(np.linspace(*channel.branch, 257))
    return {
        "name": name,
        "summary": (_PRESETS[name].__doc__ or "").partition("\n")[0],
        "kind": "cell" if device is None else "device",
        "synthetic": channel.synthetic,
        "capacity": capacity if math.isfinite(capacity) else None,
        "branch_capacity": branch_capacity,
        "range": list(channel.range),
        "write_bits": channel.write_bits,
        "conductance_range": None if device is None else list(device.conductance_range),
        "time_range": None
        if device is None or device.time_range is None
        else list(device.time_range),
        "source": channel.source,
        "doi": "" if device is None else device.doi,
        "license": channel.license,
    }
