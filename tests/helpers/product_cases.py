"""Products with packed conductances, by the core and by the reference.

The reference's answer is computed once a case. At the levels whose float sums round in another way
than the definition's, tile_sums is replaced by that way, so that these too are compared bit for
bit.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from core_cases import RNG, guarded, same_bits
from device_cases import SPAN
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core
from noisycells.reference import crossbar as reference
from noisycells.reference import standard_normal

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
SEED, STREAM = 2**64 - 22, 33 << 40

# Other processors' baseline has fused multiply-adds.
BASELINE_FUSES = platform.machine().lower() not in ("x86_64", "amd64")


def two_roundings(a: F32, weights: F32) -> F32:
    """reference.tile_sums without fused multiply-adds."""
    total = np.zeros((len(a), len(weights)), np.float32)
    for k in range(a.shape[1]):
        total = a[:, k, None] * weights[None, :, k] + total
    return total


def three_parts(v: F32) -> list[F32]:
    """The first, next and last 8 bits of each number, rows last and padded to 32."""
    v = np.pad(v.T, [(0, -v.shape[1] % 32), (0, 0)])
    parts = []
    for _ in range(3):
        parts.append((v.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
        v = v - parts[-1]
    return parts


def sums_of_parts(a: F32, weights: F32) -> F32:
    """reference.tile_sums by TDPBF16PS: even and odd rows on their own, 32 rows at a time.

    Products of parts are exact, so that adding one rounds once. Intel, Architecture Instruction
    Set Extensions, 3.3; numbers below 2^-126, which the instruction flushes to 0, apart.
    """
    inputs_of, weights_of = three_parts(a), three_parts(weights)
    total = np.zeros((len(a), len(weights)), np.float32)
    for order in (2, 1, 0):
        for part in range(order, -1, -1):
            x, w = inputs_of[part], weights_of[order - part]
            for start in range(0, len(x), 32):
                halves = np.zeros((2, *total.shape), np.float32)
                for k in range(start, start + 32, 2):
                    halves = halves + x[k : k + 2, :, None] * w[k : k + 2, None, :]
                total = total + (halves[0] + halves[1])
    return total


SUMS = {"fused": reference.tile_sums, "two roundings": two_roundings, "parts": sums_of_parts}


def rounding() -> str:
    """How float sums are made at the level in use."""
    return {
        "baseline": "fused" if BASELINE_FUSES else "two roundings", "amx": "parts"
    }.get(nc.simd_level(), "fused")  # fmt: skip


@cache
def drawn(cell: int, count: int) -> F32:
    return standard_normal(count, SEED, STREAM, 0, reference.MATMUL, cell)


def normals(count: int, seed: int, stream: int, offset: int, purpose: int, cell: int) -> F32:
    """reference.standard_normal for products, kept: shorter draws begin longer ones."""
    assert (seed, stream, offset, purpose) == (SEED, STREAM, 0, reference.MATMUL)
    return drawn(cell, max(1 << 12, 1 << (count - 1).bit_length()))[:count]


class Case(NamedTuple):
    """A product. ``planes``: the polarities of each; ``noise``: none, output, weight or both."""

    kernel: str = "int16"
    batch: int = 5
    n: int = 10
    k: int = 40
    rows: int = 16
    dac: int = 127
    slice_bits: int = 0
    adc: int = 0
    noise: str = "none"
    planes: tuple[str, ...] = ("+-",)
    fixed: float | None = None
    row_scale: bool = False
    bias: bool = False
    seed: int = 1


@dataclass(frozen=True)
class Layer:
    """What one product needs beside its inputs; conductances (planes, out, in)."""

    case: Case
    positive: F32
    negative: F32
    variance: F32
    steps: F32
    plane_factors: F32
    scale: F32
    bias: F32 | None
    row_scale: F32 | None
    inverse_span: float = float(np.float32(1 / SPAN))

    @property
    def spec(self) -> reference.Spec:
        c = self.case
        return reference.Spec(
            c.rows, c.dac, c.slice_bits, c.adc, self.steps, self.plane_factors,
            0.04 if c.noise in ("output", "both") else 0.0, c.noise in ("weight", "both"),
            c.kernel != "float32", c.kernel == "int8",
        )  # fmt: skip

    def polarities(self, plane: int) -> tuple[F32 | None, F32 | None]:
        which = self.case.planes[plane]
        return (
            self.positive[plane] if "+" in which else None,
            self.negative[plane] if "-" in which else None,
        )

    def expected(self, x: F32) -> reference.Result:
        """The reference's answer, in the arithmetic of the level in use."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            ranges = reference.input_ranges(
                x if self.row_scale is None else x * self.row_scale, self.case.fixed
            )
            planes = [
                reference.Plane(
                    reference.plane_values(*self.polarities(p), self.inverse_span), self.variance[p]
                )
                for p in range(len(self.case.planes))
            ]
            with mock.patch.multiple(
                reference, tile_sums=SUMS[rounding()], standard_normal=normals
            ):
                return reference.product(
                    x, planes, self.spec, ranges, self.scale, SEED, STREAM, self.row_scale,
                    self.bias,
                )  # fmt: skip

    def pack(self, threads: int = 1) -> _core.CrossbarArray:
        c, noisy = self.case, self.spec.weight_noise
        array = _core.CrossbarArray(
            c.n, c.k, c.rows, len(c.planes), self.spec.integer, self.spec.int8, noisy
        )
        for p in range(len(c.planes)):
            array.pack(
                p, *self.polarities(p), self.inverse_span, self.variance[p] if noisy else None,
                threads,
            )  # fmt: skip
        return array

    def settings(self) -> _core.ProductSettings:
        s = self.spec
        return _core.ProductSettings(
            dac_levels=s.dac_levels, slice_bits=s.slice_bits, adc_levels=s.adc_levels,
            steps=s.steps, plane_factors=s.plane_factors, output_noise=s.output_noise,
            weight_noise=s.weight_noise, fixed_range=self.case.fixed, scale=self.scale,
            row_scale=self.row_scale,
        )  # fmt: skip

    def product(self, array: _core.CrossbarArray, x: F32, threads: int = 1) -> tuple[F32, U8, int]:
        memory, y = guarded((len(x), self.case.n), np.float32)
        bits, inside = guarded((len(self.steps), len(x), (self.case.n + 7) // 8), np.uint8)
        clipped = array.product(
            x, y, self.settings(), SEED, STREAM, self.bias, inside, None, threads
        )
        memory.check()
        bits.check()
        return y, inside, clipped


def passes(case: Case) -> int:
    slices = -(-case.dac.bit_length() // case.slice_bits) if case.slice_bits else 1
    return slices * len(case.planes) * -(-case.k // case.rows)


@cache
def layer(case: Case) -> Layer:
    """Conductances of which some are 0, an output of zeros, and ADCs that clip now and then."""
    g = RNG([case.n, case.k, case.seed])
    shape = (len(case.planes), case.n, case.k)
    plus, minus = (g.uniform(0, 25, shape) * (g.random(shape) > 0.1) for _ in range(2))
    if case.n > 3:
        plus[:, 1] = minus[:, 1] = 0
    typical = 0.3 * np.sqrt(min(case.rows, case.k))
    return Layer(
        case,
        plus.astype(np.float32),
        minus.astype(np.float32),
        (g.random(shape) * 1e-2).astype(np.float32),
        (g.uniform(0.7, 1.5, passes(case)) * typical / max(case.adc, 1)).astype(np.float32),
        np.float32([1, 0.25, 0.0625][: len(case.planes)]),
        g.uniform(-1, 1, case.n).astype(np.float32),
        g.uniform(-1, 1, case.n).astype(np.float32) if case.bias else None,
        g.uniform(0.5, 1.5, case.k).astype(np.float32) if case.row_scale else None,
    )


@cache
def inputs(case: Case) -> F32:
    """Of very different sizes, some 0, and a vector of zeros."""
    g = RNG([case.batch, case.k, case.seed])
    x = g.standard_normal((case.batch, case.k)) * (g.random((case.batch, case.k)) > 0.2)
    x *= np.exp2(g.integers(-3, 4, (case.batch, 1)))
    if case.batch > 2:
        x[2] = 0
    return x.astype(np.float32)


@cache
def _expected(case: Case, rounding: str) -> tuple[F32, U8, int]:
    result = layer(case).expected(inputs(case))
    return result.y, np.packbits(result.inside, axis=2, bitorder="little"), result.clipped


def expected(case: Case) -> tuple[F32, U8, int]:
    return _expected(case, rounding() if case.kernel == "float32" else "exact")


def same(got: tuple[F32, U8, int], wanted: tuple[F32, U8, int]) -> None:
    same_bits(got[0], wanted[0])
    same_bits(got[1], wanted[1])
    assert got[2] == wanted[2]


def check(case: Case, threads: int = 1) -> None:
    made = layer(case)
    same(made.product(made.pack(threads), inputs(case), threads), expected(case))


KERNELS = ("float32", "int16", "int8")

INTEGER = ("int16", "int8")

NOISES = ("none", "output", "weight", "both")

kernels = pytest.mark.parametrize("kernel", KERNELS)

noises = pytest.mark.parametrize("noise", NOISES)

NOT_FINITE = r"^x: expected finite values, got NaN or infinity"
