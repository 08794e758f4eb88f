"""Cells and devices by name: the presets, JSON files, and a time behind ``@``.

Wherever the package takes a cell or a device, it takes its name as well, and asks here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import _arguments
from ..channel import Channel
from .device import Device
from .flash import sonos_agrawal2022
from .generic import ideal
from .pcm import gaussian_standin, pcm_array, pcm_hermes, pcm_joshi2020, synthetic_pcm
from .registry import from_dict
from .rram import rram_cmo, rram_milo2021, rram_mlc_1bit, rram_mlc_2bit, rram_mlc_3bit, rram_wan2022

__all__ = [
    "CellLike",
    "DeviceLike",
    "cell",
    "computing",
    "find",
    "from_json",
    "get",
    "names",
    "table",
]

CellLike = Channel | Device | str | os.PathLike[str]
"""A cell, a device right after programming, or the name of one of them: see :func:`cell`."""
DeviceLike = Device | str | os.PathLike[str]
"""A device, or its name: see :func:`computing`."""

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

_VIEWS = {"fit", "gaussian", "from_dict", "from_json", "plot", "capacity"}
"""What a subclass may have of its own: ways to make one, and to look at it."""


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
    return _PRESETS[_arguments.choice("name", name, list(_PRESETS))](**arguments)


def find(name: str | os.PathLike[str], argument: str = "name") -> Channel | Device:
    """The preset of that name, or what a JSON file of :func:`from_json` holds.

    Parameters
    ----------
    name : str or path-like
        A path ends in ``.json``.
    argument : str
        What errors call ``name``.

    Raises
    ------
    ValueError, TypeError, OSError
        If there is no such preset, or the file cannot be read or holds neither.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise _arguments.wrong_type(argument, "a name or a path", name)
    text = os.fspath(name)
    if isinstance(name, str) and not text.endswith(".json"):
        if text not in _PRESETS:
            raise _arguments.wrong_value(
                argument,
                f"a file that ends in .json, or one of {', '.join(_PRESETS)}",
                f"{text!r}{_arguments.near(text, _PRESETS)}",
            )
        return get(text)
    try:
        return from_json(Path(text).read_text(encoding="utf-8"))
    except (ValueError, TypeError) as error:
        raise _arguments.wrong_value(
            argument, "a file of a cell or a device", f"{text}: {error}"
        ) from None


def cell(given: CellLike, argument: str = "cell") -> Channel:
    """The cell that ``given`` is or names, for storage.

    Parameters
    ----------
    given : Channel, Device, str or path-like
        A name is ``NAME`` or ``NAME@SECONDS``, with names and files as for :func:`find`. A device
        is taken as it is right after programming, or so many seconds later.
    argument : str
        What errors call ``given``.

    Raises
    ------
    TypeError
        If it is neither; or of a subclass that replaces a method of :class:`~noisycells.Channel`:
        the compiled core and files use the tables, and would go past it.
    ValueError, OSError
        As :func:`find`; or if a cell without times is given one.
    """
    seconds = None
    found: object = given
    if isinstance(given, (str, os.PathLike)):
        name, seconds = _name_and_time(given, argument)
        found = find(name, argument)
    if isinstance(found, Device):
        return found.channel(seconds)
    if not isinstance(found, Channel):
        raise _arguments.wrong_type(argument, "a Channel, a Device or the name of one", given)
    if seconds is not None:
        raise _arguments.wrong_value(
            argument, "a device for a time", f"{given!r}, a cell without times"
        )
    _check_own_methods(argument, found, Channel)
    return found


def computing(given: DeviceLike, argument: str = "device") -> Device:
    """The device that ``given`` is or names, for crossbars.

    Parameters
    ----------
    given : Device, str or path-like
        Names and files are those of :func:`find`. The time is not part of it: a crossbar's
        ``at(seconds)`` sets it.
    argument : str
        What errors call ``given``.

    Raises
    ------
    TypeError
        If it is a cell, which only stores, or neither; or of a subclass that replaces a method of
        :class:`Device`.
    ValueError, OSError
        As :func:`find`; or if a time is given.
    """
    found: object = given
    if isinstance(given, (str, os.PathLike)):
        name, seconds = _name_and_time(given, argument)
        if seconds is not None:
            raise _arguments.wrong_value(
                argument, "a device without a time, which at(seconds) sets", repr(given)
            )
        found = find(name, argument)
    if isinstance(found, Channel):
        raise _arguments.wrong_kind(
            argument,
            "a Device",
            f"the channel {found.name!r}, which is known only as a storage cell",
        )
    if not isinstance(found, Device):
        raise _arguments.wrong_type(argument, "a Device or the name of one", given)
    _check_own_methods(argument, found, Device)
    return found


def _name_and_time(
    given: str | os.PathLike[str], argument: str
) -> tuple[str | os.PathLike[str], float | None]:
    if not isinstance(given, str) or given.endswith(".json"):
        return given, None
    name, at, time = given.rpartition("@")
    if not at:
        return given, None
    try:
        return name, float(time)
    except ValueError:
        raise _arguments.wrong_value(argument, "NAME@SECONDS", repr(given)) from None


def _check_own_methods(argument: str, found: Channel | Device, kind: type) -> None:
    """Refuse a subclass, or an object, that replaces what the compiled core goes past."""
    mine = set(vars(kind)) - _VIEWS
    replaced = {name for name in vars(found) if name in mine and callable(vars(kind)[name])}
    for between in type(found).__mro__[: type(found).__mro__.index(kind)]:
        replaced |= set(vars(between)) & mine
    replaced = {name for name in replaced if not name.startswith("__")}
    if replaced:
        raise _arguments.wrong_kind(
            argument,
            f"a {kind.__name__} with its own methods, since the core and files go past others",
            f"a {type(found).__name__} with its own {', '.join(sorted(replaced))}",
        )


def from_json(text: str) -> Channel | Device:
    """The cell or device of its ``to_json()``, which is what ``noisycells fit`` writes.

    Raises
    ------
    ValueError, TypeError
        If the text is neither.
    """
    data = _arguments.json_object("text", text, "a cell or a device")
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
