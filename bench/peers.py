"""Other simulators of crossbars, where they are installed, at the settings closest to ours.

8-bit DAC with the range of each vector, tiles of 256 rows, output noise 0.04, 8-bit ADC.

- aihwkit-lightning finds the range of a vector anew for each tile, and has noise only in
  training mode.
- aihwkit is timed with its tile of torch operations, the faster one at these batches; its inputs
  are scaled as in ours.
- CrossSim has a fixed input range, and no noise of outputs: it takes part without noise.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from noisycells._types import F32
from noisycells.crossbar import Packed
from noisycells.speed.timing import Call, Contenders

__all__ = ["PEERS", "products", "training"]

PEERS = ("aihwkit-lightning", "aihwkit", "CrossSim")
_STEPS = 2**8 - 2  # of 8 bits, as aihwkit counts them
_BOUND = 10.0  # of the ADC in training, in full scale times w_max; aihwkit's own default is 12


def products(
    torch: ModuleType, x: F32, weights: F32, packed: Packed
) -> tuple[Contenders, dict[str, str]]:
    """Products without noise and with that of outputs; and why others are missing.

    Names are "peer, mode".
    """
    assert packed.ranges.adc is not None
    rows, bound = packed.spec.rows, float(packed.ranges.adc.max())
    made: dict[str, Callable[[], Call]] = {
        "CrossSim, ADC only": partial(_crosssim, x, weights, rows, bound)
    }
    for mode, noise in (("ADC only", 0.0), ("output noise", packed.spec.output_noise)):
        for peer, make in (("aihwkit-lightning", _lightning), ("aihwkit", _aihwkit)):
            made[f"{peer}, {mode}"] = partial(make, torch, x, weights, rows, noise, bound)
    return _prepared(made)


def training(model: Any, rows: int, noise: float) -> tuple[dict[str, Any], dict[str, str]]:
    """The model converted by each peer that trains; and why others are missing."""

    def convert(package: str, config: Callable[..., Any]) -> Any:
        change = import_module(f"{package}.nn.conversion").convert_to_analog
        return change(copy.deepcopy(model), config(rows, noise, _BOUND))

    return _prepared({
        "aihwkit-lightning": partial(convert, "aihwkit_lightning", _lightning_config),
        "aihwkit": partial(convert, "aihwkit", _aihwkit_config),
    })  # fmt: skip


def _prepared(made: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, str]]:
    """What could be made, and why the rest could not."""
    found, absent = {}, {}
    for name, make in made.items():
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = make()
        except ModuleNotFoundError:
            absent[name] = "not installed"
        except Exception as error:  # whatever another version may raise
            absent[name] = f"failed: {error}".partition("\n")[0]
    return found, absent


# --------------------------------------------------------------------------- aihwkit-lightning


def _lightning_config(rows: int, noise: float, bound: float, tiles: int = 1) -> Any:
    config = import_module("aihwkit_lightning.simulator.configs").TorchInferenceRPUConfig()
    config.mapping.max_input_size = rows
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.dynamic = True
    config.forward.inp_res = config.forward.out_res = _STEPS
    config.forward.out_bound = bound
    config.forward.out_noise = noise * math.sqrt(tiles)  # divided by it again for each tile
    return config


def _lightning(
    torch: ModuleType, x: F32, weights: F32, rows: int, noise: float, bound: float
) -> Call:
    n, k = weights.shape
    config = _lightning_config(rows, noise, bound, math.ceil(k / rows))
    layer = import_module("aihwkit_lightning.nn").AnalogLinear(k, n, bias=False, rpu_config=config)
    layer.weight.data.copy_(torch.from_numpy(weights))
    return _forward(torch, layer.train(), x)


# --------------------------------------------------------------------------- aihwkit


def _aihwkit_config(rows: int, noise: float, bound: float) -> Any:
    enums = import_module("aihwkit.simulator.parameters.enums")
    config = import_module("aihwkit.simulator.configs").TorchInferenceRPUConfig()
    config.mapping.max_input_size, config.mapping.max_output_size = rows, 0
    config.mapping.weight_scaling_omega = 1.0
    config.forward.inp_res = config.forward.out_res = 1 / _STEPS
    config.forward.out_bound, config.forward.out_noise = bound, noise
    config.forward.noise_management = enums.NoiseManagementType.ABS_MAX
    config.forward.bound_management = enums.BoundManagementType.NONE
    return config


def _aihwkit(
    torch: ModuleType, x: F32, weights: F32, rows: int, noise: float, bound: float
) -> Call:
    n, k = weights.shape
    layers = import_module("aihwkit.nn")
    kind = layers.AnalogLinearMapped if k > rows else layers.AnalogLinear
    layer = kind(k, n, bias=False, rpu_config=_aihwkit_config(rows, noise, bound))
    layer.set_weights(torch.from_numpy(weights), None)
    return _forward(torch, layer.eval(), x)


def _forward(torch: ModuleType, layer: Any, x: F32) -> Call:
    xs = torch.from_numpy(x)

    def call() -> Any:
        with torch.no_grad():
            return layer(xs.clone())  # some write to their inputs

    call()
    return call


# --------------------------------------------------------------------------- CrossSim


def _crosssim(x: F32, weights: F32, rows: int, bound: float) -> Call:
    simulator = import_module("simulator")
    params = simulator.CrossSimParameters()
    params.core.rows_max, params.core.cols_max = rows, len(weights)
    params.core.style = "BALANCED"
    dac, adc, inputs = params.xbar.dac.mvm, params.xbar.adc.mvm, params.core.mapping.inputs.mvm
    dac.model, dac.bits, dac.signed = "SignMagnitudeDAC", 8, True
    inputs.max = float(np.abs(x).max())
    inputs.min = -inputs.max
    adc.model, adc.bits, adc.signed = "SignMagnitudeADC", 8, True
    adc.adc_range_option, adc.calibrated_range = "CALIBRATED", np.array([-bound, bound])
    core, columns = simulator.AnalogCore(weights, params=params), np.ascontiguousarray(x.T)
    core.matmat(columns)
    return lambda: core.matmat(columns).T
