"""Slow numpy definitions of what the compiled core computes.

This module is the specification. Everything the core does with integers, random draws,
averaging, encoding and decoding must equal these functions bit for bit, at every SIMD level,
thread count and chunking. It favors plainness over speed; the package itself uses it only for
single values and tables, where speed does not matter.

All arithmetic is IEEE 754 binary32 with round-to-nearest-even; every ``fma32`` is one
correctly rounded fused multiply-add (:mod:`noisycells._float32`). No other contraction takes place.

Random draws
------------
Every random number is a pure function of ``(seed, stream, purpose, cell, index)``.
Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) runs on

====== =======================================================================
word   content
====== =======================================================================
ctr 0  low 32 bits of the block number, ``index // 4``
ctr 1  bits 0-11: high bits of the block number; 12-27: ``cell``; 28-31: ``purpose``
ctr 2  low 32 bits of ``stream``
ctr 3  high 32 bits of ``stream``
key    low and high 32 bits of ``seed``
====== =======================================================================

and element ``index`` takes word ``index % 4``: no state, constant-time seek, prefix-stable.
Indices run to 2**46, cells per weight to 65,535.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._float32 import fma32
from .._types import BLOCK, F32, U32, Converter, Range

__all__ = [
    "BLOCK",
    "COS_COEFFICIENTS",
    "LOG_COEFFICIENTS",
    "MINUS_2_LN2",
    "SIN_COEFFICIENTS",
    "ChannelTables",
    "CodecTables",
    "Converter",
    "Keys",
    "Range",
    "block_digests",
    "box_muller",
    "classify",
    "decode",
    "encode",
    "fma32",
    "fold_in",
    "interpolate",
    "pack_bits",
    "philox4x32",
    "random_words",
    "sample",
    "standard_normal",
    "unpack_bits",
]


def __dir__() -> list[str]:
    return __all__


# What a draw is for; part of the counter, so purposes never share random numbers.
PROGRAM, READ, D2D, STUCK = range(4)


# --------------------------------------------------------------------------- random numbers


def _poly(x: F32, coefficients: tuple[str, ...]) -> F32:
    """Horner's rule with fused multiply-adds; coefficients from low to high, as hex floats."""
    c = [np.float32(float.fromhex(h)) for h in coefficients]
    y = np.broadcast_to(c[-1], x.shape).astype(np.float32)
    for k in reversed(c[:-1]):
        y = fma32(y, x, k)
    return y


