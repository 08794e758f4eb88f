"""Drift compensation: outputs rescaled by what read-outs of the array itself measure.

The array is read with the same inputs right after programming and again when it has aged, each
time through its own noise and converters. The ratio of the mean magnitudes is a digital factor
of the outputs (Joshi et al., Nat. Commun. 11:2473, 2020, global drift compensation), one for the
layer or one for each output. It restores the magnitude of the outputs; the part of them that is
read noise or the spread of drift counts in it, so the signal itself comes back a little short.

A sum that an ADC cuts off says nothing about drift. Ranges fit the sums that data make, which
inputs all at full scale exceed, so a read-out drives only every so many rows (:func:`spacing`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import random
from ..reference import F32
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


def measure(
    packed: Packed, seed: int, every: int = 1, num_threads: int | None = None
) -> NDArray[np.float64]:
    """Mean magnitude of each output over the read-outs; float64 (out,).

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
    return np.abs(y).mean(axis=0, dtype=np.float64)


def gain(
    reference: NDArray[np.float64], now: NDArray[np.float64], spec: CrossbarSpec
) -> F32 | None:
    """Digital factors (out,) that bring ``now`` back to ``reference``, as the spec says.

    1 where nothing was measured. None: no compensation.
    """
    if spec.drift_compensation == "none":
        return None
    if spec.drift_compensation == "global":
        reference, now = (np.full_like(v, v.sum()) for v in (reference, now))
    usable = (reference > 0) & (now > 0)
    return np.where(usable, reference / np.where(usable, now, 1), 1).astype(np.float32)
