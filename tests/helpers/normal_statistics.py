"""How standard the standard normals are: figures of any number of draws, as p-values.

``python tests/helpers/normal_statistics.py 1e9`` prints them; test_statistics.py judges them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noisycells.random import standard_normal

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

PIECE = 1 << 21
BINS, PER_UNIT = 622, 64  # of width 1/64, on +-4.859375; and one for each tail
TAILS = (3.0, 4.0, 4.5, 5.0, 5.5, 6.0)
LAGS = range(1, 9)
CELLS = 32  # a side, of equal probability, in the test of pairs


class Figure(NamedTuple):
    name: str
    value: str
    p: float


def upper_tail(z: float) -> float:
    """P(Z > z) of a standard normal."""
    return math.erfc(z / math.sqrt(2)) / 2


def p_of_normal(z: float) -> float:
    return 2 * upper_tail(abs(z))


def p_of_chi_square(value: float, freedom: int) -> float:
    """Two-sided: too even is as wrong as too uneven. Wilson & Hilferty 1931."""
    spread = 2 / (9 * freedom)
    return p_of_normal(((value / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


def p_of_kolmogorov(distance: float, n: int) -> float:
    """Of the largest distance between the distribution functions; the limit of many draws."""
    terms = ((-1) ** (k - 1) * math.exp(-2 * n * (k * distance) ** 2) for k in range(1, 101))
    return max(0.0, min(1.0, 2 * sum(terms))) if distance * math.sqrt(n) > 0.2 else 1.0


def p_of_standard_normal(z: F64) -> float:
    """Kolmogorov's test of finite numbers, at least 1000."""
    assert np.isfinite(z).all() and len(z) >= 1000
    exact = np.array([1 - upper_tail(v) for v in np.sort(z)])
    steps = np.arange(len(z) + 1) / len(z)
    distance = max(np.abs(exact - steps[:-1]).max(), np.abs(exact - steps[1:]).max())
    return p_of_kolmogorov(float(distance), len(z))


def p_of_poisson(count: int, mean: float) -> float:
    """Two-sided, exact; by the normal limit where the mean is large."""
    if mean > 10_000:
        return p_of_normal((count - mean) / math.sqrt(mean))
    below, term = 0.0, math.exp(-mean) if mean < 700 else 0.0
    if term == 0.0:  # start where the terms do not underflow; what lies below is negligible
        first = int(mean - 12 * math.sqrt(mean))
        term = math.exp(first * math.log(mean) - mean - math.lgamma(first + 1))
    else:
        first = 0
    for n in range(first, count):
        below += term
        term *= mean / (n + 1)
    at_most = below + (term if count >= first else 0.0)
    return min(1.0, 2 * min(at_most, 1 - below))


def chi_square(counts: NDArray[np.int64], probability: NDArray[np.float64]) -> float:
    expected = probability * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def correlation(name: str, a: F32, b: F32) -> list[Figure]:
    """Of values and of squares, in standard errors, where both are standard normal."""
    n = len(a)
    values = float(np.vdot(a, b)) / math.sqrt(n)
    squares = float(np.vdot(a * a - 1, b * b - 1)) / (2 * math.sqrt(n))
    return [
        Figure(f"{name}, values", f"{values:+.2f} se", p_of_normal(values)),
        Figure(f"{name}, squares", f"{squares:+.2f} se", p_of_normal(squares)),
    ]


