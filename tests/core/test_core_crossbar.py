"""Devices and crossbar products: the compiled core equals reference/crossbar.py bit for bit.

Every comparison runs at every SIMD level; the reference's answer is computed once a case. At the
levels whose float sums round in another way than the definition's, tile_sums is replaced by that
way, so that these too are compared bit for bit.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from core_cases import RNG, THREADS, Guarded, same_bits, steps
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core, _types
from noisycells.reference import crossbar as reference
from noisycells.reference import standard_normal

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
SEED, STREAM, CELL = 2**64 - 22, 33 << 40, 5
EDGES = (1, 63, 64, 65, 130)  # panels hold 64 outputs; kernels step by up to 64 rows
NARROW = (15, 16, 17, 31, 32, 33)  # fewer outputs share their noise in narrower patches

# Other processors' baseline has fused multiply-adds.
BASELINE_FUSES = platform.machine().lower() not in ("x86_64", "amd64")


def guarded(shape: tuple[int, ...], dtype: type) -> tuple[Guarded, NDArray[Any]]:
    memory = Guarded(int(np.prod(shape)), dtype)
    return memory, memory.array.reshape(shape)


# --------------------------------------------------------------------------- devices

SPAN, G_MIN = 24.5, 0.5
GRID = np.linspace(0, 31, 1025)
INV_DX = float(np.float32(1024 / 31))
STUCK = _types.Stuck(2**30, 2**29, 0.25, 23.0)


def table(*columns: NDArray[np.float64]) -> F32:
    return np.ascontiguousarray(np.hstack([steps(c) for c in columns]))


PROGRAM_TABLE = table(GRID + 0.3 * np.sin(GRID), 0.26 + 1.9 * GRID / 25 - 1.1 * (GRID / 25) ** 2)
RELAX_TABLE = table(-0.1 * GRID / 31, 0.3 + 0.02 * GRID)
DRIFT_TABLE = table(0.35 - 0.005 * GRID, 0.14 + 0.001 * GRID)
FLICKER_TABLE = table(np.minimum(0.0088 / np.maximum(GRID / 25, 1e-3) ** 0.65, 0.2))

PROGRAMMING = {
    "plain": _types.Programming(PROGRAM_TABLE, 0.0, INV_DX, 0.0, 40.0),
    "stuck": _types.Programming(PROGRAM_TABLE, 0.0, INV_DX, 0.0, 40.0, STUCK),
    "clipped": _types.Programming(PROGRAM_TABLE, 0.0, INV_DX, 5.0, 12.0),
    "2 rows": _types.Programming(PROGRAM_TABLE[[0, -1]], 3.0, 0.125, 0.0, 40.0),
    "all stuck": _types.Programming(
        PROGRAM_TABLE, 0.0, INV_DX, 0.0, 40.0, _types.Stuck(2**31, 2**32, 1.0, 2.0)
    ),
    "stuck on": _types.Programming(
        PROGRAM_TABLE, -1.0, INV_DX, 0.0, 40.0, _types.Stuck(0, 2**31, 1.0, 2.0)
    ),
}
AGING_TABLES = {"relaxation": RELAX_TABLE, "drift": DRIFT_TABLE, "flicker": FLICKER_TABLE}


def aging(*happens: str, **changed: Any) -> _types.Aging:
    tables = {name: t if name in happens else None for name, t in AGING_TABLES.items()}
    limits = {"x0": 0.0, "inv_dx": INV_DX, "low": 0.0, "high": 40.0}
    return _types.Aging(**{**tables, **limits, **changed})


AGING = {
    " ".join(happens) or "nothing": aging(*happens)
    for count in range(4)
    for happens in combinations(AGING_TABLES, count)
}
AGING["stuck"] = aging(*AGING_TABLES, stuck=STUCK, high=10.0, low=1.0)
# Tables of different lengths over one grid.
AGING["short tables"] = aging(
    "relaxation", drift=DRIFT_TABLE[:700].copy(), flicker=FLICKER_TABLE[:400].copy()
)
# Exponents to beyond 87, where the exponential ends, and relaxation to below 0.
AGING["old"] = aging(
    "relaxation", "drift", relaxation=table(-0.5 * GRID, 0.4 * GRID),
    drift=table(5 * GRID, GRID), low=-40.0,
)  # fmt: skip


def bound_programming(p: _types.Programming) -> _core.Programming:
    ends = (p.stuck.off_conductance, p.stuck.on_conductance)
    return _core.Programming(p.table, p.x0, p.inv_dx, p.low, p.high, p.stuck[:2], ends)


def bound_aging(a: _types.Aging) -> _core.Aging:
    ends = (a.stuck.off_conductance, a.stuck.on_conductance)
    return _core.Aging(
        a.relaxation, a.drift, a.flicker, a.x0, a.inv_dx, a.low, a.high, a.stuck[:2], ends
    )


class Weights(NamedTuple):
    """One polarity of a layer: ``columns``, one inverse for each output, or one for all."""

    n: int
    k: int
    columns: bool = False
    sign: int = 1


@cache
def arrays(case: Weights) -> tuple[F32, F32]:
    w = RNG(case.n + case.k).standard_normal((case.n, case.k)).astype(np.float32)
    peak = np.abs(w).max(axis=1) if case.columns else np.abs(w).max(keepdims=True).ravel()
    return w, (np.float32(1) / peak).astype(np.float32)


@cache
def targets(case: Weights) -> F32:
    w, inverse = arrays(case)
    return reference.targets(w, inverse[:, None], case.sign, G_MIN, SPAN)


@cache
def programmed(case: Weights, name: str) -> F32:
    draw = reference.Draw(SEED, STREAM, CELL)
    return reference.program(targets(case), PROGRAMMING[name], draw)


@cache
def aged(case: Weights, name: str) -> F32:
    draw = reference.Draw(SEED, STREAM, CELL)
    return reference.age(targets(case), programmed(case, "plain"), AGING[name], draw)


def core_program(case: Weights, name: str, threads: int = 0) -> F32:
    memory, out = guarded((case.n, case.k), np.float32)
    _core.program(
        *arrays(case), case.sign, G_MIN, SPAN, out, bound_programming(PROGRAMMING[name]),
        SEED, STREAM, CELL, threads,
    )  # fmt: skip
    memory.check()
    return out


def core_age(case: Weights, name: str, threads: int = 0) -> F32:
    memory, out = guarded((case.n, case.k), np.float32)
    _core.age(
        *arrays(case), case.sign, G_MIN, SPAN, programmed(case, "plain"), out,
        bound_aging(AGING[name]), SEED, STREAM, CELL, threads,
    )  # fmt: skip
    memory.check()
    return out


@pytest.mark.parametrize("name", PROGRAMMING)
def test_program_equals_reference(simd_level: str, name: str) -> None:
    for columns, sign in product((False, True), (1, -1)):
        case = Weights(13, 97, columns, sign)
        same_bits(core_program(case, name), programmed(case, name))


@pytest.mark.parametrize("name", AGING)
def test_age_equals_reference(simd_level: str, name: str) -> None:
    for columns, sign in product((False, True), (1, -1)):
        case = Weights(11, 83, columns, sign)
        same_bits(core_age(case, name), aged(case, name))


@cache
def programmed_pair(case: Weights, name: str) -> tuple[F32, F32, F32]:
    """Weights, some of them 0, and the conductances of both polarities on their own."""
    w, inverse = arrays(case)
    w = w.copy()
    w[0, ::7], w[-1, ::5] = 0.0, -0.0
    plus, minus = (reference.targets(w, inverse[:, None], s, G_MIN, SPAN) for s in (1, -1))
    first, second = (reference.Draw(SEED, STREAM, CELL + i) for i in (0, 1))
    device = PROGRAMMING[name]
    return w, reference.program(plus, device, first), reference.program(minus, device, second)


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("name", PROGRAMMING)
def test_pairs_equal_two_polarities(simd_level: str, name: str, columns: bool) -> None:
    """The negative one is drawn as the next cell."""
    for n, k in ((1, 1), (13, 97), (2, 1025), (3, 3001), (1400, 3)):
        case = Weights(n, k, columns)
        w, *expected = programmed_pair(case, name)
        for threads in (1, 7):
            made = [guarded((n, k), np.float32) for _ in range(2)]
            _core.program_pair(
                w, arrays(case)[1], G_MIN, SPAN, made[0][1], made[1][1],
                bound_programming(PROGRAMMING[name]), SEED, STREAM, CELL, threads,
            )  # fmt: skip
            for (memory, got), wanted in zip(made, expected, strict=True):
                memory.check()
                same_bits(got, wanted)


def test_device_cases_reach_what_they_should() -> None:
    case = Weights(13, 97)
    for name, low, high in (("plain", 0.0, 31.0), ("clipped", 5.0, 12.0)):
        g = programmed(case, name)
        assert g.min() == np.float32(low) and g.max() <= np.float32(high)
    assert (programmed(case, "clipped") == 12).any()
    assert set(np.unique(programmed(case, "all stuck"))) == {1.0, 2.0}
    for name in ("stuck", "stuck on"):
        g, stuck = programmed(case, name), PROGRAMMING[name].stuck
        assert (g == stuck.on_conductance).any()
        assert (g == stuck.off_conductance).any() == (stuck.off > 0)
    case = Weights(11, 83)
    assert (aged(case, "old") == 0).any() and (aged(case, "old") > 0).any()
    assert (aged(case, "stuck") == 10).any() and (aged(case, "stuck") == 1).any()
    differ = [aged(case, name) for name in AGING]
    assert all((a != b).any() for a, b in combinations(differ, 2))


@pytest.mark.parametrize("columns", [False, True])
def test_devices_of_every_length(simd_level: str, columns: bool) -> None:
    for k in (*range(1, 36), 1023, 1024, 1025):
        case = Weights(2, k, columns)
        same_bits(core_program(case, "stuck"), programmed(case, "stuck"))
        same_bits(core_age(case, "stuck"), aged(case, "stuck"))


@pytest.mark.parametrize("columns", [False, True])
def test_devices_do_not_depend_on_threads(simd_level: str, columns: bool) -> None:
    """Threads share out about 4096 devices at a time."""
    for n, k in ((3, 9001), (9001, 3), (130, 65)):
        case = Weights(n, k, columns, -1)
        for threads in THREADS:
            same_bits(core_program(case, "stuck", threads), programmed(case, "stuck"))
            same_bits(core_age(case, "stuck", threads), aged(case, "stuck"))


def test_no_devices(simd_level: str) -> None:
    for shape in ((0, 5), (5, 0)):
        w, out = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for inverse in (np.ones(1, np.float32), np.ones(shape[0], np.float32)):
            p, a = bound_programming(PROGRAMMING["plain"]), bound_aging(AGING["stuck"])
            _core.program(w, inverse, 1, G_MIN, SPAN, out, p, 1, 2, 3)
            _core.age(w, inverse, 1, G_MIN, SPAN, w, out, a, 1, 2, 3)


def test_bare_targets(simd_level: str) -> None:
    """inverse 1, sign 1, g_min 0 and span 1: the targets themselves."""
    target = RNG(3).uniform(0, 33, (5, 77)).astype(np.float32)
    one, out = np.ones(1, np.float32), np.empty((5, 77), np.float32)
    _core.program(target, one, 1, 0.0, 1.0, out, bound_programming(PROGRAMMING["plain"]), 1, 2, 3)
    draw = reference.Draw(1, 2, 3)
    same_bits(out, reference.program(target, PROGRAMMING["plain"], draw))
    later = np.empty_like(out)
    _core.age(target, one, 1, 0.0, 1.0, out, later, bound_aging(AGING["stuck"]), 1, 2, 3)
    same_bits(later, reference.age(target, out, AGING["stuck"], draw))


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45, 1e-38, 1e35, -1e35, 1e38])
def test_devices_of_extreme_weights(simd_level: str, value: float) -> None:
    """Also such that targets lie far beyond the table, but are finite."""
    w = np.array([[value, 1, -1, value, 0.5] * 5], np.float32)
    for inverse in np.float32([[1], [3e35], [1e-38], [1e-45]]):
        if max(1, abs(value)) * float(inverse[0]) > 3e35:
            continue
        target = reference.targets(w, inverse[:, None], -1, G_MIN, SPAN)
        draw = reference.Draw(1, 2, 65535)
        expected = reference.program(target, PROGRAMMING["plain"], draw)
        out, later = np.empty_like(w), np.empty_like(w)
        p, a = bound_programming(PROGRAMMING["plain"]), bound_aging(AGING["stuck"])
        _core.program(w, inverse, -1, G_MIN, SPAN, out, p, 1, 2, 65535)
        same_bits(out, expected)
        _core.age(w, inverse, -1, G_MIN, SPAN, out, later, a, 1, 2, 65535)
        same_bits(later, reference.age(target, expected, AGING["stuck"], draw))


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 65535),
    st.sampled_from(list(PROGRAMMING)),
    st.sampled_from(list(AGING)),
    st.tuples(st.integers(1, 9), st.integers(1, 70), st.booleans(), st.sampled_from([-1, 1])),
)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_any_draws_of_devices(
    seed: int, stream: int, cell: int, p: str, a: str, shape: tuple[int, int, bool, int]
) -> None:
    case, draw = Weights(*shape), reference.Draw(seed, stream, cell)
    before = reference.program(targets(case), PROGRAMMING[p], draw)
    after = reference.age(targets(case), before, AGING[a], draw)
    got, later = np.empty_like(before), np.empty_like(after)
    how = (*arrays(case), case.sign, G_MIN, SPAN)
    for level in nc.available_simd_levels():
        with at_level(level):
            _core.program(*how, got, bound_programming(PROGRAMMING[p]), seed, stream, cell)
            _core.age(*how, got, later, bound_aging(AGING[a]), seed, stream, cell)
        same_bits(got, before)
        same_bits(later, after)


def test_tables_of_devices_are_copies() -> None:
    case = Weights(13, 97)
    p, a = PROGRAMMING["plain"], AGING["stuck"]
    p = p._replace(table=p.table.copy())
    tables = {name: t.copy() for name, t in AGING_TABLES.items()}
    bound, bound_a = bound_programming(p), bound_aging(a._replace(**tables))
    for t in (p.table, *tables.values()):
        t[:] = np.nan
    out = np.empty((case.n, case.k), np.float32)
    _core.program(*arrays(case), 1, G_MIN, SPAN, out, bound, SEED, STREAM, CELL)
    same_bits(out, programmed(case, "plain"))
    _core.age(*arrays(case), 1, G_MIN, SPAN, out.copy(), out, bound_a, SEED, STREAM, CELL)
    same_bits(out, aged(case, "stuck"))


# --------------------------------------------------------------------------- products


@contextmanager
def at_level(level: str) -> Iterator[None]:
    before = nc.simd_level()
    nc.set_simd_level(level)
    try:
        yield
    finally:
        nc.set_simd_level(before)


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

    def arguments(self) -> tuple[Any, ...]:
        s = self.spec
        return (
            s.dac_levels, s.slice_bits, s.adc_levels, s.steps, s.plane_factors, s.output_noise,
            s.weight_noise, self.case.fixed, self.scale, self.bias, self.row_scale, SEED, STREAM,
        )  # fmt: skip

    def product(self, array: _core.CrossbarArray, x: F32, threads: int = 1) -> tuple[F32, U8, int]:
        memory, y = guarded((len(x), self.case.n), np.float32)
        bits, inside = guarded((len(self.steps), len(x), (self.case.n + 7) // 8), np.uint8)
        clipped = array.product(x, y, *self.arguments(), inside, threads)
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
        made.pack().product(x, y, *made.arguments(), None)
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


# --------------------------------------------------------------------------- extreme values


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


NOT_FINITE = r"^x: expected finite values, got NaN or infinity"


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


# --------------------------------------------------------------------------- rounding of floats


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


# --------------------------------------------------------------------------- any product


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


# --------------------------------------------------------------------------- convolutions

Three = tuple[int, int, int]


class Convolution(NamedTuple):
    size: Three
    channels: int
    kernel: Three
    stride: Three = (1, 1, 1)
    padding: Three = (0, 0, 0)
    dilation: Three = (1, 1, 1)
    batch: int = 2
    slice_bits: int = 2


CONVOLUTIONS = {
    "1d": Convolution((1, 1, 20), 3, (1, 1, 5)),
    "1d, all": Convolution((1, 1, 23), 3, (1, 1, 4), (1, 1, 3), (0, 0, 5), (1, 1, 2)),
    "2d": Convolution((1, 7, 9), 4, (1, 3, 3)),
    "2d, padding": Convolution((1, 7, 9), 4, (1, 3, 3), padding=(0, 1, 1)),
    "2d, stride": Convolution((1, 9, 10), 2, (1, 3, 2), (1, 2, 3), (0, 1, 0)),
    "2d, dilation": Convolution((1, 9, 11), 2, (1, 3, 3), padding=(0, 2, 1), dilation=(1, 2, 3)),
    "2d, all": Convolution((1, 11, 13), 3, (1, 2, 5), (1, 3, 2), (0, 2, 4), (1, 4, 2)),
    "2d, 1 x 1": Convolution((1, 6, 5), 9, (1, 1, 1)),
    "2d, padding only": Convolution((1, 2, 2), 2, (1, 1, 1), padding=(0, 3, 4)),
    "2d, whole": Convolution((1, 5, 6), 3, (1, 5, 6)),
    "3d": Convolution((4, 5, 6), 2, (2, 3, 2)),
    "3d, all": Convolution((7, 6, 8), 2, (3, 2, 3), (2, 1, 3), (2, 1, 3), (2, 3, 1)),
    "3d, steps in depth": Convolution((5, 3, 3), 2, (2, 2, 2), (2, 1, 1), (1, 0, 1)),
    "lines of 4": Convolution((1, 5, 9), 2, (1, 2, 4), padding=(0, 1, 3)),
    "lines of 9": Convolution((1, 5, 9), 2, (1, 2, 9), padding=(0, 1, 3)),
    # Of more patches than are prepared at once.
    "many": Convolution((1, 27, 27), 3, (1, 3, 3), padding=(0, 1, 1), batch=3, slice_bits=1),
}


def patches(x: F32, c: Convolution) -> F32:
    """im2col: (batch, depth, height, width, channels, *kernel), flattened from channels on."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in c.padding)])
    reach = tuple((k - 1) * d + 1 for k, d in zip(c.kernel, c.dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3, 4))
    places = tuple(np.s_[::s] for s in c.stride)
    windows = windows[(slice(None), slice(None), *places, *(np.s_[::d] for d in c.dilation))]
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 4, 1, 5, 6, 7))


