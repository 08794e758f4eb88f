"""Capacities: Blahut-Arimoto against closed forms, channels against limits and the presets."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from noisycells import devices
from noisycells.channel import Channel
from noisycells.channel.capacity import blahut_arimoto, gaussian_transition, input_grid
from noisycells.reference import Converter

TOLERANCE = 1e-3  # the default distance of the two bounds, bits


def entropy(*p: float) -> float:
    return -sum(q * math.log2(q) for q in p if q > 0)


def tail(z: float) -> float:
    """Probability that a standard normal exceeds z."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def binary_input_gaussian(std: float) -> float:
    """Mutual information of uniform inputs -1, 1 and their sum with N(0, std^2): quadrature."""
    y = np.linspace(-1 - 10 * std, 1 + 10 * std, 20_001)
    densities = [np.exp(-0.5 * ((y - s) / std) ** 2) for s in (-1, 1)]
    p = sum(densities) / sum(d.sum() for d in densities)
    return float(-np.sum(p * np.log2(p))) - float(
        -np.sum((q := densities[0] / densities[0].sum()) * np.log2(np.maximum(q, 1e-300)))
    )


# ----------------------------------------------------------------- discrete channels


def z_channel(p: float) -> float:
    """Capacity of the channel in which 1 becomes 0 with probability p."""
    return math.log2(1 + (1 - p) * p ** (p / (1 - p)))


CLOSED_FORMS: list[tuple[str, Any, float]] = [
    ("noiseless", np.eye(5), math.log2(5)),
    ("useless", np.full((3, 4), 0.25), 0.0),
    ("one input", [[0.5, 0.5]], 0.0),
    ("binary symmetric", [[0.9, 0.1], [0.1, 0.9]], 1 - entropy(0.1, 0.9)),
    ("binary erasure", [[0.7, 0.3, 0], [0, 0.3, 0.7]], 0.7),
    ("Z", [[1, 0], [0.3, 0.7]], z_channel(0.3)),
    ("4-ary symmetric", np.full((4, 4), 0.05) + 0.8 * np.eye(4), 2 - entropy(0.85, *[0.05] * 3)),
]


@pytest.mark.parametrize(("name", "transition", "capacity"), CLOSED_FORMS)
def test_closed_forms(name: str, transition: Any, capacity: float) -> None:
    result = blahut_arimoto(transition, 1e-9)
    assert result.bits == pytest.approx(capacity, abs=2e-9)
    assert result.bits <= capacity + 1e-12 and result.upper >= capacity - 1e-12
    assert result.probabilities.sum() == pytest.approx(1)


def test_bounds_close_to_the_tolerance() -> None:
    transition = gaussian_transition(np.linspace(-1, 1, 41), np.full(41, 0.1))
    fine = blahut_arimoto(transition, 1e-5)
    for tolerance in (1e-2, 1e-3, 1e-4):
        result = blahut_arimoto(transition, tolerance)
        assert result.upper - result.bits <= tolerance
        assert result.bits <= fine.upper and result.upper >= fine.bits


def test_refuses_what_is_no_channel() -> None:
    for bad in ([0.5, 0.5], np.empty((0, 2))):
        with pytest.raises(ValueError, match="transition: expected a non-empty matrix"):
            blahut_arimoto(bad)
    for bad in ([[0.5, 0.4]], [[1.5, -0.5]], [[np.nan, 1.0]]):
        with pytest.raises(ValueError, match="transition: expected probabilities"):
            blahut_arimoto(bad)
    with pytest.raises(ValueError, match="tolerance: expected a finite number > 0, got 0"):
        blahut_arimoto(np.eye(2), 0)
    with pytest.raises(RuntimeError, match=r"bounds .* apart after 3 iterations"):
        blahut_arimoto([[1, 0], [0.3, 0.7]], 1e-9, max_iterations=3)


# ----------------------------------------------------------------- Gaussian transitions


def test_codes_have_the_probabilities_between_their_thresholds() -> None:
    converter = Converter(-1.0, 0.5, 2.0, 5)
    mean, std = np.array([-0.9, 0.1, 1.3]), np.array([0.2, 0.7, 0.3])
    got = gaussian_transition(mean, std, converter)
    edges = [-0.75, -0.25, 0.25, 0.75]
    for row, m, s in zip(got, mean, std, strict=True):
        above = [1.0, *(tail((e - m) / s) for e in edges), 0.0]
        np.testing.assert_allclose(row, -np.diff(above), atol=3e-3)


def test_input_grid_measures_spreads_as_fisher_and_rao() -> None:
    """N(0, s^2) for s from 1 to e^50: sqrt(2) 50 long, of which a quarter is a step."""
    x = np.linspace(0, 1, 100_001)
    grid = input_grid(x, np.zeros_like(x), np.exp(50 * x))
    assert len(grid) == int(4 * np.sqrt(2) * 50)
    np.testing.assert_allclose(np.diff(grid), 1 / (len(grid) - 1), rtol=1e-3)


def test_input_grid_follows_the_noise() -> None:
    x = np.linspace(0, 1, 1001)
    grid = input_grid(x, 2 * x, np.where(x < 0.5, 0.01, 0.1))
    assert grid[0] == 0 and grid[-1] == 1 and (np.diff(grid) > 0).all()
    spacing = np.diff(2 * grid) / np.where(grid[:-1] < 0.49, 0.01, 0.1)
    assert np.median(spacing) == pytest.approx(0.25, rel=0.02)


