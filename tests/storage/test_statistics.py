"""Distributions of the draws, at fixed seeds.

Every figure comes as a p-value and must not fall below LIMIT. Under other seeds a figure would
fall below it with probability 1e-7, so each test here, which looks at fewer than 100 of them,
raises a false alarm less than once in 1e5 reseedings, and the file less than once in 1e4.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from core_cases import ADC, RNG, bound_channel, channel
from normal_statistics import (
    Figure,
    correlation,
    p_of_chi_square,
    p_of_kolmogorov,
    p_of_normal,
    p_of_poisson,
    quantile,
    tally,
    upper_tail,
)
from numpy.typing import NDArray

from noisycells import _core, reference
from noisycells.random import standard_normal

F32 = NDArray[np.float32]
LIMIT = 1e-7


def judge(figures: list[Figure]) -> None:
    assert 0 < len(figures) < 100
    bad = [f for f in figures if not f.p > LIMIT]
    assert not bad, bad


# --------------------------------------------------------------------------- the judges


def test_p_values() -> None:
    """Against figures of the usual tables."""
    assert p_of_normal(1.959964) == pytest.approx(0.05, rel=1e-5)
    assert p_of_chi_square(691.4, 623) == pytest.approx(2 * 0.0295, rel=0.02)
    assert p_of_poisson(0, 2.0) == pytest.approx(2 * math.exp(-2))
    assert p_of_poisson(7, 2.0) == pytest.approx(2 * 0.0045338, rel=1e-4)
    assert p_of_poisson(1300, 1000.0) < 1e-12 and p_of_poisson(1030, 1000.0) > 0.3
    assert p_of_kolmogorov(1.3581 / 1000, 10**6) == pytest.approx(0.05, rel=1e-3)
    assert quantile(0.975) == pytest.approx(1.959964, abs=1e-6)


def test_a_cheap_normal_fails() -> None:
    """What the judges are for: sums of 12 uniforms, and a spread 0.2 % too wide."""
    g = RNG(5)
    cheap = tally(2_000_000, lambda n, _: g.random((n, 12), np.float32).sum(axis=1) - np.float32(6))
    wide = tally(10_000_000, lambda n, _: g.standard_normal(n, np.float32) * np.float32(1.002))
    for found in (cheap, wide):
        with pytest.raises(AssertionError):
            judge(found.figures())


def test_neighbors_that_share_a_word_fail() -> None:
    def repeated(n: int, offset: int) -> F32:
        z = standard_normal(n, 1, offset=offset)
        z[1::400] = z[::400][: len(z[1::400])]
        return z

    with pytest.raises(AssertionError):
        judge(tally(1 << 21, repeated).figures())


# --------------------------------------------------------------------------- normals


def test_normals() -> None:
    found = tally(20_000_000, lambda n, offset: standard_normal(n, 20, offset=offset))
    judge(found.figures())
    assert found.largest < 6.6605


@pytest.mark.full
def test_normals_1e9() -> None:
    found = tally(1_000_000_000, lambda n, offset: standard_normal(n, 21, offset=offset))
    judge(found.figures())
    assert 5.6 < found.largest < 6.6605


def test_kolmogorov_smirnov() -> None:
    n = 1_000_000
    z = np.sort(standard_normal(n, 22)).astype(np.float64)
    table = np.arange(-7, 7.0001, 1 / 1024)
    cdf = np.interp(z, table, [upper_tail(-t) for t in table])
    rank = np.arange(n + 1) / n
    distance = max(float((rank[1:] - cdf).max()), float((cdf - rank[:-1]).max()))
    judge([Figure("KS", f"{distance}", p_of_kolmogorov(distance, n))])


def test_streams_seeds_and_places_are_unrelated() -> None:
    n, figures = 1_000_000, []
    seed, stream = 23, 7
    one = standard_normal(n, seed, stream)
    for bit in (0, 1, 31, 32, 63):
        other = standard_normal(n, seed ^ 1 << bit, stream)
        figures += correlation(f"seed bit {bit}", one, other)
        other = standard_normal(n, seed, stream ^ 1 << bit)
        figures += correlation(f"stream bit {bit}", one, other)
    figures += correlation("seed and stream swapped", one, standard_normal(n, stream, seed))
    for offset in (n, 2**34, 2**45):
        far = standard_normal(n, seed, stream, offset)
        figures += correlation(f"offset {offset}", one, far)
    judge(figures)


# --------------------------------------------------------------------------- cells

KEYS = (41, 41, 43)  # chip and read keys alike: the purpose alone tells their draws apart


def unit_channel(std: float = 1.0, read: float = 0.0, d2d: float = 0.0) -> _core.ChannelTables:
    table = np.array([[0, 0, std, 0]] * 2, np.float32)
    rows = np.array([[read, 0]] * 2, np.float32) if read else None
    return _core.ChannelTables(table, 0.0, 1.0, rows, None, d2d)


def means(c: _core.ChannelTables, n: int, cells: int, literal: bool = True) -> F32:
    out = np.empty(n, np.float32)
    _core.sample(np.zeros(n, np.float32), out, cells, c, *KEYS, 0, literal)
    return out


def test_cells_and_purposes_are_unrelated() -> None:
    n, figures = 1_000_000, []
    sums = [np.zeros(n, np.float32)]
    sums += [means(unit_channel(), n, cells) * np.float32(cells) for cells in range(1, 6)]
    drawn = {f"cell {c}": sums[c + 1] - sums[c] for c in range(5)}
    drawn["read"] = means(unit_channel(0.0, read=1.0), n, 1)
    drawn["d2d"] = means(unit_channel(0.0, d2d=1.0), n, 1)
    names = list(drawn)
    for i, a in enumerate(names):
        for b in names[:i]:
            figures += correlation(f"{a}, {b}", drawn[a], drawn[b])
    judge(figures)


def variance(name: str, y: F32, expected: float) -> Figure:
    """Of zero-mean normals."""
    n = len(y)
    error = (float(np.vdot(y, y)) / n / expected - 1) * math.sqrt(n / 2)
    return Figure(name, f"{error:+.2f} se", p_of_normal(error))


def test_variances_of_means() -> None:
    """sigma^2 / r for what is drawn a cell; what is common to the cells stays."""
    n, figures = 500_000, []
    for literal in (False, True):
        for cells in (1, 2, 3, 5, 16, 30):
            for std, read, d2d in ((1.0, 0.0, 0.0), (0.8, 0.6, 0.0), (0.6, 0.5, 0.3)):
                y = means(unit_channel(std, read, d2d), n, cells, literal)
                expected = (std**2 + read**2) / cells + d2d**2
                figures.append(variance(f"{literal} {cells} {std} {read} {d2d}", y, expected))
    judge(figures)


@pytest.mark.parametrize("literal", [False, True])
def test_moments_follow_the_table(literal: bool) -> None:
    n, cells, figures = 200_000, 3, []
    c = channel(9)
    for i, x in enumerate(np.linspace(-1, 1, 17)):
        out = np.empty(n, np.float32)
        _core.sample(
            np.full(n, x, np.float32), out, cells, bound_channel(c), 1, 2, 100 + i, 0, literal
        )
        mean = np.interp(x, np.linspace(-1, 1, 9), c.table[:, 0])
        std = np.interp(x, np.linspace(-1, 1, 9), c.table[:, 2]) / math.sqrt(cells)
        error = float(out.mean(dtype=np.float64) - mean) / std * math.sqrt(n)
        figures.append(Figure(f"mean at {x}", f"{error:+.2f} se", p_of_normal(error)))
        figures.append(variance(f"variance at {x}", out - np.float32(mean), std**2))
    judge(figures)


def test_how_many_cells_are_stuck() -> None:
    """With no noise, a stuck cell shows its level; shares are those asked for."""
    n, low, high = 1_000_000, 0.02, 0.05
    table = np.array([[-1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]], np.float32)
    stuck = (round(low * 2**32), round(high * 2**32))
    c = _core.ChannelTables(table, -1.0, 1.0, None, None, 0.0, stuck)
    y = means(c, n, 1)
    assert set(np.unique(y)) == {-1.0, 0.0, 1.0}
    pairs = means(c, n, 2)
    figures = []
    for name, got, p in (
        ("low", y == -1, low),
        ("high", y == 1, high),
        ("both low", pairs == -1, low**2),
        ("both high", pairs == 1, high**2),
        ("one low", pairs == -0.5, 2 * low * (1 - low - high)),
    ):
        error = (int(got.sum()) - n * p) / math.sqrt(n * p * (1 - p))
        if n * p > 10_000:
            figures.append(Figure(name, f"{error:+.2f} se", p_of_normal(error)))
        else:
            figures.append(Figure(name, f"{got.sum()}", p_of_poisson(int(got.sum()), n * p)))
    judge(figures)


def test_the_read_converter_gives_each_code_its_share() -> None:
    n = 2_000_000
    c = channel(17, adc=reference.Converter(*ADC))
    x, cells = np.zeros(n, np.float32), 1
    out = np.empty(n, np.float32)
    _core.sample(x, out, cells, bound_channel(c), 5, 6, 7, 0, True)
    code = np.rint((out - ADC.lo) / ADC.step).astype(int)
    assert np.abs(ADC.lo + code * ADC.step - out).max() < 1e-6
    mean, std = float(c.table[8, 0]), float(c.table[8, 2])
    edges = ADC.lo + (np.arange(1, ADC.levels) - 0.5) * ADC.step
    below = np.array([0.0, *(upper_tail(-(e - mean) / std) for e in edges), 1.0])
    share = np.diff(below)
    likely = share * n > 100
    counts = np.append(np.bincount(code, minlength=ADC.levels)[likely], 0)
    counts[-1] = n - counts.sum()
    probability = np.append(share[likely], 1 - share[likely].sum())
    expected = probability * n
    value = float(((counts - expected) ** 2 / expected).sum())
    judge([Figure("codes", f"{value}", p_of_chi_square(value, len(counts) - 1))])
