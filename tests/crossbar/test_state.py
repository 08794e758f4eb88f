"""The state of an array in files."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crossbar_cases import SPECS, inputs, weights
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import noisycells as nc

F32 = NDArray[np.float32]
PCM = nc.devices.pcm_joshi2020()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("stage", ["new", "programmed", "aged"])
def test_state_and_back(tmp_path: Path, spec: nc.CrossbarSpec, stage: str) -> None:
    """Bit for bit, through a safetensors file, now and later in life."""
    xb = nc.Crossbar(weights(), PCM, spec, "a layer")
    xb._warned = True
    if stage != "new":
        xb.program(2**64 - 1)
    xb.calibrate(inputs())
    if stage == "aged":
        xb.at(1234.5)
    arrays, config = xb.state()
    save_file(arrays, tmp_path / "layer.safetensors", {"crossbar": config})
    with safe_open(tmp_path / "layer.safetensors", "numpy") as file:
        metadata = file.metadata()
    again = nc.Crossbar.from_state(load_file(tmp_path / "layer.safetensors"), metadata["crossbar"])
    assert repr(again) == repr(xb)
    for copied in (again, copy.deepcopy(xb), pickle.loads(pickle.dumps(xb))):
        copied._warned = True
        np.testing.assert_array_equal(copied.conductances, xb.conductances)
        np.testing.assert_array_equal(copied.matmul(inputs(), 7), xb.matmul(inputs(), 7))
        assert copied.state()[1] == config
    if stage != "new":
        for array in (xb, again):
            array.at(77.0)
        np.testing.assert_array_equal(again.matmul(inputs(), 7), xb.matmul(inputs(), 7))


@pytest.mark.parametrize("name", ["fc", ""])
def test_the_stream_is_that_of_the_name(name: str) -> None:
    """As docs/randomness.md says: another one would be another chip for the same seed."""
    weight = np.eye(3, dtype=np.float32)
    array = nc.Crossbar(weight, nc.devices.ideal(), name=name)
    assert array.stream == nc.random.stream(name or nc.random.unnamed(weight), "crossbar")


def test_state_does_not_share_memory() -> None:
    xb = nc.Crossbar(weights(), PCM).program(1)
    arrays, _ = xb.state()
    before = xb.matmul(inputs(), 1)
    for array in arrays.values():
        array[...] = 0
    np.testing.assert_array_equal(xb.program(1).matmul(inputs(), 1), before)


def changed_config(**values: Any) -> str:
    _, config = nc.Crossbar(weights(), PCM).program(1).state()
    return json.dumps({**json.loads(config), **values})


def test_bad_state() -> None:
    arrays, config = nc.Crossbar(weights(), PCM).program(1).state()
    restore = nc.Crossbar.from_state
    for name in ("weight", "programmed"):
        missing = {k: v for k, v in arrays.items() if k != name}
        with pytest.raises(ValueError, match=f"arrays: expected '{name}' among them"):
            restore(missing, config)
    for wrong in (arrays["programmed"][:, :, :, 1:], arrays["programmed"].astype(np.float64)):
        with pytest.raises(ValueError, match="arrays: expected 'programmed' to be float32"):
            restore({**arrays, "programmed": wrong}, config)
    with pytest.raises(ValueError, match="arrays: expected 'adc_range' to be"):
        restore({**arrays, "adc_range": np.ones(7, np.float32)}, config)
    with pytest.raises(ValueError, match="config: expected version 1, got 2"):
        restore(arrays, changed_config(version=2))
    with pytest.raises(ValueError, match="config: expected stream_version"):
        restore(arrays, changed_config(stream_version=99))
    with pytest.raises(ValueError, match="config: expected a JSON object"):
        restore(arrays, "{")
    with pytest.raises(ValueError, match="config: expected the keys"):
        restore(arrays, json.dumps({"version": 1, "stream_version": nc.random.STREAM_VERSION}))


WRONG_STATES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    r"config\.seed: expected an int in \[0, 2": ({"seed": "x"}, {}),
    r"config\.seed: expected an int in \[0, 2\*\*64\), got -1": ({"seed": -1}, {}),
    r"config\.seconds: expected a number, got 'x'": ({"seconds": "x"}, {}),
    r"config\.seconds: expected a finite number >= 0, got -1": ({"seconds": -1}, {}),
    r"config\.dac_range: expected a number, got 'x'": ({"dac_range": "x"}, {}),
    r"config\.dac_range: expected a number in \[1e-30, 1e\+30\], got 0": ({"dac_range": 0.0}, {}),
    r"config\.name: expected a string, got 3": ({"name": 3}, {}),
    r"config\.spec: expected a mapping": ({"spec": 3}, {}),
    r"rows: expected an int": ({"spec": {"rows": "a"}}, {}),
    r"data: expected the dict of a device": ({"device": 3}, {}),
    r"arrays: expected 'programmed' to be finite": ({}, {"programmed": math.nan}),
    r"arrays: expected 'conductances' to be finite": ({}, {"conductances": math.nan}),
    r"arrays: expected 'adc_range' to be finite": ({}, {"adc_range": math.nan}),
    r"arrays: expected 'adc_range' to be positive": ({}, {"adc_range": 0.0}),
    r"arrays: expected 'gain' to be finite": ({}, {"gain": math.nan}),
    r"weight: expected finite": ({}, {"weight": math.nan}),
}


@pytest.mark.parametrize("message", WRONG_STATES)
def test_every_value_of_a_state_is_checked(message: str) -> None:
    spec = nc.CrossbarSpec(drift_compensation="global")
    arrays, config = nc.Crossbar(weights(3, 4), PCM, spec).program(1).at(60).state()
    nc.Crossbar.from_state(arrays, config)
    fields, factors = WRONG_STATES[message]
    for name, factor in factors.items():
        arrays[name] = (arrays[name] * np.float32(factor)).astype(np.float32)
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        nc.Crossbar.from_state(arrays, json.dumps(json.loads(config) | fields))
