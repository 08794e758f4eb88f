"""What a crossbar costs, and where its errors come from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
    spec = array.spec
    bench = _Bench(array, x, seed)
    plain = replace(
        spec, dac_bits=None, input_slice_bits=None, adc_bits=None, read_noise="none",
        wire_resistance_ohm=0.0, kernel="float32",
    )  # fmt: skip
    exact = x @ array.weight.T
    unconverted = bench.product(bench.targets, plain)
    found = {}
    if spec.weight_slice_bits:
        found["weight_slices"] = snr_db(exact, unconverted)
    ideal, base = plain, unconverted
    if spec.dac_bits:
        driven = replace(plain, dac_bits=spec.dac_bits, input_slice_bits=spec.input_slice_bits)
        converted = bench.product(bench.targets, driven)
        found["dac"] = snr_db(unconverted, converted)
        if spec.input_slice_bits:  # there is no driving slices without a DAC
            ideal, base = driven, converted
    for name, y in (*bench.devices(ideal), *bench.circuits(ideal)):
        found[name] = snr_db(base, y)
    found["all"] = snr_db(exact, bench.product_of(array.packed))
    return found


class _Bench:
    """Products of the inputs with one non-ideality of an array at a time."""

    def __init__(self, array: Crossbar, x: F32, seed: int) -> None:
        self.array, self.x, self.seed = array, x, seed
        self.targets = mapping.targets(array.layer, array.device, array.spec)

    def packed(self, conductances: F32, spec: CrossbarSpec) -> Packed:
        array = self.array
        ranges = array.packed.ranges
        scales = array.layer.scales
        return Packed(conductances, array.device, spec, scales, ranges, stream=array.stream)

    def product_of(self, packed: Packed) -> F32:
        y = np.empty((len(self.x), packed.n), np.float32)
        packed.product(self.x, y, self.seed)
        return y

    def product(self, conductances: F32, spec: CrossbarSpec) -> F32:
        return self.product_of(self.packed(conductances, spec))

    def devices(self, ideal: CrossbarSpec) -> Iterator[tuple[str, F32]]:
        """What programming and time do to the devices."""
        array, spec = self.array, self.array.spec
        if array.programmed is None:
            return
        assert array.seed is not None
        yield "programming", self.product(array.programmed, ideal)
        zero = array.weight == 0
        choices = ("programmed", "reset") if array.device.reset is not None else ("programmed",)
        for choice in choices if zero.any() else ():
            other = mapping.Layer.of(array.weight, replace(spec, zero_weights=choice))
            chip = mapping.program(other, array.device, spec, array.seed, array.stream)
            yield f"zero_weights_{choice}", self.product(np.where(zero, chip, self.targets), ideal)
        if array.seconds is None:
            return
        aged = mapping.age(
            array.layer, array.device, self.targets, array.seconds, array.seed, array.stream,
            extrapolate=True,
        )  # fmt: skip
        yield "drift", self.product(aged, ideal)
        if spec.drift_compensation != "none":
            fresh, later = self.packed(self.targets, ideal), self.packed(aged, ideal)
            before, now = (compensation.measure(p, self.seed) for p in (fresh, later))
            later.gain = compensation.gain((before, before), now, spec)  # reads are exact here
            yield "drift_compensated", self.product_of(later)

    def circuits(self, ideal: CrossbarSpec) -> Iterator[tuple[str, F32]]:
        """What wires, reads and converters do."""
        spec = self.array.spec
        if spec.wire_resistance_ohm:
            wired = replace(ideal, wire_resistance_ohm=spec.wire_resistance_ohm)
            yield "ir_drop", self.product(self.targets, wired)
        if self.array.packed.weight_noise:
            yield "weight_noise", self.product(self.targets, replace(ideal, read_noise="weight"))
        if spec.noisy_outputs:
            yield "output_noise", self.product(self.targets, replace(ideal, read_noise="output"))
        if spec.adc_bits:
            yield "adc", self.product(self.targets, replace(ideal, adc_bits=spec.adc_bits))
