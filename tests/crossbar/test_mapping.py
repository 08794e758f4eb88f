"""Weights to conductances: targets, slices, RESET."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crossbar_cases import inputs, weights
from numpy.typing import NDArray

import noisycells as nc
from noisycells.crossbar import mapping

F32 = NDArray[np.float32]
PCM = nc.devices.pcm_joshi2020()
IDEAL = nc.CrossbarSpec(dac_bits=None, adc_bits=None, read_noise="none", mapping="tensor")


@pytest.mark.parametrize("kind", ["tensor", "column", "row"])
def test_targets(kind: str) -> None:
    """G+- = g_min + (g_max - g_min) max(+-w, 0) / w_max, w_max of the tensor, row or column."""
    w = weights(6, 9)
    w[2] = 0  # a whole output, and a whole input
    w[:, 4] = 0
    device = nc.devices.gaussian(0.1, g_min=2.0, g_max=12.0)
    spec = replace(IDEAL, mapping=kind)
    layer = mapping.Layer.of(w, spec)
    g = mapping.targets(layer, device, spec)[0, 0]
    axis = {"tensor": None, "column": 1, "row": 0}[kind]
    w_max = np.abs(w).max(axis=axis, keepdims=True)
    relative = w / np.where(w_max > 0, w_max, 1)
    np.testing.assert_allclose(g[0], 2 + 10 * np.maximum(relative, 0), rtol=1e-6)
    np.testing.assert_allclose(g[1], 2 + 10 * np.maximum(-relative, 0), rtol=1e-6)
    ideal = nc.Crossbar(w, nc.devices.ideal(g_min=2.0), spec).program(1)
    np.testing.assert_allclose(ideal.effective_weights(), w, atol=1e-6)
    np.testing.assert_allclose(ideal.matmul(inputs(4, 9), 1), inputs(4, 9) @ w.T, atol=1e-5)


def test_weights_of_all_zero() -> None:
    for kind in ("tensor", "column", "row"):
        xb = nc.Crossbar(np.zeros((3, 4), np.float32), PCM, nc.CrossbarSpec(mapping=kind))
        xb.program(1).at(10.0)
        np.testing.assert_array_equal(xb.matmul(inputs(5, 4), 1), 0)


@pytest.mark.parametrize("bits", [(4, 4), (1, 2, 3), (7,), (8, 7), (1,)])
def test_weight_slices(bits: tuple[int, ...]) -> None:
    """Digits of the magnitude, most significant first, that add up to the rounded weight."""
    w = weights()
    spec = replace(IDEAL, weight_slice_bits=bits)
    layer = mapping.Layer.of(w, spec)
    top = 2 ** sum(bits) - 1
    code = np.rint(np.abs(w) / np.abs(w).max() * top).astype(int)
    below = sum(bits)
    for part, b in zip(layer.slices, bits, strict=True):
        below -= b
        digit = (code >> below) & (2**b - 1)
        np.testing.assert_allclose(part, np.sign(w) * digit / (2**b - 1), atol=1e-6)
    ideal = nc.Crossbar(w, nc.devices.ideal(), spec).program(1)
    rounded = np.sign(w) * code / top * np.abs(w).max()
    np.testing.assert_allclose(ideal.effective_weights(), rounded, atol=1e-6)
    assert np.abs(ideal.effective_weights() - w).max() <= 0.5001 * np.abs(w).max() / top


def test_reset_is_for_zero_weights_only() -> None:
    w = weights()
    w[:, ::2] = 0
    device = nc.devices.gaussian(0.1, g_min=5.0, reset=(0.5, 0.05))
    programmed = nc.Crossbar(w, device, IDEAL).program(1)
    reset = nc.Crossbar(w, device, replace(IDEAL, zero_weights="reset")).program(1)
    zero = np.broadcast_to(w == 0, programmed.conductances.shape)
    assert (reset.conductances[zero] < 1).all()
    assert (programmed.conductances[zero] > 4).all()
    np.testing.assert_array_equal(reset.conductances[~zero], programmed.conductances[~zero])
