"""Sampling and the codec: the compiled core equals reference.py bit for bit.

Every comparison runs at every SIMD level; the reference's answer is computed once a case. What
is beyond reference.py's reach in time (threads on longer arrays) is compared with it once, at a
length that gives each of 7 threads its share.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from core_cases import (
    CHANNELS,
    COLLAPSES,
    OFFSETS,
    RNG,
    THREADS,
    Guarded,
    bound_channel,
    bound_codec,
    cell_counts,
    channel,
    codec,
    core_encode,
    inputs,
    mask,
    needs_memory,
    packed,
    same_bits,
    weights,
)
from numpy.typing import NDArray

from noisycells import _core, reference

F32 = NDArray[np.float32]
KEYS = reference.Keys(11, 2**64 - 22, 33 << 40)

# --------------------------------------------------------------------------- arithmetic

# a, b, m, d with a b = 2**m + d: multiplied out and scaled to just beside the middle of two
# float32, so close that float64 would round onto it.
NEAR_MIDDLES = [
    (683, 12576771, 33, 1),
    (43691, 393213, 34, -1),
    (6019, 2854273, 34, 3),
    (5113, 3360037, 34, -3),
    (4097, 16773121, 36, 1),
    (121369, 4529623, 39, -1),
    (538733, 8163685, 42, 1),
    (2953711, 11911921, 45, -1),
]


def exact_fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """In rational numbers; the nearest float32, even where two are."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.uint32)) & 1))


def test_reference_rounds_once() -> None:
    g = RNG(1)
    a, b, c = g.standard_normal((3, 3000)).astype(np.float32)
    c *= np.exp2(g.integers(-60, 60, 3000)).astype(np.float32)
    c[:500] = -(a * b)[:500]  # what is left is the rounding error
    a[500:600] *= np.float32(2.0**-100)  # into subnormal numbers
    b[500:600] *= np.float32(2.0**-40)
    c[500:600] *= np.float32(2.0**-60)
    expected = np.array([exact_fma(*v) for v in zip(a, b, c, strict=True)])
    same_bits(reference.fma32(a, b, c) + np.float32(0), expected + np.float32(0))


@pytest.mark.parametrize(("a", "b", "m", "d"), NEAR_MIDDLES)
@pytest.mark.parametrize("sign", [1, -1])
def test_core_rounds_once(simd_level: str, a: int, b: int, m: int, d: int, sign: int) -> None:
    """The last code of a read converter, lo + a * step: that of the largest inputs."""
    assert a * b == 2**m + d
    step = sign * b * 2.0 ** (-m - 24)
    lo = sign * (1.0 if d > 0 else 1 + 2.0**-23)
    assert np.float32(np.float64(a) * step + lo) != sign * np.float32(1 + 2.0**-23)  # rounds twice
    assert reference.fma32(np.float32(a), step, lo) == sign * np.float32(1 + 2.0**-23)
    table = np.array([[2.0**30, 0, 0, 0]] * 2, np.float32)
    out = np.empty(19, np.float32)
    c = _core.ChannelTables(table, 0.0, 1.0, None, (lo, step, 1.0, a + 1))
    _core.sample(np.zeros(19, np.float32), out, 1, c, *KEYS, 0, True)
    same_bits(out, np.full(19, sign * (1 + 2.0**-23), np.float32))


# --------------------------------------------------------------------------- sampling


def core_sample(
    x: F32, cells: int | NDArray[np.int32], name: str, literal: bool, offset: int = 0,
    threads: int = 0,
) -> F32:  # fmt: skip
    out = Guarded(len(x), np.float32)
    _core.sample(
        x, out.array, cells, bound_channel(CHANNELS[name]), *KEYS, offset, literal, threads
    )
    out.check()
    return out.array


@cache
def reference_sample(name: str, count: int, cells: int, literal: bool, offset: int) -> F32:
    """``cells`` 0: those of :func:`cell_counts`."""
    each = np.full(count, cells, np.int32) if cells else cell_counts(count)
    return reference.sample(
        inputs(count), each, CHANNELS[name], KEYS, offset=offset, literal=literal
    )


