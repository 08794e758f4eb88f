"""Ready-made devices: ``noisycells.devices.get(name)``, or a function of that name.

A :class:`Device` computes in crossbars and, through its ``channel``, stores; cells that are known
as a :class:`~noisycells.Channel` alone only store. One module for each technology;
``docs/devices.md`` has the sources and licence notices in full.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..channel import Channel
from .device import Device, from_dict
from .generic import gaussian, ideal
from .pcm import gaussian_standin, pcm_array, pcm_joshi2020, synthetic_pcm
from .rram import rram_mlc_1bit, rram_mlc_2bit, rram_mlc_3bit

__all__ = [
    "Device",
    "from_dict",
    "gaussian",
    "gaussian_standin",
    "get",
    "ideal",
    "names",
    "pcm_array",
    "pcm_joshi2020",
    "rram_mlc_1bit",
    "rram_mlc_2bit",
    "rram_mlc_3bit",
    "synthetic_pcm",
    "table",
]

_PRESETS: dict[str, Callable[[], Channel]] = {
    function.__name__: function
    for function in (
        pcm_array,
        synthetic_pcm,
        gaussian_standin,
        rram_mlc_1bit,
        rram_mlc_2bit,
        rram_mlc_3bit,
    )
}


def names() -> list[str]:
    """Names of the presets."""
    return list(_PRESETS)


def get(name: str) -> Channel:
    """The preset of that name; ValueError if there is none."""
    if name not in _PRESETS:
        raise ValueError(f"name: expected one of {', '.join(_PRESETS)}, got {name!r}")
    return _PRESETS[name]()


def table() -> list[dict[str, Any]]:
    """One row for each preset, of plain JSON types.

    Keys: ``name``, ``summary``, ``synthetic``, ``capacity`` (bits per cell over everything that
    can be written), ``branch_capacity`` (over the branch that weights are stored on), ``range``
    (of outputs on the branch), ``write_bits``, ``source``, ``licence``.
    """
    return [dict(_row(name)) for name in _PRESETS]


@cache
def _row(name: str) -> dict[str, Any]:
    channel = get(name)
    return {
        "name": name,
        "summary": (_PRESETS[name].__doc__ or "").partition("\n")[0],
        "synthetic": channel.synthetic,
        "capacity": channel.capacity(),
        "branch_capacity": channel.capacity(np.linspace(*channel.branch, 257)),
        "range": list(channel.range),
        "write_bits": channel.write_bits,
        "source": channel.source,
        "licence": channel.licence,
    }
