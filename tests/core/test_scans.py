"""Scans of weights before they are stored: extents, magnitudes and counts."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import (
    RNG,
    THREADS,
    mask,
    packed,
    same_bits,
    weights,
)
from numpy.typing import NDArray

from noisycells import _core

F32 = NDArray[np.float32]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kept", [None, 0.02, 0.6])
def test_scan(simd_level: str, dtype: type, kept: float | None) -> None:
    for count in (1, 17, 1025, 200_001):
        w = (RNG(count).standard_normal(count)).astype(dtype)
        m = np.ones(count, bool) if kept is None else mask(count, kept)
        m[count // 2] = True
        low, high = w[m].min(), w[m].max()
        for threads in THREADS:
            got = _core.scan(w, None if kept is None else packed(m), threads)
            assert got == (m.sum(), np.float32(low), np.float32(high), True)


@pytest.mark.parametrize("masked", [False, True])
def test_scan_sees_every_share(simd_level: str, masked: bool) -> None:
    """The one extreme weight, wherever it stands: threads share out 64 blocks at a time."""
    count = 200_001
    bits = mask(count, 0.7)
    stored = np.flatnonzero(bits) if masked else np.arange(count)
    for place in (0, 1, 1023, 1024, 65_535, 65_536, 131_071, 131_072, len(stored) - 1):
        w = np.zeros(count, np.float32)
        w[stored[place]] = 2.0
        for threads in THREADS:
            got = _core.scan(w, packed(bits) if masked else None, threads)
            assert got == (len(stored), 0.0, 2.0, True), place


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scan_finds_what_is_not_finite(simd_level: str, dtype: type, value: float) -> None:
    for at in (0, 1, 1023, 1024, 69_999):
        w = np.ones(70_000, dtype)
        w[at] = value
        assert _core.scan(w, None)[3] is False
        others = np.ones(70_000, bool)
        others[at] = False
        assert _core.scan(w, packed(others)) == (69_999, 1.0, 1.0, True)


def test_scan_of_nothing() -> None:
    assert _core.scan(np.empty(0, np.float32), None) == (0, 0.0, 0.0, True)
    assert _core.scan(weights(9), packed(np.zeros(9, bool))) == (0, 0.0, 0.0, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kept", [None, 0.4])
def test_magnitude_histogram(simd_level: str, dtype: type, kept: float | None) -> None:
    count, bins, top = 200_001, 100, np.float32(0.75)
    w = weights(count)
    m = None if kept is None else mask(count, kept)
    # In float32, as the core: dividing first would move what lies on an edge.
    place = np.abs(w if m is None else w[m]) * (np.float32(bins) / top)
    expected = np.bincount(np.minimum(place.astype(np.int64), bins - 1), minlength=bins)
    for threads in THREADS:
        got = _core.magnitude_histogram(w.astype(dtype), packed(m), float(top), bins, threads)
        same_bits(got, expected.astype(np.int64))
    assert expected[-1] > expected[-2]  # what lies above counts in the last bin


def test_magnitude_histogram_of_zeros() -> None:
    zeros = np.zeros(5, np.float32)
    assert _core.magnitude_histogram(zeros, None, 0.0, 4).tolist() == [5, 0, 0, 0]
    assert _core.magnitude_histogram(zeros[:0], None, 1.0, 4).tolist() == [0, 0, 0, 0]


def test_count_stored(simd_level: str) -> None:
    for count in (0, 1, 7, 8, 9, 1000, 70_001):
        m = mask(count, 0.3)
        assert _core.count_stored(packed(m), count) == m.sum()
