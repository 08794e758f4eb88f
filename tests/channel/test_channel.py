"""Channel: construction, the inverse, sampling against reference.py and theory, text forms.

Statistical thresholds are in standard errors: 5.5 of them are passed by chance with probability
4e-8 each, so a test that makes a few hundred comparisons fails one seed in 1e5.
"""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import noisycells as nc
from noisycells import reference
from noisycells.channel import Channel
from noisycells.channel.fitting import Goodness

LIMIT = 5.5
RNG = np.random.default_rng

X = np.linspace(-1, 1, 9)
MEAN = np.array([-0.7, -0.66, -0.5, -0.2, 0.1, 0.4, 0.6, 0.68, 0.7])
STD = np.array([0.05, 0.06, 0.09, 0.12, 0.13, 0.12, 0.09, 0.06, 0.05])


def make(**options: Any) -> Channel:
    return Channel(X, MEAN, STD, **options)


# ----------------------------------------------------------------- construction


def test_scalars_stand_for_every_knot() -> None:
    channel = Channel([0, 1, 2], [0, 1, 3], 0.5, 0.25)
    assert channel.std.tolist() == [0.5] * 3
    assert channel.read_std is not None and channel.read_std.tolist() == [0.25] * 3
    assert Channel.gaussian(0.1, read_bits=4) == Channel(
        [-1, 1], [-1, 1], [0.1, 0.1], read_bits=4, name="gaussian"
    )


