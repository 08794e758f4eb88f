"""The codec: the compiled core equals reference/ bit for bit.

Every comparison runs at every SIMD level; the reference's answer is computed once a case. What is
beyond the reference's reach in time (threads on longer arrays) is compared with it once, at a
length that gives each of 7 threads its share.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from core_cases import (
    CHANNELS,
    KEYS,
    RNG,
    THREADS,
    Guarded,
    bound_channel,
    bound_codec,
    codec,
    core_encode,
    mask,
    needs_memory,
    packed,
    same_bits,
    weights,
)
from numpy.typing import NDArray

from noisycells import _core, reference

F32 = NDArray[np.float32]


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


def test_masks_whose_vectors_end_beside_blocks(simd_level: str) -> None:
    """Pruned first, then all kept: so the last whole vector of a block reaches its end or past."""
    count, cd = 3 * 1024 + 5, codec(1, True, False)
    w = weights(count)
    for pruned in range(1, 17):
        m = np.arange(count) >= pruned
        levels, side = core_encode(w, m, bound_codec(cd), False)
        expected = reference.encode(w, m, cd)
        same_bits(levels, expected[0])
        got = core_decode(levels, side, m, count, cd, "plain", False)
        stored = core_decode(levels, side, None, count - pruned, cd, "plain", False)
        same_bits(got, np.concatenate([np.zeros(pruned, np.float32), stored]))


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
