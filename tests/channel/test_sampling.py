"""Sampling a channel, against the reference bit by bit and against theory.

Statistical thresholds are in standard errors: 5.5 of them are passed by chance with probability
4e-8 each, so a test that makes a few hundred comparisons fails one seed in 1e5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from channel_cases import MEAN, STD, X, make

import noisycells as nc
from noisycells import reference
from noisycells.channel import Channel

LIMIT = 5.5
RNG = np.random.default_rng


# ----------------------------------------------------------------- sampling: bits


def reference_tables(
    read: float | None = None,
    read_bits: int | None = None,
    d2d: float = 0.0,
    stuck: tuple[float, float] = (0, 0),
) -> reference.ChannelTables:
    """The test channel as :mod:`noisycells.reference` takes it, made independently."""

    def columns(values: np.ndarray) -> np.ndarray:
        rounded = values.astype(np.float32)
        return np.stack([rounded, np.append(rounded[1:] - rounded[:-1], np.float32(0))], axis=1)

    program = np.sqrt(STD**2 - (read or 0) ** 2)
    adc = None
    if read_bits is not None:
        lo, hi = (MEAN - 3 * STD).min(), (MEAN + 3 * STD).max()
        step = (hi - lo) / (2**read_bits - 1)
        adc = reference.Converter(lo, step, 1 / step, 2**read_bits)
    return reference.ChannelTables(
        np.hstack([columns(MEAN), columns(program)]),
        -1.0,
        4.0,
        None if read is None else columns(np.full(9, read)),
        adc,
        d2d,
        (round(stuck[0] * 2**32), round(stuck[1] * 2**32)),
    )


CONFIGURATIONS: list[dict[str, Any]] = [
    {},
    {"read": 0.04},
    {"d2d": 0.1},
    {"read": 0.04, "d2d": 0.1},
    {"read_bits": 3},
    {"stuck": (0.1, 0.2)},
    {"read": 0.04, "read_bits": 5, "d2d": 0.1, "stuck": (0.1, 0.2)},
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("literal", [False, True])
def test_equals_the_reference_bit_for_bit(configuration: dict[str, Any], literal: bool) -> None:
    tables = reference_tables(**configuration)
    names = {"read": "read_std", "d2d": "d2d_std"}
    channel = make(**{names.get(k, k): v for k, v in configuration.items()})
    must = "read_bits" in configuration or "stuck" in configuration
    assert channel.collapses != must
    rng = RNG(1)
    x = rng.uniform(-1.2, 1.2, 501).astype(np.float32)
    cells = rng.integers(1, 7, 501).astype(np.int32)
    read_key = nc.random.key(7, "channel read", 3)
    chip_key = nc.random.key(3, "channel chip") if "read" in configuration else read_key
    keys = reference.Keys(chip_key, read_key, 11)
    if must and not literal:
        with pytest.raises(
            ValueError, match=r"collapse: expected False or None for a channel whose .*, got True"
        ):
            channel.sample(x, 7, cells, collapse=True)
        return
    expected = reference.sample(x, cells, tables, keys, offset=5, literal=literal)
    got = channel.sample(x, 7, cells, collapse=not literal, chip=3, stream=11, offset=5)
    np.testing.assert_array_equal(got, expected)
    if literal == must:  # the default
        got = channel.sample(x, 7, cells, chip=3, stream=11, offset=5)
        np.testing.assert_array_equal(got, expected)


def test_write_converter_acts_before_the_cell() -> None:
    channel, plain = make(write_bits=3), make()
    x = RNG(2).uniform(-1.3, 1.3, 400).astype(np.float32)
    converter = channel.write_converter(3)
    written = converter.dequantize(converter.quantize(x))
    assert len(np.unique(written)) == 8
    np.testing.assert_array_equal(channel.sample(x, 5), plain.sample(written, 5))


@pytest.mark.parametrize(
    "x",
    [
        np.float32(0.3),
        np.zeros((0, 3), np.float32),
        np.linspace(-1, 1, 24).reshape(2, 3, 4),
        np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6).T,
        np.linspace(-1, 1, 24, dtype=np.float32)[::-3],
        np.linspace(-1, 1, 5).astype(np.float16),
        np.array([-1, 0, 1]),
        [0.5, -0.5],
        0,
    ],
)
def test_any_shape_stride_and_real_dtype(x: Any) -> None:
    channel = make()
    before = np.array(x)
    array = np.asarray(x)
    array.flags.writeable = False
    got = channel.sample(array if isinstance(x, np.ndarray) else x, seed=9, cells=2)
    assert isinstance(got, np.ndarray)
    assert got.dtype == np.float32 and got.shape == before.shape
    flat = channel.sample(before.astype(np.float32).ravel(), seed=9, cells=2)
    np.testing.assert_array_equal(got.ravel(), flat)
    np.testing.assert_array_equal(np.asarray(x), before)


def test_prefixes_offsets_threads_and_out() -> None:
    channel = make(read_std=0.03)
    x = RNG(3).uniform(-1, 1, 5000).astype(np.float32)
    whole = channel.sample(x, 1)
    np.testing.assert_array_equal(channel.sample(x[:1234], 1), whole[:1234])
    np.testing.assert_array_equal(channel.sample(x[1001:], 1, offset=1001), whole[1001:])
    for threads in (1, 2, 7):
        np.testing.assert_array_equal(channel.sample(x, 1, num_threads=threads), whole)
    out = np.empty((50, 100), np.float32)
    assert channel.sample(x.reshape(50, 100), 1, out=out) is out
    np.testing.assert_array_equal(out.ravel(), whole)
    assert not np.array_equal(channel.sample(x, 2), whole)
    assert not np.array_equal(channel.sample(x, 1, chip=1), whole)
    assert not np.array_equal(channel.sample(x, 1, stream=1), whole)


BAD_SAMPLE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": [0.0, np.nan]}, ValueError, r"x: expected values finite in float32, got NaN or inf"),
    ({"x": np.float32(np.inf)}, ValueError, r"x: expected values finite in float32"),
    ({"x": 1e300}, ValueError, r"x: expected values finite in float32"),
    ({"x": ["a"]}, TypeError, r"x: expected real numbers, got <U1"),
    ({"x": [1j]}, TypeError, r"x: expected real numbers, got complex128"),
    ({"x": [True]}, TypeError, r"x: expected real numbers, got bool"),
    ({"seed": -1}, ValueError, r"seed: expected an int in \[0, 2\*\*64\), got -1"),
    ({"seed": 2**64}, ValueError, r"seed: expected an int in \[0, 2\*\*64\)"),
    ({"seed": None}, TypeError, r"seed: expected an int in \[0, 2\*\*64\), got None"),
    ({"chip": 1.0}, TypeError, r"chip: expected an int"),
    ({"stream": -1}, ValueError, r"stream: expected an int"),
    ({"offset": -1}, ValueError, r"offset: expected"),
    ({"offset": 2**46}, ValueError, r"offset: expected"),
    ({"cells": 0}, ValueError, r"cells: expected 1 to 65535, got 0 to 0"),
    ({"cells": 65536}, ValueError, r"cells: expected 1 to 65535"),
    ({"cells": 1.5}, TypeError, r"cells: expected integers, got float64"),
    ({"cells": True}, TypeError, r"cells: expected integers, got bool"),
    ({"cells": [1, 2, 3]}, ValueError, r"cells: expected a shape that fits .*, got \(3,\)"),
    ({"cells": [1, 0]}, ValueError, r"cells: expected 1 to 65535, got 0 to 1"),
    (
        {"out": np.empty(3, np.float32)},
        ValueError,
        r"out: expected .* shape \(2,\), got float32 \(",
    ),
    ({"out": np.empty(2)}, ValueError, r"out: expected .*, got float64"),
    ({"out": np.empty(4, np.float32)[::2]}, ValueError, r"out: expected"),
    ({"out": [0.0, 0.0]}, ValueError, r"out: expected .*, got list"),
    ({"num_threads": 0}, ValueError, r"num_threads: expected an int in \[1, 4096\], got 0"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_SAMPLE)
def test_bad_sample_arguments_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    good: dict[str, Any] = {"x": [0.0, 0.5], "seed": 1}
    channel = make()
    channel.sample(**good)
    with pytest.raises(error, match=message):
        channel.sample(**{**good, **change})


def test_bad_inputs_leave_the_output_as_it_was() -> None:
    x, out = np.zeros(100_000, np.float32), np.full(100_000, 7, np.float32)
    x[-1] = np.nan
    with pytest.raises(ValueError, match="x: expected values finite"):
        make().sample(x, seed=1, out=out)
    assert (out == 7).all()


# ----------------------------------------------------------------- sampling: statistics

N = 200_000


def assert_moments(y: np.ndarray, mean: float, std: float) -> None:
    """Sample mean and variance of independent Gaussians within LIMIT standard errors."""
    assert abs(y.mean() - mean) < LIMIT * std / math.sqrt(y.size)
    assert abs(y.var() / std**2 - 1) < LIMIT * math.sqrt(2 / y.size)


@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize("cells", [1, 4])
@pytest.mark.parametrize("read_std", [None, 0.05])
def test_average_has_the_variance_of_its_cells(
    collapse: bool, cells: int, read_std: float | None
) -> None:
    channel = make(read_std=read_std)
    for x, seed in ((-1.0, 1), (0.125, 2), (0.9, 3)):
        y = channel.sample(np.full(N, x), seed, cells, collapse)
        std = float(channel.std_at(x)) / math.sqrt(cells)
        assert_moments(y.astype(np.float64), float(channel.mean_at(x)), std)


def test_cells_per_element() -> None:
    cells = np.tile([1, 9], N)
    y = make().sample(np.zeros(2 * N), 4, cells).astype(np.float64)
    for r, part in ((1, y[::2]), (9, y[1::2])):
        assert_moments(part, 0.1, 0.13 / math.sqrt(r))


@pytest.mark.parametrize("collapse", [True, False])
def test_device_to_device_offset_is_not_averaged(collapse: bool) -> None:
    channel = make(d2d_std=0.1)
    y = channel.sample(np.zeros(N), 5, 9, collapse).astype(np.float64)
    assert_moments(y, 0.1, math.hypot(0.13 / 3, 0.1))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_programming_is_frozen_and_reads_are_fresh() -> None:
    """Reads of one chip correlate by the programmed share of the variance; chips do not."""
    channel = make(read_std=0.05)
    x = np.zeros(N)
    first, again, other = (
        channel.sample(x, seed, chip=chip) for seed, chip in ((1, 0), (2, 0), (1, 1))
    )
    share = 1 - 0.05**2 / 0.13**2
    error = (1 - share**2) / math.sqrt(N)  # of a Gaussian sample correlation
    assert abs(correlation(first, again) - share) < LIMIT * error
    assert abs(correlation(first, other)) < LIMIT / math.sqrt(N)


def test_without_read_std_every_seed_is_a_new_chip() -> None:
    channel = make(d2d_std=0.1)
    x = np.zeros(N)
    assert channel.keys(1, 0)[0] == channel.keys(1, 0)[1] != channel.keys(2, 0)[0]
    first, second = channel.sample(x, 1), channel.sample(x, 2)
    assert abs(correlation(first, second)) < LIMIT / math.sqrt(N)
    frozen = make(read_std=0.05)
    assert frozen.keys(1, 6)[0] == frozen.keys(2, 6)[0] != frozen.keys(1, 7)[0]
    assert frozen.keys(1, 6)[0] != 6  # a bare number, which other draws may take as their seed
    assert frozen.keys(1, 6)[1] != frozen.keys(2, 6)[1]


@pytest.mark.parametrize(("stuck", "low", "high"), [(0.2, 0.1, 0.1), ((0.05, 0.3), 0.05, 0.3)])
def test_stuck_cells(stuck: Any, low: float, high: float) -> None:
    """Noise of 0.01 about means 0.7 apart tells the stuck cells apart without error."""
    channel = Channel(X, MEAN, 0.01, stuck=stuck)
    assert channel.stuck == (low, high)
    y = channel.sample(np.zeros(N), 6)
    for p, at in ((low, y < -0.3), (high, y > 0.4)):
        assert abs(at.mean() - p) < LIMIT * math.sqrt(p * (1 - p) / N)
    # Four cells: stuck one by one, so the average has the mean of the mixture.
    y = channel.sample(np.zeros(N), 6, 4).astype(np.float64)
    mean = (1 - low - high) * 0.1 + low * -0.7 + high * 0.7
    second = (1 - low - high) * 0.1**2 + (low + high) * 0.7**2 + 0.01**2
    assert abs(y.mean() - mean) < LIMIT * math.sqrt((second - mean**2) / 4 / N)


def test_all_cells_stuck() -> None:
    channel = Channel(X, MEAN, 0.0, stuck=1.0)
    y = channel.sample(np.zeros(1000), 1)
    assert set(np.round(y, 6).tolist()) == set(np.float32([-0.7, 0.7]).round(6).tolist())


def test_read_converter() -> None:
    """Outputs lie on 8 codes, with the probabilities of a Gaussian between their thresholds."""
    channel = make(read_bits=3)
    lo, hi = -0.7 - 3 * 0.05, 0.7 + 3 * 0.05
    lo, hi = min(lo, *(MEAN - 3 * STD)), max(hi, *(MEAN + 3 * STD))
    codes = np.linspace(lo, hi, 8)
    y = channel.sample(np.zeros(N), 8)
    nearest = np.abs(y[:, None] - codes).argmin(axis=1)
    np.testing.assert_allclose(y, codes[nearest], atol=1e-6)
    edges = (codes[1:] + codes[:-1]) / 2
    below = [0.0, *(0.5 + 0.5 * math.erf((e - 0.1) / 0.13 / math.sqrt(2)) for e in edges), 1.0]
    for k, p in enumerate(np.diff(below)):
        share = np.mean(nearest == k)
        # Poisson bound for the rare codes: 8 counts of none expected has probability < 1e-7.
        assert abs(share - p) < LIMIT * math.sqrt(p * (1 - p) / N) + 8 / N
    assert abs(channel.sample(np.zeros(N), 8, 16).std() / y.std() - 0.25) < 0.01
