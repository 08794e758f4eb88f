"""Programming and aging of devices: the core equals reference/crossbar.py bit for bit."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import pytest
from core_cases import RNG, THREADS, at_level, guarded, same_bits
from device_cases import (
    AGING,
    AGING_TABLES,
    G_MIN,
    PROGRAMMING,
    SPAN,
    bound_aging,
    bound_programming,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import noisycells as nc
from noisycells import _core
from noisycells.reference import crossbar as reference

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
SEED, STREAM, CELL = 2**64 - 22, 33 << 40, 5


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
