"""Gradients of weights through a crossbar."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from convolution_cases import CONVOLUTIONS, Convolution, images, patches
from core_cases import RNG, THREADS, at_level, guarded, same_bits
from numpy.typing import NDArray
from product_cases import (
    BASELINE_FUSES,
)

import noisycells as nc
from noisycells import _core
from noisycells.reference import crossbar as reference

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class Gradient(NamedTuple):
    convolution: Convolution
    n: int
    rows: int
    shift: int = 0
    digit: int = 0
    fixed: float | None = None
    row_scale: bool = False
    inside: bool = False


GRADIENTS = {
    "plain": Gradient(CONVOLUTIONS["2d, padding"], 5, 512),
    "one output": Gradient(CONVOLUTIONS["1d"], 1, 512),
    "all": Gradient(CONVOLUTIONS["2d, all"], 70, 7, 2, 3, 1.0, True, True),
    "vector, all": Gradient(CONVOLUTIONS["3d, all"], 33, 20, 0, 0, None, True, True),
    "slice": Gradient(CONVOLUTIONS["2d, stride"], 16, 16, 3, 7),
    "groups": Gradient(CONVOLUTIONS["lines of 4"], 130, 100, inside=True),
    "parts": Gradient(CONVOLUTIONS["many"], 12, 10, inside=True),
}


@cache
def gradient_arguments(name: str) -> tuple[Any, ...]:
    """Gradients of the outputs, row scales, and what the ADC took (and as bits)."""
    c = GRADIENTS[name]
    flat = patches(images(c.convolution), c.convolution)
    batch, k = int(np.prod(flat.shape[:4])), int(np.prod(flat.shape[4:]))
    g = RNG(list(name.encode()))
    grad = g.standard_normal((batch, c.n)).astype(np.float32)
    row_scale = inside = bits = None
    if c.row_scale:
        row_scale = g.uniform(0.5, 2, k).astype(np.float32)
        row_scale[k // 2] = 0
    if c.inside:
        inside = g.random((-(-k // c.rows), batch, c.n)) < 0.7
        bits = np.packbits(inside, axis=2, bitorder="little")
    return flat.reshape(batch, k), grad, row_scale, inside, bits


def core_gradient(name: str, threads: int) -> F32:
    c = GRADIENTS[name]
    flat, grad, row_scale, _, bits = gradient_arguments(name)
    memory, total = guarded((c.n, flat.shape[1]), np.float32)
    _core.weight_gradient(
        images(c.convolution), grad, total, c.convolution.bound, rows=c.rows, dac_levels=127,
        shift=c.shift, digit=c.digit, fixed_range=c.fixed, row_scale=row_scale, inside=bits,
        num_threads=threads,
    )  # fmt: skip
    memory.check()
    return total


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_weights(simd_level: str, name: str) -> None:
    """Of a sum with n roundings: n u / (1 - n u) of that of the magnitudes (Higham 2002, 3.1)."""
    c = GRADIENTS[name]
    flat, grad, row_scale, inside, _ = gradient_arguments(name)
    arguments = (c.rows, 127, c.shift, c.digit, c.fixed, row_scale, inside)
    want = reference.weight_gradient(flat, grad, *arguments)
    magnitudes = reference.weight_gradient(np.abs(flat), np.abs(grad), *arguments)
    got = core_gradient(name, 1)
    nu = (2 * len(flat) + 4) * 2.0**-24
    assert (np.abs(got - want) <= nu / (1 - nu) * magnitudes).all()
    for threads in THREADS:
        same_bits(core_gradient(name, threads), got)


def test_gradients_have_the_same_bits_wherever_multiply_adds_are_fused() -> None:
    for name in GRADIENTS:
        found = []
        for level in nc.available_simd_levels():
            if level == "baseline" and not BASELINE_FUSES:
                continue
            with at_level(level):
                found.append(core_gradient(name, 2))
        for other in found:
            same_bits(found[0], other)
