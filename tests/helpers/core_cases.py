"""Channels, codecs and weights for the tests of the core, and its calls in reference's terms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core, reference

RNG = np.random.default_rng
THREADS = (1, 2, 7)

# Random indices run to 2**46; the counter's high word changes at 2**34 and its upper bits are
# in use from there on.
OFFSETS = (0, 1, 2, 3, 5, 130, 2**34 - 7, 2**34 + 2, 2**45 - 514, 2**45 + 1)

KEYS = reference.Keys(11, 2**64 - 22, 33 << 40)

F32 = NDArray[np.float32]


def same_bits(got: NDArray[Any], expected: NDArray[Any]) -> None:
    """Fails unless the arrays agree in dtype, shape and every bit."""
    assert got.dtype == expected.dtype and got.shape == expected.shape
    if got.tobytes() != expected.tobytes():
        wrong = np.flatnonzero(got.view(f"u{got.itemsize}") != expected.view(f"u{got.itemsize}"))
        at = int(wrong[0])
        raise AssertionError(
            f"{len(wrong)} of {got.size} elements differ, the first at {at}: "
            f"{got.flat[at]!r}, expected {expected.flat[at]!r}"
        )


def needs_memory(gigabytes: int) -> None:
    """Skips the test where the machine has not that much to give."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    if found is None or int(found[1]) < gigabytes * 10**6:
        pytest.skip(f"needs {gigabytes} GB of free memory")


class Guarded:
    """An array inside a larger one whose other bytes must stay as they are."""

    def __init__(self, count: int, dtype: type, misaligned: int = 0) -> None:
        self._size = count * np.dtype(dtype).itemsize
        self._start = 128 + misaligned
        self._memory = np.full(self._size + 256 + misaligned, 0xA5, np.uint8)
        self.array = self._memory[self._start : self._start + self._size].view(dtype)

    def check(self) -> None:
        around = np.delete(self._memory, np.s_[self._start : self._start + self._size])
        assert (around == 0xA5).all(), "written outside the output"


def guarded(shape: tuple[int, ...], dtype: type) -> tuple[Guarded, NDArray[Any]]:
    memory = Guarded(int(np.prod(shape)), dtype)
    return memory, memory.array.reshape(shape)


def F(shape: Any) -> F32:
    return np.zeros(shape, np.float32)


def frozen(*shape: int, dtype: type = np.float32) -> NDArray[Any]:
    array = np.zeros(shape, dtype)
    array.flags.writeable = False
    return array


@contextmanager
def at_level(level: str) -> Iterator[None]:
    before = nc.simd_level()
    nc.set_simd_level(level)
    try:
        yield
    finally:
        nc.set_simd_level(before)


# --------------------------------------------------------------------------- channels

ADC = reference.Converter(-0.9, 1.8 / 31, 31 / 1.8, 32)
STUCK = (2**29, 2**30)


def steps(values: NDArray[np.float64]) -> F32:
    """Rows (value, next value - value); the last difference is 0."""
    value = values.astype(np.float32)
    return np.stack([value, np.append(np.diff(value), np.float32(0))], axis=1)


def channel(
    rows: int = 17, *, read: bool = False, adc: reference.Converter | None = None,
    d2d: float = 0.0, stuck: tuple[int, int] = (0, 0),
) -> reference.ChannelTables:  # fmt: skip
    """Inputs -1 to 1; a tanh mean, noisiest in the middle, ends that differ."""
    x = np.linspace(-1, 1, rows)
    std = 0.05 + 0.1 * (1 - x * x) + 0.01 * x
    read_std = 0.03 + 0.01 * x
    mean = np.tanh(1.3 * x) * 0.7
    table = np.hstack([steps(mean), steps(np.sqrt(std**2 - read_std**2) if read else std)])
    inv_dx = float(np.float32((rows - 1) / 2))
    return reference.ChannelTables(
        table, -1.0, inv_dx, steps(read_std) if read else None, adc, d2d, stuck
    )


def bound_channel(c: reference.ChannelTables) -> _core.ChannelTables:
    return _core.ChannelTables(
        c.table, c.x0, c.inv_dx, c.read, None if c.adc is None else tuple(c.adc), c.d2d, c.stuck
    )


