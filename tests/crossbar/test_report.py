"""Counters, energy, and the error budget of an array."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from crossbar_cases import SPECS, inputs, weights
from numpy.typing import NDArray

import noisycells as nc

F32 = NDArray[np.float32]
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none", mapping="tensor")


def test_counters() -> None:
    spec = nc.CrossbarSpec(rows=64, cols=16)
    xb = nc.Crossbar(weights(40, 150), PCM, spec)
    assert xb.counters(10) == {
        "tiles": 3 * 3,
        "cells": 2 * 40 * 150,
        "allocated_cells": 9 * 2 * 64 * 16,
        "reads": 10 * 9,
        "cell_reads": 10 * 2 * 40 * 150,
        "dac_conversions": 10 * 3 * 150,
        "adc_conversions": 10 * 3 * 40,
    }
    more = replace(
        spec, weight_slice_bits=(4, 4), devices_per_polarity=3, input_slice_bits=2,
        adc_per="polarity",
    )  # fmt: skip
    assert nc.Crossbar(weights(40, 150), PCM, more).counters(1) == {
        "tiles": 2 * 9,
        "cells": 2 * 3 * 2 * 40 * 150,
        "allocated_cells": 2 * 9 * 3 * 2 * 64 * 16,
        "reads": 4 * 2 * 9,
        "cell_reads": 4 * 2 * 3 * 2 * 40 * 150,
        "dac_conversions": 4 * 2 * 3 * 150,
        "adc_conversions": 4 * 2 * 2 * 3 * 40,
    }
    ideal = nc.Crossbar(weights(), PCM, IDEAL).counters(3)
    assert (ideal["dac_conversions"], ideal["adc_conversions"]) == (0, 0)


def test_energy() -> None:
    xb = nc.Crossbar(weights(40, 150), PCM)
    table = {"adc_conversions": 1.5, "cell_reads": 0.001}
    assert xb.energy(10, table) == {
        "adc_conversions": pytest.approx(600),
        "cell_reads": pytest.approx(120),
        "total": pytest.approx(720),
    }
    assert xb.energy(10, {}) == {"total": 0}


def test_report() -> None:
    w, x = weights(40, 150), inputs(50, 150)
    spec = nc.CrossbarSpec(adc_bits=6, adc_range=0.5, dac_range=1.0)
    xb = nc.Crossbar(w, PCM, spec, "fc").program(1).at(60.0)
    report = xb.report(x, seed=3)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    y, exact = xb.matmul(x, 3).astype(np.float64), (x @ w.T).astype(np.float64)
    snr = 10 * np.log10((exact**2).sum() / ((y - exact) ** 2).sum())
    assert report["snr_db"] == pytest.approx(snr, abs=1e-6)
    assert report["dac_clipping_percent"] == pytest.approx(100 * (np.abs(x) > 1).mean())
    assert 1 < report["adc_saturation_percent"] < 99
    assert report["name"] == "fc"
    assert report["device"] == "pcm_joshi2020"
    assert (report["programmed"], report["seconds"]) == (True, 60.0)
    assert report["extrapolated"] is False
    assert report["cells"] == 2 * 40 * 150
    wide = nc.Crossbar(w, PCM, replace(spec, adc_range=100.0, dac_range="vector")).program(1)
    assert wide.report(x)["adc_saturation_percent"] == 0
    assert wide.report(x)["dac_clipping_percent"] == 0


def test_error_budget_of_an_ideal_array() -> None:
    xb = nc.Crossbar(weights(), nc.devices.ideal(), IDEAL).program(1)
    budget = xb.error_budget(inputs())
    assert set(budget) == {"programming", "all"}
    assert min(budget.values()) > 120  # rounding


def test_without_any_error() -> None:
    """Infinite in numbers, null in what goes to JSON; so is the ratio where there is no signal."""
    x = np.eye(4, dtype=np.float32)
    xb = nc.Crossbar(x, nc.devices.ideal(), IDEAL).program(1)
    assert set(xb.error_budget(x).values()) == {math.inf}
    report = xb.report(x)
    assert report["snr_db"] is None
    json.dumps(report, allow_nan=False)
    noise_alone = nc.Crossbar(np.ones((1, 2), np.float32), PCM, IDEAL).program(1)
    balanced = np.array([[1, -1]], np.float32)
    assert noise_alone.error_budget(balanced)["all"] == -math.inf
    assert noise_alone.report(balanced)["snr_db"] is None


def test_error_budget_against_formulas() -> None:
    """Each non-ideality alone, where its error is known."""
    w, x = weights(60, 400), inputs(300, 400)
    device = nc.devices.gaussian(0.3, g_min=5.0, read_std=0.2)
    top, span, scale = np.abs(w).max(), 20.0, np.abs(x).max(axis=1)
    spec = nc.CrossbarSpec(
        read_noise="both", output_noise=0.1, rows=100, adc_range=6.0, mapping="tensor"
    )
    xb = nc.Crossbar(w, device, spec).program(1)
    budget = xb.error_budget(x)
    assert set(budget) == {"dac", "programming", "weight_noise", "output_noise", "adc", "all"}
    squares = (x**2).sum(axis=1)
    power = ((x @ w.T) ** 2).mean()
    noise = {
        "programming": 2 * 0.3**2 * (squares * top**2 / span**2).mean(),
        "weight_noise": 2 * 0.2**2 * (squares * top**2 / span**2).mean(),
        "output_noise": 4 * 0.1**2 * (scale**2 * top**2).mean(),
        "dac": ((scale / 127) ** 2).mean() / 12 * (w**2).sum(axis=1).mean(),
        "adc": 4 * (6 / 127) ** 2 / 12 * (scale**2 * top**2).mean(),
    }
    for name, variance in noise.items():
        assert budget[name] == pytest.approx(10 * math.log10(power / variance), abs=0.3), name
    together = 10 * math.log10(power / sum(noise.values()))
    assert budget["all"] == pytest.approx(together, abs=0.3)


def test_error_budget_names_everything() -> None:
    xb = nc.Crossbar(weights(), PCM, replace(SPECS[2], read_noise="both")).program(1)
    budget = xb.calibrate(inputs()).at(3600.0).error_budget(inputs())
    assert list(budget) == [
        "weight_slices", "dac", "programming", "drift", "drift_compensated", "ir_drop",
        "weight_noise", "output_noise", "adc", "all",
    ]  # fmt: skip
    assert budget["drift_compensated"] > budget["drift"] + 3
    assert all(
        budget["all"] < value for key, value in budget.items() if key not in ("all", "drift")
    )


def test_error_budget_of_a_pruned_layer() -> None:
    """Both ways to leave the devices of zero weights, whichever the array has."""
    w, x = weights(60, 400), inputs(300, 400)
    w *= np.random.default_rng(5).random(w.shape) < 0.2
    device = nc.devices.gaussian(0.3, g_min=5.0, reset=(1.0, 0.05))
    zero = (x**2 @ (w.T == 0)).mean() * np.abs(w).max() ** 2 / 20**2
    power = ((x @ w.T) ** 2).mean()
    found = []
    for choice in ("programmed", "reset"):
        spec = replace(IDEAL, zero_weights=choice)
        found.append(nc.Crossbar(w, device, spec).program(1).error_budget(x))
        for name, std in (("programmed", 0.3), ("reset", 0.05)):
            expected = 10 * math.log10(power / (2 * std**2 * zero))
            assert found[-1][f"zero_weights_{name}"] == pytest.approx(expected, abs=0.3)
    assert found[1]["programming"] > found[0]["programming"] + 3
    only = nc.Crossbar(w, PCM, IDEAL).program(1).error_budget(x)
    assert "zero_weights_programmed" in only
    assert "zero_weights_reset" not in only
