"""A crossbar as plain arrays and a JSON text, and what they say when they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, devices, random
from .._types import F32
from ..devices import Device
from . import mapping
from .packed import Ranges
from .spec import CrossbarSpec

if TYPE_CHECKING:
    from .array import Crossbar

__all__ = ["STATE_VERSION", "State", "of", "read"]

STATE_VERSION = 1
CONFIG_KEYS = {"name", "device", "spec", "seed", "seconds", "dac_range"}


class State(NamedTuple):
    """What makes a crossbar; arrays of :meth:`noisycells.Crossbar.state`."""

    name: str
    weight: F32
    device: Device
    spec: CrossbarSpec
    seed: int | None
    seconds: float | None
    programmed: F32 | None
    conductances: F32
    ranges: Ranges
    calibration: Ranges
    gain: F32 | None


def of(crossbar: Crossbar) -> tuple[dict[str, NDArray[Any]], str]:
    """Its arrays, copied, and its configuration as JSON."""
    packed = crossbar.packed
    arrays: dict[str, NDArray[Any] | None] = {
        "weight": crossbar.weight,
        "programmed": crossbar.programmed,
        "conductances": None if crossbar.seconds is None else packed.conductances,
        "adc_range": packed.ranges.adc,
        "gain": packed.gain,
    }
    config = {
        "version": STATE_VERSION,
        "stream_version": random.STREAM_VERSION,
        "name": crossbar.name,
        "device": crossbar.device.to_dict(),
        "spec": crossbar.spec.to_dict(),
        "seed": crossbar.seed,
        "seconds": crossbar.seconds,
        "dac_range": packed.ranges.dac,
    }
    text = json.dumps(config, allow_nan=False)
    return {k: v.copy() for k, v in arrays.items() if v is not None}, text


def read(arrays: Mapping[str, NDArray[Any]], config: str) -> State:
    """The state in arrays and JSON; ValueError where something is missing, wrong or unknown."""
    values = _config(config)
    spec = CrossbarSpec.from_dict(values["spec"])
    device = devices.from_dict(values["device"])
    weight = _stored(arrays, "weight")
    layer = mapping.Layer.of(weight, spec)
    shape = mapping.shape(layer, spec)
    adc = None
    if "adc_range" in arrays:
        adc = _stored(arrays, "adc_range", (spec.passes(weight.shape[1]),))
    ranges = Ranges(values["dac_range"], adc)
    programmed = None
    if values["seed"] is None:
        present = mapping.targets(layer, device, spec)
    else:
        present = programmed = _stored(arrays, "programmed", shape)
        programmed.flags.writeable = False
    if values["seconds"] is not None:
        present = _stored(arrays, "conductances", shape)
    calibration = Ranges(
        ranges.dac if spec.dac_range == "calibrated" else None,
        ranges.adc if spec.adc_range == "calibrated" else None,
    )
    gain = _stored(arrays, "gain", shape[3:4]) if "gain" in arrays else None
    return State(
        values["name"], weight, device, spec, values["seed"], values["seconds"], programmed,
        present, ranges, calibration, gain,
    )  # fmt: skip


def _config(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise _arguments.wrong_value("config", "a JSON object", repr(text[:40]))
    for key, known in (("version", STATE_VERSION), ("stream_version", random.STREAM_VERSION)):
        if values.get(key) != known:
            raise _arguments.wrong_value("config", f"{key} {known}", values.get(key))
    if missing := CONFIG_KEYS - set(values):
        raise _arguments.wrong_value(
            "config", f"the keys {sorted(missing)} as well", sorted(values)
        )
    return values


def _stored(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...] | None = None
) -> F32:
    if name not in arrays:
        raise _arguments.wrong_value("arrays", f"{name!r} among them", sorted(arrays))
    array = np.array(arrays[name], order="C")
    if array.dtype != np.float32 or (shape is not None and array.shape != shape):
        expected = "float32" if shape is None else f"float32 {shape}"
        raise _arguments.wrong_value(
            "arrays", f"{name!r} to be {expected}", f"{array.dtype} {array.shape}"
        )
    return array
