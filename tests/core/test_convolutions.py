"""Convolutions on crossbars are products of patches, bit for bit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from convolution_cases import CONVOLUTIONS, Convolution, Three, images, patches
from core_cases import THREADS, guarded, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from product_cases import (
    NOT_FINITE,
    SEED,
    STREAM,
    Case,
    kernels,
    layer,
    passes,
    rounding,
    same,
)

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def convolution_case(c: Convolution, kernel: str, noise: str) -> Case:
    batch = int(np.prod(patches(images(c), c).shape[:4]))
    k = c.channels * int(np.prod(c.kernel))
    fixed = 1.5 if noise == "weight" else None
    return Case(kernel, batch, 5, k, 16, 15, c.slice_bits, 31, noise, ("+-",), fixed, True, True)


@cache
def convolved(c: Convolution, kernel: str, noise: str, rounding: str) -> tuple[F32, U8, int]:
    case, flat = convolution_case(c, kernel, noise), patches(images(c), c)
    result = layer(case).expected(flat.reshape(case.batch, case.k))
    inside = np.packbits(result.inside, axis=2, bitorder="little")
    return result.y.reshape(*flat.shape[:4], case.n), inside, result.clipped


def core_convolve(c: Convolution, kernel: str, noise: str, threads: int = 1) -> tuple[F32, U8, int]:
    case = convolution_case(c, kernel, noise)
    made, shape = layer(case), patches(images(c), c).shape[:4]
    memory, y = guarded((*shape, case.n), np.float32)
    bits, inside = guarded((passes(case), case.batch, 1), np.uint8)
    clipped = made.pack().product(
        images(c), y, made.settings(), SEED, STREAM, made.bias, inside, c.bound, threads
    )
    memory.check()
    bits.check()
    return y, inside, clipped


@kernels
@pytest.mark.parametrize("noise", ["none", "weight", "both"])
def test_convolutions_are_products_of_patches(simd_level: str, kernel: str, noise: str) -> None:
    for name, c in CONVOLUTIONS.items():
        for threads in THREADS if name == "many" else (1,):
            got = core_convolve(c, kernel, noise, threads)
            same(got, convolved(c, kernel, noise, rounding() if kernel == "float32" else "exact"))


triples = st.tuples(*[st.integers(1, 3)] * 3)


@given(
    st.tuples(*[st.integers(1, 7)] * 3), st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 10)), triples,
    st.tuples(*[st.integers(0, 3)] * 3), triples, st.integers(0, 2),
)  # fmt: skip
@settings(deadline=None, derandomize=True, max_examples=100)
def test_any_convolution(
    size: Three, channels: int, kernel: Three, stride: Three, padding: Three, dilation: Three,
    batch: int,
) -> None:  # fmt: skip
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(max(s, r - 2 * p) for s, r, p in zip(size, reach, padding, strict=True))
    c = Convolution(size, channels, kernel, stride, padding, dilation, batch)
    same(core_convolve(c, "int16", "output"), convolved(c, "int16", "output", "exact"))


def test_patches_that_are_not_finite(simd_level: str) -> None:
    c = CONVOLUTIONS["2d, stride"]
    case = convolution_case(c, "int16", "none")
    made, y = layer(case), np.empty_like(convolved(c, "int16", "none", "exact")[0])
    x = images(c).copy()
    x[1, 1, 0, 8, 2] = np.nan  # in no patch: they are 2 wide, 3 apart
    made.pack().product(x, y, made.settings(), SEED, STREAM, made.bias, None, c.bound)
    same_bits(y, convolved(c, "int16", "none", "exact")[0])
    x[1, 1, 0, 8, 7] = np.nan  # in the last one only
    with pytest.raises(ValueError, match=NOT_FINITE):
        made.pack().product(x, y, made.settings(), SEED, STREAM, made.bias, None, c.bound)