CHANNELS = {
    "plain": channel(),
    "read": channel(read=True),
    "d2d": channel(d2d=0.05),
    "read, d2d": channel(read=True, d2d=0.05),
    "2 rows": channel(2),
    "64 rows": channel(64, read=True),
    "65 rows": channel(65, read=True),
    "4097 rows": channel(4097),
    "adc": channel(adc=ADC),
    "stuck": channel(stuck=STUCK),
    "stuck low": channel(read=True, stuck=(2**31, 0)),
    "all stuck": channel(stuck=(2**31, 2**33)),
    "everything": channel(read=True, adc=ADC, d2d=0.05, stuck=STUCK),
}
COLLAPSES = [name for name, c in CHANNELS.items() if c.adc is None and not any(c.stuck)]


def inputs(count: int) -> F32:
    """Cell inputs, some of them off the table."""
    return RNG(count).uniform(-1.1, 1.1, count).astype(np.float32)


def cell_counts(count: int) -> NDArray[np.int32]:
    """Mostly 1 to 3 cells, some with up to 70, as in adaptive redundancy."""
    g = RNG(count + 1)
    few, many = g.integers(1, 4, count), g.integers(1, 71, count)
    return np.where(g.random(count) < 0.05, many, few).astype(np.int32)


# --------------------------------------------------------------------------- codecs

THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
WRITE_BITS = (3, 11, 5, 8, 1, 16, 2, 4)
CELLS = (1, 30, 2, 5, 1, 3, 1, 17)


def codec(ranges: int, sign: bool, write: bool) -> reference.CodecTables:
    """A different scale, cell number and converter in each range."""
    inverse = steps(np.arctanh(np.linspace(-0.6, 0.6, 257) / 0.7) / 1.3)
    made = []
    for k in range(ranges):
        last = k == ranges - 1
        low = THRESHOLDS[k - 1] if k else 0.0
        high = 3.0 if last else THRESHOLDS[k]
        if not sign:
            low = -high
        alpha = 1.2 / (high - low)
        beta = alpha * low + 0.6
        levels = 2 ** WRITE_BITS[k] - (WRITE_BITS[k] == 5)  # one that is no power of two
        converter = reference.Converter(-0.8, 1.6 / (levels - 1), (levels - 1) / 1.6, levels)
        threshold, write_by = np.inf if last else THRESHOLDS[k], converter if write else None
        made.append(
            reference.Range(threshold, alpha, beta, 1 / alpha, beta / alpha, CELLS[k], write_by)
        )
    return reference.CodecTables(inverse, -0.6, 256 / 1.2, tuple(made), sign)


def bound_codec(c: reference.CodecTables) -> _core.CodecTables:
    ranges = [(*r[:-1], None if r.write is None else tuple(r.write)) for r in c.ranges]
    return _core.CodecTables(c.inverse, c.y0, c.inv_dy, ranges, c.sign)


def weights(count: int) -> F32:
    return (RNG(count + 2).standard_normal(count) * 0.25).astype(np.float32)


def mask(count: int, kept: float) -> NDArray[np.bool_]:
    return RNG(count + 3).random(count) < kept


def packed(mask: NDArray[np.bool_] | None) -> NDArray[np.uint8] | None:
    return None if mask is None else np.packbits(mask, bitorder="little")


def core_encode(
    w: NDArray[np.floating[Any]], mask: NDArray[np.bool_] | None, c: _core.CodecTables,
    packs: bool, threads: int = 0,
) -> tuple[NDArray[np.uint8] | F32, NDArray[np.uint8]]:  # fmt: skip
    stored = len(w) if mask is None else int(np.count_nonzero(mask))
    room = _core.levels_capacity(stored, c) if packs else stored
    levels = Guarded(room, np.uint8 if packs else np.float32)
    side = Guarded((stored * c.side_width + 7) // 8, np.uint8)
    used = _core.encode(w, packed(mask), c, levels.array, side.array, threads)
    levels.check()
    side.check()
    return levels.array[:used].copy(), side.array
