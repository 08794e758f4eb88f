"""Specifications of crossbars, and a call of the operator with them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

import noisycells as nc  # noqa: E402
import noisycells.torch as nct  # noqa: E402

PCM = nc.devices.pcm_joshi2020()
KEY = torch.tensor([3, -4])  # -4: the seed 2**64 - 4
SPECS = {
    "default": nc.CrossbarSpec(rows=16, adc_range=0.7),
    "no adc": nc.CrossbarSpec(rows=16, adc_bits=None, read_noise="none"),
    "no dac": nc.CrossbarSpec(rows=16, dac_bits=None, adc_range=0.7, read_noise="none"),
    "fixed": nc.CrossbarSpec(rows=16, dac_range=1.5, adc_range=0.7, read_noise="both"),
    "row": nc.CrossbarSpec(rows=16, mapping="row", adc_range=0.7, dac_range=1.0),
    "row vector": nc.CrossbarSpec(rows=16, mapping="row", adc_range=0.7, read_noise="weight"),
    "column": nc.CrossbarSpec(rows=16, mapping="column", adc_range=0.9),
    "polarity": nc.CrossbarSpec(rows=16, adc_per="polarity", adc_range=0.5),
    "weight slices": nc.CrossbarSpec(rows=16, weight_slice_bits=(4, 4), adc_range=0.7),
    "input slices": nc.CrossbarSpec(rows=16, input_slice_bits=2, adc_range=0.8, dac_range=1.5),
    "wires": nc.CrossbarSpec(rows=16, wire_resistance_ohm=5.0, devices_per_polarity=2),
    "exact wires": nc.CrossbarSpec(rows=16, wire_resistance_ohm=900.0, ir_drop="exact"),
    "all": nc.CrossbarSpec(
        rows=16, adc_per="polarity", weight_slice_bits=(3, 2), input_slice_bits=3, mapping="row",
        read_noise="both", output_noise=0.02, adc_range=0.6, kernel="float32",
    ),
}  # fmt: skip


def linear(x: Any, w: Any, bias: Any = None, spec: Any = None, key: Any = KEY, **kw: Any) -> Any:
    return nct.crossbar_linear(x, w, bias, spec=spec, key=key, device=kw.get("device", PCM))
