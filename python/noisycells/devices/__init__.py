"""Ready-made devices: ``noisycells.devices.get(name)``, or a function of that name.

A :class:`Device` computes in crossbars and, through its ``channel``, stores; cells that are known
as a :class:`~noisycells.Channel` alone only store. One module for each technology;
``docs/devices.md`` has the sources and license notices in full.
"""

from __future__ import annotations

from .device import Device
from .flash import sonos_agrawal2022
from .generic import fitted, gaussian, ideal
from .measured import fit, from_fits
from .named import (
    CellLike,
    DeviceLike,
    cell,
    computing,
    find,
    from_json,
    get,
    names,
    table,
)
from .pcm import gaussian_standin, pcm_array, pcm_hermes, pcm_joshi2020, synthetic_pcm
from .registry import from_dict
from .rram import rram_cmo, rram_milo2021, rram_mlc_1bit, rram_mlc_2bit, rram_mlc_3bit, rram_wan2022

__all__ = [
    "CellLike",
    "Device",
    "DeviceLike",
    "cell",
    "computing",
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


def __dir__() -> list[str]:
    return __all__
