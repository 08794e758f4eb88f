"""Exact float32 arithmetic in numpy, for tables and for the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ._types import F32

__all__ = ["fma32"]


def fma32(a: F32 | float, b: F32 | float, c: F32 | float) -> F32:
    """``a * b + c`` in float32 with a single rounding.

    The product of two float32 is exact in float64. The sum is brought to round-to-odd by the
    error of a two-sum, after which rounding to float32 cannot double-round
    (Boldo & Melquiond, "Emulation of FMA and correctly rounded sums", IEEE TC 2008).
    """
    p = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32).astype(np.float64)
    c64 = np.asarray(c, np.float32).astype(np.float64)
    p, c64 = np.broadcast_arrays(p, c64)
    s = np.atleast_1d(p + c64)
    back = s - p
    err = np.atleast_1d((p - (s - back)) + (c64 - back))
    bits = s.view(np.int64)
    inexact_even = (err != 0) & ((bits & 1) == 0)
    step = np.where((err > 0) == (s > 0), 1, -1)
    odd = np.where(inexact_even, bits + step, bits).view(np.float64)
    return odd.astype(np.float32).reshape(p.shape)
