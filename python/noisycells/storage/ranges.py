"""How magnitudes are mapped onto cells: the scale and shift of each range."""

from __future__ import annotations

import numpy as np

from .._types import F64, Converter, Range
from .histogram import Extent

__all__ = ["Range", "bounds", "make_range"]


def bounds(
    lower: float | F64, upper: float | F64, extent: Extent, sign: bool
) -> tuple[float | F64, float | F64]:
    """Interval of weights that is mapped onto the cells for magnitudes in (lower, upper].

    With sign protection the cells hold magnitudes, and the interval is [lower, upper]. Without,
    they hold the weights themselves: [-upper, upper], or less where no weights reach so far.
    """
    if sign:
        return lower, upper
    return np.maximum(-upper, extent.low), np.minimum(upper, extent.high)


def make_range(
    threshold: float,
    interval: tuple[float, float],
    output: tuple[float, float],
    cells: int,
    write: Converter | None,
) -> Range:
    """Map ``interval`` onto the channel outputs ``output``.

    alpha = span / (w_hi - w_lo) is the largest scale that does not clip, beta = alpha w_lo - y_lo
    (Isik et al. 2020, section 2; their [-0.65, 0.75] is ``output``).
    """
    low, high = interval
    if not high > low:
        return Range(threshold, 0.0, _f32(-output[0]), 0.0, low, cells, write)
    # Rounded towards zero: a larger scale would push the largest weight out of the range.
    scale = min((output[1] - output[0]) / (high - low), 1e38)
    alpha = _f32(scale)
    if alpha > scale:
        alpha = float(np.nextafter(np.float32(alpha), np.float32(0)))
    beta = _f32(alpha * low - output[0])
    return Range(threshold, alpha, beta, _f32(1 / alpha), _f32(beta / alpha), cells, write)


def _f32(value: float) -> float:
    return float(np.float32(value))
