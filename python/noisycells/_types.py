"""Plain types and limits that the whole package and the compiled core agree on.

Nothing here computes more than a line; what the numbers mean is written in
:mod:`noisycells.reference`, which uses the same types.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._float32 import fma32

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]

STREAM_VERSION = 2
"""Changes whenever any random draw changes; files record it."""

MAX_SEED = (1 << 64) - 1
MAX_INDEX = 1 << 46
"""Indices of a stream end here; see the counter layout in :mod:`noisycells.reference`."""
MAX_CELLS = 65_535
"""Most cells of a weight, and the largest number of a device among those of an element."""

MAX_COUNT = (1 << 31) - 1
"""Of repeats, epochs, batches and what else is counted; more would never end."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Limits of what sets a scale: the largest weight, full scales, spans and noise of channels. Within
them no scale, table or inverse leaves the normal numbers of float32."""
RESOLVED = 1e-5
"""Least width of an interval relative to its ends; float32 tells 160 values apart there."""

BLOCK = 1024
"""Stored weights per block of packed levels (see :func:`noisycells.reference.encode`)."""

WEIGHT_LEVELS = 32767
"""Largest code of a weight in the integer kernel; each output of each tile has its own scale."""
VARIANCE_LEVELS = 255
"""Largest code of a weight's read variance."""
INTEGER_ROWS = 512
"""Most rows of a tile whose sums of codes, up to 127 x 32767 each, fit in 32 bits."""
INTEGER_DAC_LEVELS = 127
"""Largest code of an input in the integer kernel."""


# --------------------------------------------------------------------------- storage


class Converter(NamedTuple):
    """A uniform quantizer with ``levels`` levels, ``lo + code * step``; float32 fields."""

    lo: float
    step: float
    inv_step: float
    levels: int

    @classmethod
    def over(cls, lo: float, hi: float, bits: int) -> Converter:
        """The converter of ``bits`` bits whose first and last levels are ``lo`` and ``hi``."""
        step = (hi - lo) / ((1 << bits) - 1)
        return cls(lo, step, 1 / step, 1 << bits)

    def quantize(self, v: F32) -> I32:
        """The nearest code of each value, ties to even, clipped to the converter's range."""
        t = (v - np.float32(self.lo)) * np.float32(self.inv_step)
        top = np.float32(self.levels - 1)
        result: I32 = np.rint(np.minimum(np.maximum(t, np.float32(0)), top)).astype(np.int32)
        return result

    def dequantize(self, code: I32) -> F32:
        """The value of each code, rounded once."""
        return fma32(code.astype(np.float32), self.step, self.lo)


class Range(NamedTuple):
    """The mapping of the weights with previous threshold < \\|w\\| <= ``threshold``.

    Encoding writes u = alpha w - beta and decoding returns w = (y + beta) / alpha, computed as
    ``fma(y, inv_alpha, shift)`` (Isik et al. 2020, section 2). Numbers are float32 values.

    A range whose bounds coincide (all weights equal, no weights) holds nothing: alpha = 0, and
    the constant is in ``shift``, so it reads back without error.

    Attributes
    ----------
    threshold : float
        Largest magnitude of the range.
    alpha, beta, inv_alpha, shift : float
        Scale and shift; shift = beta / alpha.
    cells : int
        Cells that hold each weight of the range.
    write : Converter or None
        Write converter over the channel's branch; None where cells are written with float
        precision.
    """

    threshold: float
    alpha: float
    beta: float
    inv_alpha: float
    shift: float
    cells: int
    write: Converter | None = None

    @property
    def write_bits(self) -> int | None:
        """Width of the write converter's codes."""
        return None if self.write is None else (self.write.levels - 1).bit_length()


# --------------------------------------------------------------------------- devices


class Stuck(NamedTuple):
    """Probabilities times 2**32 of devices stuck off and on, and the conductances they have."""

    off: int = 0
    on: int = 0
    off_conductance: float = 0.0
    on_conductance: float = 0.0


class Programming(NamedTuple):
    """How a device answers to a target conductance.

    ``table`` float32 (n, 4): rows (mean, next - mean, std, next - std) at the targets
    ``x0 + i / inv_dx``, last differences 0. Results are clipped to [low, high].
    """

    table: F32
    x0: float
    inv_dx: float
    low: float
    high: float
    stuck: Stuck = Stuck()


class Aging(NamedTuple):
    """What has become of programmed devices at one moment; tables over the same grid.

    ``relaxation`` float32 (n, 4) over the target: (shift, difference, std, difference), additive.
    ``drift`` float32 (n, 4) over the target: mean and std of nu ln((t + t0) / t0), and
    differences. ``flicker`` float32 (n, 2) over the programmed conductance: std of the 1/f noise
    as a fraction of the conductance. None: does not happen.
    """

    relaxation: F32 | None
    drift: F32 | None
    flicker: F32 | None
    x0: float
    inv_dx: float
    low: float
    high: float
    stuck: Stuck = Stuck()


def tiles(k: int, rows: int) -> list[slice]:
    """Input rows of each tile of ``rows`` of ``k`` inputs; the last may be smaller."""
    return [slice(start, min(start + rows, k)) for start in range(0, k, rows)]
