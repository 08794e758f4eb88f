"""The noise a weight is expected to read back with, and the rounding of its write converter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..channel import Channel
from .histogram import Extent, Histogram
from .ranges import bounds

POINTS = 1024


@dataclass(frozen=True, eq=False)
class NoiseCurve:
    """Noise of a channel's read-back as a function of the output aimed at.

    Attributes
    ----------
    low, high : float
        The channel's range of outputs y.
    variance : ndarray of float64, shape (POINTS,)
        sigma(f(y))^2 of one cell, y uniform over the range: what averaging r cells divides by r.
    shared : float
        Variance of the device-to-device offset the cells of one weight have in common.
    slope2 : ndarray of float64, shape (POINTS,)
        Squared slope of the mean: an input error d becomes an output error of slope times d.
    """

    low: float
    high: float
    variance: NDArray[np.float64]
    shared: float
    slope2: NDArray[np.float64]

    @classmethod
    def of(cls, channel: Channel) -> NoiseCurve:
        low, high = channel.range
        y = np.linspace(low, high, POINTS)
        x = channel.inverse(y, clip=True)
        with np.errstate(divide="ignore"):
            slope2 = np.gradient(x, y) ** -2.0
        return cls(low, high, channel.std_at(x) ** 2, channel.d2d_std**2, slope2)

    def at(self, curve: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
        """`curve` at the relative outputs u in [0, 1]."""
        return curve[np.clip(u * (POINTS - 1) + 0.5, 0, POINTS - 1).astype(np.intp)]


@dataclass(frozen=True, eq=False)
class RangeNoise:
    """Expected noise of each range, summed over its weights; arrays of float64, shape (ranges,).

    With r cells a weight, the sensitivity-weighted squared error of range k is
    ``single[k] / r + shared[k]``.
    """

    single: NDArray[np.float64]
    shared: NDArray[np.float64]


def range_noise(
    curve: NoiseCurve, histogram: Histogram, extent: Extent, thresholds: tuple[float, ...]
) -> RangeNoise:
    """Noise of the ranges that `thresholds` cut, in squared weight units."""
    sign = len(histogram.mass) == 1
    edges = (0.0, *thresholds, extent.top)
    single, shared = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for k, (lower, upper) in enumerate(zip(edges, edges[1:], strict=False)):
        low, high = bounds(lower, upper, extent, sign)
        if not high > low:
            continue
        members = (histogram.values[0] > lower) & (histogram.values[0] <= upper)
        mass, values = histogram.mass[:, members], histogram.values[:, members]
        scale2 = ((high - low) / (curve.high - curve.low)) ** 2
        variance = curve.at(curve.variance, (values - low) / (high - low))
        single[k] = scale2 * float((mass * variance).sum())
        shared[k] = scale2 * curve.shared * float(mass.sum())
    return RangeNoise(single, shared)


def rounding_bits(
    curve: NoiseCurve,
    histogram: Histogram,
    extent: Extent,
    edges: tuple[float, float],
    cells: int,
    branch: tuple[float, float],
) -> int:
    """Smallest converter width that adds less than a tenth to a range's noise variance.

    A converter of b bits rounds cell inputs to steps of (x_hi - x_lo) / (2^b - 1), an error of
    variance step^2 / 12 at the input and slope^2 step^2 / 12 at the output. It is averaged over
    the weights of the range, magnitudes in (edges[0], edges[1]], like the noise beside it.
    """
    low, high = bounds(*edges, extent, len(histogram.mass) == 1)
    members = (histogram.values[0] > edges[0]) & (histogram.values[0] <= edges[1])
    mass = histogram.mass[:, members]
    if not high > low or not mass.any():
        return 1
    u = (histogram.values[:, members] - low) / (high - low)
    noise = np.average(curve.at(curve.variance, u), weights=mass) / cells + curve.shared
    slope2 = np.average(curve.at(curve.slope2, u), weights=mass)
    for bits in range(1, 16):
        step = (branch[1] - branch[0]) / (2**bits - 1)
        if slope2 * step**2 / 12 < noise / 10:
            return bits
    return 16