@cache
def images(c: Convolution) -> F32:
    g = RNG([*c.size, c.channels])
    return g.standard_normal((c.batch, c.channels, *c.size)).astype(np.float32)


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
    clipped = made.pack().convolve(images(c), y, *c[2:6], *made.arguments(), inside, threads)
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
    made.pack().convolve(x, y, *c[2:6], *made.arguments(), None)
    same_bits(y, convolved(c, "int16", "none", "exact")[0])
    x[1, 1, 0, 8, 7] = np.nan  # in the last one only
    with pytest.raises(ValueError, match=NOT_FINITE):
        made.pack().convolve(x, y, *c[2:6], *made.arguments(), None)


# --------------------------------------------------------------------------- gradients


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
        images(c.convolution), grad, total, c.rows, *c.convolution[2:6], 127, c.shift, c.digit,
        c.fixed, row_scale, bits, threads,
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


# --------------------------------------------------------------------------- levels


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


# --------------------------------------------------------------------------- errors


def F(shape: Any) -> F32:
    return np.zeros(shape, np.float32)


def frozen(*shape: int, dtype: type = np.float32) -> NDArray[Any]:
    array = np.zeros(shape, dtype)
    array.flags.writeable = False
    return array


PLAIN = bound_programming(PROGRAMMING["plain"])
OLD = bound_aging(AGING["old"])


