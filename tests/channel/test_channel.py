"""Channel: construction, tables and the inverse."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from channel_cases import MEAN, STD, X, make
from hypothesis import strategies as st

from noisycells import reference
from noisycells.channel import Channel

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
    table, y0, inv_dy = channel.inverse_table(4096)
    assert table.dtype == np.float32 and table.shape == (4096, 2) and table[-1, 1] == 0
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
