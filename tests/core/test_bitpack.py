"""Bit packing: byte-equal to reference.py at every level, width, length and alignment."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from core_cases import RNG, THREADS, Guarded, needs_memory, same_bits
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core, reference

# Bytes take widths 1 to 8, words 1 to 16.
KINDS = [(np.uint8, w) for w in range(1, 9)] + [(np.uint16, w) for w in range(1, 17)]
kinds = pytest.mark.parametrize(
    ("dtype", "width"), KINDS, ids=[f"{np.dtype(d)}-{w}" for d, w in KINDS]
)
LENGTHS = (*range(201), 255, 256, 257, 511, 1000, 1023, 1024, 1025, 4099)


@cache
def codes(dtype: type, count: int) -> NDArray[Any]:
    """Every bit random: those above the width must be ignored."""
    return RNG(count).integers(0, 256 ** np.dtype(dtype).itemsize, count, dtype)


@cache
def bytes_of(dtype: type, width: int, count: int) -> NDArray[np.uint8]:
    return reference.pack_bits(codes(dtype, count), width)


def pack(c: NDArray[Any], width: int, misaligned: int = 0, threads: int = 0) -> NDArray[np.uint8]:
    out = Guarded((len(c) * width + 7) // 8, np.uint8, misaligned)
    _core.pack_bits(c, width, out.array, threads)
    out.check()
    return out.array


def unpack(
    buffer: NDArray[np.uint8], width: int, count: int, dtype: type, misaligned: int = 0,
    threads: int = 0,
) -> NDArray[Any]:  # fmt: skip
    out = Guarded(count, dtype, misaligned)
    _core.unpack_bits(buffer, width, out.array, threads)
    out.check()
    return out.array


def test_the_definition() -> None:
    """Code i holds bits i * width and up of the bytes, least significant first."""
    packed = reference.pack_bits(np.array([0b101, 0b011, 0b110]), 3)
    assert packed.tolist() == [0b10_011_101, 0b1]
    assert reference.unpack_bits(packed, 3, 3).tolist() == [0b101, 0b011, 0b110]
    c = [int(v) for v in codes(np.uint16, 100)]
    for width in range(1, 17):
        number = sum((v % 2**width) << (i * width) for i, v in enumerate(c))
        expected = number.to_bytes((100 * width + 7) // 8, "little")
        assert reference.pack_bits(np.array(c), width).tobytes() == expected


@kinds
def test_every_length(simd_level: str, dtype: type, width: int) -> None:
    for count in LENGTHS:
        c = codes(dtype, count)
        packed = bytes_of(dtype, width, count)
        same_bits(pack(c, width), packed)
        same_bits(unpack(packed, width, count, dtype), c & dtype(2**width - 1))


@kinds
def test_every_alignment(simd_level: str, dtype: type, width: int) -> None:
    count, size = 333, np.dtype(dtype).itemsize
    for by in range(0, 64, 3):
        source = Guarded(count, dtype, by * size)
        source.array[:] = codes(dtype, count)
        packed = Guarded((count * width + 7) // 8, np.uint8, by)
        packed.array[:] = bytes_of(dtype, width, count)
        same_bits(pack(source.array, width, by + 1), packed.array)
        expected = source.array & dtype(2**width - 1)
        same_bits(unpack(packed.array, width, count, dtype, by * size), expected)


@kinds
def test_bits_past_the_last_code_do_not_matter(simd_level: str, dtype: type, width: int) -> None:
    for count in (1, 3, 70, 131):
        packed = bytes_of(dtype, width, count).copy()
        packed[-1] |= 0xFF & ~((1 << ((count * width - 1) % 8 + 1)) - 1)
        expected = codes(dtype, count) & dtype(2**width - 1)
        same_bits(unpack(packed, width, count, dtype), expected)


@pytest.mark.parametrize(("dtype", "width"), [(np.uint8, 2), (np.uint8, 3), (np.uint16, 11)])
def test_threads(simd_level: str, dtype: type, width: int) -> None:
    count = 500_003
    c, packed = codes(dtype, count), bytes_of(dtype, width, count)
    for threads in THREADS:
        same_bits(pack(c, width, 0, threads), packed)
        expected = c & dtype(2**width - 1)
        same_bits(unpack(packed, width, count, dtype, 0, threads), expected)


def zeros(shape: Any) -> NDArray[np.uint8]:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _core.pack_bits(zeros(8), 0, zeros(0)), "width: expected 1 to 8, got 0"),
        (lambda: _core.pack_bits(zeros(8), 9, zeros(9)), "width: expected 1 to 8, got 9"),
        (
            lambda: _core.pack_bits(np.zeros(8, np.uint16), 17, zeros(17)),
            "width: expected 1 to 16, got 17",
        ),
        (
            lambda: _core.pack_bits(zeros(9), 2, zeros(2)),
            "packed: expected 3 bytes for 9 codes of 2 bits, got 2",
        ),
        (
            lambda: _core.unpack_bits(zeros(4), 2, zeros(9)),
            "packed: expected 3 bytes for 9 codes of 2 bits, got 4",
        ),
        (
            lambda: _core.unpack_bits(zeros((2, 2)), 2, zeros(9)),
            "buffer: expected 1 dimension, got 2",
        ),
        (lambda: _core.pack_bits(zeros((2, 2)), 2, zeros(1)), "codes: expected 1 dimension, got 2"),
    ],
)
def test_core_value_errors(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.pack_bits(np.zeros(8, np.int8), 2, zeros(2)),
        lambda: _core.pack_bits(zeros(16)[::2], 2, zeros(2)),
        lambda: _core.pack_bits(zeros(8), 2, np.zeros(2, np.uint16)),
        lambda: _core.unpack_bits(zeros(4)[::2], 2, zeros(8)),
        lambda: _core.unpack_bits(zeros(2), 2, np.zeros(8, np.int32)),
    ],
)
def test_core_type_errors(call: Any) -> None:
    with pytest.raises(TypeError, match="incompatible function arguments"):
        call()


# --------------------------------------------------------------------------- the public functions


@pytest.mark.parametrize("width", range(1, 17))
def test_public_round_trip(simd_level: str, width: int) -> None:
    dtype = np.uint8 if width <= 8 else np.uint16
    c = codes(np.uint16, 1001) & np.uint16(2**width - 1)
    packed = nc.pack_bits(c, width)
    same_bits(packed, reference.pack_bits(c, width))
    same_bits(nc.unpack_bits(packed, width, 1001), c.astype(dtype))
    out, back = np.full_like(packed, 255), np.ones(1001, dtype)
    assert nc.pack_bits(c, width, out=out) is out
    same_bits(out, packed)
    assert nc.unpack_bits(packed, width, 1001, out=back) is back
    same_bits(back, c.astype(dtype))


def test_public_functions_take_any_layout() -> None:
    c = codes(np.uint8, 240).reshape(4, 6, 10) % 8
    expected = reference.pack_bits(c.ravel(), 3)
    for given in (c, np.asfortranarray(c), c.astype(np.int64), c.astype(">u2"), c.tolist()):
        same_bits(nc.pack_bits(given, 3), expected)
    strided = np.repeat(c, 2, axis=2)[..., ::2]
    same_bits(nc.pack_bits(strided, 3), expected)
    same_bits(nc.pack_bits(np.array([True, False, True]), 1), np.array([5], np.uint8))
    same_bits(nc.pack_bits(np.uint8(3), 2), np.array([3], np.uint8))
    same_bits(nc.unpack_bits(np.repeat(expected, 3)[::3], 3, 240), c.ravel())
    assert nc.pack_bits(np.empty(0, np.uint8), 5).size == 0
    assert nc.unpack_bits(np.empty(0, np.uint8), 5, 0).size == 0


@pytest.mark.parametrize("width", range(1, 17))
@pytest.mark.parametrize("threads", [1, 3])
def test_codes_that_do_not_fit(simd_level: str, width: int, threads: int) -> None:
    """Wherever one is: in what is packed by vectors, by words, or one by one; in each thread."""
    dtype = np.uint8 if width <= 8 else np.uint16
    largest = np.uint32(np.iinfo(dtype).max)
    c = codes(np.uint16, 300_007) & np.uint16(2**width - 1)
    c = c.astype(dtype)
    nc.pack_bits(c, width, num_threads=threads)
    if 1 << width > largest:
        return  # every code of the type fits
    for place in (0, 63, 64, 1000, 150_000, 299_990, 300_000, 300_006):
        for wrong in (1 << width, int(largest)):
            before, c[place] = c[place], wrong
            expected = rf"codes: expected values in \[0, {1 << width}\), got {wrong}"
            with pytest.raises(ValueError, match=expected):
                nc.pack_bits(c, width, num_threads=threads)
            c[place] = before


OVERLAPPING = np.zeros(3, np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nc.pack_bits([0.5], 2), TypeError, r"codes: expected integers, got float64"),
        (lambda: nc.pack_bits([1, 4], 2), ValueError, r"codes: .* \[0, 4\), got 4"),
        (lambda: nc.pack_bits([1, -1], 2), ValueError, r"codes: .* \[0, 4\), got -1"),
        (lambda: nc.pack_bits([1], 0), ValueError, r"width: expected an int in \[1, 16\], got 0"),
        (lambda: nc.pack_bits([1], 17), ValueError, r"width: .* got 17"),
        (lambda: nc.pack_bits([1], 2.0), TypeError, r"width: expected an int, got 2.0"),
        (lambda: nc.pack_bits([1], 2, num_threads=0), ValueError, r"num_threads: .* got 0"),
        (lambda: nc.unpack_bits(zeros(1), 17, 0), ValueError, r"width: .* got 17"),
        (
            lambda: nc.unpack_bits(zeros(1), 2, -1),
            ValueError,
            r"count: expected an int in \[0, 70368744177664\], got -1",
        ),
        (
            lambda: nc.unpack_bits(zeros(1), 2, 5),
            ValueError,
            r"buffer: expected 2 bytes for 5 codes of 2 bits, got 1",
        ),
        (
            lambda: nc.pack_bits([1, 2], 2, out=zeros(2)),
            ValueError,
            r"out: expected a writeable C-contiguous uint8 array of shape \(1,\), got uint8 \(2,\)",
        ),
        (
            lambda: nc.unpack_bits(zeros(2), 9, 1, out=zeros(1)),
            ValueError,
            r"out: expected a writeable C-contiguous uint16 array of shape \(1,\), got uint8",
        ),
        (
            lambda: nc.pack_bits(OVERLAPPING, 8, out=OVERLAPPING),
            ValueError,
            r"out: expected memory of its own",
        ),
        (lambda: nc.unpack_bits([1, 2], 2, 8), TypeError, r"buffer: expected uint8, got int64"),
    ],
)
def test_public_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        call()


@pytest.mark.full
@pytest.mark.parametrize("width", [2, 7])
def test_beyond_2_to_the_31_codes(width: int) -> None:
    """Indices of more than 31 bits, in blocks: what comes back is what went in, at its place."""
    needs_memory(8)
    count = 2**31 + 1003
    pattern = RNG(width).integers(0, 2**width, 1_000_003, np.uint8)
    c = np.resize(pattern, count)
    packed = np.empty((count * width + 7) // 8, np.uint8)
    _core.pack_bits(c, width, packed)
    # The last whole group of 8 codes before, and the end after, index 2**31.
    for first in (0, 2**31 - 8, count - count % 8 - 800):
        piece = c[first : first + 1000]
        expected = reference.pack_bits(piece, width)
        same_bits(packed[first * width // 8 :][: len(expected)][:-1], expected[:-1])
    back = np.empty_like(c)
    _core.unpack_bits(packed, width, back)
    assert np.array_equal(back, c)


@pytest.mark.parametrize("offset", [0, 4, 7])
def test_outputs_too_large_for_the_caches(simd_level: str, offset: int) -> None:
    count = (16 << 20) + 12_345  # above the size from which unpacking streams
    packed = np.random.default_rng(3).integers(0, 256, (count + 3) // 4, dtype=np.uint8)
    space = np.full(offset + count + 64, 9, np.uint8)
    _core.unpack_bits(packed, 2, space[offset : offset + count], 1)
    expected = (packed[:, None] >> np.arange(0, 8, 2, dtype=np.uint8) & 3).reshape(-1)[:count]
    assert np.array_equal(space[offset : offset + count], expected)
    assert (space[:offset] == 9).all() and (space[offset + count :] == 9).all()
