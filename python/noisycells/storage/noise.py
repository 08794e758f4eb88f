"""The noise a weight is expected to read back with, and the rounding of its write converter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

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
        """``curve`` at the relative outputs u in [0, 1]."""
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
    """Noise of the ranges that ``thresholds`` cut, in squared weight units."""
    single, shared = [], []
    for members in _members(histogram, extent, thresholds):
        scale2 = (members.width / (curve.high - curve.low)) ** 2
        variance = curve.at(curve.variance, members.u)
        single.append(scale2 * float((members.mass * variance).sum()))
        shared.append(scale2 * curve.shared * float(members.mass.sum()))
    return RangeNoise(np.array(single), np.array(shared))


def rounding_bits(
    curve: NoiseCurve,
    histogram: Histogram,
    extent: Extent,
    thresholds: tuple[float, ...],
    cells: tuple[int, ...],
    branch: tuple[float, float],
) -> tuple[int, ...]:
    """Smallest converter widths, 1 to 16, that add less than a tenth to each range's noise.

    A converter of b bits rounds cell inputs to steps of (x_hi - x_lo) / (2^b - 1), an error of
    variance step^2 / 12 at the input and slope^2 step^2 / 12 at the output. It is averaged over
    the weights of the range, like the noise of its cells beside it.
    """
    bits = []
    for members, r in zip(_members(histogram, extent, thresholds), cells, strict=True):
        mass = members.mass.sum()
        if not members.width * mass > 0:
            bits.append(1)
            continue
        noise = (members.mass * curve.at(curve.variance, members.u)).sum() / r
        noise += mass * curve.shared
        slope2 = (members.mass * curve.at(curve.slope2, members.u)).sum()
        step = (branch[1] - branch[0]) / (2.0 ** np.arange(1, 17) - 1)
        enough = slope2 * step**2 / 12 < noise / 10
        bits.append(1 + int(np.argmax(enough)) if enough.any() else 16)
    return tuple(bits)


class _Members(NamedTuple):
    """Weights of a range: their mass, and where they fall in the range's interval, 0 to 1."""

    width: float
    mass: NDArray[np.float64]
    u: NDArray[np.float64]


def _members(
    histogram: Histogram, extent: Extent, thresholds: tuple[float, ...]
) -> Iterator[_Members]:
    for lower, upper in pairwise((0.0, *thresholds, extent.top)):
        low, high = bounds(lower, upper, extent, len(histogram.mass) == 1)
        width = max(float(high - low), 0.0)
        inside = (histogram.values[0] > lower) & (histogram.values[0] <= upper)
        u = (histogram.values[:, inside] - low) / (width or 1.0)
        yield _Members(width, histogram.mass[:, inside], u)
