"""Neural networks on noisy analog memory: store weights in cells, compute with them."""

from __future__ import annotations

from . import random
from ._core import __version__
from .runtime import (
    available_simd_levels,
    get_num_threads,
    set_num_threads,
    set_simd_level,
    simd_level,
    start,
    threading_backend,
)

start()
del start

__all__ = [
    "__version__",
    "available_simd_levels",
    "get_num_threads",
    "random",
    "set_num_threads",
    "set_simd_level",
    "simd_level",
    "threading_backend",
]