def philox4x32(counter: U32, key: U32, rounds: int = 10) -> U32:
    """Philox4x32: ``counter`` (..., 4) and ``key`` (..., 2), uint32 -> uint32 (..., 4)."""
    x = [np.asarray(counter, np.uint64)[..., i] for i in range(4)]
    k = [np.asarray(key, np.uint64)[..., i] for i in range(2)]
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    for _ in range(rounds):
        p0 = x[0] * np.uint64(0xD2511F53)
        p1 = x[2] * np.uint64(0xCD9E8D57)
        x = [(p1 >> shift) ^ x[1] ^ k[0], p1 & low, (p0 >> shift) ^ x[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(np.broadcast_arrays(*x), axis=-1).astype(np.uint32)


def _blocks(
    index: NDArray[np.int64], seed: int, stream: int, purpose: int, cell: int
) -> tuple[U32, NDArray[np.int64]]:
    block = (index // 4).astype(np.uint64)
    counter = np.empty((*index.shape, 4), np.uint32)
    counter[..., 0] = block & np.uint64(0xFFFFFFFF)
    high = (block >> np.uint64(32)).astype(np.uint32)
    counter[..., 1] = high | np.uint32(cell << 12) | np.uint32(purpose << 28)
    counter[..., 2] = stream & 0xFFFFFFFF
    counter[..., 3] = stream >> 32
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    return philox4x32(counter, key), index % 4


def random_words(
    count: int, seed: int, stream: int = 0, offset: int = 0, purpose: int = 0, cell: int = 0
) -> U32:
    """Raw 32-bit words for elements ``offset .. offset + count - 1``."""
    index = np.arange(offset, offset + count, dtype=np.int64)
    words, lane = _blocks(index, seed, stream, purpose, cell)
    return np.take_along_axis(words, lane[..., None], axis=-1)[..., 0]


# Minimax fits made for this package (Lawson-weighted Chebyshev least squares, coefficients
# rounded to float32): -2 log(1+f)/f on [sqrt(1/2)-1, sqrt(2)-1], relative error 3e-8, and
# (sin(a)/a - 1)/a^2, (cos(a) - 1)/a^2 in a^2 on [0, (pi/4)^2], absolute error of sin, cos 4e-8.
LOG_COEFFICIENTS = (
    "-0x1.0000000p+1", "0x1.fffff80p-1", "-0x1.5557920p-1", "0x1.0005700p-1", "-0x1.98b7480p-2",
    "0x1.5332b00p-2", "-0x1.3239060p-2", "0x1.263b580p-2", "-0x1.65435a0p-3",
)  # fmt: skip
SIN_COEFFICIENTS = ("-0x1.5555460p-3", "0x1.1107600p-7", "-0x1.994e860p-13")
COS_COEFFICIENTS = ("-0x1.ffffba0p-2", "0x1.553f940p-5", "-0x1.6475400p-10")
MINUS_2_LN2 = np.float32(-2 * np.log(2))


def box_muller(radius_word: U32, angle_word: U32) -> tuple[F32, F32]:
    """Two float32 standard normals from two words (Box & Muller 1958).

    The radius uses 31 bits, u in [2^-32, 1], so |z| reaches 6.66; the angle all 32.
    """
    u = fma32((radius_word >> np.uint32(1)).astype(np.float32), 2.0**-31, 2.0**-32)
    bits = u.view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    f = (bits - (exponent << np.int32(23))).view(np.float32) - np.float32(1)
    square = fma32(exponent.astype(np.float32), MINUS_2_LN2, f * _poly(f, LOG_COEFFICIENTS))
    radius = np.sqrt(square)

    turned = angle_word + np.uint32(1 << 29)  # wraps; bits 30, 31 are now the quadrant
    rest = (turned & np.uint32(0x3FFFFFFF)).astype(np.int32) - np.int32(1 << 29)
    a = rest.astype(np.float32) * np.float32(np.pi / 2**31)
    a2 = a * a
    sin = fma32(a * a2, _poly(a2, SIN_COEFFICIENTS), a)
    cos = fma32(a2, _poly(a2, COS_COEFFICIENTS), np.float32(1))
    swap = (turned & np.uint32(1 << 30)) != 0
    sign = np.uint32(1 << 31)
    first = np.where(swap, sin, cos).view(np.uint32) ^ ((turned + np.uint32(1 << 30)) & sign)
    second = np.where(swap, cos, sin).view(np.uint32) ^ (turned & sign)
    return radius * first.view(np.float32), radius * second.view(np.float32)


def standard_normal(
    count: int, seed: int, stream: int = 0, offset: int = 0, purpose: int = 0, cell: int = 0
) -> F32:
    """float32 standard normals for elements ``offset .. offset + count - 1``.

    Words 0 and 1 of a block give elements 0 and 1, words 2 and 3 give elements 2 and 3.
    """
    index = np.arange(offset, offset + count, dtype=np.int64)
    words, lane = _blocks(index, seed, stream, purpose, cell)
    with np.errstate(over="ignore"):
        z0, z1 = box_muller(words[..., 0], words[..., 1])
        z2, z3 = box_muller(words[..., 2], words[..., 3])
    return np.choose(lane, [z0, z1, z2, z3])


def fold_in(seed: int, data: int) -> int:
    """A new 64-bit seed from a seed and a number: one Philox block of (data, key = seed)."""
    counter = np.array([data & 0xFFFFFFFF, data >> 32, 0xFFFFFFFF, 0xFFFFFFFF], np.uint32)
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    words = philox4x32(counter, key)
    return int(words[0]) | int(words[1]) << 32


def block_digests(data: NDArray[np.uint8], key: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Two digests of each 4,096 bytes, the last ones followed by zeros.

    NH of UMAC (Black et al., CRYPTO 1999; RFC 4418, section 5.2) with words and key added modulo
    2**32, neighbors multiplied, and the second digest's key 4 words further on: two blocks that
    differ have the same digests for one key in 2**64.

    Parameters
    ----------
    data : uint8 (n,)
    key : int32 (1028,)

    Returns
    -------
    uint64 (ceil(n / 4096), 2)
    """
    padded = np.concatenate([data, np.zeros(-len(data) % 4096, np.uint8)])
    words = padded.view("<u4").reshape(-1, 1024)
    digests = []
    for first in (0, 4):
        sums = (words + key.view(np.uint32)[first : first + 1024]).astype(np.uint64)
        digests.append((sums[:, 0::2] * sums[:, 1::2]).sum(axis=1, dtype=np.uint64))
    return np.stack(digests, axis=1)


# --------------------------------------------------------------------------- the channel


class ChannelTables(NamedTuple):
    """One cell type, as the core sees it.

    ``table`` float32 (n, 4), n >= 2: rows (mean, next mean - mean, std, next std - std) at
    inputs ``x0 + i / inv_dx``; the last row's differences are 0. ``std`` here is the part
    drawn at programming (all of it where ``read`` is None). ``read`` float32 (n, 2): (read
    std, difference). ``d2d``: std of an offset common to the cells of one weight. ``stuck``:
    probabilities times 2**32 of a cell that acts as if the first or last table input had been
    written; low and low + high saturate at 2**32 - 1. ``adc``: read converter, or None.
    """

    table: F32
    x0: float
    inv_dx: float
    read: F32 | None = None
    adc: Converter | None = None
    d2d: float = 0.0
    stuck: tuple[int, int] = (0, 0)


class Keys(NamedTuple):
    """``chip`` keys what is frozen at programming, ``read`` what is drawn at each read."""

    chip: int
    read: int
    stream: int


def interpolate(t: F32, n: int) -> tuple[NDArray[np.int32], F32]:
    """Index and fraction of position ``t`` in a table of ``n`` rows, clipped to the table."""
    t = np.minimum(np.maximum(t, np.float32(0)), np.float32(n - 1))
    i = np.minimum(t.astype(np.int32), np.int32(n - 2))
    return i, t - i.astype(np.float32)


def sample(
    x: F32, cells: NDArray[np.int32], channel: ChannelTables, keys: Keys,
    *, offset: int = 0, literal: bool,
) -> F32:  # fmt: skip
    """Mean of ``cells[j]`` cells written with ``x[j]``; x float32 (n,), cells int32 (n,).

    ``literal=False`` is the collapse: one draw of N(mean, std^2 / cells), exact where no
    converter, clipping or stuck cell stands between a cell and the average. ``literal=True``
    draws every cell. Element j uses random index ``offset + j``; cell c its counter field.
    """
    n = len(channel.table)
    count = len(x)
    i, f = interpolate((x - np.float32(channel.x0)) * np.float32(channel.inv_dx), n)
    row = channel.table[i]
    mean = fma32(f, row[:, 1], row[:, 0])
    std = fma32(f, row[:, 3], row[:, 2])
    read_std = None if channel.read is None else fma32(f, channel.read[i, 1], channel.read[i, 0])

    def normal(purpose: int, seed: int, cell: int = 0) -> F32:
        return standard_normal(count, seed, keys.stream, offset, purpose, cell)

    d2d = np.float32(channel.d2d)
    if not literal:
        inv_sqrt = np.float32(1) / np.sqrt(cells.astype(np.float32))
        y = fma32(std * inv_sqrt, normal(PROGRAM, keys.chip), mean)
        if read_std is not None:
            y = fma32(read_std * inv_sqrt, normal(READ, keys.read), y)
        if d2d > 0:
            y = fma32(d2d, normal(D2D, keys.chip), y)
        return y

    offset_d2d = normal(D2D, keys.chip) if d2d > 0 else None
    total = np.zeros(count, np.float32)
    for c in range(int(cells.max(initial=0))):
        m, s, rs = mean, std, read_std
        if any(channel.stuck):
            word = random_words(count, keys.chip, keys.stream, offset, STUCK, c).astype(np.uint64)
            top = 2**32 - 1
            low = word < np.uint64(min(channel.stuck[0], top))
            high = ~low & (word < np.uint64(min(sum(channel.stuck), top)))
            ends = [channel.table[0], channel.table[-1]]
            m = np.select([low, high], [ends[0][0], ends[1][0]], m)
            s = np.select([low, high], [ends[0][2], ends[1][2]], s)
            if channel.read is not None and rs is not None:
                rs = np.select([low, high], [channel.read[0, 0], channel.read[-1, 0]], rs)
        v = fma32(s, normal(PROGRAM, keys.chip, c), m)
        if rs is not None:
            v = fma32(rs, normal(READ, keys.read, c), v)
        if offset_d2d is not None:
            v = fma32(d2d, offset_d2d, v)
        if channel.adc is not None:
            v = channel.adc.dequantize(channel.adc.quantize(v))
        total = np.where(c < cells, total + v, total)
    result: F32 = total * (np.float32(1) / cells.astype(np.float32))
    return result


# --------------------------------------------------------------------------- the codec


class CodecTables(NamedTuple):
    """``inverse`` float32 (m, 2): rows (x, next x - x) at channel outputs y0 + i / inv_dy.

    Either all ranges have a write converter or none has.
    """

    inverse: F32
    y0: float
    inv_dy: float
    ranges: tuple[Range, ...]
    sign: bool

    @property
    def side_width(self) -> int:
        """Side bits per stored weight: the sign, then the range number."""
        return int(self.sign) + (len(self.ranges) - 1).bit_length()


def pack_bits(codes: NDArray[np.integer], width: int) -> NDArray[np.uint8]:
    """Codes to bytes, least significant bit first; code i holds bits i*width .. (i+1)*width-1."""
    codes = np.asarray(codes).astype(np.uint32)
    bits = (codes[:, None] >> np.arange(width, dtype=np.uint32)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little")


def unpack_bits(buffer: NDArray[np.uint8], width: int, count: int) -> NDArray[np.uint16]:
    """The codes of :func:`pack_bits`."""
    bits = np.unpackbits(buffer, bitorder="little", count=count * width).reshape(count, width)
    result: NDArray[np.uint16] = (bits.astype(np.uint16) << np.arange(width, dtype=np.uint16)).sum(
        axis=1, dtype=np.uint16
    )
    return result


def classify(w: F32, codec: CodecTables) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Side code and range number of each stored weight."""
    magnitude = np.abs(w)
    number = np.zeros(w.shape, np.int32)
    for r in codec.ranges[:-1]:
        number += magnitude > np.float32(r.threshold)
    side = number << int(codec.sign)
    if codec.sign:
        side = side | np.signbit(w)
    return side.astype(np.int32), number


def _per_range(codec: CodecTables, number: NDArray[np.int32], field: str) -> F32:
    return np.array([getattr(r, field) for r in codec.ranges], np.float32)[number]


def encode(
    weights: F32, mask: NDArray[np.bool_] | None, codec: CodecTables
) -> tuple[NDArray[np.uint8] | F32, NDArray[np.uint8]]:
    """Stored weights (those under ``mask``, in order) -> (levels, side).

    ``side``: side codes packed at ``codec.side_width`` bits. ``levels``: without write
    converters the float32 cell inputs; with them uint8, for each block of ``BLOCK`` stored
    weights and then each range: that range's codes in order, packed at the range's width
    (log2 of its converter's levels, rounded up) and padded to a byte.
    """
    w = np.asarray(weights, np.float32).ravel()
    if mask is not None:
        w = w[np.asarray(mask, bool).ravel()]
    side, number = classify(w, codec)
    value = np.abs(w) if codec.sign else w
    u = fma32(value, _per_range(codec, number, "alpha"), -_per_range(codec, number, "beta"))
    t = (u - np.float32(codec.y0)) * np.float32(codec.inv_dy)
    i, f = interpolate(t, len(codec.inverse))
    x = fma32(f, codec.inverse[i, 1], codec.inverse[i, 0])
    packed_side = pack_bits(side, codec.side_width) if codec.side_width else np.empty(0, np.uint8)
    if codec.ranges[0].write is None:
        return x, packed_side
    parts = [np.empty(0, np.uint8)]
    for start in range(0, len(w), BLOCK):
        block = slice(start, start + BLOCK)
        for k, r in enumerate(codec.ranges):
            assert r.write is not None
            chosen = x[block][number[block] == k]
            parts.append(pack_bits(r.write.quantize(chosen), (r.write.levels - 1).bit_length()))
    return np.concatenate(parts), packed_side


def decode(
    levels: NDArray[np.uint8] | F32, side: NDArray[np.uint8], mask: NDArray[np.bool_] | None,
    count: int, codec: CodecTables, channel: ChannelTables, keys: Keys, *, literal: bool,
) -> F32:  # fmt: skip
    """One noisy read-back of ``count`` weights; pruned ones (mask False) return 0."""
    stored = count if mask is None else int(np.count_nonzero(mask))
    code = (
        unpack_bits(side, codec.side_width, stored).astype(np.int32)
        if codec.side_width
        else np.zeros(stored, np.int32)
    )
    number = code >> int(codec.sign)
    if codec.ranges[0].write is None:
        x = np.asarray(levels, np.float32)
    else:
        x = np.empty(stored, np.float32)
        at = 0
        for start in range(0, stored, BLOCK):
            in_block = number[start : start + BLOCK]
            for k, r in enumerate(codec.ranges):
                assert r.write is not None
                where = np.flatnonzero(in_block == k) + start
                width = (r.write.levels - 1).bit_length()
                size = (len(where) * width + 7) // 8
                packed = np.asarray(levels, np.uint8)[at : at + size]
                codes = unpack_bits(packed, width, len(where))
                x[where] = r.write.dequantize(codes.astype(np.int32))
                at += size
    cells = np.array([r.cells for r in codec.ranges], np.int32)[number]
    y = sample(x, cells, channel, keys, literal=literal)
    w = fma32(y, _per_range(codec, number, "inv_alpha"), _per_range(codec, number, "shift"))
    if codec.sign:
        w = np.where(code & 1, -w, w)
    if mask is None:
        return w
    out = np.zeros(count, np.float32)
    out[np.asarray(mask, bool).ravel()] = w
    return out
