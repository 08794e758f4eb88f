"""Neural networks on noisy analog memory: store weights in cells, compute with them.

A :class:`Channel` is one memory cell, a :class:`Codec` stores arrays of weights in such cells,
:mod:`noisycells.devices` lists cells with published figures. PyTorch models are stored and
loaded by :mod:`noisycells.torch`, which this package never imports by itself.
"""

from __future__ import annotations

from . import devices, random, storage
from ._core import __version__
from .bits import pack_bits, unpack_bits
from .channel import Channel
from .crossbar import Crossbar, CrossbarSpec
from .io import DecodeError, FormatError
from .runtime import (
    available_simd_levels,
    get_num_threads,
    set_num_threads,
    set_simd_level,
    simd_level,
    start,
    threading_backend,
)
from .storage import Codec, Cost, Redundancy, StoredModel, StoredTensor, load, save

start()
del start

__all__ = [
    "Channel",
    "Codec",
    "Cost",
    "Crossbar",
    "CrossbarSpec",
    "DecodeError",
    "FormatError",
    "Redundancy",
    "StoredModel",
    "StoredTensor",
    "__version__",
    "available_simd_levels",
    "devices",
    "get_num_threads",
    "load",
    "pack_bits",
    "random",
    "save",
    "set_num_threads",
    "set_simd_level",
    "simd_level",
    "storage",
    "threading_backend",
    "unpack_bits",
]


def __dir__() -> list[str]:
    return __all__
