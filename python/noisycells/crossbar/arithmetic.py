"""Which arithmetic products run on where the spec leaves it open: :func:`chosen`."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..devices.device import Device
from .spec import CrossbarSpec

__all__ = ["chosen"]

ROUNDING = 1 / (12 * 127**2)
"""Variance of rounding to 8 bits, in squares of the largest value of an output in a tile."""
DWARFED = 100
"""Errors of programming of so many times this variance: the two together have a standard deviation
half a percent above that of programming alone."""
TARGETS = 33


@lru_cache(maxsize=256)
def chosen(spec: CrossbarSpec, device: Device) -> CrossbarSpec:
    """``spec`` with the kernel that products of such devices run on.

    "auto" is "int8" where rounding to 8 bits is nothing beside what programming does to weights:
    where the errors of weights of any size up to w_max have, in the mean, a variance of 100 times
    that of rounding the largest. Else it is "int16", or "float32" where integers do not do.
    """
    if spec.kernel != "auto":
        return spec
    if not spec.integer:
        return replace(spec, kernel="float32")
    dwarfed = _programming(device) / spec.devices_per_polarity >= DWARFED * ROUNDING
    return replace(spec, kernel="int8" if dwarfed else "int16")


def _programming(device: Device) -> float:
    """Mean variance of a weight of a device for each polarity, one of them at g_min, in w_max^2."""
    targets = np.linspace(device.g_min, device.g_max, TARGETS)
    variances = np.square(device.moments(targets)[1])
    return float(variances.mean() + variances[0]) / (device.g_max - device.g_min) ** 2
