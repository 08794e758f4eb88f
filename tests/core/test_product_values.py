"""Crossbar products of extreme values, and the rounding of float sums."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from core_cases import THREADS
from numpy.typing import NDArray
from product_cases import (
    NOT_FINITE,
    Case,
    Layer,
    expected,
    inputs,
    kernels,
    layer,
    noises,
    rounding,
    same,
)

from noisycells.reference import crossbar as reference

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def exact(case: Case, positive: F32, negative: F32, variance: float = 0.0) -> Layer:
    """A layer of such conductances, in units of the span, whose outputs are the sums."""
    return replace(
        layer(case), positive=positive, negative=negative, inverse_span=1.0,
        variance=np.full_like(positive, variance), scale=np.ones(case.n, np.float32),
        plane_factors=np.ones(len(case.planes), np.float32),
    )  # fmt: skip


@kernels
@pytest.mark.parametrize("noise", ["none", "weight"])
def test_the_largest_codes_do_not_overflow(simd_level: str, kernel: str, noise: str) -> None:
    """512 rows of 127 x 32767, and of 127^2 x 255, of every combination of signs."""
    case = Case(kernel, 36, 70, 1024, 512, 127, noise=noise)
    sign = np.float32([1, -1])
    column = np.repeat(sign, 35)[:, None] * np.ones(1024, np.float32)
    column[::7] *= np.tile(sign, 512)
    w = column[None]
    made = exact(case, np.maximum(w, 0), np.maximum(-w, 0), 0.5)
    x = np.repeat(sign, 18)[:, None] * np.ones(1024, np.float32)
    x[::5] *= np.tile(sign, 512)
    result = made.expected(x)
    assert noise == "weight" or set(np.unique(result.y)) == {-1024, 0, 1024}
    got = made.product(made.pack(), x)
    same(got, (result.y, np.packbits(result.inside, axis=2, bitorder="little"), 0))


@kernels
@noises
def test_zeros(simd_level: str, kernel: str, noise: str) -> None:
    """Inputs, weights or variances of nothing but zeros of both signs."""
    case = Case(kernel, 9, 70, 40, 16, adc=31, noise=noise)
    made, x = layer(case), inputs(case)
    nothing = np.zeros_like(made.positive)
    no_inputs = np.zeros_like(x)
    no_inputs[::2] = -0.0
    for changed, given_x in (
        (made, no_inputs),
        (replace(made, positive=nothing, negative=nothing), x),
        (replace(made, negative=made.positive), x),
        (replace(made, variance=nothing), x),
        (replace(made, positive=nothing, negative=nothing, variance=nothing), no_inputs),
    ):
        result = changed.expected(given_x)
        inside = np.packbits(result.inside, axis=2, bitorder="little")
        same(changed.product(changed.pack(), given_x), (result.y, inside, result.clipped))


@kernels
@pytest.mark.parametrize("noise", ["none", "both"])
def test_inputs_of_any_size(simd_level: str, kernel: str, noise: str) -> None:
    sizes = (1e-45, 1e-42, 1e-38, 1e-30, 1e30, 1e37, 1e38, 3.4e38)
    for size, fixed, row_scale in product(sizes, (None, 1e-30, 1e30, 3e38), (False, True)):
        if row_scale and size > 1e38:
            continue  # infinite after the scales
        # With a DAC: an ideal one passes infinity on.
        case = Case(kernel, 7, 9, 40, 16, 127, noise=noise, fixed=fixed, row_scale=row_scale)
        made, x = layer(case), inputs(case)
        x = np.clip(x, -1, 1) * np.float32(size)
        result = made.expected(x)
        got = made.product(made.pack(), x)
        same(got, (result.y, np.packbits(result.inside, axis=2, bitorder="little"), result.clipped))


@kernels
@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-36, 1e-25, 1e30, 1e35])
def test_conductances_of_any_size(simd_level: str, kernel: str, size: float) -> None:
    """In units of the span; of denormal ones the codes are limited."""
    # Where parts below 2^-126 count as 0, reads of such conductances differ by less than 1e-16.
    flushes = size < 1e-30 and kernel == "float32" and rounding() == "parts"
    case = Case(kernel, 7, 9, 40, 16, 127, noise="weight")
    plain, factor = layer(case), np.float32(size)
    scaled = {name: getattr(plain, name) * factor for name in ("positive", "negative")}
    for made in (replace(plain, **scaled), replace(plain, variance=plain.variance * factor)):
        result, got = made.expected(inputs(case)), made.product(made.pack(), inputs(case))
        if flushes:
            np.testing.assert_allclose(got[0], result.y, rtol=1e-5, atol=1e-16)
        else:
            same(got, (result.y, np.packbits(result.inside, axis=2, bitorder="little"), 0))


@kernels
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(simd_level: str, kernel: str, value: float) -> None:
    case = Case(kernel, 70, 2, 37, 16, fixed=1.0)
    made, array = layer(case), layer(case).pack()
    for row, place in ((0, 0), (3, 15), (63, 16), (64, 31), (69, 32), (69, 36)):
        x = inputs(case).copy()
        x[row, place] = value
        for threads in THREADS:
            with pytest.raises(ValueError, match=NOT_FINITE):
                made.product(array, x, threads)
    same(made.product(array, inputs(case)), expected(case))


@kernels
def test_every_share_of_the_inputs_is_looked_at(simd_level: str, kernel: str) -> None:
    """Vectors so long that each thread has its own; whatever the others find."""
    case = Case(kernel, 7, 1, 5000, 512)
    made, array = layer(case), layer(case).pack()
    for row in range(7):
        x = inputs(case).copy()
        x[row, 4999 - row] = np.inf
        for _ in range(5):
            with pytest.raises(ValueError, match=NOT_FINITE):
                made.product(array, x, 7)


def test_inputs_that_the_row_scale_makes_infinite(simd_level: str) -> None:
    case = Case("int16", 3, 2, 37, 16, row_scale=True)
    made = layer(case)
    assert made.row_scale is not None
    made = replace(made, row_scale=made.row_scale * np.float32(1e30))
    x = inputs(case).copy()
    made.product(made.pack(), x)
    x[1, 36] = 1e30
    with pytest.raises(ValueError, match=NOT_FINITE):
        made.product(made.pack(), x)


def test_a_late_vector_that_is_not_finite(simd_level: str) -> None:
    """In another chunk than the first."""
    case = Case("int16", 450, 2, 2500, 500, 127, 1, bias=True, fixed=2.0)
    made, x = layer(case), inputs(case).copy()
    x[449, 2499] = np.nan
    with pytest.raises(ValueError, match=NOT_FINITE):
        made.product(made.pack(), x, 1)


@pytest.mark.parametrize("rows", [1, 2, 100, 1000])
def test_float_sums_are_within_rounding(simd_level: str, rows: int) -> None:
    """Of a sum with n roundings: n u / (1 - n u) of that of the magnitudes (Higham 2002, 3.1)."""
    case = Case("float32", 6, 70, rows, rows, 0)
    made, x = exact(case, layer(case).positive, layer(case).negative), inputs(case)
    t = reference.dac(x, reference.input_ranges(x, None), 0).astype(np.float64)
    w = reference.plane_values(made.positive[0], made.negative[0], 1.0).astype(np.float64)
    y, _, _ = made.product(made.pack(), x)
    full = np.abs(x).max(axis=1, keepdims=True).astype(np.float64)
    # What is left out of the products of parts is below 9 u; each of the others is rounded with
    # the other 15 of its half, the other half, and then with each 32 rows of the 6 products.
    count = 9 + 17 + 6 * -(-rows // 32) if rounding() == "parts" else rows
    nu = (count + 2) * 2.0**-24
    bound = nu / (1 - nu) * (np.abs(t) @ np.abs(w).T) * full
    assert (np.abs(y - (t @ w.T) * full) <= bound).all()


def test_float_sums_of_the_levels(simd_level: str) -> None:
    """1 + 2^-12 squared, less its first bits: what is left where nothing rounds the product."""
    a = np.float32(1 + 2.0**-12)
    case = Case("float32", 1, 1, 2, 2, 0, fixed=1.0)
    w = np.float32([[[-1 - 2.0**-11, a]]])
    made = exact(case, w, np.zeros_like(w))
    y, _, _ = made.product(made.pack(), np.float32([[1.0, a]]))
    assert y == (0.0 if rounding() == "two roundings" else 2.0**-24)
