"""Slow numpy definitions of what the compiled core computes for crossbars.

As :mod:`noisycells.reference` does for channels and codecs, this module specifies; the core must
equal it bit for bit (sums of products in float32 within rounding, see :func:`tile_sums`).

Conductances are float32 in microsiemens. The random number of a device is drawn at the index of
its weight in C order over (out, in), with the number of the device in the counter's cell field;
that of a product at :func:`noise_index`, with the number of the pass there.

A *pass* is one analog read: one tile of input rows of one plane (conductances that are read
together, such as a difference of polarities or one slice of a weight's digits) under one slice
of the input's digits. Its sums are converted on their own and added up digitally.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._analog import RANGE_SIGMAS, Plane, dac, input_ranges, inverse_range
from .._analog import plane_values as plane_values  # these two are not called here, but defined
from .._analog import targets as targets
from .._float32 import fma32
from .._types import (
    F32,
    INTEGER_ROWS,
    VARIANCE_LEVELS,
    WEIGHT_LEVELS,
    Aging,
    Programming,
    tiles,
)
from . import interpolate, random_words, standard_normal

# Continues PROGRAM, READ, D2D, STUCK of noisycells.reference.
MATMUL, DRIFT, FLICKER, RELAX = range(4, 8)
PROGRAM, STUCK = 0, 3


# --------------------------------------------------------------------------- devices


class Draw(NamedTuple):
    """Which random numbers: of this chip, layer and device, from this index on."""

    seed: int
    stream: int
    cell: int
    offset: int = 0


def _at(table: F32, i: NDArray[np.int32], f: F32, column: int) -> F32:
    return fma32(f, table[i, column + 1], table[i, column])


def _position(x: F32, grid: Programming | Aging, n: int) -> tuple[NDArray[np.int32], F32]:
    return interpolate((x - np.float32(grid.x0)) * np.float32(grid.inv_dx), n)


def _finish(g: F32, limits: Programming | Aging, draw: Draw) -> F32:
    g = np.minimum(np.maximum(g, np.float32(limits.low)), np.float32(limits.high))
    stuck = limits.stuck
    if stuck.off or stuck.on:
        word = random_words(
            g.size, draw.seed, draw.stream, draw.offset, STUCK, draw.cell
        ).reshape(g.shape)  # fmt: skip
        top = 2**32 - 1
        off = word < np.uint32(min(stuck.off, top))
        on = ~off & (word < np.uint32(min(stuck.off + stuck.on, top)))
        ends = [np.float32(stuck.off_conductance), np.float32(stuck.on_conductance)]
        g = np.select([off, on], ends, g).astype(np.float32)
    return g


def program(target: F32, device: Programming, draw: Draw) -> F32:
    """Programmed conductances; ``target`` (...), elements in C order from ``draw.offset``."""
    i, f = _position(target, device, len(device.table))
    z = standard_normal(target.size, draw.seed, draw.stream, draw.offset, PROGRAM, draw.cell)
    mean, std = _at(device.table, i, f, 0), _at(device.table, i, f, 2)
    return _finish(fma32(std, z.reshape(target.shape), mean), device, draw)


# Minimax fit of 2^r on [-1/2, 1/2] with 2^0 = 1 exactly, relative error 1.6e-8 (Lawson-weighted).
EXP2_COEFFICIENTS = (
    "0x1.0000000p+0", "0x1.62e4300p-1", "0x1.ebfbdc0p-3", "0x1.c6aee80p-5", "0x1.3b2d4c0p-7",
    "0x1.5f3e540p-10", "0x1.41fbbc0p-13",
)  # fmt: skip
LOG2_E = np.float32(1.4426950408889634)


def exp_minus(x: F32) -> F32:
    """exp(-x) for x >= 0, in float32; inputs beyond 87 give about 1.6e-38."""
    x = np.minimum(x, np.float32(87))
    n = np.rint(x * -LOG2_E)
    r = fma32(x, -LOG2_E, -n)
    coefficients = [np.float32(float.fromhex(h)) for h in EXP2_COEFFICIENTS]
    y = np.full(x.shape, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = fma32(y, r, c)
    bits = y.view(np.int32) + (n.astype(np.int32) << np.int32(23))
    result: F32 = bits.view(np.float32)
    return result


def age(target: F32, programmed: F32, device: Aging, draw: Draw) -> F32:
    """Conductances at the moment that ``device`` was made for.

    g = (programmed + shift + std z1) exp(-\\|nu L\\|) (1 + q z3), nu L ~ N(mean, std^2) by z2;
    z1, z2, z3 are frozen draws of the device: the same at every moment.
    """

    def normal(purpose: int) -> F32:
        z = standard_normal(target.size, draw.seed, draw.stream, draw.offset, purpose, draw.cell)
        return z.reshape(target.shape)

    g = programmed
    if device.relaxation is not None:
        i, f = _position(target, device, len(device.relaxation))
        shift, std = (_at(device.relaxation, i, f, c) for c in (0, 2))
        g = np.maximum(fma32(std, normal(RELAX), g + shift), np.float32(0))
    if device.drift is not None:
        i, f = _position(target, device, len(device.drift))
        exponent = fma32(_at(device.drift, i, f, 2), normal(DRIFT), _at(device.drift, i, f, 0))
        g = g * exp_minus(np.abs(exponent))
    if device.flicker is not None:
        i, f = _position(programmed, device, len(device.flicker))
        g = fma32(g * _at(device.flicker, i, f, 0), normal(FLICKER), g)
    return _finish(g, device, draw)


# --------------------------------------------------------------------------- packing


def encode_tile(values: F32, levels: int) -> tuple[NDArray[np.int64], F32]:
    """Codes (out, rows) and the peak magnitude (out,) that ``levels`` stands for."""
    peak = np.abs(values).max(axis=1, initial=0).astype(np.float32)
    codes = np.rint(values * inverse_range(peak, levels)[:, None])
    return np.clip(codes, -levels, levels).astype(np.int64), peak


def _sum_of_16(values: F32) -> F32:
    """Of (out, rows): 16 partial sums, in blocks of 512 rows whose sums are added in turn."""
    total = np.zeros(len(values), np.float32)
    for first in range(0, values.shape[1], INTEGER_ROWS):
        block = values[:, first : first + INTEGER_ROWS]
        lanes = np.zeros((len(values), 16), np.float32)
        for k in range(0, block.shape[1], 16):
            part = block[:, k : k + 16]
            lanes[:, : part.shape[1]] += part
        for half in (8, 4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half : 2 * half]
        total += lanes[:, 0]
    return total


def reach(values: F32) -> np.float32:
    """How far the sums of a tile (out, rows) are to be expected to reach, in full scale.

    4 standard deviations about the mean of the sums, for independent inputs uniform over [-1, 1]
    or over [0, 1] of full scale, whichever reaches further, of the output that reaches furthest.
    """
    sums, squares = _sum_of_16(values), _sum_of_16(values * values)
    either = RANGE_SIGMAS * np.sqrt(squares * np.float32(1 / 3))
    positive = np.abs(sums) * np.float32(0.5) + RANGE_SIGMAS * np.sqrt(squares * np.float32(1 / 12))
    result: np.float32 = np.float32(np.maximum(either, positive).max(initial=0))
    return result


# --------------------------------------------------------------------------- products


class Spec(NamedTuple):
    """What a product does, apart from the arrays and its inputs.

    ``rows``: of a tile. ``dac_levels``: largest input code, 0 for an ideal DAC. ``slice_bits``:
    digits of an input slice, 0 for all at once. ``adc_levels``: largest output code, 0 for an
    ideal ADC. ``steps``: one ADC step for each pass, in units of input full scale times
    (g_max - g_min). ``output_noise``: std in the same units. ``weight_noise``: whether the
    variances of the planes act. ``integer``: codes of weights, or float32 weights.
    ``int8``: weights in 8 bits (127 levels) instead of 16.
    """

    rows: int
    dac_levels: int
    slice_bits: int
    adc_levels: int
    steps: F32
    plane_factors: F32
    output_noise: float
    weight_noise: bool
    integer: bool
    int8: bool = False


class Result(NamedTuple):
    """``y`` float32 (batch, out); ``inside`` bool (passes, batch, out): within the ADC's range;
    ``clipped``: input values that the DAC clipped."""

    y: F32
    inside: NDArray[np.bool_]
    clipped: int


def input_slices(spec: Spec) -> list[tuple[int, int, float]]:
    """(shift, largest digit, digital factor) of each input slice, least significant first."""
    if not spec.slice_bits:
        return [(0, spec.dac_levels or 1, 1.0)]
    digit = (1 << spec.slice_bits) - 1
    shifts = range(0, spec.dac_levels.bit_length(), spec.slice_bits)
    return [
        (s, digit, float(np.float32((1 << s) * digit) / np.float32(spec.dac_levels)))
        for s in shifts
    ]


def noise_index(b: NDArray[np.int64], j: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Index of the draw for batch row ``b`` and output ``j`` of ``n``.

    Draws lie in patches of 256: 4 rows of 64 outputs, or where all outputs fit into 32 or 16,
    8 rows of 32 or 16 rows of 16.
    """
    width = next(w for w in (16, 32, 64) if n <= w or w == 64)
    groups = (n + width - 1) // width
    rows = 256 // width
    return ((b // rows) * groups + j // width) * 256 + (b % rows) * width + j % width


def tile_sums(a: F32, weights: F32) -> F32:
    """a (batch, rows) times weights (out, rows): fused multiply-adds in the order of the rows.

    The core does the same at levels with fused multiply-adds, except that with AMX it does
    :func:`tile_sums_bfloat16`; at the baseline of x86 it multiplies and adds, with two roundings.
    There the sums differ by rounding.
    """
    total = np.zeros((len(a), len(weights)), np.float32)
    for k in range(a.shape[1]):
        total = fma32(a[:, k, None], weights[None, :, k], total)
    return total


def tile_sums_bfloat16(a: F32, weights: F32) -> F32:
    """The same by AMX (instruction TDPBF16PS), whose errors are smaller still.

    A float32 is the sum of three bfloat16, its first, next and last 8 bits. The six products of
    parts that float32 can tell from 0 are summed, small ones first, in steps of 32 rows: even and
    odd rows on their own, then added to the total. The instruction also takes numbers below
    2**-126 for 0, which this function does not.
    """
    padding = ((0, 0), (0, -a.shape[1] % 32))
    x, w = (_bfloat16_parts(np.pad(v, padding)) for v in (a, weights))
    total = np.zeros((len(a), len(weights)), np.float32)
    for order in (2, 1, 0):
        for part in range(order, -1, -1):
            u, v = x[part].T[:, :, None], w[order - part].T[:, None, :]
            for first in range(0, len(u), 32):
                halves = np.zeros((2, *total.shape), np.float32)
                for k in range(first, first + 32, 2):  # the products are exact
                    halves = halves + u[k : k + 2] * v[k : k + 2]
                total = total + (halves[0] + halves[1])
    return total


def _bfloat16_parts(v: F32) -> list[F32]:
    parts = []
    for _ in range(3):
        parts.append((v.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
        v = v - parts[-1]
    return parts


def sums_of_tile(a: F32, w: F32, spec: Spec, digit: int) -> F32:
    """What a tile of weights (out, in) gives for codes (batch, in) up to ``digit``, no noise."""
    if spec.integer:
        levels = 127 if spec.int8 else WEIGHT_LEVELS
        c, peak = encode_tile(w, levels)
        sums = a.astype(np.int64) @ c.T
        assert np.abs(sums).max(initial=0) < 1 << 31
        u: F32 = sums.astype(np.float32) * (peak * np.float32(1 / (levels * digit)))
    else:
        u = tile_sums(a, w) * np.float32(1 / digit)
    return u


def noise_of_tile(a: F32, plane: Plane, tile: slice, spec: Spec, digit: int) -> F32:
    """Standard deviation of the noise of its sums: of the weights' reads and of the outputs."""
    noise = np.float32(spec.output_noise)
    if not spec.weight_noise:
        return np.full((len(a), len(plane.values)), noise)
    assert plane.variance is not None
    v = plane.variance[:, tile]
    if spec.integer:
        c, peak = encode_tile(v, VARIANCE_LEVELS)
        squares = (a.astype(np.int64) ** 2 @ c.T).astype(np.float32)
        unit = peak * np.float32(1 / (VARIANCE_LEVELS * digit**2))
    else:
        squares, unit = tile_sums(a * a, v), np.float32(1 / digit**2)
    deviation: F32 = np.sqrt(fma32(squares, unit, noise * noise))
    return deviation


def product(
    x: F32,
    planes: list[Plane],
    spec: Spec,
    ranges: F32,
    scale: F32,
    seed: int,
    stream: int = 0,
    row_scale: F32 | None = None,
    bias: F32 | None = None,
) -> Result:
    """y = x W^T through the crossbar; x (batch, in), finite; ``scale`` (out,).

    ``ranges`` are :func:`input_ranges` of x (after ``row_scale``, (in,), where given).
    """
    if row_scale is not None:
        x = x * row_scale
    n, k = planes[0].values.shape
    codes = dac(x, ranges, spec.dac_levels)
    clipped = int(np.count_nonzero(np.abs(x) > ranges[:, None])) if spec.dac_levels else 0
    index = noise_index(np.arange(len(x))[:, None], np.arange(n)[None, :], n)
    length = int(index.max(initial=-1)) + 1
    passes: list[NDArray[np.bool_]] = []
    total = np.zeros((len(x), n), np.float32)
    for shift, digit, slice_factor in input_slices(spec):
        a = codes
        if spec.slice_bits:
            digits = (np.abs(codes).astype(np.int64) >> shift) & digit
            a = (np.sign(codes) * digits).astype(np.float32)
        for plane, plane_factor in zip(planes, spec.plane_factors, strict=True):
            for tile in tiles(k, spec.rows):
                p = len(passes)
                u = sums_of_tile(a[:, tile], plane.values[:, tile], spec, digit)
                if spec.weight_noise or spec.output_noise:
                    z = standard_normal(length, seed, stream, 0, MATMUL, p)[index]
                    u = fma32(noise_of_tile(a[:, tile], plane, tile, spec, digit), z, u)
                factor = np.float32(plane_factor) * np.float32(slice_factor)
                if spec.adc_levels:
                    top = np.float32(spec.adc_levels)
                    step = np.float32(spec.steps[p])
                    t = u * (np.float32(1) / step)
                    passes.append(np.abs(t) <= top)
                    code = np.rint(np.minimum(np.maximum(t, -top), top))
                    total = fma32(code, step * factor, total)
                else:
                    passes.append(np.ones(u.shape, bool))
                    total = fma32(u, factor, total)
    scaled = total * scale
    y = scaled * ranges[:, None] if bias is None else fma32(scaled, ranges[:, None], bias)
    return Result(y, np.array(passes), clipped)


def weight_gradient(
    x: F32,
    grad: F32,
    rows: int,
    dac_levels: int,
    shift: int = 0,
    digit: int = 0,
    fixed: float | None = None,
    row_scale: F32 | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Gradient of the weights (out, inputs) in one pass, in float64.

    ``x`` (batch, inputs), ``grad`` (batch, out) of the pass' sums in units of the weights.
    ``digit``: largest digit of the pass' input slice, ``shift`` bits up; 0 for all digits at once.
    ``inside`` (tiles, batch, out): where a tile's sum was within the ADC's range. Inputs that are
    not driven (row scale 0) count as driven by their own size: so that such weights can leave 0.
    The core sums in float32, in another order.
    """
    driven = x if row_scale is None else x * row_scale
    ranges = input_ranges(driven, fixed)
    as_driven = x if row_scale is None else x * np.where(row_scale > 0, row_scale, np.float32(1))
    codes = np.rint(as_driven * inverse_range(ranges, dac_levels)[:, None])
    if fixed is not None:
        codes = np.minimum(np.maximum(codes, -dac_levels), dac_levels)
    if digit:
        codes = np.sign(codes) * ((np.abs(codes).astype(np.int64) >> shift) & digit)
    # As float32, since that is what the core multiplies.
    of_steps = (grad * (ranges / np.float32(dac_levels))[:, None]).astype(np.float64)
    total = np.empty((grad.shape[1], x.shape[1]))
    for i, tile in enumerate(tiles(x.shape[1], rows)):
        passed = of_steps if inside is None else of_steps * inside[i]
        total[:, tile] = passed.T @ codes[:, tile]
    return total