def good_program(**changed: Any) -> None:
    arguments = {
        "weights": F((3, 4)), "inverse": F(3), "sign": 1, "g_min": 0.0, "span": 1.0,
        "out": F((3, 4)), "device": PLAIN, "seed": 1, "stream": 2, "cell": 3, **changed,
    }  # fmt: skip
    _core.program(**arguments)


def good_pair(**changed: Any) -> None:
    arguments = {
        "weights": F((3, 4)), "inverse": F(3), "g_min": 0.0, "span": 1.0, "positive": F((3, 4)),
        "negative": F((3, 4)), "device": PLAIN, "seed": 1, "stream": 2, "cell": 3, **changed,
    }  # fmt: skip
    _core.program_pair(**arguments)


def good_age(**changed: Any) -> None:
    arguments = {
        "weights": F((3, 4)), "inverse": F(3), "sign": 1, "g_min": 0.0, "span": 1.0,
        "programmed": F((3, 4)), "out": F((3, 4)), "device": OLD, "seed": 1, "stream": 2,
        "cell": 3, **changed,
    }  # fmt: skip
    _core.age(**arguments)


def good_array(**changed: Any) -> _core.CrossbarArray:
    arguments = {
        "n": 3, "k": 4, "rows": 2, "planes": 2, "integer": True, "int8": False, "variance": False,
        **changed,
    }  # fmt: skip
    return _core.CrossbarArray(**arguments)


