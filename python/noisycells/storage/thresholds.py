"""Where small weights end and large ones begin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .histogram import BINS, Extent, Histogram
from .noise import NoiseCurve
from .ranges import bounds
from .redundancy import allocate

PER_OCTAVE = 8


@dataclass(frozen=True, eq=False)
class _Intervals:
    """Noise and number of the weights between any two of the candidate edges, a row, b column."""

    single: NDArray[np.float64]
    shared: NDArray[np.float64]
    counts: NDArray[np.int64]


def choose_thresholds(
    curve: NoiseCurve,
    histogram: Histogram,
    extent: Extent,
    ranges: int,
    cells: tuple[int, ...],
    mean_cells: float | None,
) -> tuple[float, ...]:
    """Thresholds that minimize the expected squared error of the read-back.

    The error is ``sum_k single_k / cells_k + shared_k`` (:func:`noise.range_noise`). With
    ``mean_cells`` it is minimized alone, the cells being allocated anew for every trial. With
    given ``cells`` the objective is the error times the cells spent: more cells everywhere divide
    the one by what they multiply the other, and the error alone would put nearly all weights
    into the range with the most cells.

    Candidates lie 8 to an octave below the largest weight, each drawn down to the largest weight
    below it; a range may stay empty. Coordinate descent over them is exhaustive for two ranges;
    more ranges are started by inserting one threshold after the other.

    Returns
    -------
    tuple of float
        ``ranges - 1`` float32 values in ascending order.
    """
    edges = _candidates(histogram)
    table = _intervals(curve, histogram, extent, edges, only_ends=ranges == 2)
    last = len(edges) - 1

    def objective(cuts: tuple[int, ...]) -> float:
        a, b = np.array([0, *cuts]), np.array([*cuts, last])
        single = table.single[a, b]
        counts = table.counts[a, b]
        if mean_cells is None:
            r = np.array(cells[: len(a)])
            spent = float((r * counts).sum())
        else:
            r = np.array(allocate(single, counts, mean_cells))
            spent = 1.0
        return float((single / r + table.shared[a, b]).sum()) * spent

    cuts: tuple[int, ...] = ()
    while len(cuts) < ranges - 1:
        trials = [tuple(sorted((*cuts, c))) for c in range(1, last + 1)]
        cuts = min(trials, key=objective)
        while len(cuts) > 1:
            before = cuts
            for k in range(len(cuts)):
                rest = cuts[:k] + cuts[k + 1 :]
                trials = [tuple(sorted((*rest, c))) for c in range(1, last + 1)]
                cuts = min([cuts, *trials], key=objective)
            if cuts == before:
                break
    return tuple(float(edges[c]) for c in cuts)


def _candidates(histogram: Histogram) -> NDArray[np.float64]:
    """Candidate edges, from 0 to the largest magnitude, as float32 values."""
    octaves = BINS.bit_length() - 1
    wanted = np.rint(BINS * 2.0 ** (-np.arange(octaves * PER_OCTAVE + 1) / PER_OCTAVE))
    filled = np.flatnonzero(histogram.counts)
    # The upper end of the last bin with weights in it below each wanted edge.
    below = np.searchsorted(filled, wanted.astype(np.int64)) - 1
    bins = np.unique(filled[below[below >= 0]] + 1)
    edges = np.float32(bins * (histogram.top / BINS))
    # A weight on the edge of two bins is counted in the upper one.
    edges[:-1] = np.nextafter(edges[:-1], np.float32(0))
    edges[-1:] = np.float32(histogram.top)
    return np.unique(np.concatenate([[0.0], edges.astype(np.float64)]))


def _intervals(
    curve: NoiseCurve,
    histogram: Histogram,
    extent: Extent,
    edges: NDArray[np.float64],
    only_ends: bool,
) -> _Intervals:
    """``only_ends``: without intervals that begin after the first edge and end before the last."""
    sign = len(histogram.mass) == 1
    n = len(edges)
    # Lump the fine bins between neighboring edges, at their center of mass.
    starts = np.searchsorted(histogram.values[0], edges[:-1])
    mass = np.add.reduceat(histogram.mass, starts, axis=1)
    moment = np.add.reduceat(histogram.mass * histogram.values, starts, axis=1)
    middle = np.copysign((edges[:-1] + edges[1:]) / 2, histogram.values[:, :1])
    values = np.where(mass > 0, moment / np.where(mass > 0, mass, 1), middle)
    cumulative = np.concatenate([[0], np.cumsum(np.add.reduceat(histogram.counts, starts))])
    total = np.concatenate([[0], np.cumsum(mass.sum(axis=0))])

    single, shared = np.zeros((n, n)), np.zeros((n, n))
    for a in range(n - 1):
        first = n - 1 if only_ends and a > 0 else a + 1
        upper = edges[first:]
        low, high = np.broadcast_arrays(*bounds(edges[a], upper, extent, sign))
        width = np.maximum(high - low, 0)
        scale2 = (width / (curve.high - curve.low)) ** 2
        member = np.arange(a, n - 1) < np.arange(first, n)[:, None]
        for s in range(len(mass)):
            u = (values[s, a:] - low[:, None]) / np.where(width > 0, width, 1)[:, None]
            variance = curve.at(curve.variance, u)
            single[a, first:] += scale2 * np.where(member, variance * mass[s, a:], 0).sum(axis=1)
        shared[a, first:] = scale2 * curve.shared * (total[first:] - total[a])
    return _Intervals(single, shared, cumulative[None, :] - cumulative[:, None])