def test_keeps_its_own_read_only_copies() -> None:
    x = X.copy()
    channel = Channel(x, MEAN, STD, STD / 2)
    x[0] = -5
    assert channel.x[0] == -1
    for values in (channel.x, channel.mean, channel.std, channel.read_std):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0.0


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"x": [0.0]}, ValueError, r"x: expected at least 2 inputs, got 1"),
    ({"x": 1.0}, ValueError, r"x: expected one dimension, got shape \(\)"),
    ({"x": [[0.0, 1.0]]}, ValueError, r"x: expected one dimension, got shape \(1, 2\)"),
    ({"x": [0.0, 2.0, 1.0]}, ValueError, r"x: expected strictly increasing .* 2.0 and then 1.0 at"),
    ({"x": [0.0, 1.0, 1.0]}, ValueError, r"x: expected strictly increasing"),
    ({"x": [0.0, np.nan, 1.0]}, ValueError, r"x: expected finite values, got NaN or infinity"),
    ({"x": ["a", "b", "c"]}, TypeError, r"x: expected real numbers"),
    ({"x": [0, 1j, 2]}, TypeError, r"x: expected real numbers"),
    ({"mean": [0.0, 1.0]}, ValueError, r"mean: expected the length of x, 3, got 2"),
    ({"mean": 1.0}, ValueError, r"mean: expected one dimension"),
    ({"mean": [0.0, np.inf, 1.0]}, ValueError, r"mean: expected finite values"),
    ({"mean": [1.0, 1.0, 1.0]}, ValueError, r"mean: expected one that depends on x, got 1.0"),
    ({"std": [0.1, 0.1]}, ValueError, r"std: expected the length of x, 3, got 2"),
    ({"std": [0.1, -0.1, 0.1]}, ValueError, r"std: expected values >= 0, got -0.1"),
    ({"std": np.nan}, ValueError, r"std: expected a finite number"),
    ({"read_std": -0.1}, ValueError, r"read_std: expected values >= 0, got -0.1"),
    ({"read_std": [0.1, 0.3, 0.1]}, ValueError, r"read_std: expected at most std.*0.3 of 0.2 at"),
    ({"write_bits": 0}, ValueError, r"write_bits: expected an int in \[1, 16\], got 0"),
    ({"write_bits": 17}, ValueError, r"write_bits: expected an int in \[1, 16\], got 17"),
    ({"read_bits": 2.5}, TypeError, r"read_bits: expected an int, got 2.5"),
    ({"read_bits": True}, TypeError, r"read_bits: expected an int, got True"),
    ({"d2d_std": -1}, ValueError, r"d2d_std: expected a number in \[0, 1e\+30\], got -1"),
    ({"d2d_std": "x"}, TypeError, r"d2d_std: expected a number, got 'x'"),
    ({"d2d_std": np.inf}, ValueError, r"d2d_std: expected a number in"),
    ({"d2d_std": [1, 2]}, TypeError, r"d2d_std: expected a number"),
    ({"stuck": 1.5}, ValueError, r"stuck: expected probabilities that sum to at most 1, got 1.5"),
    ({"stuck": (0.6, 0.6)}, ValueError, r"stuck: expected probabilities that sum"),
    ({"stuck": (-0.1, 0.1)}, ValueError, r"stuck: expected probabilities"),
    ({"stuck": (0.1,)}, ValueError, r"stuck: expected a probability or a pair"),
    ({"branch": (0.0, 3.0)}, ValueError, r"branch: expected an interval within \[0.0, 2.0\]"),
    ({"branch": (1.0, 0.0)}, ValueError, r"branch: expected an interval"),
    ({"branch": 1.0}, TypeError, r"branch: expected a pair"),
    (
        {"mean": [0, 1, 0], "branch": (0, 2)},
        ValueError,
        r"branch: expected .* mean is strictly mono",
    ),
    (
        {"mean": [0, 1, 1], "branch": (0, 2)},
        ValueError,
        r"branch: expected .* mean is strictly mono",
    ),
    ({"name": 3}, TypeError, r"name: expected a string, got 3"),
    ({"synthetic": 1}, TypeError, r"synthetic: expected True or False, got 1"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_arguments_are_named(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    good = {"x": [0.0, 1.0, 2.0], "mean": [0.0, 1.0, 3.0], "std": 0.2}
    Channel(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        Channel(**{**good, **change})


# ----------------------------------------------------------------- tables and inverse


def test_linear_between_knots_and_clipped_outside() -> None:
    channel = Channel([0, 1, 3], [0, 1, 2], [0.1, 0.2, 0.4], branch=(0, 3))
    np.testing.assert_allclose(channel.mean_at([-1, 0.5, 2, 9]), [0, 0.5, 1.5, 2], atol=4e-4)
    np.testing.assert_allclose(channel.std_at([-1, 0.5, 2, 9]), [0.1, 0.15, 0.3, 0.4], atol=1e-4)
    uniform = make(read_std=0.04)
    at = np.linspace(-1, 1, 9)
    np.testing.assert_allclose(uniform.mean_at(at), MEAN, rtol=1e-14)
    np.testing.assert_allclose(uniform.std_at(at), STD, rtol=1e-14)


def test_non_uniform_knots_are_resampled() -> None:
    """Off its kinks the resampled table is the user's; at a kink it is within one segment."""
    x = np.array([-1.0, -0.9, 0.3, 0.35, 1.0])
    mean = np.array([0.0, 0.5, 0.7, 1.5, 2.0])
    channel = Channel(x, mean, 0.1)
    at = np.linspace(-1, 1, 1001)
    steepest = np.abs(np.diff(mean) / np.diff(x)).max()
    error = np.abs(channel.mean_at(at) - np.interp(at, x, mean))
    assert error.max() < steepest * 2 / 4096
    away = np.abs(at[:, None] - x).min(axis=1) > 2 / 4096
    assert error[away].max() < 1e-12


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("x", [X, np.array([-1, -0.9, -0.5, -0.3, 0, 0.2, 0.6, 0.9, 1.0])])
def test_inverse_inverts_the_mean(sign: int, x: np.ndarray) -> None:
    channel = Channel(x, sign * MEAN, STD)
    assert channel.branch == (-1, 1)
    assert channel.range == (-0.7, 0.7)
    at = np.linspace(-1, 1, 1234).reshape(2, -1)
    np.testing.assert_allclose(channel.inverse(channel.mean_at(at)), at, atol=1e-12)
    y = np.linspace(-0.7, 0.7, 777)
    np.testing.assert_allclose(channel.mean_at(channel.inverse(y)), y, atol=1e-12)
    assert channel.inverse(0.1).shape == ()


@hypothesis.given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=20),
    st.lists(st.floats(0.01, 1), min_size=20, max_size=20),
    st.floats(-10, 10),
    st.booleans(),
)
def test_inverse_of_any_monotone_table(
    widths: list[float], rises: list[float], start: float, falls: bool
) -> None:
    x = np.cumsum([start, *widths])
    mean = np.cumsum([start, *rises[: len(widths)]]) * (-1 if falls else 1)
    channel = Channel(x, mean, 0.1)
    assert channel.branch == pytest.approx((x[0], x[-1]))
    assert channel.range == (mean.min(), mean.max())
    at = np.linspace(x[0], x[-1], 57)
    np.testing.assert_allclose(channel.inverse(channel.mean_at(at)), at, atol=1e-9)
    assert Channel.from_json(channel.to_json()) == channel


def test_longest_monotone_branch_in_output() -> None:
    x = np.linspace(0, 7, 8)
    mean = [0.0, 0.2, 0.3, 0.1, -0.6, -0.6, -0.5, -0.2]
    channel = Channel(x, mean, 0.1)
    assert channel.branch == (2, 4)
    assert channel.range == (-0.6, 0.3)
    assert channel.inverse(0.1) == pytest.approx(3)
    given = Channel(x, mean, 0.1, branch=(5.5, 6.5))
    assert given.branch == (5.5, 6.5)
    assert given.range == pytest.approx((-0.55, -0.35))


def test_given_branch_that_ends_at_a_knot_but_for_rounding() -> None:
    for lo in (X[2], np.nextafter(X[2], -1), np.nextafter(X[2], 1)):
        channel = make(branch=(lo, X[7]))
        assert channel.branch == (lo, X[7])
        assert channel.inverse(MEAN[4]) == pytest.approx(X[4])


def test_given_branch_that_ends_at_a_kink_of_a_resampled_table() -> None:
    x = [0.0, 0.3333, 1.0]
    channel = Channel(x, [1.0, 0.0, 0.5], 0.1, branch=(0.3333, 1.0))
    assert channel.branch == pytest.approx((0.3333, 1.0), abs=1 / 4096)
    y = np.linspace(*channel.range, 50)
    np.testing.assert_allclose(channel.mean_at(channel.inverse(y)), y, atol=1e-12)


def test_inverse_refuses_what_is_outside_the_range() -> None:
    channel = make()
    with pytest.raises(ValueError, match=r"y: expected values in the channel's range \[-0.7, 0.7"):
        channel.inverse([0.0, 0.8])
    assert channel.inverse([-9, 0.8], clip=True).tolist() == [-1, 1]
    assert channel.inverse(np.float32(0.7) + np.float32(1e-7)) == 1  # above by rounding only
    with pytest.raises(ValueError, match="y: expected finite values"):
        channel.inverse([np.nan], clip=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_inverse_table_inverts_to_within_one_of_its_steps(sign: int) -> None:
    channel = Channel(X, sign * MEAN, STD)
    table, y0, inv_dy = channel.inverse_table()
    assert table.dtype == np.float32 and table.shape == (4096, 2) and table[-1, 1] == 0
    assert y0 == channel.range[0]
    assert inv_dy * (channel.range[1] - channel.range[0]) == pytest.approx(4095, rel=1e-12)
    y = np.linspace(-0.7, 0.7, 10_001)
    i, f = reference.interpolate(((y - y0) * inv_dy).astype(np.float32), 4096)
    x = reference.fma32(f, table[i, 1], table[i, 0])
    assert np.abs(channel.mean_at(x) - y).max() < 1 / inv_dy


def test_write_converter_spans_the_branch() -> None:
    channel = Channel([0, 1, 2, 3], [0, -1, 1, 2], 0.1)
    lo, step, inv_step, levels = channel.write_converter(3)
    assert (lo, lo + step * (levels - 1), levels) == (1, 3, 8)
    assert step * inv_step == pytest.approx(1)
    with pytest.raises(ValueError, match=r"bits: expected an int in \[1, 16\], got 40"):
        channel.write_converter(40)


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


# ----------------------------------------------------------------- text forms


def fancy() -> Channel:
    return Channel(
        [0.1, 0.2, 0.30000000000000004],
        [1 / 3, 2 / 3, math.pi],
        [0.1, 0.2, 0.3],
        [0.05, 1e-300, 0.0],
        branch=(0.1, 0.25),
        write_bits=4,
        read_bits=12,
        d2d_std=0.1,
        stuck=(1e-3, 0.2),
        name="näme",
        source="here",
        license="MIT",
        synthetic=True,
    )


def test_json_round_trip_is_exact() -> None:
    for channel in (make(), fancy(), Channel.gaussian(0.1)):
        text = channel.to_json()
        back = Channel.from_json(text)
        assert back == channel and hash(back) == hash(channel)
        assert back.to_json() == text
        for field in ("x", "mean", "std"):
            assert getattr(back, field).tobytes() == getattr(channel, field).tobytes()
        assert pickle.loads(pickle.dumps(channel)) == channel
        x = np.linspace(*channel.branch, 99)
        np.testing.assert_array_equal(back.sample(x, 3, 2), channel.sample(x, 3, 2))
    fitted = make()
    fitted.goodness = Goodness(100, 10, 0.01, 0.1, 0.0, 1.0, 0.68, 0.95, 0.0, 0.0, 0.5)
    assert Channel.from_json(fitted.to_json()).goodness == fitted.goodness
    assert fitted != make()
    assert make() != "channel"


def test_bad_text_forms_are_named() -> None:
    good = make().to_dict()
    with pytest.raises(ValueError, match="text: expected a channel as JSON, got Expecting value"):
        Channel.from_json("nonsense")
    with pytest.raises(ValueError, match="text: expected a JSON object, got list"):
        Channel.from_json("[]")
    with pytest.raises(TypeError, match="data: expected the dict of a channel, got 'x'"):
        Channel.from_dict("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keys of a channel, got without 'std', with 'sdt'"):
        Channel.from_dict({"x": [0, 1], "mean": [0, 1], "sdt": 0.1})
    with pytest.raises(ValueError, match="goodness: expected that of a fitted channel"):
        Channel.from_dict({**good, "goodness": {"samples": 3}})
    with pytest.raises(ValueError, match="std: expected values >= 0"):
        Channel.from_json(json.dumps({**good, "std": -1}))
    with pytest.raises(ValueError, match="mean: expected finite values"):
        Channel.from_json(make().to_json().replace("-0.66", "NaN"))


def test_repr_names_what_matters() -> None:
    assert repr(make()) == "<Channel channel: 9 knots, range [-0.7, 0.7]>"
    text = repr(fancy())
    for part in ("näme", "write_bits=4", "read_bits=12", "d2d_std=0.1", "stuck=", "synthetic"):
        assert part in text


def test_plot() -> None:
    figure_module = pytest.importorskip("matplotlib.figure", reason="matplotlib not installed")
    figure = make(name="a cell").plot()
    assert isinstance(figure, figure_module.Figure)
    axes = figure.axes[0]
    assert axes.get_title() == "a cell"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), MEAN)
    with_points = make().plot([0, 1], [0.1, 0.7])
    assert len(with_points.axes[0].lines) == len(axes.lines) + 1
    with pytest.raises(ValueError, match="x, y: expected both or neither"):
        make().plot(x=[1, 2])


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'noisycells\[plot\]'"):
        make().plot()


def test_is_exported() -> None:
    assert nc.Channel is Channel
