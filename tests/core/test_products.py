"""Crossbar products: the core equals reference/crossbar.py bit for bit, at every SIMD level."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from core_cases import THREADS, at_level, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from product_cases import (
    KERNELS,
    NOISES,
    SEED,
    STREAM,
    Case,
    check,
    expected,
    inputs,
    kernels,
    layer,
    noises,
    rounding,
    same,
)

import noisycells as nc
from noisycells import _core, _types
from noisycells.reference import crossbar as reference

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

EDGES = (1, 63, 64, 65, 130)  # panels hold 64 outputs; kernels step by up to 64 rows
NARROW = (15, 16, 17, 31, 32, 33)  # fewer outputs share their noise in narrower patches


@kernels
@noises
def test_outputs_and_inputs_at_the_edges_of_panels(
    simd_level: str, kernel: str, noise: str
) -> None:
    for n, k in (*product(EDGES, EDGES), *product(NARROW, (40,))):
        check(Case(kernel, 5, n, k, 64, adc=31, noise=noise, bias=n % 2 == 0))


@kernels
@pytest.mark.parametrize("noise", ["none", "both"])
def test_every_batch_is_the_beginning_of_a_longer_one(
    simd_level: str, kernel: str, noise: str
) -> None:
    for n, batches in ((3, range(131)), (20, range(0, 131, 7)), (70, range(0, 131, 11))):
        case = Case(kernel, 130, n, 7, 4, adc=31, noise=noise)
        made, x, (y, inside, _) = layer(case), inputs(case), expected(case)
        array = made.pack()
        for batch in batches:
            got = made.product(array, x[:batch], 1 if batch % 16 else 7)
            same(got, (y[:batch], inside[:, :batch], 0))


@kernels
@pytest.mark.parametrize("noise", ["none", "both"])
def test_tiles_of_every_height(simd_level: str, kernel: str, noise: str) -> None:
    """A full tile, and one of 1 to 70 rows."""
    every = range(1, 513) if noise == "none" and kernel != "float32" else range(1, 513, 19)
    for rows in (*range(1, 35), *every, 511, 512):
        check(Case(kernel, 2, 2, rows + 1 + rows % min(70, rows), rows, noise=noise))


@noises
def test_tall_tiles(simd_level: str, noise: str) -> None:
    """Of more rows than the integer kernels take; panels are packed 512 rows at a time."""
    for rows, k in ((513, 513), (600, 1100), (1024, 1500), (1025, 1024), (2000, 1537)):
        check(Case("float32", 3, 5, k, rows, noise=noise, adc=127))


@kernels
def test_dac_of_every_width(simd_level: str, kernel: str) -> None:
    for bits in range(2, 17 if kernel == "float32" else 9):
        for slice_bits in (0, 1, 2, 3, 5, 8, 15):
            fixed = 1.5 if slice_bits % 2 else None
            check(Case(kernel, 3, 5, 20, 11, 2 ** (bits - 1) - 1, slice_bits, 127, fixed=fixed))


@kernels
def test_dac_of_other_numbers_of_levels(simd_level: str, kernel: str) -> None:
    """Of 8 bits and of more, those that float products split."""
    more = (255, 256, 257, 300, 30_000) if kernel == "float32" else ()
    for levels in (2, 5, 100, 126, *more):
        for slice_bits in (0, 1, 4):
            check(Case(kernel, 3, 5, 20, 11, levels, slice_bits, noise="weight"))


@noises
def test_ideal_dac(simd_level: str, noise: str) -> None:
    for fixed, row_scale in product((None, 0.7), (False, True)):
        check(Case("float32", 9, 70, 33, 20, 0, 0, 15, noise, fixed=fixed, row_scale=row_scale))


@kernels
def test_adc_of_every_width(simd_level: str, kernel: str) -> None:
    for bits in (0, *range(2, 17)):
        case = Case(kernel, 9, 70, 33, 20, adc=2 ** (bits - 1) - 1 if bits else 0, noise="both")
        check(case)
        outside = 1 - layer(case).expected(inputs(case)).inside.mean()
        assert 0.005 < outside < 0.3 if bits else outside == 0


@kernels
def test_results_between_two_codes_round_to_even(simd_level: str, kernel: str) -> None:
    """Sums at all multiples of half an ADC step, on the edges of its range too."""
    case = Case(kernel, 41, 1, 1, 1, dac=127, adc=7)
    made = replace(
        layer(case), positive=np.ones((1, 1, 1), np.float32), inverse_span=1.0,
        negative=np.zeros((1, 1, 1), np.float32), scale=np.ones(1, np.float32),
        steps=np.float32([2.0**-3]), case=case._replace(kernel=kernel, fixed=1.0, dac=64),
    )  # fmt: skip
    x = np.arange(-20, 21, dtype=np.float32)[:, None] / 16  # half steps
    result = made.expected(x)
    y, inside, clipped = made.product(made.pack(), x)
    codes = np.clip(np.rint(np.clip(x * 8, -8, 8)), -7, 7)
    assert kernel == "float32" or np.abs(y - codes / 8).max() < 1e-6
    same_bits(y, result.y)
    if kernel == "float32":
        same_bits(y, codes / np.float32(8) + np.float32(0))
        assert inside.ravel().tolist() == (np.abs(x.ravel()) <= 7 / 8).tolist()
    same_bits(inside, np.packbits(result.inside, axis=2, bitorder="little"))
    assert clipped == 8


@kernels
@noises
@pytest.mark.parametrize(
    "planes", [("+",), ("-",), ("+", "-"), ("+-", "+-"), ("+-", "-", "+")], ids=" ".join
)
def test_planes(simd_level: str, kernel: str, noise: str, planes: tuple[str, ...]) -> None:
    for slice_bits, adc in ((0, 0), (2, 63)):
        check(Case(kernel, 6, 66, 50, 24, 15, slice_bits, adc, noise, planes, row_scale=True))


@kernels
@pytest.mark.parametrize("noise", ["none", "both"])
def test_inputs_beyond_a_fixed_range(simd_level: str, kernel: str, noise: str) -> None:
    """The DAC counts what it clips: not what equals its full scale."""
    for row_scale, bias in product((False, True), (False, True)):
        case = Case(
            kernel, 70, 9, 35, 16, 7, noise=noise, fixed=1.25, row_scale=row_scale, bias=bias
        )
        check(case)
        assert expected(case)[2] > 300
    case = Case(kernel, 4, 9, 35, 16, 7, fixed=1.25)
    made, x = layer(case), np.full((4, 35), 1.25, np.float32)
    x[1:3] *= -1
    assert made.product(made.pack(), x)[2] == 0
    x[3, 34] = np.nextafter(x[3, 34], np.float32(2))
    assert made.product(made.pack(), x)[2] == 1


@noises
@pytest.mark.parametrize("kernel", KERNELS)
def test_products_do_not_depend_on_threads(simd_level: str, kernel: str, noise: str) -> None:
    """Several panels, more vectors than are prepared at once, and packing too."""
    case = Case(kernel, 130, 130, 70, 35, 7, 2, 31, noise, ("+", "-"), row_scale=True, bias=True)
    for threads in (0, *THREADS):
        check(case, threads)


@pytest.mark.parametrize(("kernel", "noise"), [(k, n) for k in KERNELS for n in ("none", "both")])
def test_chunks_of_the_batch(simd_level: str, kernel: str, noise: str) -> None:
    """Input codes are kept for about 1 MB of vectors a thread at a time, here 7 slices each."""
    batch, k, width = (250, 1200, 4) if kernel == "float32" else (450, 2500, 1)
    case = Case(kernel, batch, 2, k, 500, 127, 1, noise=noise, bias=True, fixed=2.0)
    assert batch * 7 * k * width > 7 * 2**20
    for threads in THREADS:
        check(case, threads)


def test_products_without_masks(simd_level: str) -> None:
    for kernel in KERNELS:
        case = Case(kernel, 9, 70, 33, 20, adc=31, noise="both")
        made, x = layer(case), inputs(case)
        y = np.empty((9, 70), np.float32)
        made.pack().product(x, y, made.settings(), SEED, STREAM)
        same_bits(y, expected(case)[0])


def test_settings_keep_copies_of_their_arrays(simd_level: str) -> None:
    """Later changes of the arrays do not matter, and one settings serves several products."""
    case = Case("int16", 9, 70, 33, 20, adc=31, noise="both", bias=True, row_scale=True)
    made, x, arrays = layer(case), inputs(case), {}
    for name in ("steps", "plane_factors", "scale", "row_scale"):
        arrays[name] = getattr(made, name).copy()
    bound = replace(made, **arrays).settings()
    for array in arrays.values():
        array[:] = np.nan
    y = np.empty((9, 70), np.float32)
    for _ in range(2):
        made.pack().product(x, y, bound, SEED, STREAM, made.bias)
        same_bits(y, expected(case)[0])


def test_planes_are_packed_one_by_one(simd_level: str) -> None:
    """In any order, and again: the last one counts; later changes of the arrays do not."""
    for kernel in KERNELS:
        case = Case(kernel, 9, 70, 33, 20, 15, 2, noise="both", planes=("+-", "+", "-"))
        made, array = layer(case), layer(case).pack()
        for p in (2, 0, 1):
            g = made.positive[p].copy()
            array.pack(p, g * 2, g, 3.0, made.variance[p] * 2)
        for p in (1, 2, 0):
            mine = [None if g is None else g.copy() for g in made.polarities(p)]
            variance = made.variance[p].copy()
            array.pack(p, *mine, made.inverse_span, variance)
            for g in (*mine, variance):
                if g is not None:
                    g[:] = 7
        same(made.product(array, inputs(case)), expected(case))


@cache
def reaches(case: Case) -> F32:
    """Of each plane and tile."""
    made = layer(case)
    values = [
        reference.plane_values(*made.polarities(p), made.inverse_span)
        for p in range(len(case.planes))
    ]
    return np.array(
        [[reference.reach(v[:, t]) for t in _types.tiles(case.k, case.rows)] for v in values]
    )


@kernels
def test_packing_tells_how_far_sums_reach(simd_level: str, kernel: str) -> None:
    tall = (700, 1100) if kernel == "float32" else ()
    planes = ("+-", "+", "-")
    shapes = [*product((1, 64, 65, 130), (1, 15, 16, 17, 33)), *product((3, 70), (511, 512, *tall))]
    for (n, rows), variance in product(shapes, ("none", "weight")):
        case = Case(kernel, 1, n, 2 * rows + (rows + 1) // 2, rows, noise=variance, planes=planes)
        made = layer(case)
        array = _core.CrossbarArray(
            n, case.k, rows, 3, made.spec.integer, made.spec.int8, made.spec.weight_noise
        )
        for threads in (1, 7):
            for p in range(3):
                v = made.variance[p] if made.spec.weight_noise else None
                got = array.pack(p, *made.polarities(p), made.inverse_span, v, threads)
                same_bits(got, reaches(case)[p])


@st.composite
def cases(draw: Any) -> Case:
    kernel = draw(st.sampled_from(KERNELS))
    codes = st.sampled_from([2 ** (b - 1) - 1 for b in range(2, 9)]) | st.integers(1, 127)
    if kernel == "float32":
        codes |= st.just(0) | st.integers(1, 32767)
    dac = draw(codes)
    k = draw(st.integers(1, 140))
    rows = draw(st.integers(max(1, k // 3), 150))
    return Case(
        kernel,
        draw(st.integers(0, 20) | st.sampled_from([63, 64, 65, 66])),
        draw(st.integers(1, 70) | st.sampled_from([128, 129])),
        k,
        rows,
        dac,
        draw(st.sampled_from([0, 0, 0, 2, 5, 15])) if dac else 0,
        draw(st.sampled_from([0, 1, 7, 127, 32767])),
        draw(st.sampled_from(NOISES)),
        draw(st.sampled_from([("+-",), ("+", "-"), ("-",), ("+-", "+")])),
        draw(st.none() | st.floats(0.125, 10, width=32)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.integers(0, 2**32)),
    )


@given(cases(), st.sampled_from(THREADS))
@settings(deadline=None, derandomize=True, max_examples=80)
def test_any_product(case: Case, threads: int) -> None:
    made, x = layer.__wrapped__(case), inputs.__wrapped__(case)
    answers: dict[str, tuple[F32, U8, int]] = {}
    for level in nc.available_simd_levels():
        with at_level(level):
            if rounding() not in answers:
                r = made.expected(x)
                bits = np.packbits(r.inside, axis=2, bitorder="little")
                answers[rounding()] = (r.y, bits, r.clipped)
            same(made.product(made.pack(threads), x, threads), answers[rounding()])


def test_arrays_keep_their_simd_level() -> None:
    case = Case()
    made, x = layer(case), inputs(case)
    levels = nc.available_simd_levels()
    for mine in levels:
        with at_level(mine):
            array, right = made.pack(), expected(case)
        for other in levels:
            with at_level(other):
                same(made.product(array, x), right)
                for p in range(len(case.planes)):
                    variance = made.variance[p] if made.spec.weight_noise else None
                    array.pack(p, *made.polarities(p), made.inverse_span, variance)
                same(made.product(array, x), right)
                assert array.simd_level == mine
