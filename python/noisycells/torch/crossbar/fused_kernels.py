"""Products of crossbars on a GPU, in Triton: the arithmetic of the compiled core, bit for bit.

Integer sums are exact; behind them every operation on float32 is one that IEEE 754 defines: sums,
products, fused multiply-adds where :mod:`noisycells.reference` has them, quotients and roots
rounded to nearest. They are to be launched with ``enable_fp_fusion=False``, so that no other
products and sums are fused.
"""

import triton
import triton.language as tl

__all__ = ["convert", "multiply", "normals", "words"]

# Coefficients and their errors: noisycells.reference.
LOG_0 = tl.constexpr(float.fromhex("-0x1.0000000p+1"))
LOG_1 = tl.constexpr(float.fromhex("0x1.fffff80p-1"))
LOG_2 = tl.constexpr(float.fromhex("-0x1.5557920p-1"))
LOG_3 = tl.constexpr(float.fromhex("0x1.0005700p-1"))
LOG_4 = tl.constexpr(float.fromhex("-0x1.98b7480p-2"))
LOG_5 = tl.constexpr(float.fromhex("0x1.5332b00p-2"))
LOG_6 = tl.constexpr(float.fromhex("-0x1.3239060p-2"))
LOG_7 = tl.constexpr(float.fromhex("0x1.263b580p-2"))
LOG_8 = tl.constexpr(float.fromhex("-0x1.65435a0p-3"))
SIN_0 = tl.constexpr(float.fromhex("-0x1.5555460p-3"))
SIN_1 = tl.constexpr(float.fromhex("0x1.1107600p-7"))
SIN_2 = tl.constexpr(float.fromhex("-0x1.994e860p-13"))
COS_0 = tl.constexpr(float.fromhex("-0x1.ffffba0p-2"))
COS_1 = tl.constexpr(float.fromhex("0x1.553f940p-5"))
COS_2 = tl.constexpr(float.fromhex("-0x1.6475400p-10"))
MINUS_2_LN2 = tl.constexpr(float.fromhex("-0x1.62e4300p+0"))
PI_2_31 = tl.constexpr(float.fromhex("0x1.921fb60p-30"))

TINY = tl.constexpr(2.0**-96)  # as in noisycells._analog
ENLARGED = tl.constexpr(2.0**96)
ROUNDS = tl.constexpr(1.5 * 2**23)  # what is below 2**22 and added to it becomes a whole number
PATCH = tl.constexpr(256)  # draws
MATMUL = tl.constexpr(4)  # the purpose of draws for products
INFINITY = tl.constexpr(0x7F800000)  # its bits
KEYS = ["stream_low", "stream_high", "seed_low", "seed_high"]  # one kernel for all


# --------------------------------------------------------------------------- random numbers


@triton.jit
def words(block, cell, purpose: tl.constexpr, stream_low, stream_high, seed_low, seed_high):
    """The four words of each block, uint32; ``block`` int64, the other integers 32 bits wide."""
    low = (block & 0xFFFFFFFF).to(tl.uint32)
    high = (block >> 32).to(tl.uint32)
    second = high | (cell.to(tl.uint32) << 12) | (purpose << 28)
    third = tl.zeros_like(low) + stream_low.to(tl.uint32)
    fourth = tl.zeros_like(low) + stream_high.to(tl.uint32)
    return tl.philox_impl(
        low, second, third, fourth, seed_low.to(tl.uint32), seed_high.to(tl.uint32), 10
    )


