"""What makes a :class:`~noisycells.crossbar.array.Crossbar`: its arguments, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import _arguments, devices
from .._types import F32
from ..devices import Device, DeviceLike
from .spec import CrossbarSpec

__all__ = ["check_finite", "checked_device", "checked_spec", "checked_weight"]


def check_finite(name: str, array: F32) -> None:
    """Refuse NaN and infinity."""
    if not np.isfinite(array).all():
        raise _arguments.wrong_value(name, "finite float32 values", "NaN or infinity")


def checked_weight(weight: ArrayLike) -> F32:
    """A read-only copy (out, in) in float32."""
    array = _arguments.array("weight", weight, "f", "floating-point numbers")
    if array.ndim != 2 or array.size == 0:
        raise _arguments.wrong_value(
            "weight", "shape (out, in) of at least one weight", array.shape
        )
    with np.errstate(over="ignore"):  # refused below
        array = np.array(array, np.float32, order="C")
    check_finite("weight", array)
    array.flags.writeable = False
    return array


def checked_spec(spec: CrossbarSpec | None) -> CrossbarSpec:
    """The specification, the default one for None."""
    return CrossbarSpec() if spec is None else _arguments.instance("spec", spec, CrossbarSpec)


def checked_device(given: DeviceLike, spec: CrossbarSpec) -> Device:
    """The device, also of a name, where it can do what the specification asks."""
    device = devices.computing(given)
    if spec.zero_weights == "reset" and device.reset is None:
        raise _arguments.wrong_value(
            "zero_weights",
            f"'programmed' for {device.name!r}, whose RESET state is not known",
            "'reset'",
        )
    return device