def test_too_fine_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"std: 1e-07 is too small beside the output span"):
        Channel.gaussian(1e-7).capacity()
    assert Channel.gaussian(1e-7).capacity([-1, 0, 1]) == pytest.approx(math.log2(3), abs=1e-3)


# ----------------------------------------------------------------- channels


def test_large_noise_needs_two_levels_only() -> None:
    """At amplitude / std < 1.66 the capacity is that of inputs -1 and 1 (Smith 1971)."""
    for std in (0.7, 1.0, 3.0):
        expected = binary_input_gaussian(std)
        assert expected - TOLERANCE <= Channel.gaussian(std).capacity() <= expected + 1e-6
    assert binary_input_gaussian(1.0) == pytest.approx(0.4859, abs=1e-4)


def test_small_noise_limit() -> None:
    """Uniform inputs: log2(span / (std sqrt(2 pi e))), approached from above as std vanishes."""
    excess = []
    for std in (0.1, 0.05, 0.02):
        limit = math.log2(2 / (std * math.sqrt(2 * math.pi * math.e)))
        excess.append(Channel.gaussian(std).capacity() - limit)
    assert 0 < excess[2] < excess[1] < excess[0] < 0.4
    assert excess[2] < 0.07


def test_levels_may_be_given() -> None:
    channel = Channel.gaussian(0.5)
    assert channel.capacity([-1, 1]) == pytest.approx(binary_input_gaussian(0.5), abs=TOLERANCE)
    assert channel.capacity([1, -1, 1]) == channel.capacity([-1, 1])
    assert channel.capacity([0.3]) == 0
    assert channel.capacity(np.linspace(-1, 1, 9)) > channel.capacity([-1, 1])
    with pytest.raises(ValueError, match="levels: expected finite values"):
        channel.capacity([0, np.nan])


def test_no_noise() -> None:
    silent = Channel([-1, 0, 1], [-1, 0, 1], [0.1, 0.0, 0.1])
    assert silent.capacity() == math.inf
    assert silent.capacity([-1, 0, 1]) == pytest.approx(math.log2(3), abs=2e-3)
    exact = Channel([-1, 1], [-1, 1], 0.0, read_bits=3)
    assert exact.capacity() == pytest.approx(3, abs=TOLERANCE)


def test_converters_limit_the_capacity() -> None:
    std = 0.5
    written = Channel.gaussian(std, write_bits=1)
    expected = binary_input_gaussian(std)
    assert written.capacity() == pytest.approx(expected, abs=TOLERANCE)
    assert written.capacity([-1, -0.8, 0.9]) == pytest.approx(expected, abs=TOLERANCE)
    both = Channel.gaussian(std, write_bits=1, read_bits=1)  # threshold 0: binary symmetric
    p = tail(1 / std)
    assert both.capacity() == pytest.approx(1 - entropy(p, 1 - p), abs=2 * TOLERANCE)
    free = Channel.gaussian(std).capacity()
    rising = [Channel.gaussian(std, read_bits=b).capacity() for b in (1, 2, 3, 4, 8, 16)]
    assert all(a < b + TOLERANCE for a, b in itertools.pairwise(rising))
    assert rising[-1] == pytest.approx(free, abs=2 * TOLERANCE)


def test_stuck_cells_limit_the_capacity() -> None:
    for stuck, expected in (
        ((0.1, 0.1), 1 - entropy(0.1, 0.9)),
        ((0.3, 0.0), z_channel(0.3)),
        ((0.5, 0.5), 0.0),
    ):
        channel = Channel.gaussian(0.01, write_bits=1, stuck=stuck)
        assert channel.capacity() == pytest.approx(expected, abs=TOLERANCE)


def test_device_offset_is_noise_of_the_cell() -> None:
    assert Channel.gaussian(0.3, d2d_std=0.4).capacity() == pytest.approx(
        Channel.gaussian(0.5).capacity(), abs=1e-9
    )


# ----------------------------------------------------------------- presets


def test_synthetic_pcm() -> None:
    """2.196 bits; and of the average of r of its cells, figures computed independently."""
    cell = devices.synthetic_pcm()
    assert cell.capacity() == pytest.approx(2.196, abs=1.5e-3)
    for r, bits in ((2, 2.608), (3, 2.860), (5, 3.186), (10, 3.641)):
        average = Channel(cell.x, cell.mean, cell.std / math.sqrt(r))
        assert average.capacity() == pytest.approx(bits, abs=1.5e-3)


def test_pcm_array() -> None:
    """About 2.64 bits over the 40 measured levels, 2.31 over the 16 of the upper branch."""
    cell = devices.pcm_array()
    assert cell.capacity(cell.x) == pytest.approx(2.642, abs=1.5e-3)
    assert cell.capacity(cell.x[24:]) == pytest.approx(2.309, abs=1.5e-3)
    assert cell.capacity() == pytest.approx(2.649, abs=2e-3)  # between the levels too


@pytest.mark.parametrize(("bits", "capacity"), [(1, 1.0), (2, 2.0), (3, 2.983)])
def test_rram(bits: int, capacity: float) -> None:
    assert devices.get(f"rram_mlc_{bits}bit").capacity() == pytest.approx(capacity, abs=1.5e-3)


def test_gaussian_standin() -> None:
    """The Gaussian channel on an interval, whichever: scaled to [-1, 1] it has std 0.18 / 0.7."""
    assert devices.gaussian_standin().capacity() == pytest.approx(
        Channel.gaussian(0.18 / 0.7).capacity(), abs=1e-3
    )
