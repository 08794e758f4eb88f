"""Specifications of crossbars: fields, what disagrees, JSON."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
from crossbar_cases import SPECS, inputs, weights
from numpy.typing import NDArray

import noisycells as nc

F32 = NDArray[np.float32]
PCM = nc.devices.pcm_joshi2020()


@pytest.mark.parametrize("spec", SPECS)
def test_spec_to_json_and_back(spec: nc.CrossbarSpec) -> None:
    text = json.dumps(spec.to_dict())
    again = nc.CrossbarSpec.from_dict(json.loads(text))
    assert again == spec
    assert hash(again) == hash(spec)
    assert set(json.loads(text)) == {f.name for f in fields(spec)}


def test_spec_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        nc.CrossbarSpec().rows = 3  # type: ignore[misc]
    assert replace(nc.CrossbarSpec(), weight_slice_bits=[2, 2]).weight_slice_bits == (2, 2)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rows", 0, ValueError),
        ("rows", 2.5, TypeError),
        ("rows", True, TypeError),
        ("cols", -1, ValueError),
        ("cols", 1 << 20, ValueError),
        ("dac_bits", 0, ValueError),
        ("dac_bits", 1, ValueError),
        ("dac_bits", 40, ValueError),
        ("adc_bits", 0, ValueError),
        ("adc_bits", 17, ValueError),
        ("adc_bits", "8", TypeError),
        ("dac_range", "batch", ValueError),
        ("dac_range", 0.0, ValueError),
        ("dac_range", math.nan, ValueError),
        ("dac_range", [1], TypeError),
        ("adc_range", "batch", ValueError),
        ("adc_range", -1, ValueError),
        ("adc_range", None, TypeError),
        ("adc_per", "pair", ValueError),
        ("read_noise", None, ValueError),
        ("read_noise", "Weight", ValueError),
        ("output_noise", -0.1, ValueError),
        ("output_noise", math.inf, ValueError),
        ("mapping", "layer", ValueError),
        ("devices_per_polarity", 0, ValueError),
        ("weight_slice_bits", (), ValueError),
        ("weight_slice_bits", (4, 0), ValueError),
        ("weight_slice_bits", (8, 8), ValueError),
        ("weight_slice_bits", 4, TypeError),
        ("weight_slice_bits", "44", TypeError),
        ("weight_slice_bits", (4.0, 4), TypeError),
        ("input_slice_bits", 0, ValueError),
        ("input_slice_bits", 16, ValueError),
        ("zero_weights", "skipped", ValueError),
        ("wire_resistance_ohm", -1, ValueError),
        ("drift_compensation", True, ValueError),
        ("kernel", "int4", ValueError),
    ],
)
def test_bad_spec(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name}: expected .* got "):
        nc.CrossbarSpec(**{name: value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("input_slice_bits", {"dac_bits": None, "input_slice_bits": 2}),
        ("kernel", {"dac_bits": 9, "kernel": "int16"}),
        ("kernel", {"dac_bits": None, "kernel": "int8"}),
        ("kernel", {"rows": 513, "kernel": "int16"}),
    ],
)
def test_fields_that_disagree(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        nc.CrossbarSpec(**values)


def test_reads_are_noisy_unless_the_device_is_exact() -> None:
    """The default; an exact device packs no variances and its reads do not differ."""
    assert nc.CrossbarSpec().read_noise == "weight"
    assert nc.CrossbarSpec().mapping == "column"  # with one scale outliers of one output rule all
    spec = nc.CrossbarSpec(adc_bits=None)
    for device, noisy in ((PCM, True), (nc.devices.ideal(), False)):
        xb = nc.Crossbar(weights(), device, spec).program(1)
        (plane,) = xb.packed.planes()
        assert xb.packed.weight_noise == (plane.variance is not None) == noisy
        assert np.array_equal(xb.matmul(inputs(), 1), xb.matmul(inputs(), 2)) != noisy
        assert ("weight_noise" in xb.error_budget(inputs())) == noisy


def test_unknown_fields() -> None:
    with pytest.raises(ValueError, match="values: expected fields of CrossbarSpec"):
        nc.CrossbarSpec.from_dict({"row": 3})


def test_kernel_is_chosen() -> None:
    assert nc.CrossbarSpec().integer
    assert nc.CrossbarSpec(rows=512).integer
    assert not nc.CrossbarSpec(rows=513).integer
    assert not nc.CrossbarSpec(dac_bits=9).integer
    assert not nc.CrossbarSpec(dac_bits=None).integer
    assert not nc.CrossbarSpec(kernel="float32").integer