every_way = pytest.mark.parametrize(
    ("name", "literal"),
    [(name, literal) for name in CHANNELS for literal in (True, *[False] * (name in COLLAPSES))],
)


@every_way
@pytest.mark.parametrize("offset", [0, 2**34 - 1001])
def test_sample_equals_reference(simd_level: str, name: str, literal: bool, offset: int) -> None:
    count = 2100
    expected = reference_sample(name, count, 0, literal, offset)
    same_bits(core_sample(inputs(count), cell_counts(count), name, literal, offset), expected)


@every_way
def test_sample_with_one_cell_number(simd_level: str, name: str, literal: bool) -> None:
    for cells in (1, 4, 33):
        expected = reference_sample(name, 1100, cells, literal, 5)
        same_bits(core_sample(inputs(1100), cells, name, literal, 5), expected)


@pytest.mark.parametrize("literal", [False, True])
def test_sample_of_every_length(simd_level: str, literal: bool) -> None:
    for count in range(70):
        expected = reference_sample("read, d2d", count, 2, literal, 3)
        same_bits(core_sample(inputs(count), 2, "read, d2d", literal, 3), expected)


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("offset", OFFSETS)
def test_sample_at_offsets(simd_level: str, literal: bool, offset: int) -> None:
    expected = reference_sample("read, d2d", 1030, 0, literal, offset)
    same_bits(core_sample(inputs(1030), cell_counts(1030), "read, d2d", literal, offset), expected)


@pytest.mark.parametrize(("name", "literal"), [("read, d2d", False), ("everything", True)])
def test_sample_does_not_depend_on_threads(simd_level: str, name: str, literal: bool) -> None:
    count, cells = 30_003, 2
    expected = reference_sample(name, count, cells, literal, 1)
    each = np.full(count, cells, np.int32)
    for threads in THREADS:
        same_bits(core_sample(inputs(count), cells, name, literal, 1, threads), expected)
        same_bits(core_sample(inputs(count), each, name, literal, 1, threads), expected)


@pytest.mark.parametrize(("name", "literal"), [("read, d2d", False), ("everything", True)])
def test_sample_does_not_depend_on_chunks(simd_level: str, name: str, literal: bool) -> None:
    count, offset = 3000, 2**34 - 1500
    x, cells = inputs(count), cell_counts(count)
    whole = reference_sample(name, count, 0, literal, offset)
    for begin, end in ((0, 1), (0, 999), (1, 5), (13, 2050), (1499, 1502), (2999, 3000)):
        part = core_sample(x[begin:end], cells[begin:end], name, literal, offset + begin)
        same_bits(part, whole[begin:end])


@cache
def mean_of_the_most_cells(x: np.float32, index: int) -> np.float32:
    """reference.sample of one element with 65,535 cells of the plain channel, cells at once."""
    counter = np.zeros((65535, 4), np.uint32)
    counter[:, 0] = index // 4
    counter[:, 1] = np.arange(65535) << 12 | reference.PROGRAM << 28
    counter[:, 2:] = KEYS.stream % 2**32, KEYS.stream >> 32
    w = reference.philox4x32(counter, np.array([KEYS.chip % 2**32, KEYS.chip >> 32], np.uint32))
    pair = index % 4 // 2 * 2
    z = reference.box_muller(w[:, pair], w[:, pair + 1])[index % 2]
    c = CHANNELS["plain"]
    i, f = reference.interpolate((x - np.float32(c.x0)) * np.float32(c.inv_dx), len(c.table))
    mean, step, std, std_step = c.table[i]
    v = reference.fma32(reference.fma32(f, std_step, std), z, reference.fma32(f, step, mean))
    return np.add.accumulate(v, dtype=np.float32)[-1] / np.float32(65535)


def test_sample_draws_the_most_cells(simd_level: str) -> None:
    """65,535 cells, the most that the counter holds, alone and among others."""
    x, cells = inputs(9), np.array([1, 65535, 2, 1, 1, 1, 1, 1, 65535], np.int32)
    got = core_sample(x, cells, "plain", True, 2)
    assert got[1] == mean_of_the_most_cells(x[1], 3) and got[8] == mean_of_the_most_cells(x[8], 10)
    assert core_sample(x[1:2], 65535, "plain", True, 3)[0] == got[1]


