"""Drift compensation: outputs rescaled by what read-outs of the array itself measure.

The array is read with the same inputs right after programming, twice, and again when it has aged,
each time through its own noise and converters. The share of the programmed outputs that is left
is the least-squares projection of the aged read-outs on the fresh ones; outputs are divided by it,
for all outputs of the layer or each.

Joshi et al. (Nat. Commun. 11:2473, 2020, global drift compensation) take the ratio of the summed
magnitudes instead. Noise and the spread of devices add to magnitudes, so where devices spread
rather than drift the factor is too small; a projection averages them out. The two fresh read-outs
have noise of their own, as one times itself would count its noise as signal.

A sum that an ADC cuts off says nothing about drift. Ranges fit the sums that data make, which
inputs all at full scale exceed, so a read-out drives only every so many rows (:func:`spacing`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .. import random
from .._types import F32, F64
from .mapping import reciprocal
from .spec import CrossbarSpec

if TYPE_CHECKING:
    from .packed import Packed


__all__ = ["READOUTS", "gain", "measure", "spacing"]

READOUTS = 128
"""Read-outs of one measurement: inputs at full scale with random signs, always the same ones."""


def spacing(packed: Packed) -> int:
    """Rows from one that a read-out drives to the next, so that 4 sigma of all sums fit the ADCs.

    1 without ADCs. It has to be the same for all read-outs that are compared: that of the fresh
    array, whose sums are the largest.
    """
    adc = packed.ranges.adc
    if packed.spec.adc_bits is None or adc is None:
        return 1
    # Expected sums are those of uniform inputs, whose variance is a third of that of signs.
    excess = np.tile(packed.expected_sums, packed.spec.input_slices) / adc
    return min(math.ceil(3 * float(excess.max()) ** 2), packed.k, READOUTS) or 1


def measure(packed: Packed, seed: int, every: int = 1, *, num_threads: int | None = None) -> F64:
    """Read-outs: the outputs for fixed inputs; float64 (READOUTS, out).

    ``packed.gain`` does not enter. ``seed`` is that of the read noise; ``every``: of
    :func:`spacing`. Each read-out starts at another row, so that all rows have their turns.
    """
    signs = np.sign(random.standard_normal((READOUTS, packed.k), 0, random.stream("read-out")))
    signs[np.add.outer(np.arange(READOUTS), np.arange(packed.k)) % every != 0] = 0
    x = signs * np.float32(packed.ranges.dac or 1)
    if packed.scales.row is not None:
        x *= reciprocal(packed.scales.row)
    y = np.empty((READOUTS, packed.n), np.float32)
    before, packed.gain = packed.gain, None
    try:
        packed.product(x, y, seed, num_threads=num_threads)
    finally:
        packed.gain = before
    return y.astype(np.float64)


def gain(fresh: tuple[F64, F64], now: F64, spec: CrossbarSpec) -> F32 | None:
    """Digital factors (out,) that bring ``now`` back to ``fresh``, as the spec says.

    With r, r' of ``fresh`` and s of ``now``, the share that is left is a = sum r' s / sum r' r,
    and the factor 1/a. For single outputs, sums over their 128 read-outs may hold more noise than
    signal, so the share of the layer joins in with the weight of the noise, which the differences
    r - r' and s - a r show: (sum r' s + a v) / (sum r' r + v), v = (|r - r'|^2 + |s - a r|^2) / 2.

    1 where no signal is left. None: no compensation.

    Parameters
    ----------
    fresh : two of float64 (READOUTS, out)
        Read-outs of the programmed array, each with its own noise.
    now : float64 (READOUTS, out)
    spec : CrossbarSpec
    """
    if spec.drift_compensation == "none":
        return None
    first, second = fresh
    signal, left = (second * first).sum(axis=0), (second * now).sum(axis=0)
    share = left.sum() / signal.sum() if signal.sum() > 0 else 0.0
    shares = np.full(now.shape[1], share if share > 0 else 1.0)
    if spec.drift_compensation == "column" and share > 0:
        noise = (np.square(first - second) + np.square(now - share * first)).sum(axis=0) / 2
        weighted, total = left + share * noise, signal + noise
        np.divide(weighted, total, out=shares, where=(weighted > 0) & (total > 0))
    return (1 / shares).astype(np.float32)
