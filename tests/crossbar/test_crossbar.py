"""Crossbar: the life of an array, and bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from crossbar_cases import SPECS, inputs, weights
from numpy.typing import NDArray

import noisycells as nc

F32 = NDArray[np.float32]
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none", mapping="tensor")


# --------------------------------------------------------------------------- life cycle


def test_unprogrammed_says_so_and_warns_once() -> None:
    xb = nc.Crossbar(weights(), PCM, IDEAL, "fc1")
    assert repr(xb) == "<Crossbar 'fc1' 20 x 70 on pcm_joshi2020, NOT PROGRAMMED>"
    with pytest.warns(UserWarning, match=r"'fc1'.*before program\(seed\)"):
        y = xb.matmul(inputs(), 1)
    np.testing.assert_allclose(y, inputs() @ weights().T, atol=1e-5)
    xb.matmul(inputs(), 1)  # would fail: warnings are errors here
    with pytest.raises(
        RuntimeError, match=r"at: expected a programmed array, got .*; call program\(seed"
    ):
        xb.at(10.0)
    xb.program(3)
    assert repr(xb) == "<Crossbar 'fc1' 20 x 70 on pcm_joshi2020, programmed with seed 3>"
    xb.at(3600)
    assert repr(xb).endswith("programmed with seed 3, 3600 s ago>")
    xb.at(1e6, extrapolate=True)
    assert repr(xb).endswith("programmed with seed 3, 1e+06 s ago (extrapolated)>")


@pytest.mark.parametrize("spec", [*SPECS[:2], SPECS[3]])
def test_a_chip_is_a_function_of_its_seed_and_the_time(spec: nc.CrossbarSpec) -> None:
    xb = nc.Crossbar(weights(), PCM, spec, "a").program(5)
    fresh = xb.matmul(inputs(), 1)
    first = xb.at(10.0).matmul(inputs(), 1)
    later = xb.at(1000.0).matmul(inputs(), 1)
    assert not np.array_equal(first, later)
    np.testing.assert_array_equal(xb.at(10.0).matmul(inputs(), 1), first)
    again = nc.Crossbar(weights(), PCM, spec, "a").program(5).at(1000.0)
    np.testing.assert_array_equal(again.matmul(inputs(), 1), later)
    np.testing.assert_array_equal(again.program(5).matmul(inputs(), 1), fresh)
    for name, seed in (("a", 6), ("b", 5)):
        other = nc.Crossbar(weights(), PCM, spec, name).program(seed)
        assert (other.conductances != xb.programmed).mean() > 0.4  # zero targets may agree at 0


@pytest.mark.parametrize("name", nc.devices.names())
def test_every_preset(name: str) -> None:
    """Devices compute, as far in time as they were measured; storage cells refuse by name."""
    device = nc.devices.get(name)
    if isinstance(device, nc.Channel):
        with pytest.raises(TypeError, match=f"device: .* got the channel {device.name!r}, which"):
            nc.Crossbar(weights(), device)  # type: ignore[arg-type]
        return
    spec = nc.CrossbarSpec(read_noise="weight", drift_compensation="global")
    xb = nc.Crossbar(weights(), device, spec, name).program(1)
    snr = [xb.report(inputs())["snr_db"]]
    for seconds in device.time_range or (0.0, 1e9):
        snr.append(xb.at(seconds).report(inputs())["snr_db"])
    assert min(snr) > 3
    if device.time_range is not None:
        with pytest.raises(ValueError, match=r"^seconds: "):
            xb.at(1.01 * device.time_range[1] + 1)


def test_reads_are_fresh() -> None:
    xb = nc.Crossbar(weights(), PCM, replace(IDEAL, read_noise="weight")).program(5)
    one, two = xb.matmul(inputs(), 1), xb.matmul(inputs(), 2)
    assert (one != two).all()
    np.testing.assert_array_equal(xb.matmul(inputs(), 1), one)


def test_shapes_and_types_of_inputs() -> None:
    xb = nc.Crossbar(weights().astype(np.float64), PCM, IDEAL).program(5)
    assert xb.weight.dtype == np.float32
    x = inputs(12)
    y = xb.matmul(x, 1)
    assert y.dtype == np.float32
    assert y.shape == (12, 20)
    np.testing.assert_array_equal(xb.matmul(x.reshape(3, 4, 70), 1), y.reshape(3, 4, 20))
    np.testing.assert_array_equal(xb.matmul(x[0], 1), y[0])
    np.testing.assert_array_equal(xb.matmul(x.astype(np.float64), 1), y)
    np.testing.assert_array_equal(xb.matmul(np.asfortranarray(x), 1), y)
    np.testing.assert_array_equal(xb.matmul(x.tolist(), 1), y)
    half = xb.matmul(x.astype(np.float16), 1)
    np.testing.assert_array_equal(half, xb.matmul(x.astype(np.float16).astype(np.float32), 1))
    strided = nc.Crossbar(np.repeat(weights(), 2, axis=1)[:, ::2], PCM, IDEAL).program(5)
    np.testing.assert_array_equal(strided.matmul(x, 1), y)


def test_conductances_are_not_to_be_written() -> None:
    w = weights()
    xb = nc.Crossbar(w, PCM, IDEAL).program(5)
    before = xb.matmul(inputs(), 1)
    w[:] = 0  # the caller's own
    np.testing.assert_array_equal(xb.program(5).matmul(inputs(), 1), before)
    for array in (xb.weight, xb.conductances, xb.at(10.0).conductances):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("weight", "error", "match"),
    [
        (np.zeros((2, 3, 4), np.float32), ValueError, r"shape \(out, in\).*got \(2, 3, 4\)"),
        (np.zeros(3, np.float32), ValueError, r"shape \(out, in\).*got \(3,\)"),
        (np.zeros((0, 3), np.float32), ValueError, r"at least one weight, got \(0, 3\)"),
        (np.array([[1.0, np.nan]]), ValueError, "finite"),
        (np.array([[1.0, -np.inf]]), ValueError, "finite"),
        (np.array([[1.0, 1e39]]), ValueError, "finite"),
        (np.array([[1, 2]]), TypeError, "floating-point numbers, got int64"),
        (np.array([[1j, 2]]), TypeError, "floating-point numbers, got complex"),
        (np.array([["a"]]), TypeError, "floating-point"),
    ],
)
def test_bad_weight(weight: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"^weight: expected {match}|^weight: expected .*{match}"):
        nc.Crossbar(weight, PCM)


def test_bad_device_spec_name() -> None:
    cell = nc.devices.get("rram_mlc_1bit")
    with pytest.raises(
        TypeError, match=f"device: expected a Device, got the channel {cell.name!r}"
    ):
        nc.Crossbar(weights(), cell)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"device: expected a file .*, got 'pcm'"):
        nc.Crossbar(weights(), "pcm")
    with pytest.raises(TypeError, match="device: expected a Device or the name of one, got 3"):
        nc.Crossbar(weights(), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"spec: expected a CrossbarSpec, got {'rows': 3}"):
        nc.Crossbar(weights(), PCM, {"rows": 3})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="name: expected a string, got 3"):
        nc.Crossbar(weights(), PCM, None, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero_weights: expected 'programmed' for 'pcm_joshi2020'"):
        nc.Crossbar(weights(), PCM, nc.CrossbarSpec(zero_weights="reset"))


@pytest.mark.parametrize("use", ["matmul", "report", "error_budget", "calibrate"])
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (np.zeros((3, 69), np.float32), ValueError, r"shape \(\.\.\., 70\), got \(3, 69\)"),
        (np.float32(3), ValueError, r"shape \(\.\.\., 70\), got \(\)"),
        (np.full((2, 70), np.nan), ValueError, "finite"),
        (np.full((2, 70), np.inf), ValueError, "finite"),
        (np.full((2, 70), 1e39), ValueError, "finite"),
        (np.zeros((2, 70), int), TypeError, "floating-point numbers, got int64"),
        (np.zeros((2, 70), bool), TypeError, "floating-point numbers, got bool"),
    ],
)
def test_bad_inputs(use: str, x: Any, error: type[Exception], match: str) -> None:
    xb = nc.Crossbar(weights(), PCM).program(1)
    with pytest.raises(error, match=f"^x: expected .*{match}"):
        getattr(xb, use)(*((x, 1) if use == "matmul" else (x,)))


def test_a_bad_vector_late_in_a_batch_leaves_nothing_behind() -> None:
    """It is found as the product goes along, in parts of the batch."""
    x = inputs(5000)
    xb = nc.Crossbar(weights(), PCM).program(1)
    expected = xb.matmul(x, 1)
    bad = x.copy()
    bad[-1, -1] = np.nan
    for use in (lambda: xb.matmul(bad, 1), lambda: xb.report(bad), lambda: xb.calibrate(bad)):
        with pytest.raises(ValueError, match=r"^x: expected finite"):
            use()
    np.testing.assert_array_equal(xb.matmul(x, 1), expected)


def test_bad_arguments() -> None:
    xb = nc.Crossbar(weights(), PCM)
    for seed, error in ((None, TypeError), (-1, ValueError), (1 << 64, ValueError)):
        with pytest.raises(error, match=r"^seed: expected an int"):
            xb.program(seed)  # type: ignore[arg-type]
    assert xb.programmed is None
    xb.program(1)
    for seed, error in ((None, TypeError), (1.5, TypeError), (-1, ValueError)):
        with pytest.raises(error, match=r"^seed: expected an int"):
            xb.matmul(inputs(), seed)  # type: ignore[arg-type]
    for seconds, error in ((-1.0, ValueError), (math.nan, ValueError), ("1 h", TypeError),
                           ([1.0], TypeError), (1e9, ValueError)):  # fmt: skip
        with pytest.raises(error, match=r"^seconds: "):
            xb.at(seconds)  # type: ignore[arg-type]
    assert xb.seconds is None
    for quantile in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"^quantile: expected"):
            xb.calibrate(inputs(), quantile)
    for batch, error in ((0, ValueError), (-3, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match=r"^batch: expected"):
            xb.counters(batch)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^picojoules: expected names of counters .*got 'adc'"):
        xb.energy(1, {"adc": 1.0})
    for value in (-1.0, math.inf):
        with pytest.raises(ValueError, match=r"^picojoules of 'reads': expected a finite"):
            xb.energy(1, {"reads": value})
    with pytest.raises(ValueError, match=r"^num_threads: expected"):
        xb.matmul(inputs(), 1, num_threads=0)
