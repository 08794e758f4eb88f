"""Numbers that float32 cannot hold, or whose inverses it cannot: right, or refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import noisycells as nc

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((8, 12)).astype(np.float32)
INPUTS = RNG.random((5, 12)).astype(np.float32)
IDEAL = nc.devices.ideal()


def spec(**options: Any) -> nc.CrossbarSpec:
    return nc.CrossbarSpec(**{"read_noise": "none", **options})


REFUSED: dict[str, Callable[[], object]] = {
    "std": lambda: nc.Channel.gaussian(1e38),
    "std ": lambda: nc.Channel.gaussian(1e300),
    "read_std": lambda: nc.Channel([-1, 1], [-1, 1], 1e29, 1e31),
    "d2d_std": lambda: nc.Channel.gaussian(0.1, d2d_std=1e300),
    "mean": lambda: nc.Channel([-1, 1], [0, 1e39], 0.1),
    "mean ": lambda: nc.Channel([-1, 1], [1e-40, 2e-40], 0.0),
    "mean  ": lambda: nc.Channel([-1, 1], [1, 1 + 1e-7], 0.0),
    "mean   ": lambda: nc.Channel([-1, 0, 1], [0, 1, -1e39], 0.1, branch=(-1, 0)),
    "x": lambda: nc.Channel([-1e300, 1e300], [0, 1], 0.1),
    "x ": lambda: nc.Channel([0, 1e-40], [0, 1], 0.1),
    "x  ": lambda: nc.Channel([1, 1 + 1e-7], [0, 1], 0.1),
    "branch": lambda: nc.Channel([-1, 1], [-1, 1], 0.1, branch=(0.5, 0.5 + 1e-9)),
    "dac_range": lambda: spec(dac_range=1e-44),
    "dac_range ": lambda: spec(dac_range=1e300),
    "adc_range": lambda: spec(adc_range=1e-320),
    "adc_range ": lambda: spec(adc_range=1e39),
    "output_noise": lambda: spec(output_noise=1e39),
    "wire_resistance_ohm": lambda: spec(wire_resistance_ohm=1e300),
    "g_min, g_max": lambda: nc.devices.ideal(g_max=1e-320),
    "g_min, g_max ": lambda: nc.devices.ideal(g_max=1e39),
    "g_min, g_max  ": lambda: nc.devices.ideal(g_min=1.0, g_max=1.0 + 1e-9),
    "read_std   ": lambda: nc.devices.rram_cmo(read_std=-1),
    "read_std    ": lambda: nc.devices.rram_milo2021(read_std=1e30),
    "read_std     ": lambda: nc.devices.rram_wan2022(read_std=-1.0),
    "std  ": lambda: nc.devices.gaussian(1e300),
    "weight": lambda: nc.Crossbar(WEIGHTS * np.float32(1e-39), IDEAL),
    "weight ": lambda: nc.Crossbar(WEIGHTS * np.float32(1e37), IDEAL),
    "weights 'w'": lambda: nc.Codec(nc.devices.pcm_array()).encode(
        {"w": WEIGHTS * np.float32(1e-42)}
    ),
    "weights 'w' ": lambda: nc.Codec(nc.devices.pcm_array()).encode(
        {"w": WEIGHTS / np.abs(WEIGHTS).max() * np.float32(2e38)}
    ),
    "data": lambda: nc.random.fold_in(1, 2**70),
    "out": lambda: aliased_read(),
}


def aliased_read() -> object:
    stored = nc.Codec(nc.devices.pcm_array()).encode(WEIGHTS)
    return stored.read(1, out=stored.levels.reshape(WEIGHTS.shape))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name.strip()}: expected .*, got "):
        REFUSED[name]()


@pytest.mark.parametrize("scale", [1e-29, 1e-20, 1e20, 1e29])
@pytest.mark.parametrize("mapping", ["tensor", "column", "row"])
def test_weights_of_every_scale(scale: float, mapping: str) -> None:
    weights = WEIGHTS * np.float32(scale)
    array = nc.Crossbar(weights, IDEAL, spec(mapping=mapping, dac_bits=None, adc_bits=None))
    found, right = array.program(1).matmul(INPUTS, 1), INPUTS.astype(np.float64) @ weights.T
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5 * np.abs(right).max())
    clean = nc.Codec(nc.Channel.gaussian(0.0)).encode(weights).read(1)
    np.testing.assert_allclose(clean, weights, rtol=0, atol=1e-5 * np.abs(weights).max())


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e-36, 1e-38, 1e-41, 1e30])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dac_bits": None, "adc_bits": None}, 1e-5),
        ({"dac_bits": 16, "adc_bits": None}, 1e-4),
        ({"adc_bits": None}, 2e-2),
        ({"adc_bits": None, "input_slice_bits": 3, "mapping": "row"}, 2e-2),
    ],
)
def test_inputs_of_every_scale(options: dict[str, Any], error: float, scale: float) -> None:
    x = INPUTS * np.float32(scale)
    found = nc.Crossbar(WEIGHTS, IDEAL, spec(**options)).program(1).matmul(x, 1)
    right = x.astype(np.float64) @ WEIGHTS.T.astype(np.float64)
    steps = 8 * 1.4e-45  # float32 has none between those
    np.testing.assert_allclose(found, right, rtol=0, atol=error * np.abs(right).max() + steps)


@pytest.mark.parametrize("x", [np.zeros((3, 12), np.float32), INPUTS * np.float32(1e-35)])
def test_calibration_with_inputs_that_give_no_range(x: np.ndarray) -> None:
    array = nc.Crossbar(WEIGHTS, IDEAL, spec(dac_range="calibrated")).program(1)
    array.calibrate(INPUTS)
    before = array.matmul(INPUTS, 1)
    with pytest.raises(ValueError, match=r"^x: expected example inputs that give a dac_range"):
        array.calibrate(x)
    assert np.array_equal(array.matmul(INPUTS, 1), before)


def test_tiles_that_no_example_reaches_keep_the_range_of_their_weights() -> None:
    options = {"rows": 6, "read_noise": "none"}
    by_weights = nc.Crossbar(WEIGHTS, IDEAL, nc.CrossbarSpec(**options)).program(1)
    array = nc.Crossbar(WEIGHTS, IDEAL, nc.CrossbarSpec(**options, adc_range="calibrated"))
    x = INPUTS.copy()
    x[:, 6:] = 0
    array.program(1).calibrate(x)
    found, known = array.packed.ranges.adc, by_weights.packed.ranges.adc
    assert found is not None and known is not None
    assert found[1] == known[1] and found[0] != known[0]
