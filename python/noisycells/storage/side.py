"""Sign and range bits in real cells: up to four levels a cell, read through the channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from .._types import F64
from ..channel import Channel

BITS = 2
"""Side bits a cell holds: sign and range number in one cell of four levels (Isik et al. 2020)."""

GRID = 257


@dataclass(frozen=True, eq=False)
class SideLevels:
    """The levels of a side cell.

    Attributes
    ----------
    inputs : ndarray of float64, shape (levels,)
        Cell input of each level, in the order of the outputs.
    thresholds : ndarray of float64, shape (levels - 1,)
        Outputs that separate neighboring levels, ascending.
    """

    inputs: F64
    thresholds: F64

    def write(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Cell inputs of Gray codes."""
        rank = np.argsort(_gray(len(self.inputs)))
        inputs: NDArray[np.float32] = self.inputs[rank[codes]].astype(np.float32)
        return inputs

    def decide(self, y: NDArray[Any]) -> NDArray[np.uint8]:
        """Gray codes of cell outputs."""
        return _gray(len(self.inputs))[np.searchsorted(self.thresholds, y)]

    def error_rates(self, channel: Channel) -> F64:
        """Probability that each level is read as another, for Gaussian noise; (levels,)."""
        mean, std = _moments(channel, self.inputs)
        edges = np.concatenate([[-np.inf], self.thresholds, [np.inf]])
        return _tail(mean - edges[:-1], std) + _tail(edges[1:] - mean, std)


def design_levels(channel: Channel, levels: int) -> SideLevels:
    """Levels of the least summed symbol error, a threshold where neighbors are equally likely.

    A level is misread only across the thresholds beside it, so the sum is one of terms of
    neighboring levels, and a dynamic program over a grid of the channel's monotone branch
    (the write converter's own levels, where it has few) finds the best positions. Where errors
    vanish, a term of 1e-9 spaces the levels evenly.

    Raises
    ------
    ValueError
        If the channel's write converter has fewer levels.
    """
    points = GRID
    if channel.write_bits is not None:
        points = min(GRID, 2**channel.write_bits)
    if points < levels:
        raise _arguments.wrong_value(
            "side_errors", f"a write converter of at least {levels} levels", points
        )
    x = np.linspace(*channel.branch, points)
    mean, std = _moments(channel, x)
    if mean[0] > mean[-1]:
        x, mean, std = x[::-1], mean[::-1], std[::-1]
    std = np.maximum(std, 1e-6 * (mean[-1] - mean[0]))  # room for rounding where there is no noise
    low, high = np.triu_indices(points, 1)
    pair = np.full((points, points), np.inf)
    pair[low, high] = _pair_error(mean[low], std[low], mean[high], std[high])[1]
    gap = np.maximum(mean[high] - mean[low], 1e-12 * (mean[-1] - mean[0]))
    pair[low, high] += 1e-9 * (mean[-1] - mean[0]) / gap

    best = np.zeros(points)  # least error of the levels so far, the last one at each point
    came_from = []
    for _ in range(levels - 1):
        through = best[:, None] + pair
        came_from.append(np.argmin(through, axis=0))
        best = through.min(axis=0)
    chosen = [int(np.argmin(best))]
    for step in reversed(came_from):
        chosen.append(int(step[chosen[-1]]))
    at = np.array(chosen[::-1])
    a, b = at[:-1], at[1:]
    return SideLevels(x[at], _pair_error(mean[a], std[a], mean[b], std[b])[0])


def _moments(channel: Channel, x: F64) -> tuple[F64, F64]:
    return channel.mean_at(x), np.hypot(channel.std_at(x), channel.d2d_std)


def _pair_error(m0: F64, s0: F64, m1: F64, s1: F64) -> tuple[F64, F64]:
    """Threshold between N(m0, s0^2) and N(m1, s1^2), m0 <= m1, and the sum of both errors.

    The densities cross where (t - m0)^2 / 2 s0^2 + log s0 = (t - m1)^2 / 2 s1^2 + log s1. With
    no crossing between the means the point of equal errors is taken.
    """
    gap, log_ratio = m1 - m0, np.log(s1 / s0)
    root = s0 * s1 * np.sqrt(np.maximum(gap**2 + 2 * (s1**2 - s0**2) * log_ratio, 0))
    crossing = (gap**2 + 2 * s1**2 * log_ratio) * s0**2 / (gap * s0**2 + root)
    between = (crossing >= 0) & (crossing <= gap)
    t = m0 + np.where(between, crossing, gap * s0 / (s0 + s1))
    return t, _tail(t - m0, s0) + _tail(m1 - t, s1)


def _tail(distance: F64, std: F64) -> F64:
    """Probability that a centered normal exceeds ``distance``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(distance == 0, 0.0, distance / std)
    return 0.5 * np.array([math.erfc(v) for v in np.ravel(z / math.sqrt(2))]).reshape(z.shape)


def _gray(levels: int) -> NDArray[np.uint8]:
    rank = np.arange(levels)
    return (rank ^ (rank >> 1)).astype(np.uint8)