def test_cells_of_a_sample_are_prefix_stable(simd_level: str) -> None:
    """An element's draws do not depend on how many cells its neighbors have."""
    x = inputs(200)
    alone = core_sample(x, 3, "everything", True)
    cells = np.where(np.arange(200) % 2, 50, 3).astype(np.int32)
    same_bits(core_sample(x, cells, "everything", True)[::2], alone[::2])


def test_tables_are_copies() -> None:
    x, out = inputs(40), np.empty(40, np.float32)
    c = channel(read=True)
    bound = bound_channel(c)
    c.table[:] = c.read[:] = np.nan
    _core.sample(x, out, 1, bound, *KEYS)
    same_bits(out, reference_sample("read", 40, 1, False, 0))
    cd = codec(2, True, False)
    bound_cd, w = bound_codec(cd), weights(50)
    before = core_encode(w, None, bound_cd, False)
    cd.inverse[:] = np.nan
    after = core_encode(w, None, bound_cd, False)
    same_bits(before[0], after[0])


def test_read_only_inputs_are_taken() -> None:
    x, cells = inputs(40), cell_counts(40)
    for array in (x, cells):
        array.flags.writeable = False
    same_bits(core_sample(x, cells, "plain", True), reference_sample("plain", 40, 0, True, 0))


# --------------------------------------------------------------------------- the codec

CODECS = [
    (ranges, sign, write)
    for ranges in (1, 2, 3, 4, 8)
    for sign in (False, True)
    for write in (False, True)
]
codecs = pytest.mark.parametrize(
    ("ranges", "sign", "write"),
    CODECS,
    ids=[f"{r} ranges{', sign' * s}{', packed' * w}" for r, s, w in CODECS],
)
KEPT = (None, 0.0, 0.02, 0.3, 0.97, 1.0)
LENGTHS = (0, 1, 15, 16, 17, 1000, 1024, 1025, 2500)