def good_pack(variance: bool = False, **changed: Any) -> None:
    arguments = {
        "plane": 1, "positive": F((3, 4)), "negative": None, "inverse_span": 1.0,
        "variance": F((3, 4)) if variance else None, **changed,
    }  # fmt: skip
    good_array(variance=variance).pack(**arguments)


PRODUCT = {
    "dac_levels": 127, "slice_bits": 4, "adc_levels": 7, "steps": F(8) + 1, "plane_factors": F(2),
    "output_noise": 0.1, "weight_noise": False, "fixed_range": None, "scale": F(3), "bias": F(3),
    "row_scale": F(4), "seed": 1, "stream": 2, "inside": np.zeros((8, 5, 1), np.uint8),
}  # fmt: skip


def packed_array(**changed: Any) -> _core.CrossbarArray:
    array = good_array(**changed)
    for plane in range(changed.get("planes", 2)):
        g = F((changed.get("n", 3), changed.get("k", 4)))
        array.pack(plane, g, None, 1.0, g if changed.get("variance") else None)
    return array


def good_product(array: _core.CrossbarArray | None = None, **changed: Any) -> None:
    arguments = {"x": F((5, 4)), "y": F((5, 3)), **PRODUCT, **changed}
    (array or packed_array()).product(**arguments)


