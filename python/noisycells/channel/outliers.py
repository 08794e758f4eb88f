"""Outliers among measurements: those far from the median of their neighbors.

The Hampel identifier: distances from the median in units of the median absolute deviation (MAD),
times 1.4826 to agree with the standard deviation of a Gaussian (Hampel, "The influence curve and
its role in robust estimation", J. American Statistical Association 69, 1974; Rousseeuw and Croux,
"Alternatives to the median absolute deviation", ibid. 88, 1993). Up to half the measurements
around an input may be bad before it fails.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._types import F64

__all__ = ["FAR", "outliers"]

CONSISTENCY = 1.4826  # 1 / (75 % quantile of the standard normal)
FAR = 7.0  # robust standard deviations from the median; of Gaussian measurements 3e-12 are
MOST_KNOTS = 1024
CURVE, SCALE = 31, 201  # measurements around a knot that give the median and the spread, at least
FINEST = 1e-3  # of the span of the medians: a smaller spread is not told from none


def outliers(x: F64, y: F64) -> npt.NDArray[np.bool_]:
    """Which measurements are more than 7 robust standard deviations from the median at their x.

    Medians are of all measurements of an input where it repeats 31 times or more, of the 31 around
    it otherwise, joined by lines. The robust standard deviation is that of these or of the 201
    around, whichever is larger, and no less than the resolution of ``y`` and 1/1000 of the span
    of the medians, so that readings that fall on a few codes are no outliers of each other.

    Parameters
    ----------
    x, y : float64, shape (n,)
        ``x`` in ascending order.
    """
    if len(x) < CURVE:  # too few to tell
        return np.zeros(len(x), np.bool_)
    levels = np.unique(x)
    repeated = 2 * len(levels) <= len(x) and len(levels) <= MOST_KNOTS
    knots = levels if repeated else np.quantile(x, np.linspace(0, 1, MOST_KNOTS // 4 + 1))
    knots = np.unique(knots)
    own = _windows(x, knots, CURVE, centered=True)
    middle = np.interp(x, knots, [np.median(y[around]) for around in own])
    distance = np.abs(y - middle)
    mad = np.maximum(
        [np.median(distance[around]) for around in own],
        [np.median(distance[around]) for around in _windows(x, knots, SCALE)],
    )
    mad = np.maximum(mad, np.median(mad))  # a level half of which is at zero has none of its own
    values = np.unique(y)
    resolution = np.diff(values).min() if len(values) > 1 else 0.0
    least = max(float(resolution), FINEST * float(np.ptp(middle)))
    scale = np.maximum(CONSISTENCY * np.interp(x, knots, mad), least)
    far: npt.NDArray[np.bool_] = distance > FAR * scale
    return far


def _windows(x: F64, knots: F64, count: int, centered: bool = False) -> list[slice]:
    """At each knot its measurements, and as many around it as make ``count``, all ties included.

    ``centered``: as many on either side, and fewer at the ends, lest a slope shift the median.
    """
    first, last = np.searchsorted(x, knots, "left"), np.searchsorted(x, knots, "right")
    more = np.maximum(count - (last - first), 0) // 2
    if centered:
        more = np.minimum(more, np.minimum(first, len(x) - last))
    lo = np.clip(first - more, 0, max(len(x) - count, 0) if not centered else len(x))
    hi = np.clip(last + more, 0 if centered else min(count, len(x)), len(x))
    lo = np.searchsorted(x, x[np.minimum(lo, len(x) - 1)], "left")
    hi = np.searchsorted(x, x[hi - 1], "right")
    return [slice(a, b) for a, b in zip(lo, np.maximum(hi, lo + 1), strict=True)]