@cache
def stored_form(
    ranges: int, sign: bool, write: bool, count: int, kept: float | None
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    m = None if kept is None else mask(count, kept)
    return reference.encode(weights(count), m, codec(ranges, sign, write))


@cache
def read_back(
    ranges: int, sign: bool, write: bool, count: int, kept: float | None, name: str, literal: bool
) -> F32:
    m = None if kept is None else mask(count, kept)
    return reference.decode(
        *stored_form(ranges, sign, write, count, kept), m, count, codec(ranges, sign, write),
        CHANNELS[name], KEYS, literal=literal,
    )  # fmt: skip


def core_decode(
    levels: NDArray[Any], side: NDArray[np.uint8], m: NDArray[np.bool_] | None, count: int,
    cd: reference.CodecTables, name: str, literal: bool, threads: int = 0,
) -> F32:  # fmt: skip
    out = Guarded(count, np.float32)
    _core.decode(
        levels, side, packed(m), out.array, bound_codec(cd), bound_channel(CHANNELS[name]),
        *KEYS, literal, threads,
    )  # fmt: skip
    out.check()
    return out.array


def core_transmit(
    w: NDArray[Any], m: NDArray[np.bool_] | None, cd: reference.CodecTables, name: str,
    literal: bool, threads: int = 0,
) -> F32:  # fmt: skip
    out = Guarded(len(w), np.float32)
    _core.transmit(
        w, packed(m), out.array, bound_codec(cd), bound_channel(CHANNELS[name]), *KEYS, literal,
        threads,
    )  # fmt: skip
    out.check()
    return out.array


@codecs
def test_codec_equals_reference(simd_level: str, ranges: int, sign: bool, write: bool) -> None:
    cd = codec(ranges, sign, write)
    for kept in KEPT:
        for count in LENGTHS:
            case = (ranges, sign, write, count, kept)
            m = None if kept is None else mask(count, kept)
            levels, side = core_encode(weights(count), m, bound_codec(cd), write)
            same_bits(levels, stored_form(*case)[0])
            same_bits(side, stored_form(*case)[1])
            expected = read_back(*case, "read", False)
            same_bits(core_decode(levels, side, m, count, cd, "read", False), expected)
            same_bits(core_transmit(weights(count), m, cd, "read", False), expected)


@codecs
def test_codec_literal_equals_reference(
    simd_level: str, ranges: int, sign: bool, write: bool
) -> None:
    count, kept, cd = 1500, 0.8, codec(ranges, sign, write)
    m = mask(count, kept)
    expected = read_back(ranges, sign, write, count, kept, "everything", True)
    stored = stored_form(ranges, sign, write, count, kept)
    same_bits(core_decode(*stored, m, count, cd, "everything", True), expected)
    same_bits(core_transmit(weights(count), m, cd, "everything", True), expected)


@codecs
def test_codec_does_not_depend_on_threads(
    simd_level: str, ranges: int, sign: bool, write: bool
) -> None:
    count, kept, cd = 50_001, 0.6, codec(ranges, sign, write)
    m, w = mask(count, kept), weights(count)
    stored = stored_form(ranges, sign, write, count, kept)
    expected = read_back(ranges, sign, write, count, kept, "plain", False)
    for threads in THREADS:
        levels, side = core_encode(w, m, bound_codec(cd), write, threads)
        same_bits(levels, stored[0])
        same_bits(side, stored[1])
        same_bits(core_decode(levels, side, m, count, cd, "plain", False, threads), expected)
        same_bits(core_transmit(w, m, cd, "plain", False, threads), expected)


@codecs
def test_float64_weights_are_rounded_first(
    simd_level: str, ranges: int, sign: bool, write: bool
) -> None:
    count, cd = 5000, codec(ranges, sign, write)
    w = RNG(0).standard_normal(count) * 0.25
    assert (w != w.astype(np.float32)).mean() > 0.9
    for m in (None, mask(count, 0.5)):
        for got, expected in zip(
            core_encode(w, m, bound_codec(cd), write),
            core_encode(w.astype(np.float32), m, bound_codec(cd), write),
            strict=True,
        ):
            same_bits(got, expected)
        same_bits(
            core_transmit(w, m, cd, "read", False),
            core_transmit(w.astype(np.float32), m, cd, "read", False),
        )


@codecs
def test_side_bits(simd_level: str, ranges: int, sign: bool, write: bool) -> None:
    cd = bound_codec(codec(ranges, sign, write))
    assert cd.side_width == codec(ranges, sign, write).side_width
    for count in (0, 1, 9, 30_001):
        expected = stored_form(ranges, sign, write, count, None)[1]
        for w in (weights(count), weights(count).astype(np.float64)):
            for threads in THREADS:
                side = Guarded(len(expected), np.uint8)
                _core.side_bits(w, cd, side.array, threads)
                side.check()
                same_bits(side.array, expected)


def test_room_for_the_padding_of_every_range(simd_level: str) -> None:
    """Full blocks whose ranges all have the widest codes, each padded to a byte."""
    count, write = 5 * 1024, reference.Converter(-0.8, 1.6 / 7, 7 / 1.6, 8)
    cd = codec(3, True, True)
    cd = cd._replace(ranges=tuple(r._replace(write=write) for r in cd.ranges))
    w = np.abs(RNG(6).standard_normal(count) * 0.05).astype(np.float32)
    expected, side = reference.encode(w, None, cd)
    assert len(expected) > count * 3 // 8
    for threads in THREADS:
        got = core_encode(w, None, bound_codec(cd), True, threads)
        same_bits(got[0], expected)
        same_bits(got[1], side)


def test_signs_of_zero_are_kept(simd_level: str) -> None:
    cd = codec(2, True, False)
    w = np.array([0.0, -0.0, 1e-45, -1e-45], np.float32)
    _, side = core_encode(w, None, bound_codec(cd), False)
    assert reference.unpack_bits(side, 2, 4).tolist() == [0, 1, 0, 1]


def test_thresholds_belong_to_the_lower_range(simd_level: str) -> None:
    cd = codec(3, False, False)
    edges = np.float32([r.threshold for r in cd.ranges[:-1]])
    w = np.stack([edges, np.nextafter(edges, np.float32(9)), -edges]).ravel()
    _, side = core_encode(w, None, bound_codec(cd), False)
    assert reference.unpack_bits(side, 2, 6).tolist() == [0, 1, 1, 2, 0, 1]


def test_pruned_weights_are_positive_zeros(simd_level: str) -> None:
    count = 3000
    m = mask(count, 0.1)
    got = core_transmit(weights(count), m, codec(2, True, True), "plain", False)
    assert (got[~m].view(np.uint32) == 0).all() and (got[m] != 0).all()


def test_nothing_stored(simd_level: str) -> None:
    nothing = np.zeros(100, bool)
    got = core_transmit(weights(100), nothing, codec(2, True, True), "plain", False)
    same_bits(got, np.zeros(100, np.float32))


@pytest.mark.full
def test_beyond_2_to_the_31_weights() -> None:
    """Few of very many are stored: each is found, and comes back at its place."""
    needs_memory(11)
    count = 2**31 + 1003
    where = np.unique(RNG(8).integers(0, count, 5000))
    where[-1] = count - 1
    values = weights(len(where))
    w = np.zeros(count, np.float32)  # pages that are only read take no memory
    w[where] = values
    bits = np.zeros((count + 7) // 8, np.uint8)
    np.bitwise_or.at(bits, where // 8, (1 << (where % 8)).astype(np.uint8))
    assert _core.count_stored(bits, count) == len(where)
    assert _core.scan(w, bits) == (len(where), values.min(), values.max(), True)
    cd, out = codec(2, True, True), np.full(count, 5, np.float32)
    _core.transmit(w, bits, out, bound_codec(cd), bound_channel(CHANNELS["read"]), *KEYS)
    expected = reference.decode(
        *reference.encode(values, None, cd), None, len(where), cd, CHANNELS["read"], KEYS,
        literal=False,
    )  # fmt: skip
    same_bits(out[where], expected)
    out[where] = 0
    assert not out.any()


# --------------------------------------------------------------------------- scans


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


# --------------------------------------------------------------------------- errors

F, U8, I32 = (lambda n: np.zeros(n, np.float32)), (lambda n: np.zeros(n, np.uint8)), np.int32
PLAIN = bound_channel(CHANNELS["plain"])
FLOATS, PACKS = bound_codec(codec(3, True, False)), bound_codec(codec(2, True, True))
NO_INVERSE = np.zeros((2, 2), np.float32)
RANGE = (np.inf, 1.0, 0.0, 1.0, 0.0, 1)
WRITE = (0.0, 1.0, 1.0, 4)


def frozen(count: int) -> F32:
    array = np.zeros(count, np.float32)
    array.flags.writeable = False
    return array


def good_decode(**changed: Any) -> None:
    w = weights(100)
    levels, side = core_encode(w, None, PACKS, True)
    arguments = {
        "levels": levels, "side": side, "mask": None, "out": F(100), "codec": PACKS,
        "channel": PLAIN, "chip": 1, "read": 2, "stream": 3, **changed,
    }  # fmt: skip
    _core.decode(**arguments)


VALUE_ERRORS: list[tuple[str, Callable[[], Any]]] = [
    # sampling
    (r"x: expected 1 dimension, got 2", lambda: _core.sample(F((2, 2)), F(4), 1, PLAIN, *KEYS)),
    (r"out: expected 4 elements, got 5", lambda: _core.sample(F(4), F(5), 1, PLAIN, *KEYS)),
    (r"cells: expected 1 to 65535, got 0", lambda: _core.sample(F(4), F(4), 0, PLAIN, *KEYS)),
    (
        r"cells: expected 1 to 65535, got 65536",
        lambda: _core.sample(F(4), F(4), 65536, PLAIN, *KEYS),
    ),
    (
        r"cells: expected 1 to 65535, got -1 at index 2",
        lambda: _core.sample(F(4), F(4), np.array([1, 1, -1, 1], I32), PLAIN, *KEYS),
    ),
    (
        r"cells: expected 4 elements, got 3",
        lambda: _core.sample(F(4), F(4), np.ones(3, I32), PLAIN, *KEYS),
    ),
    (
        r"cells: expected an int or a contiguous int32 array",
        lambda: _core.sample(F(4), F(4), np.ones(4, np.int64), PLAIN, *KEYS),
    ),
    (
        r"cells: expected an int or a contiguous int32 array",
        lambda: _core.sample(F(4), F(4), np.ones(8, I32)[::2], PLAIN, *KEYS),
    ),
    (r"array is not writeable", lambda: _core.sample(F(4), frozen(4), 1, PLAIN, *KEYS)),
    (r"table: expected shape \(n >= 2, 4\)", lambda: _core.ChannelTables(F((1, 4)), 0, 1)),
    (r"table: expected shape \(n >= 2, 4\)", lambda: _core.ChannelTables(F((2, 3)), 0, 1)),
    (r"table: expected shape \(n >= 2, 4\)", lambda: _core.ChannelTables(F(8), 0, 1)),
    (
        r"read: expected shape \(n >= 2, 2\)",
        lambda: _core.ChannelTables(F((3, 4)), 0, 1, F((3, 4))),
    ),
    (
        r"read: expected as many rows as table",
        lambda: _core.ChannelTables(F((3, 4)), 0, 1, F((2, 2))),
    ),
    (
        r"adc: expected 2 to 2\^24 levels",
        lambda: _core.ChannelTables(F((3, 4)), 0, 1, None, (0.0, 1.0, 1.0, 1)),
    ),
    # codec tables
    (
        r"inverse: expected shape \(n >= 2, 2\)",
        lambda: _core.CodecTables(F((2, 3)), 0, 1, [(*RANGE, None)], True),
    ),
    (
        r"ranges: expected 1 to 8, got 0",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [], True),
    ),
    (
        r"ranges: expected 1 to 8, got 9",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, None)] * 9, True),
    ),
    (
        r"cells: expected 1 to 65535, got 0",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE[:-1], 0, None)], True),
    ),
    (
        r"ranges: expected a write converter in all of them or in none",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, None), (*RANGE, WRITE)], True),
    ),
    (
        r"write: expected 2 to 2\^16 levels, got 1",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, (*WRITE[:3], 1))], True),
    ),
    (
        r"write: expected 2 to 2\^16 levels, got 65537",
        lambda: _core.CodecTables(NO_INVERSE, 0, 1, [(*RANGE, (*WRITE[:3], 65537))], True),
    ),
    (r"stored: expected >= 0, got -1", lambda: _core.levels_capacity(-1, PACKS)),
    # masks
    (
        r"mask \(packed bits\): expected 2 elements, got 1",
        lambda: _core.scan(weights(9), U8(1)),
    ),
    (
        r"mask: bits past the last weight must be 0",
        lambda: _core.scan(weights(9), np.array([255, 3], np.uint8)),
    ),
    (r"mask \(packed bits\): expected 2 elements", lambda: _core.count_stored(U8(1), 9)),
    (
        r"mask: bits past the last weight must be 0",
        lambda: _core.transmit(
            weights(9), np.array([255, 2], np.uint8), F(9), FLOATS, PLAIN, *KEYS
        ),
    ),
    # encode
    (
        r"side: expected 4 elements, got 3",  # 3 bits each
        lambda: _core.encode(weights(9), None, FLOATS, F(9), U8(3)),
    ),
    (
        r"levels: expected 9 elements, got 8",
        lambda: _core.encode(weights(9), None, FLOATS, F(8), U8(4)),
    ),
    (
        r"levels: expected float32",
        lambda: _core.encode(weights(9), None, FLOATS, U8(9), U8(4)),
    ),
    (r"levels: expected uint8", lambda: _core.encode(weights(9), None, PACKS, F(9), U8(3))),
    (
        r"levels: expected 1410 elements, got 9",  # room for a block of 1024 at 11 bits
        lambda: _core.encode(weights(9), None, PACKS, U8(9), U8(3)),
    ),
    (
        r"out: expected 9 elements, got 8",
        lambda: _core.transmit(weights(9), None, F(8), FLOATS, PLAIN, *KEYS),
    ),
    (
        r"side: expected 4 elements, got 5",
        lambda: _core.side_bits(weights(9), FLOATS, U8(5)),
    ),
    (
        r"bins: expected 1 to 2\^20",
        lambda: _core.magnitude_histogram(weights(9), None, 1.0, 0),
    ),
    # decode
    (r"levels: expected uint8", lambda: good_decode(levels=F(100))),
    (r"levels: expected float32", lambda: good_decode(codec=FLOATS, side=U8(38))),
    (
        r"side: expected 25 bytes for 100 stored weights, got 24",
        lambda: good_decode(side=U8(24)),
    ),
    (
        r"side: expected 25 bytes for 100 stored weights, got 26",
        lambda: good_decode(side=U8(26)),
    ),
    (
        r"levels: expected 38 bytes for 100 stored weights, got 39",  # 100 codes of 3 bits
        lambda: good_decode(levels=U8(39), side=U8(25)),
    ),
    (
        r"levels: expected 38 bytes for 100 stored weights, got 0",
        lambda: good_decode(levels=U8(0), side=U8(25)),
    ),
    (
        r"levels: expected 100 elements for 100 stored weights, got 99",
        lambda: good_decode(codec=FLOATS, levels=F(99), side=U8(38)),
    ),
    (
        r"side: a code names a range that does not exist",
        lambda: good_decode(codec=FLOATS, levels=F(100), side=U8(38) + 255),
    ),
    (
        r"mask \(packed bits\): expected 13 elements, got 12",
        lambda: good_decode(mask=U8(12)),
    ),
    (r"array is not writeable", lambda: good_decode(out=frozen(100))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "call"),
    VALUE_ERRORS,
    ids=[f"{i} {m[:40]}" for i, (m, _) in enumerate(VALUE_ERRORS)],
)
def test_value_errors(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


TYPE_ERRORS: list[Callable[[], Any]] = [
    lambda: _core.sample(np.zeros(4), F(4), 1, PLAIN, *KEYS),
    lambda: _core.sample(F(8)[::2], F(4), 1, PLAIN, *KEYS),
    lambda: _core.sample(F(4), F(8)[::2], 1, PLAIN, *KEYS),
    lambda: _core.sample([0.0], F(1), 1, PLAIN, *KEYS),
    lambda: _core.sample(F(4), F(4), 1, FLOATS, *KEYS),
    lambda: _core.sample(F(4), F(4), 1, PLAIN, -1, 0, 0),
    lambda: _core.sample(F(4), F(4), 1, PLAIN, 2**64, 0, 0),
    lambda: _core.ChannelTables(np.zeros((3, 4)), 0, 1),
    lambda: _core.ChannelTables(np.asfortranarray(F((3, 4))), 0, 1),
    lambda: _core.ChannelTables(F((3, 4)), 0, 1, np.zeros((3, 2))),
    lambda: _core.CodecTables(np.zeros((2, 2)), 0, 1, [(*RANGE, None)], True),
    lambda: _core.CodecTables(NO_INVERSE, 0, 1, [RANGE], True),
    lambda: _core.scan(np.zeros(4, np.float16), None),
    lambda: _core.scan(np.zeros(4, np.int32), None),
    lambda: _core.scan(F(8)[::2], None),
    lambda: _core.scan(F(8), np.ones(8, bool)),
    lambda: _core.encode(F(8)[::2], None, FLOATS, F(4), U8(2)),
    lambda: _core.encode(F(4), None, FLOATS, F(4), np.zeros(2, np.int8)),
    lambda: _core.transmit(F(4), None, np.zeros(4), FLOATS, PLAIN, *KEYS),
    lambda: good_decode(side=np.zeros(25, np.uint16)),
    lambda: good_decode(out=np.zeros(100)),
    lambda: good_decode(mask=[1] * 13),
]


@pytest.mark.parametrize("call", TYPE_ERRORS, ids=range(len(TYPE_ERRORS)))
def test_type_errors(call: Callable[[], Any]) -> None:
    """Nothing is converted or copied silently."""
    with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
        call()


def test_nothing_is_written_on_error() -> None:
    out = F(100) + 7
    for changed in ({"side": U8(24)}, {"levels": U8(3), "side": U8(25)}, {"mask": U8(12)}):
        with pytest.raises(ValueError):
            good_decode(out=out, **changed)
    bad = U8(38) + 255
    with pytest.raises(ValueError):
        good_decode(codec=FLOATS, levels=F(100), side=bad, out=out)
    assert (out == 7).all()