def good_convolve(**changed: Any) -> None:
    """5 patches of 2 channels of 1 x 1 x 2."""
    arguments = {
        "x": F((1, 2, 1, 1, 6)), "y": F((1, 1, 1, 5, 3)), "kernel": (1, 1, 2),
        "stride": (1, 1, 1), "padding": (0, 0, 0), "dilation": (1, 1, 1), **PRODUCT, **changed,
    }  # fmt: skip
    packed_array().convolve(**arguments)


def good_gradient(**changed: Any) -> None:
    arguments = {
        "x": F((1, 2, 1, 1, 6)), "grad": F((5, 3)), "total": F((3, 4)), "rows": 3,
        "kernel": (1, 1, 2), "stride": (1, 1, 1), "padding": (0, 0, 0), "dilation": (1, 1, 1),
        "dac_levels": 127, "shift": 0, "digit": 0, "fixed_range": None, "row_scale": None,
        "inside": None, **changed,
    }  # fmt: skip
    _core.weight_gradient(**arguments)


def with_step(value: float) -> F32:
    all_steps = F(8) + 1
    all_steps[7] = value
    return all_steps


VALUE_ERRORS: list[tuple[str, Callable[[], Any]]] = [
    # devices
    *[
        (r"table: expected shape \(n >= 2, 4\)", lambda s=s: _core.Programming(F(s), 0, 1, 0, 1))
        for s in ((1, 4), (2, 3), 8)
    ],
    *[
        (
            rf"{name}: expected shape \(n >= 2, {columns}\)",
            lambda name=name, s=shape: bound_aging(aging(name, **{name: F(s)})),
        )
        for name, columns in (("relaxation", 4), ("drift", 4), ("flicker", 2))
        for shape in ((1, columns), (5, 3), 8)
    ],
    ("low: expected at most high", lambda: _core.Programming(F((2, 4)), 0, 1, 2.0, 1.0)),
    ("low: expected at most high", lambda: _core.Programming(F((2, 4)), 0, 1, np.nan, 1.0)),
    ("low: expected at most high", lambda: bound_aging(aging("drift", low=2.0, high=1.0))),
    *[
        error
        for call in (good_program, good_age)
        for error in (
            ("weights: expected 2 dimensions", lambda c=call: c(weights=F(12))),
            (r"out: expected shape \(3, 4\)", lambda c=call: c(out=F((4, 3)))),
            (r"out: expected shape \(3, 4\)", lambda c=call: c(out=F(12))),
            ("inverse: expected 1 or 3 elements, got 2", lambda c=call: c(inverse=F(2))),
            ("inverse: expected 1 dimension, got 2", lambda c=call: c(inverse=F((3, 1)))),
            ("cell: expected 0 to 65535, got -1", lambda c=call: c(cell=-1)),
            ("cell: expected 0 to 65535, got 65536", lambda c=call: c(cell=65536)),
            ("array is not writeable", lambda c=call: c(out=frozen(3, 4))),
        )
    ],
    ("weights: expected 2 dimensions", lambda: good_pair(weights=F(12))),
    (r"positive: expected shape \(3, 4\)", lambda: good_pair(positive=F((4, 3)))),
    (r"negative: expected shape \(3, 4\)", lambda: good_pair(negative=F(12))),
    ("inverse: expected 1 or 3 elements, got 2", lambda: good_pair(inverse=F(2))),
    ("cell: expected 0 to 65535, got -1", lambda: good_pair(cell=-1)),
    ("cell: expected 0 to 65535, got 65536", lambda: good_pair(cell=65535)),
    ("array is not writeable", lambda: good_pair(positive=frozen(3, 4))),
    ("array is not writeable", lambda: good_pair(negative=frozen(3, 4))),
    (r"programmed: expected shape \(3, 4\)", lambda: good_age(programmed=F((3, 5)))),
    (r"programmed: expected shape \(3, 4\)", lambda: good_age(programmed=F(12))),
    # arrays
    ("n, k: expected >= 1", lambda: good_array(n=0)),
    ("n, k: expected >= 1", lambda: good_array(k=0)),
    ("n, k: expected >= 1", lambda: good_array(k=-1)),
    ("rows: expected >= 1, got 0", lambda: good_array(rows=0)),
    ("rows: the integer kernel takes at most 512, got 513", lambda: good_array(rows=513)),
    ("planes: expected >= 1, got 0", lambda: good_array(planes=0)),
    ("plane: expected less than planes", lambda: good_pack(plane=2)),
    ("plane: expected less than planes", lambda: good_pack(plane=-1)),
    ("positive, negative: expected one or both", lambda: good_pack(positive=None)),
    (r"positive: expected shape \(3, 4\)", lambda: good_pack(positive=F((4, 3)))),
    (r"negative: expected shape \(3, 4\)", lambda: good_pack(negative=F((3, 5)))),
    (r"negative: expected shape \(3, 4\)", lambda: good_pack(negative=F(12))),
    ("variance: expected as the array was made", lambda: good_pack(variance=False) or
        good_array().pack(0, F((3, 4)), None, 1.0, F((3, 4)))),
    ("variance: expected as the array was made", lambda:
        good_array(variance=True).pack(0, F((3, 4)), None, 1.0, None)),
    (r"variance: expected shape \(3, 4\)", lambda:
        good_array(variance=True).pack(0, F((3, 4)), None, 1.0, F((3, 5)))),
    # products
    ("row_scale: expected finite values", lambda:
        good_product(row_scale=np.full(4, np.nan, np.float32))),
    ("steps: expected finite numbers > 0 with finite inverses", lambda:
        good_product(steps=np.full(8, 1e-40, np.float32))),
    (r"x: expected shape \(batch, 4\)", lambda: good_product(x=F((5, 5)))),
    (r"x: expected shape \(batch, 4\)", lambda: good_product(x=F(4))),
    (r"y: expected shape \(5, 3\)", lambda: good_product(y=F((4, 3)))),
    (r"y: expected shape \(5, 3\)", lambda: good_product(y=F((5, 4)))),
    (r"y: expected shape \(5, 3\)", lambda: good_product(y=F(15))),
    ("dac_levels: expected 0 to 127, got 128", lambda: good_product(dac_levels=128)),
    ("dac_levels: expected 0 to 127, got -1", lambda: good_product(dac_levels=-1)),
    ("dac_levels: expected 0 to 32767, got 32768", lambda:
        good_product(packed_array(integer=False), dac_levels=32768)),
    ("dac_levels: the integer kernel needs a DAC", lambda: good_product(dac_levels=0)),
    ("slice_bits: expected 0 to 15, with a DAC, got -1", lambda: good_product(slice_bits=-1)),
    ("slice_bits: expected 0 to 15, with a DAC, got 16", lambda: good_product(slice_bits=16)),
    ("slice_bits: expected 0 to 15, with a DAC, got 4", lambda:
        good_product(packed_array(integer=False), dac_levels=0)),
    ("adc_levels: expected 0 to 32767, got -1", lambda: good_product(adc_levels=-1)),
    ("adc_levels: expected 0 to 32767, got 32768", lambda: good_product(adc_levels=32768)),
    ("steps: expected 8 elements, got 7", lambda: good_product(steps=F(7))),
    ("steps: expected 8 elements, got 7", lambda: good_product(steps=F(7), adc_levels=0)),
    ("steps: expected 1 dimension, got 2", lambda: good_product(steps=F((8, 1)))),
    *[
        ("steps: expected finite numbers > 0", lambda v=v: good_product(steps=with_step(v)))
        for v in (0.0, -1.0, np.nan, np.inf)
    ],
    ("plane_factors: expected 2 elements, got 1", lambda: good_product(plane_factors=F(1))),
    *[
        ("output_noise: expected a finite number >= 0", lambda v=v: good_product(output_noise=v))
        for v in (-0.1, np.nan, np.inf)
    ],
    ("weight_noise: the array was packed without variances", lambda:
        good_product(weight_noise=True)),
    *[
        ("fixed_range: expected a finite number > 0, or None", lambda v=v:
            good_product(fixed_range=v))
        for v in (0.0, -1.0, np.nan, np.inf)
    ],
    ("scale: expected 3 elements, got 4", lambda: good_product(scale=F(4))),
    ("bias: expected 3 elements, got 1", lambda: good_product(bias=F(1))),
    ("row_scale: expected 4 elements, got 3", lambda: good_product(row_scale=F(3))),
    *[
        (r"inside: expected shape \(8, 5, 1\)", lambda s=s:
            good_product(inside=np.zeros(s, np.uint8)))
        for s in ((7, 5, 1), (8, 4, 1), (8, 5, 2), (8, 5), 40)
    ],
    ("array is not writeable", lambda: good_product(y=frozen(5, 3))),
    ("array is not writeable", lambda: good_product(inside=frozen(8, 5, 1, dtype=np.uint8))),
    ("passes: expected at most 65535, got 65536", lambda:
        good_product(_core.CrossbarArray(3, 8192, 1, 8, True, False, False), slice_bits=0,
                     x=F((5, 8192)))),
    # convolutions
    ("x: expected 5 dimensions", lambda: good_convolve(x=F((1, 2, 1, 6)))),
    ("y: expected 5 dimensions", lambda: good_convolve(y=F((5, 3)))),
    *[
        ("kernel, stride, padding, dilation: expected positive sizes",
         lambda name=name, v=v: good_convolve(**{name: v}))
        for name, v in (("kernel", (1, 0, 2)), ("stride", (1, 1, 0)), ("dilation", (0, 1, 1)),
                        ("padding", (0, 0, -1)), ("stride", (-1, 1, 1)))
    ],
    ("kernel: expected to fit into the padded input", lambda:
        good_convolve(x=F((1, 2, 1, 1, 1)))),
    ("kernel: expected to fit into the padded input", lambda:
        good_convolve(dilation=(1, 1, 6))),
    ("y: expected the size of the output", lambda: good_convolve(y=F((1, 1, 1, 6, 3)))),
    ("y: expected the size of the output", lambda: good_convolve(padding=(0, 0, 1))),
    (r"x: expected channels x kernel = 4 inputs a patch, got 6", lambda:
        good_convolve(x=F((1, 3, 1, 1, 6)))),
    (r"y: expected shape \(batch, depth, height, width, out\)", lambda:
        good_convolve(y=F((2, 1, 1, 5, 3)))),
    (r"y: expected shape \(batch, depth, height, width, out\)", lambda:
        good_convolve(y=F((1, 1, 1, 5, 4)))),
    (r"inside: expected shape \(8, 5, 1\)", lambda:
        good_convolve(inside=np.zeros((8, 1, 1), np.uint8))),
    ("dac_levels: expected 0 to 127, got 128", lambda: good_convolve(dac_levels=128)),
    ("array is not writeable", lambda: good_convolve(y=frozen(1, 1, 1, 5, 3))),
    # gradients
    ("x: expected 5 dimensions", lambda: good_gradient(x=F((2, 6)))),
    (r"x: expected channels x kernel = 4 inputs a patch, got 6", lambda:
        good_gradient(kernel=(1, 1, 3))),
    ("kernel: expected to fit", lambda: good_gradient(x=F((1, 2, 1, 1, 1)))),
    (r"grad: expected shape \(5, 3\)", lambda: good_gradient(grad=F((4, 3)))),
    (r"total: expected shape \(out, inputs\)", lambda: good_gradient(total=F(4))),
    ("rows: expected >= 1, got 0", lambda: good_gradient(rows=0)),
    ("dac_levels: expected 1 ", lambda: good_gradient(dac_levels=0)),
    ("shift: expected 0 ", lambda: good_gradient(shift=16)),
    ("digit: expected >= 0", lambda: good_gradient(digit=-1)),
    ("fixed_range: expected a finite", lambda: good_gradient(fixed_range=0.0)),
    (r"row_scale: expected shape \(4,\)", lambda: good_gradient(row_scale=F(3))),
    (r"inside: expected shape \(2, 5, 1\)", lambda:
        good_gradient(inside=np.zeros((1, 5, 1), np.uint8))),
    ("array is not writeable", lambda: good_gradient(total=frozen(3, 4))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "call"),
    VALUE_ERRORS,
    ids=[f"{i} {m[:40]}" for i, (m, _) in enumerate(VALUE_ERRORS)],
)
def test_value_errors(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_the_good_calls_are_good() -> None:
    for call in (
        good_program,
        good_pair,
        good_age,
        good_array,
        good_pack,
        good_product,
        good_convolve,
        good_gradient,
    ):
        call()
    good_pack(variance=True)
    good_product(packed_array(integer=False), dac_levels=32767, slice_bits=15, steps=F(4) + 1,
                 inside=None)  # fmt: skip


DOUBLES = np.zeros((3, 4))
COLUMNS_FIRST = np.asfortranarray(F((3, 4)))

TYPE_ERRORS: list[Callable[[], Any]] = [
    *[
        lambda call=call, name=name, value=value: call(**{name: value})
        for call, names in (
            (good_program, ("weights", "out")),
            (good_pair, ("weights", "positive", "negative")),
            (good_age, ("weights", "programmed", "out")),
            (good_pack, ("positive", "negative")),
        )
        for name in names
        for value in (DOUBLES, COLUMNS_FIRST, F((3, 8))[:, ::2], [[0.0] * 4] * 3)
    ],
    *[
        lambda call=call, name=name, value=value: call(**{name: value})
        for call in (good_product, good_convolve)
        for name in ("steps", "plane_factors", "scale", "bias", "row_scale")
        for value in (np.zeros(np.shape(PRODUCT[name])), F(16)[::4])
    ],
    lambda: good_program(inverse=np.zeros(3)),
    lambda: good_program(device=OLD),
    lambda: good_program(seed=-1),
    lambda: good_program(stream=2**64),
    lambda: good_age(device=PLAIN),
    lambda: good_age(inverse=F(6)[::2]),
    lambda: good_product(x=np.zeros((5, 4))),
    lambda: good_product(x=F((4, 5)).T),
    lambda: good_product(y=np.zeros((5, 3))),
    lambda: good_product(y=F((3, 5)).T),
    lambda: good_product(x=[[0.0] * 4] * 5),
    lambda: good_product(inside=np.zeros((8, 5, 1), bool)),
    lambda: good_product(inside=np.zeros((8, 5, 2), np.uint8)[:, :, ::2]),
    lambda: good_product(scale=None),
    lambda: good_convolve(x=np.zeros((1, 2, 1, 1, 6))),
    lambda: good_convolve(y=np.zeros((1, 1, 1, 5, 3))),
    lambda: good_convolve(kernel=(1, 2)),
    lambda: good_convolve(stride=1),
    lambda: _core.Programming(np.zeros((2, 4)), 0, 1, 0, 1),
    lambda: _core.Programming(np.asfortranarray(F((3, 4))), 0, 1, 0, 1),
    lambda: _core.Programming(F((2, 4)), 0, 1, 0, 1, (-1, 0)),
    lambda: _core.Aging(np.zeros((2, 4)), None, None, 0, 1, 0, 1),
    lambda: _core.Aging(None, np.zeros((2, 4)), None, 0, 1, 0, 1),
    lambda: _core.Aging(None, None, np.zeros((2, 2)), 0, 1, 0, 1),
]


@pytest.mark.parametrize("call", TYPE_ERRORS, ids=range(len(TYPE_ERRORS)))
def test_type_errors(call: Callable[[], Any]) -> None:
    """Nothing is converted or copied silently."""
    with pytest.raises(TypeError, match=r"incompatible (function|constructor) arguments"):
        call()


def test_planes_that_were_never_packed() -> None:
    """They hold nothing that could be multiplied."""
    array, y = _core.CrossbarArray(3, 4, 4, 2, True, False, False), F((1, 3))
    arguments = (127, 0, 0, F(2), F(2), 0.0, False, None, F(3), None, None, 0, 0, None)
    for plane in (0, 1):
        with pytest.raises(ValueError, match=r"^product: expected every plane to be packed"):
            array.product(F((1, 4)), y, *arguments)
        array.pack(plane, F((3, 4)), None, 1.0, None)
    array.product(F((1, 4)), y, *arguments)


@pytest.mark.parametrize("stuck", [(2**63, 2**63), (2**64 - 1, 1), (2**40, 0)])
def test_stuck_for_certain(stuck: tuple[int, int]) -> None:
    """Probabilities saturate: all but one word in 2^32 are below, and none above is off."""
    device = _core.Programming(F((2, 4)), 0, 1, 0, 10, stuck, (2.0, 3.0))
    out = F((1, 1000))
    _core.program(F((1, 1000)), np.ones(1, np.float32), 1, 0, 1, out, device, 1, 2, 3)
    assert (out == 2).all()


def test_nothing_is_written_on_error() -> None:
    y, image = F((5, 3)) + 7, F((1, 1, 1, 5, 3)) + 7
    inside = np.full((8, 5, 1), 7, np.uint8)
    for changed in ({"dac_levels": 128}, {"steps": F(7)}, {"bias": F(4)}, {"adc_levels": -1}):
        with pytest.raises(ValueError):
            good_product(y=y, inside=inside, **changed)
        with pytest.raises(ValueError):
            good_convolve(y=image, inside=inside, **changed)
    bad = F((5, 4))
    bad[4, 3] = np.nan
    with pytest.raises(ValueError):
        good_product(x=bad, y=y, inside=inside)
    assert (y == 7).all() and (image == 7).all() and (inside == 7).all()
    out = F((3, 4)) + 7
    for call in (good_program, good_age):
        with pytest.raises(ValueError):
            call(out=out, cell=-1)
    assert (out == 7).all()
