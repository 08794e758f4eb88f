"""Ranges of converters: by a quantile, and for the least error of the product."""

from __future__ import annotations

import numpy as np
import pytest

import noisycells as nc
from noisycells.crossbar import calibration

IDEAL = nc.devices.ideal()


def quantized(values: np.ndarray, reach: float, levels: int) -> np.ndarray:
    step = reach / levels
    return np.clip(np.round(values / step), -levels, levels) * step


def test_least_error_of_known_values() -> None:
    """Many small values and few outliers, by trying all the ranges."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2000, 3)).astype(np.float32)
    values[0] = 40
    for levels in (7, 127):
        found = calibration.input_range(values, "error", levels, np.eye(3, dtype=np.float32))
        errors = {r: np.square(quantized(values, r, levels) - values).sum()
                  for r in 40 * calibration.SHARES}  # fmt: skip
        assert found == min(errors, key=lambda r: errors[r])
        assert (found < 20) == (levels == 7)  # where 40 would round most values to 0
    assert calibration.input_range(values, 1.0, 127, np.eye(3)) == 40


def test_errors_count_by_what_they_do_to_outputs() -> None:
    """Inputs without weights and sums of outputs without scale count nothing."""
    values = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    values[:, 1] *= 16
    weighted = calibration.sum_range(values, "error", 127, np.array([1, 0], np.float32))
    assert weighted == pytest.approx(1, rel=0.2)
    assert calibration.sum_range(values, "error", 127, np.ones(2, np.float32)) > 8
    assert calibration.input_range(
        values, "error", 127, np.array([[1, 0]], np.float32)
    ) == pytest.approx(1, rel=0.2)


def test_ideal_converters_and_zeros() -> None:
    values = np.array([[1, -3]], np.float32)
    assert calibration.sum_range(values, "error", 0, np.ones(2, np.float32)) == 3
    assert calibration.sum_range(0 * values, "error", 127, np.ones(2, np.float32)) == 0


@pytest.mark.parametrize("mapping", ["tensor", "column", "row"])
def test_arrays_calibrated_by_error(mapping: str) -> None:
    """With outliers in the inputs, the least error is a better product than covering them all."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((20, 64)).astype(np.float32)
    x = rng.standard_normal((600, 64)).astype(np.float32)
    x[::50, 3] *= 30
    spec = nc.CrossbarSpec(
        rows=32, dac_bits=6, adc_bits=6, dac_range="calibrated", adc_range="calibrated",
        mapping=mapping, read_noise="none",
    )  # fmt: skip
    want = x @ weight.T
    errors = {}
    for quantile in (1.0, "error"):
        array = nc.Crossbar(weight, IDEAL, spec).calibrate(x, quantile).program(1)
        errors[quantile] = np.square(array.matmul(x, seed=1) - want).mean()
    assert errors["error"] < errors[1.0]


@pytest.mark.parametrize(
    ("quantile", "error"), [("least", ValueError), (0.0, ValueError), (None, TypeError)]
)
def test_quantiles_are_checked(quantile: object, error: type[Exception]) -> None:
    array = nc.Crossbar(np.eye(3, dtype=np.float32), IDEAL)
    with pytest.raises(error, match="quantile: expected"):
        array.calibrate(np.eye(3, dtype=np.float32), quantile)  # type: ignore[arg-type]