class Tally:
    """Counts and sums over pieces of one long draw."""

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0.0
        self.bins = np.zeros(BINS + 2, np.int64)
        self.tails = np.zeros((2, len(TAILS)), np.int64)
        self.moments = np.zeros(8)
        self.lags = np.zeros((2, len(LAGS)))
        self.pairs = {name: np.zeros((CELLS, CELLS), np.int64) for name in ("0, 1", "1, 2", "3, 4")}

    def add(self, z: F32) -> None:
        """``z`` starts at a multiple of 4."""
        self.count += len(z)
        self.largest = max(self.largest, float(np.abs(z).max()))
        place = np.floor(z * np.float32(PER_UNIT)).astype(np.int32) + (BINS // 2 + 1)
        self.bins += np.bincount(np.clip(place, 0, BINS + 1), minlength=BINS + 2)
        far = z[np.abs(z) > TAILS[0]]
        for i, t in enumerate(TAILS):
            self.tails[:, i] += np.count_nonzero(far > t), np.count_nonzero(far < -t)
        square = z * z
        power = np.ones(len(z))
        for k in range(8):
            power *= z
            self.moments[k] += power.sum()
        square -= 1
        for i, lag in enumerate(LAGS):
            self.lags[:, i] += np.vdot(z[lag:], z[:-lag]), np.vdot(square[lag:], square[:-lag])
        edges = np.array([quantile(k / CELLS) for k in range(1, CELLS)], np.float32)
        cell = np.searchsorted(edges, z[: 1 << 19]).reshape(-1, 4)
        for name, (a, b) in {
            "0, 1": (cell[:, 0], cell[:, 1]),
            "1, 2": (cell[:, 1], cell[:, 2]),
            "3, 4": (cell[:-1, 3], cell[1:, 0]),
        }.items():
            self.pairs[name] += np.bincount(a * CELLS + b, minlength=CELLS**2).reshape(CELLS, -1)

    def figures(self) -> list[Figure]:
        n, found = self.count, []
        edges = (np.arange(BINS + 1) - BINS // 2) / PER_UNIT
        below = np.array([upper_tail(-e) for e in edges])
        probability = np.diff(np.concatenate([[0.0], below, [1.0]]))
        # Differences of the far tails cancel; take the smaller side's.
        probability[-1] = probability[0] = upper_tail(edges[-1])
        value = chi_square(self.bins, probability / probability.sum())
        found.append(
            Figure(
                f"chi-square, {BINS} bins of 1/{PER_UNIT} and two tails",
                f"{value:.1f} of {BINS + 1}",
                p_of_chi_square(value, BINS + 1),
            )
        )
        distance = float(np.abs(np.cumsum(self.bins[:-1]) / n - below).max())
        found.append(
            Figure(
                "Kolmogorov-Smirnov, at the bins' edges",
                f"{distance * math.sqrt(n):.2f} / sqrt(n)",
                p_of_kolmogorov(distance, n),
            )
        )
        for i, t in enumerate(TAILS):
            mean = n * upper_tail(t)
            for side, got in zip(("above", "below -"), self.tails[:, i], strict=True):
                name = f"{side}{'' if side[-1] == '-' else ' '}{t:g}"
                found.append(Figure(name, f"{got} of {mean:.1f}", p_of_poisson(int(got), mean)))
        exact = [0, 1, 0, 3, 0, 15, 0, 105]  # E z^k
        variance = [1, 2, 15, 96, 945, 10170, 135135, 2016000]  # Var z^k
        for k in range(8):
            error = (self.moments[k] / n - exact[k]) * math.sqrt(n / variance[k])
            found.append(Figure(f"mean of z^{k + 1}", f"{error:+.2f} se", p_of_normal(error)))
        for i, lag in enumerate(LAGS):
            for j, name in enumerate(("values", "squares")):
                error = self.lags[j, i] / math.sqrt(n) / (1, 2)[j]
                found.append(Figure(f"lag {lag}, {name}", f"{error:+.2f} se", p_of_normal(error)))
        for name, counts in self.pairs.items():
            value = chi_square(counts.ravel(), np.full(CELLS**2, CELLS**-2))
            found.append(
                Figure(
                    f"pairs of elements {name} of blocks, {CELLS} x {CELLS}",
                    f"{value:.1f} of {CELLS**2 - 1}",
                    p_of_chi_square(value, CELLS**2 - 1),
                )
            )
        return found


def quantile(p: float) -> float:
    low, high = -10.0, 10.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(-middle) < p else (low, middle)
    return low


def tally(count: int, draw: Callable[[int, int], F32]) -> Tally:
    """Of ``draw(n, offset)`` for offsets up to ``count``."""
    found = Tally()
    for offset in range(0, count, PIECE):
        found.add(draw(min(PIECE, count - offset), offset))
    return found


def main(count: int) -> None:
    began = time.perf_counter()
    found = tally(count, lambda n, offset: standard_normal(n, 1, offset=offset))
    for figure in found.figures():
        print(f"{figure.name:48} {figure.value:>28}   p {figure.p:.3g}")
    print(f"{'largest |z|':48} {found.largest:>28.4f}")
    print(f"{count:.3g} draws in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(int(float(sys.argv[1])))
