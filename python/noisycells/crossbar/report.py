"""What a crossbar costs, and where its errors come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .. import _arguments
from .._types import F32
from . import compensation, mapping
from .packed import Packed
from .spec import CrossbarSpec

if TYPE_CHECKING:
    from .array import Crossbar

__all__ = ["counters", "energy", "error_budget", "snr_db"]


def snr_db(signal: NDArray[np.floating], noisy: NDArray[np.floating]) -> float:
    """10 log10 of the power of ``signal`` over that of ``noisy - signal``.

    inf where they are equal, -inf where only the signal is 0.
    """
    error = np.sum(np.square(noisy.astype(np.float64) - signal))
    power = np.sum(np.square(signal.astype(np.float64)))
    if error == 0:
        return math.inf
    return 10 * math.log10(power / error) if power else -math.inf


# --------------------------------------------------------------------------- cost


def counters(shape: tuple[int, int], spec: CrossbarSpec, batch: int) -> dict[str, int]:
    """What a layer has, and what the product of ``batch`` input vectors takes.

    Parameters
    ----------
    shape : (out, in)
    spec : CrossbarSpec
    batch : int

    Returns
    -------
    dict of int
        ``tiles``; ``cells`` that hold weights, and ``allocated_cells``, unused ones at the edges
        included; ``reads`` of a tile; ``cell_reads``; ``dac_conversions``, one for each used row
        of a tile and read; ``adc_conversions``. Ideal converters do not convert. Read-outs for
        drift compensation are not counted.
    """
    n, k = shape
    down, across = math.ceil(k / spec.rows), math.ceil(n / spec.cols)
    slices, devices = spec.weight_slices, 2 * spec.devices_per_polarity
    tiles = slices * down * across
    cells = slices * devices * n * k
    times = batch * spec.input_slices
    return {
        "tiles": tiles,
        "cells": cells,
        "allocated_cells": tiles * devices * spec.rows * spec.cols,
        "reads": times * tiles,
        "cell_reads": times * cells,
        "dac_conversions": times * slices * across * k if spec.dac_bits else 0,
        "adc_conversions": (
            times * slices * spec.polarity_planes * down * n if spec.adc_bits else 0
        ),
    }


def energy(counts: Mapping[str, int], picojoules: Mapping[str, float]) -> dict[str, float]:
    """Energy of what was counted, in pJ, item by item and in ``total``.

    Parameters
    ----------
    counts : mapping of str to int
        Of :func:`counters`.
    picojoules : mapping of str to float
        pJ for one of each, such as ``{"adc_conversions": 1.5, "cell_reads": 0.001}``.

    Raises
    ------
    ValueError
        If a name is not a counter, or an energy is not a finite number >= 0.
    """
    _arguments.names("picojoules", picojoules, counts, "names of counters")
    items = {
        name: counts[name] * _arguments.number(f"picojoules of {name!r}", value, 0)
        for name, value in picojoules.items()
    }
    return {**items, "total": sum(items.values())}


# --------------------------------------------------------------------------- errors


def error_budget(array: Crossbar, x: F32, seed: int) -> dict[str, float]:
    """Signal-to-noise ratio of the outputs in dB, with each non-ideality alone and all together.

    Each error is the difference that one non-ideality makes to an otherwise ideal array, whose
    product is the signal. With slices of weights or inputs, the array that is otherwise ideal
    has their rounding, which has its own entry.

    Parameters
    ----------
    array : Crossbar
    x : float32 (batch, in)
    seed : int
        Of the read noise.

    Returns
    -------
    dict of float
        Of these, what the array has: ``weight_slices`` and ``dac`` (rounding); ``programming``
        (stuck and RESET devices included); ``zero_weights_programmed`` and
        ``zero_weights_reset`` (what the devices of weights that are 0 do to the products either
        way, on the same chip; the latter where the device's RESET state is known); ``drift`` (all
        that time does, without compensation) and ``drift_compensated``; ``ir_drop``;
        ``weight_noise`` and ``output_noise`` (of reads); ``adc``; and ``all``.
    """
    spec, layer, device = array.spec, array.layer, array.device
    ranges = array.packed.ranges
    targets = mapping.targets(layer, device, spec)

    def packed(conductances: F32, spec: CrossbarSpec) -> Packed:
        return Packed(conductances, device, spec, layer.scales, ranges, stream=array.stream)

    def product(p: Packed) -> F32:
        y = np.empty((len(x), p.n), np.float32)
        p.product(x, y, seed)
        return y

    exact = x @ array.weight.T
    plain = replace(
        spec, dac_bits=None, input_slice_bits=None, adc_bits=None, read_noise="none",
        wire_resistance_ohm=0.0, kernel="float32",
    )  # fmt: skip
    found = {}
    unconverted = product(packed(targets, plain))
    if spec.weight_slice_bits:
        found["weight_slices"] = snr_db(exact, unconverted)
    ideal, base = plain, unconverted
    if spec.dac_bits:
        driven = replace(plain, dac_bits=spec.dac_bits, input_slice_bits=spec.input_slice_bits)
        converted = product(packed(targets, driven))
        found["dac"] = snr_db(unconverted, converted)
        if spec.input_slice_bits:  # there is no driving slices without a DAC
            ideal, base = driven, converted

    def alone(name: str, conductances: F32, spec: CrossbarSpec) -> None:
        found[name] = snr_db(base, product(packed(conductances, spec)))

    if array.programmed is not None:
        assert array.seed is not None
        alone("programming", array.programmed, ideal)
        zero = array.weight == 0
        choices = ("programmed", "reset") if device.reset is not None else ("programmed",)
        for choice in choices if zero.any() else ():
            other = mapping.Layer.of(array.weight, replace(spec, zero_weights=choice))
            chip = mapping.program(other, device, spec, array.seed, array.stream)
            alone(f"zero_weights_{choice}", np.where(zero, chip, targets), ideal)
    if array.seconds is not None:
        assert array.seed is not None
        aged = mapping.age(
            layer, device, targets, array.seconds, array.seed, array.stream, extrapolate=True
        )
        alone("drift", aged, ideal)
        if spec.drift_compensation != "none":
            fresh, later = packed(targets, ideal), packed(aged, ideal)
            before, now = (compensation.measure(p, seed) for p in (fresh, later))
            later.gain = compensation.gain((before, before), now, spec)  # reads are exact here
            found["drift_compensated"] = snr_db(base, product(later))
    if spec.wire_resistance_ohm:
        alone("ir_drop", targets, replace(ideal, wire_resistance_ohm=spec.wire_resistance_ohm))
    if array.packed.weight_noise:
        alone("weight_noise", targets, replace(ideal, read_noise="weight"))
    if spec.noisy_outputs:
        alone("output_noise", targets, replace(ideal, read_noise="output"))
    if spec.adc_bits:
        alone("adc", targets, replace(ideal, adc_bits=spec.adc_bits))
    found["all"] = snr_db(exact, product(array.packed))
    return found
