"""Drift compensation: gains, read-outs, their noise and converters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from crossbar_cases import inputs, weights
from numpy.typing import NDArray

import noisycells as nc
from noisycells.crossbar import compensation, mapping
from noisycells.crossbar.packed import Packed, Ranges

F32 = NDArray[np.float32]
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none", mapping="tensor")


# --------------------------------------------------------------------------- compensation


@pytest.mark.parametrize("kind", ["global", "column"])
@pytest.mark.parametrize("spec", [IDEAL, nc.CrossbarSpec(read_noise="weight", rows=64)])
def test_drift_compensation(kind: str, spec: nc.CrossbarSpec) -> None:
    """A day of drift takes a quarter of the outputs; what is left after rescaling is small."""
    w, x = weights(40, 300), inputs(200, 300)
    exact = x @ w.T
    plain = nc.Crossbar(w, PCM, spec).program(1).at(86_400.0)
    compensated = nc.Crossbar(w, PCM, replace(spec, drift_compensation=kind)).program(1)
    assert compensated.packed.gain is None
    compensated.at(86_400.0)
    gain = compensated.packed.gain
    assert gain is not None
    assert gain.dtype == np.float32
    assert len(set(gain.tolist())) == (1 if kind == "global" else 40)

    def slope(xb: nc.Crossbar) -> float:
        y = xb.matmul(x, 3)
        return float((y * exact).sum() / (exact**2).sum())

    assert slope(plain) < 0.75
    # Over 30 chips 0.980 to 0.992: programming loses 1 %, which no read-out of the array can tell.
    assert slope(compensated) == pytest.approx(1, abs=0.04)
    np.testing.assert_array_equal(plain.conductances, compensated.conductances)


def test_gain_is_measured_through_noise_and_converters() -> None:
    """Near the true ratio of outputs but not at it; the ratio itself where nothing disturbs."""
    w = weights(10, 60)
    uniform = nc.devices.ideal()
    spec = replace(IDEAL, drift_compensation="column", read_noise="output")
    layer = mapping.Layer.of(w, spec)
    g = mapping.targets(layer, uniform, spec)
    for noise, error in ((0.0, 1e-5), (0.1, 0.05)):
        s = replace(spec, output_noise=noise)
        before, now = (Packed(c, uniform, s, layer.scales) for c in (g, 0.5 * g))
        fresh = compensation.measure(before, 1), compensation.measure(before, 2)
        aged = compensation.measure(now, 3)
        gain = compensation.gain(fresh, aged, s)
        assert gain is not None
        np.testing.assert_allclose(gain, 2, rtol=error)
        assert (np.abs(gain - 2).max() > 1e-4) == (noise > 0)
    overall = compensation.gain(fresh, aged, replace(spec, drift_compensation="global"))
    assert overall is not None
    assert np.ptp(overall) == 0
    assert compensation.gain(fresh, aged, replace(spec, drift_compensation="none")) is None


@pytest.mark.parametrize("kind", ["global", "column"])
def test_what_spreads_has_not_drifted(kind: str) -> None:
    """Errors as large as the signal, in the reads and in the devices, leave the factors at 1.

    Magnitudes grow by 22 %, from sqrt(2) to sqrt(3). Over 300 seeds the standard deviation of the
    median is 1.6 %, and of the largest error of 200 outputs 3.5 % about 20 %.
    """
    g = np.random.default_rng(0)
    spec = replace(IDEAL, drift_compensation=kind)
    signal = g.normal(size=(128, 200))
    first, second, now = (signal + g.normal(size=(128, 200)) for _ in range(3))
    now += g.normal(size=(128, 200))
    gain = compensation.gain((first, second), now, spec)
    assert gain is not None
    assert np.abs(now).mean() > 1.15 * np.abs(first).mean()
    assert np.median(gain) == pytest.approx(1, abs=0.08)
    np.testing.assert_allclose(gain, 1, atol=0.08 if kind == "global" else 0.6)


def test_outputs_without_signal_follow_the_layer() -> None:
    """Those lost in noise about, those that read 0 altogether, and 1 where all are lost."""
    g = np.random.default_rng(0)
    spec = replace(IDEAL, drift_compensation="column")
    signal = g.normal(size=(128, 40))
    signal[:, 20:] = 0
    noise = 0.1 * g.normal(size=(3, 128, 40))
    noise[:, :, 30:] = 0
    first, second, now = np.stack([signal, signal, signal / 2]) + noise
    gain = compensation.gain((first, second), now, spec)
    assert gain is not None
    # Over 500 seeds at most 8 %, 1.7 %; the share 1 / gain of noise has a deviation of 0.06.
    np.testing.assert_allclose(gain[:20], 2, rtol=0.15)
    np.testing.assert_allclose(gain[30:], 2, rtol=0.04)
    np.testing.assert_allclose(1 / gain[20:30], 0.5, atol=0.4)
    for kind in ("global", "column"):
        lost = compensation.gain((first, second), -now, replace(spec, drift_compensation=kind))
        np.testing.assert_array_equal(lost, np.ones(40))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["tensor", "column", "row"])
@pytest.mark.parametrize("dac_range", ["vector", 3.0])
def test_read_outs_are_at_full_scale(kind: str, dac_range: Any) -> None:
    """Whatever the mapping and the range: the DAC neither clips nor is left unused."""
    spec = nc.CrossbarSpec(mapping=kind, dac_range=dac_range, adc_bits=None, kernel="float32")
    xb = nc.Crossbar(weights(), nc.devices.ideal(), spec).program(1)
    found = np.abs(compensation.measure(xb.packed, 1)).mean(axis=0)
    full_scale = 1.0 if dac_range == "vector" else dac_range
    assert xb.layer.scales.row is None or kind == "row"
    # Mean magnitude of a sum of many random signs: sqrt(2 / pi) of its standard deviation.
    row = 1 if xb.layer.scales.row is None else xb.layer.scales.row
    expected = full_scale * np.sqrt(((weights() / row) ** 2).sum(axis=1) * 2 / np.pi)
    np.testing.assert_allclose(found, expected, rtol=0.3)
    assert found.mean() == pytest.approx(expected.mean(), rel=0.1)


@pytest.mark.parametrize("adc_per", ["difference", "polarity"])
@pytest.mark.parametrize("adc_range", ["weights", "calibrated"])
def test_read_outs_fit_the_adc(adc_per: str, adc_range: str) -> None:
    """Sparse inputs leave calibrated ranges far below the sums of inputs all at full scale.

    All conductances halve, so the gain is 2; the error is that of 8-bit codes over 128 read-outs.
    With read-outs of all rows and a calibrated range the gain would be 1.2.
    """
    w, x = weights(40, 300), np.maximum(inputs(200, 300) - 1.5, 0)
    spec = nc.CrossbarSpec(
        rows=128, dac_range="calibrated", adc_range=adc_range, adc_per=adc_per,
        drift_compensation="global",
    )  # fmt: skip
    xb = nc.Crossbar(w, nc.devices.ideal(), spec).calibrate(x).program(1)
    g = xb.conductances
    fresh, aged = (
        Packed(c, xb.device, spec, xb.layer.scales, xb.packed.ranges) for c in (g, g / 2)
    )
    every = compensation.spacing(fresh)
    assert every >= 3
    first, second, now = (compensation.measure(p, 1, every) for p in (fresh, fresh, aged))
    gain = compensation.gain((first, second), now, spec)
    assert gain is not None
    np.testing.assert_allclose(gain, 2, rtol=0.02)


@pytest.mark.parametrize(("reach", "rows"), [(1.0, 3), (0.5, 12), (2.0, 1), (0.125, 128), (9.0, 1)])
def test_rows_that_read_outs_drive(reach: float, rows: int) -> None:
    """Three times the square of the largest expected sum in units of its range, of 1 to 128."""
    w = weights(40, 300)
    spec = nc.CrossbarSpec(rows=128)
    packed = nc.Crossbar(w, nc.devices.ideal(), spec).program(1).packed
    sums = packed.expected_sums
    assert len(sums) == 3
    narrow = Packed(
        packed.conductances, packed.device, spec, packed.scales,
        Ranges(None, (reach * sums).astype(np.float32)),
    )  # fmt: skip
    assert compensation.spacing(narrow) == rows
    ideal = replace(spec, adc_bits=None)
    without = nc.Crossbar(w, nc.devices.ideal(), ideal).program(1).packed
    assert compensation.spacing(without) == 1


def test_times_at_both_ends_are_measured() -> None:
    xb = nc.Crossbar(weights(4, 5), nc.devices.rram_cmo()).program(1)
    assert xb.device.time_range is not None
    first, last = xb.device.time_range
    for seconds, beyond in ((first, False), (last, False), (last * 1.01, True), (0.0, first > 0)):
        assert xb.at(seconds, extrapolate=True).extrapolated is beyond


def test_the_reference_read_outs_have_noise_of_their_own() -> None:
    """Of one seed, the noise of both would count as signal, and the gain come out as 1.67."""
    w = np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)
    spec = replace(IDEAL, drift_compensation="global", read_noise="weight")
    xb = nc.Crossbar(w, nc.devices.gaussian(0.0, read_std=8.0), spec).program(1).at(100)
    gain = xb.packed.gain
    assert gain is not None
    # A standard error of 0.009: 64 x 128 read-outs whose noise is as large as the signal.
    np.testing.assert_allclose(gain, 1, atol=0.06)


def test_gain_of_columns_by_hand() -> None:
    """Two outputs, two read-outs; the share that is left of both is 8/14."""
    first, second = np.array([[2.0, 1], [2, 3]]), np.array([[2.0, 3], [2, 1]])
    gain = compensation.gain(
        (first, second), np.ones((2, 2)), replace(IDEAL, drift_compensation="column")
    )
    noise = 2 / 49 / 2, (8 + 34 / 49) / 2
    expected = [(8 + noise[0]) / (4 + 4 / 7 * noise[0]), (6 + noise[1]) / (4 + 4 / 7 * noise[1])]
    np.testing.assert_allclose(gain, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["global", "column"])
@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_without_signal_nothing_is_compensated(kind: str, sign: float) -> None:
    """Read-outs of the fresh array that are 0, or that contradict each other."""
    first = np.array([[2.0, 1], [2, 3]])
    spec = replace(IDEAL, drift_compensation=kind)
    gain = compensation.gain((first, sign * first), 2 * first, spec)
    np.testing.assert_array_equal(gain, np.ones(2))  # type: ignore[arg-type]


def test_compensation_needs_calibrated_ranges() -> None:
    spec = nc.CrossbarSpec(adc_range="calibrated", drift_compensation="global")
    xb = nc.Crossbar(weights(), PCM, spec).program(1)
    with pytest.raises(ValueError, match="adc_range: expected calibrate"):
        xb.at(100.0)
    assert xb.seconds is None
    xb.calibrate(inputs()).at(100.0)
    before = xb.packed.gain
    xb.calibrate(2 * inputs())
    assert xb.packed.gain is not None
    assert not np.array_equal(xb.packed.gain, before)
    np.testing.assert_allclose(xb.packed.gain, before, rtol=0.05)


# --------------------------------------------------------------------------- bad input


def test_calibration_measures_the_drift_reference_again() -> None:
    """With other ranges: as of an array that never knew the former ones."""
    spec = nc.CrossbarSpec(
        adc_range="calibrated", adc_bits=4, drift_compensation="column", rows=64
    )  # fmt: skip
    w, x = np.random.default_rng(0).standard_normal((2, 8, 30)).astype(np.float32)
    xb = nc.Crossbar(w, nc.devices.pcm_joshi2020(), spec, "fc").program(1)
    xb.calibrate(0.2 * x).at(100.0)
    xb.calibrate(x[:1], 0.5)
    fresh = nc.Crossbar.from_state(*xb.state())
    assert np.array_equal(xb.at(3600.0).packed.gain, fresh.at(3600.0).packed.gain)
