"""What a codec chooses by itself: thresholds, cells of the ranges, write bits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from codec_cases import heavy_tailed
from numpy.typing import NDArray

from noisycells import devices
from noisycells.channel import Channel
from noisycells.storage import Codec
from noisycells.storage.redundancy import allocate

PCM = devices.get("synthetic_pcm")
STAND_IN = devices.get("gaussian_standin")
D2D = Channel(PCM.x, PCM.mean, PCM.std, d2d_std=0.05)


def squared_error(
    channel: Channel,
    w: NDArray[Any],
    thresholds: tuple[float, ...],
    cells: tuple[int, ...],
    sensitivity: NDArray[Any] | float = 1.0,
    sign: bool = True,
) -> float:
    """Expected sum of squared errors, weight by weight."""
    low, high = channel.range
    magnitude, total = np.abs(w.astype(np.float64)), 0.0
    for (a, b), r in zip(pairwise((0.0, *thresholds, magnitude.max())), cells, strict=True):
        inside = (magnitude > a) & (magnitude <= b)
        bottom, top = (a, b) if sign else (max(-b, w.min()), min(b, w.max()))
        value = magnitude[inside] if sign else w[inside]
        alpha = (high - low) / (top - bottom)
        sigma2 = channel.std_at(channel.inverse(alpha * (value - bottom) + low, clip=True)) ** 2
        h = np.broadcast_to(sensitivity, w.shape)[inside]
        total += float((h * (sigma2 / r + channel.d2d_std**2)).sum()) / alpha**2
    return total


@pytest.mark.parametrize("channel", [PCM, STAND_IN, D2D], ids=lambda c: f"{c.name}-{c.d2d_std}")
@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize("shape", ["student", "normal", "uniform", "pruned"])
def test_threshold_is_within_two_percent_of_the_best(
    channel: Channel, sign: bool, shape: str
) -> None:
    rng = np.random.default_rng(3)
    w = {
        "student": rng.standard_t(4, 5000),
        "normal": rng.standard_normal(5000) + 0.1,
        "uniform": rng.uniform(-1, 1, 5000),
        "pruned": (lambda v: v[np.abs(v) > 1])(rng.laplace(size=15_000)),
    }[shape].astype(np.float32)
    stored = Codec(channel, sign_protection=sign, cells=(2, 3)).encode(w)

    def objective(threshold: float) -> float:
        cells = np.where(np.abs(w) <= threshold, 2, 3).mean()
        return cells * squared_error(channel, w, (threshold,), (2, 3), sign=sign)

    best = min(objective(t) for t in np.abs(w).max() * np.linspace(0.01, 0.99, 200))
    assert objective(stored.ranges[0].threshold) <= 1.02 * best


def test_discrete_weights_get_a_threshold_at_a_value() -> None:
    rng = np.random.default_rng(0)
    w = rng.choice(np.float32([0.25, 0.5, -0.25, -8, 8]), 1000, p=[0.3, 0.2, 0.3, 0.1, 0.1])
    small, large = Codec(PCM).encode(w).ranges
    assert 0.5 <= small.threshold < 0.51 and large.threshold == 8


@pytest.mark.parametrize("ranges", [3, 4, 8])
def test_more_ranges_reduce_the_error(ranges: int) -> None:
    w = heavy_tailed(20_000)
    errors = []
    for n in (2, ranges):
        stored = Codec(PCM, ranges=n).encode(w)
        thresholds = [r.threshold for r in stored.ranges]
        assert thresholds == sorted(thresholds) and len(thresholds) == n
        errors.append(squared_error(PCM, w, tuple(thresholds[:-1]), (1,) * n))
    assert errors[1] < 0.6 * errors[0]


def test_three_thresholds_against_all_pairs() -> None:
    w = heavy_tailed(4000)
    stored = Codec(PCM, ranges=3).encode(w)
    chosen = squared_error(PCM, w, tuple(r.threshold for r in stored.ranges[:-1]), (1, 1, 1))
    grid = np.abs(w).max() * np.geomspace(0.01, 0.95, 40)
    best = min(
        squared_error(PCM, w, (float(a), float(b)), (1, 1, 1)) for a in grid for b in grid if a < b
    )
    assert chosen <= 1.02 * best


def test_sensitivity_moves_the_threshold() -> None:
    w = heavy_tailed(20_000)
    h = np.where(np.abs(w) < 0.02, 1.0, 1e-6)
    plain, weighted = (Codec(PCM).encode(w, sensitivity=s).ranges[0].threshold for s in (None, h))
    assert weighted < 0.7 * plain
    best = min(
        squared_error(PCM, w, (t,), (1, 1), h)
        for t in np.abs(w).max() * np.geomspace(1e-3, 0.9, 200)
    )
    assert squared_error(PCM, w, (weighted,), (1, 1), h) <= 1.05 * best
    for same in (3.0, np.zeros(w.shape), np.ones(w.shape)):  # none of these says which matter
        assert Codec(PCM).encode(w, sensitivity=same).ranges[0].threshold == plain
        signed = Codec(PCM, sign_protection=False)
        assert signed.encode(w, sensitivity=same).ranges == signed.encode(w).ranges


@pytest.mark.parametrize("mean_cells", [1, 1.07, 2, 3.5, 10, 30.0])
@pytest.mark.parametrize("sign", [True, False])
def test_mean_cells_is_kept_and_used(mean_cells: float, sign: bool) -> None:
    w = heavy_tailed(30_000)
    stored = Codec(PCM, mean_cells=mean_cells, sign_protection=sign).encode(w)
    assert stored.cost.mean_cells <= mean_cells
    unused = mean_cells - stored.cost.mean_cells
    assert unused < stored.counts[1] / w.size + 1e-9  # not enough for one more cell
    (small, large) = stored.ranges
    if mean_cells > 1:
        assert large.cells > small.cells  # their noise is larger in weight units


@pytest.mark.parametrize("mean_cells", [1.07, 2.0, 5.3])
def test_mean_cells_against_brute_force(mean_cells: float) -> None:
    w = heavy_tailed(20_000)
    magnitude = np.abs(w)

    def best_cells(threshold: float) -> float:
        """Least squared error of all pairs of cells that keep the average."""
        single = [
            squared_error(PCM, np.where(part, w, 0), (threshold,), (1, 1), part)
            for part in (magnitude <= threshold, magnitude > threshold)
        ]
        n_small = int((magnitude <= threshold).sum())
        n_large = w.size - n_small
        budget = mean_cells * w.size
        pairs = [
            (r, int((budget - r * n_small) // n_large))
            for r in range(1, int(mean_cells * w.size / n_small) + 1)
        ]
        return min(single[0] / a + single[1] / b for a, b in pairs if b >= 1)

    # With the threshold given
    ranges = Codec(PCM, thresholds=0.08, mean_cells=mean_cells).encode(w).ranges
    cells = tuple(r.cells for r in ranges)
    assert squared_error(PCM, w, (ranges[0].threshold,), cells) <= 1.001 * best_cells(0.08)
    # And together with it
    ranges = Codec(PCM, mean_cells=mean_cells).encode(w).ranges
    chosen = squared_error(PCM, w, (ranges[0].threshold,), tuple(r.cells for r in ranges))
    grid = magnitude.max() * np.geomspace(0.01, 0.8, 60)
    assert chosen <= 1.03 * min(best_cells(float(t)) for t in grid)


def test_allocation_is_exact_for_two_ranges() -> None:
    rng = np.random.default_rng(8)
    r, s = np.arange(1, 361)[:, None], np.arange(1, 361)
    for _ in range(200):
        noise, counts = rng.exponential(size=2), rng.integers(1, 40, 2)
        mean = float(rng.uniform(1, 9))
        a, b = allocate(noise, counts, mean)
        budget = mean * counts.sum()
        assert a * counts[0] + b * counts[1] <= budget + 1e-6
        within = r * counts[0] + s * counts[1] <= budget
        best = np.where(within, noise[0] / r + noise[1] / s, np.inf).min()
        assert noise[0] / a + noise[1] / b == pytest.approx(best, rel=1e-12)


def test_allocation_without_noise_or_weights_takes_one_cell() -> None:
    assert allocate(np.zeros(2), np.array([5, 5]), 4.0) == (1, 1)
    assert allocate(np.array([1.0, 0.0]), np.array([5, 0]), 4.5) == (4, 1)
    assert allocate(np.array([1.0, 0.0]), np.array([5, 5]), 4.0) == (7, 1)
    assert allocate(np.zeros(2), np.zeros(2, np.int64), 4.0) == (1, 1)
    assert allocate(np.array([1.0, 1.0]), np.array([1, 10**9]), 1.5) == (65_535, 1)


@pytest.mark.parametrize("channel", [PCM, STAND_IN, devices.get("pcm_array")], ids=repr)
@pytest.mark.parametrize("cells", [(1, 1), (4, 30)])
def test_automatic_write_bits(channel: Channel, cells: tuple[int, int]) -> None:
    """Less than a tenth of the noise variance; one bit less would be more."""
    w = heavy_tailed(40_000)
    stored = Codec(channel, cells=cells, write_bits="auto").encode(w)
    edges = (0.0, *(r.threshold for r in stored.ranges))
    for (a, b), r in zip(pairwise(edges), stored.ranges, strict=True):
        value = np.abs(w[(np.abs(w) > a) & (np.abs(w) <= b)]).astype(np.float64)
        x = channel.inverse(r.alpha * value - r.beta, clip=True)
        noise = np.mean(channel.std_at(x) ** 2) / r.cells

        def rounding(bits: int, x: NDArray[np.float64] = x) -> float:
            lo, step, _, _ = channel.write_converter(bits)
            rounded = lo + np.rint((x - lo) / step) * step
            return float(np.mean((channel.mean_at(rounded) - channel.mean_at(x)) ** 2))

        assert r.write_bits is not None
        # step^2 / 12 is what an even spread gives; the spread over few levels is not even.
        assert rounding(r.write_bits) < 1.3 * noise / 10
        assert rounding(r.write_bits - 1) > 0.7 * noise / 10
    assert stored.levels.dtype == np.uint8


def test_write_bits_of_the_channel() -> None:
    coarse = Channel(PCM.x, PCM.mean, PCM.std, write_bits=3)
    w = heavy_tailed(9000)
    assert [r.write_bits for r in Codec(coarse).encode(w).ranges] == [3, 3]
    assert [r.write_bits for r in Codec(coarse, write_bits=(1, 2)).encode(w).ranges] == [1, 2]
    automatic = Codec(coarse, cells=100, write_bits="auto").encode(w)
    assert [r.write_bits for r in automatic.ranges] == [3, 3]
    assert 9000 * 3 / 8 <= automatic.levels.size <= 9000 * 3 / 8 + 2 * 9  # a byte a block and range
