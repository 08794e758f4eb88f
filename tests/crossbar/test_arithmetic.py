"""Which arithmetic products run on, and what that costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import noisycells as nc
from noisycells import devices
from noisycells.crossbar import arithmetic


@pytest.mark.parametrize(
    ("device", "fields", "expected"),
    [
        ("ideal", {}, "int16"),
        ("rram_cmo", {}, "int16"),  # programmed to 0.2 to 1.3 % of its span
        ("sonos_agrawal2022", {}, "int16"),
        ("pcm_joshi2020", {}, "int8"),
        ("pcm_hermes", {}, "int8"),
        ("rram_wan2022", {}, "int8"),
        ("pcm_hermes", {"devices_per_polarity": 8}, "int16"),  # in parallel they err less
        ("pcm_hermes", {"rows": 1024}, "float32"),
        ("pcm_hermes", {"dac_bits": None}, "float32"),
        ("pcm_hermes", {"kernel": "int16"}, "int16"),
        ("pcm_hermes", {"kernel": "float32"}, "float32"),
        ("ideal", {"kernel": "int8"}, "int8"),
    ],
)
def test_chosen(device: str, fields: dict[str, Any], expected: str) -> None:
    spec = nc.CrossbarSpec(**fields)
    made = devices.computing(device)
    found = arithmetic.chosen(spec, made)
    assert found == replace(spec, kernel=expected)
    weights = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    array = nc.Crossbar(weights, made, spec).program(1)
    assert array.packed.spec == found and array.spec == spec


@pytest.mark.parametrize("device", ["pcm_joshi2020", "pcm_hermes", "rram_wan2022"])
def test_rounding_is_dwarfed(device: str) -> None:
    """What 8 bits add to the error of products is under 1 % of it, and seen in float32 at all.

    With uniform and with normal weights, of which most are far below the largest.
    """
    g = np.random.default_rng(0)
    x = g.normal(size=(64, 256)).astype(np.float32)
    spec = nc.CrossbarSpec(adc_bits=None, read_noise="none")
    for weights in (g.normal(size=(64, 256)), g.uniform(-1, 1, (64, 256))):
        made = nc.Crossbar(weights.astype(np.float32), devices.computing(device), spec)
        chips = {
            kernel: nc.Crossbar(made.weight, made.device, replace(spec, kernel=kernel)).program(1)
            for kernel in ("auto", "int8", "int16")
        }
        found = {kernel: chip.matmul(x, 1) for kernel, chip in chips.items()}
        np.testing.assert_array_equal(found["auto"], found["int8"])
        programming = np.square(found["int16"] - x @ made.weight.T).mean()
        rounding = np.square(found["int8"] - found["int16"]).mean()
        assert 0 < rounding < 0.02 * programming
