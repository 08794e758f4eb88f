"""Between numbers and what a crossbar has for them: targets, planes and input codes, in numpy.

Parts of the definition in :mod:`noisycells.reference.crossbar` that the package computes with too,
away from the compiled core: for calibration, reports and torch's fallback.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._float32 import fma32
from ._types import F32

__all__ = [
    "RANGE_SIGMAS",
    "Plane",
    "dac",
    "input_ranges",
    "inverse_range",
    "plane_values",
    "targets",
]

RANGE_SIGMAS = np.float32(4)
"""Standard deviations of a sum that the range of an ADC covers."""
TINY, ENLARGED = np.float32(2.0**-96), np.float32(2.0**96)


def targets(w: F32, inverse: F32, sign: int, g_min: float, span: float) -> F32:
    """Target conductances of one polarity: g_min + span max(sign w inverse, 0).

    ``inverse`` broadcasts against ``w``; Zhou et al. (2020), figure 1.
    """
    v = np.maximum(w * (np.float32(sign) * inverse), np.float32(0))
    return fma32(v, span, g_min)


class Plane(NamedTuple):
    """Conductances that are read together, in units of g_max - g_min; float32 (out, in).

    ``variance`` is that of one read; None where reads are noiseless.
    """

    values: F32
    variance: F32 | None = None


def plane_values(positive: F32 | None, negative: F32 | None, inverse_span: float) -> F32:
    """(G+ - G-) / (g_max - g_min), or one of the two where the other is None."""
    if positive is None or negative is None:
        assert positive is not None or negative is not None
        values = positive if positive is not None else -negative  # type: ignore[operator]
    else:
        values = positive - negative
    result: F32 = values * np.float32(inverse_span)
    return result


def inverse_range(full_scale: F32, levels: int) -> F32:
    """levels / full_scale, finite; 0 where the full scale is 0."""
    inverse = np.float32(levels) / np.where(full_scale > 0, full_scale, np.float32(1))
    return np.where(full_scale > 0, np.minimum(inverse, np.finfo(np.float32).max), 0).astype(
        np.float32
    )


def input_ranges(x: F32, fixed: float | None) -> F32:
    """Full scale of each input vector: ``fixed``, or its largest magnitude."""
    if fixed is not None:
        return np.full(len(x), fixed, np.float32)
    result: F32 = np.abs(x).max(axis=1, initial=0).astype(np.float32)
    return result


def dac(x: F32, ranges: F32, levels: int) -> F32:
    """Input codes, or inputs in units of full scale where ``levels`` is 0; as float32.

    Vectors of a tiny full scale are multiplied by a power of two first, without rounding, for the
    inverse of their full scale to be finite.
    """
    top = np.float32(levels or 1)
    factors = np.where(ranges < TINY, ENLARGED, np.float32(1))
    t = (x * factors[:, None]) * inverse_range(ranges * factors, levels or 1)[:, None]
    result: F32 = t if not levels else np.rint(np.minimum(np.maximum(t, -top), top))
    return result