@triton.jit
def normals(radius_word, angle_word):
    """Two float32 standard normals from two words, as ``reference.box_muller``."""
    uniform = (radius_word >> 1).to(tl.int32, bitcast=True).to(tl.float32)
    bits = tl.fma(uniform, 2.0**-31, 2.0**-32).to(tl.int32, bitcast=True)
    exponent = (bits - 0x3F3504F3) >> 23
    f = (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0
    y = tl.fma(f, LOG_8, LOG_7)
    y = tl.fma(f, y, LOG_6)
    y = tl.fma(f, y, LOG_5)
    y = tl.fma(f, y, LOG_4)
    y = tl.fma(f, y, LOG_3)
    y = tl.fma(f, y, LOG_2)
    y = tl.fma(f, y, LOG_1)
    y = tl.fma(f, y, LOG_0)
    radius = tl.sqrt_rn(tl.fma(exponent.to(tl.float32), MINUS_2_LN2, f * y))

    turned = angle_word + 0x20000000  # wraps; bits 30, 31 are now the quadrant
    rest = (turned & 0x3FFFFFFF).to(tl.int32, bitcast=True) - 0x20000000
    a = rest.to(tl.float32) * PI_2_31
    a2 = a * a
    sin = tl.fma(a * a2, tl.fma(a2, tl.fma(a2, SIN_2, SIN_1), SIN_0), a)
    cos = tl.fma(a2, tl.fma(a2, tl.fma(a2, COS_2, COS_1), COS_0), 1.0)
    swap = (turned & 0x40000000) != 0
    first = tl.where(swap, sin, cos).to(tl.uint32, bitcast=True)
    second = tl.where(swap, cos, sin).to(tl.uint32, bitcast=True)
    first = first ^ ((turned + 0x40000000) & 0x80000000)
    second = second ^ (turned & 0x80000000)
    return (
        radius * first.to(tl.float32, bitcast=True),
        radius * second.to(tl.float32, bitcast=True),
    )


@triton.jit
def _noise(
    row, column, groups, cell, stream_low, stream_high, seed_low, seed_high,
    M: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Normals of vectors ``row`` (M,) and every fourth output ``column`` (N / 4,); (M, N).

    Where they lie in the patches of a draw: ``reference.noise_index``.
    """
    ROWS: tl.constexpr = PATCH // WIDTH
    patch = (row // ROWS)[:, None] * groups + (column // WIDTH)[None, :]
    inside = (row % ROWS)[:, None] * WIDTH + (column % WIDTH)[None, :]
    block = (patch * PATCH + inside) >> 2
    w0, w1, w2, w3 = words(block, cell, MATMUL, stream_low, stream_high, seed_low, seed_high)
    z0, z1 = normals(w0, w1)
    z2, z3 = normals(w2, w3)
    return tl.reshape(tl.join(tl.join(z0, z2), tl.join(z1, z3)), (M, N))


# --------------------------------------------------------------------------- inputs


@triton.jit
def _driven(x, row_scale, row, column, batch, k, real, HAS_ROW: tl.constexpr):
    """Inputs of vectors ``row`` as they are driven; 0 where ``column`` is not ``real``."""
    live = real[None, :] & (row < batch)[:, None]
    value = tl.load(x + row[:, None].to(tl.int64) * k + column[None, :], live, 0.0)
    if HAS_ROW:
        value = value * tl.load(row_scale + column, real, 0.0)[None, :]
    return value


@triton.jit
def _round(x):
    """To a whole number, ties to even; below 2**22."""
    return (x + ROUNDS) - ROUNDS


@triton.jit(do_not_specialize=["batch"])
def convert(
    x, row_scale, codes, squares, offsets, square_offsets, ranges, infinite,
    batch, k, padded_k, rows, tiles, fixed, levels,
    SLICES: tl.constexpr, SLICE_BITS: tl.constexpr, TILE: tl.constexpr, K: tl.constexpr,
    M: tl.constexpr, HAS_ROW: tl.constexpr, FIXED: tl.constexpr, SQUARES: tl.constexpr,
):  # fmt: skip
    """Codes of the DAC for vectors M program_id .. + M, tile after tile of inputs.

    ``codes``: int8 (slices, batch, padded_k). ``squares``: int8 (2, slices, batch, padded_k), the
    squares of the codes over 128, and what is left. ``offsets``, ``square_offsets``: int32
    (slices, tiles, batch), 128 times the sums of a tile's codes and of their squares. ``ranges``:
    float32 (batch,). ``infinite``: int32 (1,), set to 1 where an input is not finite.
    """
    row = tl.program_id(0) * M + tl.arange(0, M)
    there = row < batch
    top = tl.zeros((M,), tl.int32)
    for first in range(0, k, K):
        column = first + tl.arange(0, K)
        value = _driven(x, row_scale, row, column, batch, k, column < k, HAS_ROW)
        bits = value.to(tl.int32, bitcast=True) & 0x7FFFFFFF  # NaN is above infinity
        top = tl.maximum(top, tl.max(bits, 1))
    tl.store(infinite + 0 * row, 1, there & (top >= INFINITY))
    if FIXED:
        full_scale = tl.zeros((M,), tl.float32) + fixed
    else:
        full_scale = top.to(tl.float32, bitcast=True)
    tl.store(ranges + row, full_scale, there)
    factor = tl.where(full_scale < TINY, ENLARGED, 1.0)
    positive = full_scale > 0
    divisor = tl.where(positive, full_scale * factor, 1.0)
    inverse = tl.where(positive, tl.div_rn(tl.zeros((M,), tl.float32) + levels, divisor), 0.0)
    for s in tl.static_range(SLICES):
        for tile in range(tiles):
            total = tl.zeros((M,), tl.int32)
            square_total = tl.zeros((M,), tl.int32)
            for first in range(0, tl.minimum(TILE, padded_k - tile * TILE), K):
                of_tile = first + tl.arange(0, K)
                column = tile * rows + of_tile
                real = (of_tile < rows) & (column < k)
                value = _driven(x, row_scale, row, column, batch, k, real, HAS_ROW)
                t = (value * factor[:, None]) * inverse[:, None]
                code = _round(tl.minimum(tl.maximum(t, -levels), levels)).to(tl.int32)
                if SLICE_BITS:
                    digits = (tl.abs(code) >> (s * SLICE_BITS)) & ((1 << SLICE_BITS) - 1)
                    code = tl.where(code < 0, -digits, digits)
                line = (s * batch + row).to(tl.int64)[:, None] * padded_k
                at = line + tile * TILE + of_tile[None, :]
                tl.store(codes + at, code.to(tl.int8), there[:, None])
                total += tl.sum(code, 1)
                if SQUARES:
                    square = code * code
                    second = at + tl.cast(SLICES * batch, tl.int64) * padded_k
                    tl.store(squares + at, (square >> 7).to(tl.int8), there[:, None])
                    tl.store(squares + second, (square & 127).to(tl.int8), there[:, None])
                    square_total += tl.sum(square, 1)
            to = (s * tiles + tile) * batch + row
            tl.store(offsets + to, total * 128, there)
            if SQUARES:
                tl.store(square_offsets + to, square_total * 128, there)


# --------------------------------------------------------------------------- products


@triton.jit
def _add_products(sums, a, b, rows, K: tl.constexpr):
    """``sums`` plus those of products over ``rows``, a multiple of K, from pointers a and b on."""
    for first in range(0, rows, K):
        sums = tl.dot(tl.load(a + first), tl.trans(tl.load(b + first)), sums)
    return sums


@triton.jit
def _sums(
    a, b, next_a, next_b, offsets, rows, TWO: tl.constexpr, SHIFT: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Of a tile, int32 (M, N): with TWO parts, 2^SHIFT times the first plus the second.

    Some GPUs saturate: no partial sum reaches 2^31, whose largest, of 512 x 127 codes of weights
    and of 512 x 127^2 of variances, are 512 x 127 x 32768 and 512 x 127^2 x 255.
    """
    sums = _add_products(tl.zeros((M, N), tl.int32), a, b, rows, K)
    if TWO:
        sums = (sums << SHIFT) + tl.load(offsets)[:, None]
        sums = _add_products(sums, next_a, next_b, rows, K)
    return sums


@triton.jit
def _mark(inside, within, number, batch, n, M: tl.constexpr, N: tl.constexpr):
    """Write ``within``, bool (M, N), as bits of the pass ``number``, lowest first."""
    row = tl.program_id(0) * M + tl.arange(0, M)
    byte = tl.program_id(1) * (N // 8) + tl.arange(0, N // 8)
    live = tl.program_id(1) * N + tl.arange(0, N) < n
    bits = tl.reshape((within & live[None, :]).to(tl.int32), (M, N // 8, 8))
    bits = tl.sum(bits << tl.arange(0, 8)[None, None, :], 2).to(tl.uint8)
    width = (n + 7) // 8
    line = (tl.cast(number, tl.int64) * batch + row) * width
    there = (row < batch)[:, None] & (byte < width)[None, :]
    tl.store(inside + line[:, None] + byte[None, :], bits, there)


@triton.jit
def _finish(total, scale, bias, ranges, y, batch, n, M: tl.constexpr, N: tl.constexpr,
            BIAS: tl.constexpr):  # fmt: skip
    """Digital scales and the bias; write the outputs."""
    row = tl.program_id(0) * M + tl.arange(0, M)
    column = tl.program_id(1) * N + tl.arange(0, N)
    there, live = row < batch, column < n
    scaled = total * tl.load(scale + column, live, 0.0)[None, :]
    full_scale = tl.load(ranges + row, there, 0.0)[:, None]
    if BIAS:
        scaled = tl.fma(scaled, full_scale, tl.load(bias + column, live, 0.0)[None, :])
    else:
        scaled = scaled * full_scale
    to = y + row[:, None].to(tl.int64) * n + column[None, :]
    tl.store(to, scaled, there[:, None] & live[None, :])


@triton.jit(do_not_specialize=["batch", "first_row", *KEYS])
def multiply(
    codes, squares, offsets, square_offsets, ranges,
    weights, variances, units, variance_units, inverse_steps, gains, scale, bias, y, inside,
    batch, n, padded_k, tiles, planes, groups, first_row, top, noise, noise_squared,
    stream_low, stream_high, seed_low, seed_high,
    SLICES: tl.constexpr, TILE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    WIDTH: tl.constexpr, PARTS: tl.constexpr, OUTPUT_NOISE: tl.constexpr,
    WEIGHT_NOISE: tl.constexpr, ADC: tl.constexpr, INSIDE: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Outputs of M vectors and N outputs, pass after pass; ``reference.product``.

    ``weights``: int8 (planes, PARTS, n, padded_k): of two parts, codes over 256 and what is left,
    less 128. ``variances``: int8 (planes, n, padded_k), codes less 128. ``units``,
    ``variance_units``: float32 (planes, tiles, n), what a unit of their sums stands for.
    ``inverse_steps``, ``gains``: float32 (passes,). ``first_row``: of these vectors among all.
    ``inside``: uint8 (passes, batch, (n + 7) // 8).
    """
    row = tl.program_id(0) * M + tl.arange(0, M)
    column = tl.program_id(1) * N + tl.arange(0, N)
    live = column < n
    # Beyond the last, others are multiplied instead: their sums are not stored.
    row_at = (row % batch).to(tl.int64)[:, None] * padded_k + tl.arange(0, K)[None, :]
    column_at = (column % n).to(tl.int64)[:, None] * padded_k + tl.arange(0, K)[None, :]
    part = tl.cast(n, tl.int64) * padded_k  # bytes of weights
    vectors = tl.cast(batch, tl.int64) * padded_k  # of codes
    noise_column = (tl.program_id(1) * N + 4 * tl.arange(0, N // 4)).to(tl.int64)
    total = tl.zeros((M, N), tl.float32)
    for s in tl.static_range(SLICES):
        for plane in range(planes):
            for tile in range(tiles):
                length = tl.minimum(TILE, padded_k - tile * TILE)
                number = (s * planes + plane) * tiles + tile
                unit_at = (plane * tiles + tile) * n + column
                to = (s * tiles + tile) * batch + row % batch
                a = codes + s * vectors + tile * TILE + row_at
                b = weights + plane * PARTS * part + tile * TILE + column_at
                sums = _sums(a, b, a, b + part, offsets + to, length, PARTS == 2, 8, M, N, K)
                u = sums.to(tl.float32) * tl.load(units + unit_at, live, 0.0)[None, :]
                if WEIGHT_NOISE:
                    a = squares + s * vectors + tile * TILE + row_at
                    b = variances + plane * part + tile * TILE + column_at
                    c = a + SLICES * vectors
                    sums = _sums(a, b, c, b, square_offsets + to, length, True, 7, M, N, K)
                    unit = tl.load(variance_units + unit_at, live, 0.0)[None, :]
                    deviation = tl.sqrt_rn(tl.fma(sums.to(tl.float32), unit, noise_squared))
                else:
                    deviation = noise
                if OUTPUT_NOISE or WEIGHT_NOISE:
                    z = _noise(
                        row.to(tl.int64) + first_row, noise_column, groups, number, stream_low,
                        stream_high, seed_low, seed_high, M, N, WIDTH,
                    )  # fmt: skip
                    u = tl.fma(z, deviation, u)
                if ADC:
                    u = u * tl.load(inverse_steps + number)
                    if INSIDE:
                        _mark(inside, tl.abs(u) <= top, number, batch, n, M, N)
                    u = _round(tl.minimum(tl.maximum(u, -top), top))
                total = tl.fma(u, tl.load(gains + number), total)
    _finish(total, scale, bias, ranges, y, batch, n, M, N, BIAS)
