"""Weights, inputs and specifications of small crossbars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import noisycells as nc

F32 = NDArray[np.float32]


def weights(n: int = 20, k: int = 70, seed: int = 0) -> F32:
    return np.random.default_rng(seed).normal(0, 0.1, (n, k)).astype(np.float32)


def inputs(batch: int = 30, k: int = 70, seed: int = 1) -> F32:
    return np.random.default_rng(seed).normal(size=(batch, k)).astype(np.float32)


SPECS = [
    nc.CrossbarSpec(),
    nc.CrossbarSpec(rows=64, cols=32, read_noise="weight", drift_compensation="global"),
    nc.CrossbarSpec(
        dac_range="calibrated", adc_range="calibrated", adc_per="polarity", mapping="column",
        devices_per_polarity=2, weight_slice_bits=(4, 4), input_slice_bits=2,
        wire_resistance_ohm=0.4, drift_compensation="column",
    ),
    nc.CrossbarSpec(dac_bits=None, adc_bits=None, mapping="row", read_noise="both"),
]  # fmt: skip
