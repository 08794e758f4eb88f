"""Rounding and sampling: the compiled core equals reference/ bit for bit.

Every comparison runs at every SIMD level; the reference's answer is computed once a case. What is
beyond the reference's reach in time (threads on longer arrays) is compared with it once, at a
length that gives each of 7 threads its share.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from core_cases import (
    CHANNELS,
    COLLAPSES,
    KEYS,
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
    same_bits,
    weights,
)
from numpy.typing import NDArray

from noisycells import _core, reference

F32 = NDArray[np.float32]


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


def test_the_word_at_a_threshold_is_not_below_it(simd_level: str) -> None:
    """Cells are stuck whose word is below the bound: one that equals it is not."""
    count = 64
    words = reference.random_words(count, KEYS.chip, KEYS.stream, 0, reference.STUCK, 0)
    word = int(np.sort(words)[count // 2])
    for stuck in ((word, 0), (word // 2, word - word // 2)):
        c, out = channel(stuck=stuck), np.empty(count, np.float32)
        _core.sample(inputs(count), out, 1, bound_channel(c), *KEYS, 0, True)
        each = np.ones(count, np.int32)
        same_bits(out, reference.sample(inputs(count), each, c, KEYS, literal=True))


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
