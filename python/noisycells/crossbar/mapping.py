"""From weights to conductances: differential pairs, scales, digits, and the life of the devices.

Conductances are kept as one float32 array of shape (slices, devices, 2, out, in) in
microsiemens: slices of the weights' digits, devices in parallel, polarity (0 for G+, 1 for G-).
Device number ``(slice * devices + device) * 2 + polarity`` draws its own random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _analog, _arguments, _core, random
from .._types import F32, LARGEST, SMALLEST
from ..devices.device import Device
from ..devices.tables import bind_aging, bind_programming
from ..runtime import threads_argument
from .spec import CrossbarSpec

__all__ = ["Layer", "Scales", "age", "program", "scales", "slice_factors", "targets"]


class Scales(NamedTuple):
    """Digital factors: y = output * (crossbar of (x * row)); float32 (out,), (in,) or None."""

    output: F32
    row: F32 | None


def scales(weight: F32, spec: CrossbarSpec) -> Scales:
    """w_max of each output, and of each input relative to the largest; ``weight`` (out, in).

    Weights that are all 0 have w_max 0: their outputs are 0, whatever their devices conduct.

    Raises
    ------
    ValueError
        If the largest magnitude is neither 0 nor in [1e-30, 1e30].
    """
    largest = float(_largest(weight, None))
    if 0 < largest < SMALLEST or LARGEST < largest < np.inf:  # callers refuse what is not finite
        limits = f"a largest magnitude of 0 or from {SMALLEST:g} to {LARGEST:g}"
        raise _arguments.wrong_value("weight", limits, f"{largest:g}")
    if spec.mapping == "column":
        return Scales(_largest(weight, 1), None)
    top = _largest(weight, None)
    output = np.full(len(weight), top, np.float32)
    if spec.mapping == "tensor":
        return Scales(output, None)
    return Scales(output, _largest(weight, 0) * reciprocal(top))


def _largest(weight: F32, axis: int | None) -> F32:
    result: F32 = np.maximum(weight.max(axis=axis), -weight.min(axis=axis))
    return result


def slice_factors(spec: CrossbarSpec) -> F32:
    """What a full digit of each slice counts, relative to w_max; float32 (slices,).

    Magnitudes are digits in base 2: the slice of b bits above s lower bits counts
    (2^b - 1) 2^s of 2^total - 1.
    """
    bits = spec.weight_slice_bits
    if bits is None:
        return np.ones(1, np.float32)
    below = np.cumsum([0, *bits[:0:-1]])[::-1]
    return np.array(
        [((1 << b) - 1) * (1 << int(s)) / ((1 << sum(bits)) - 1)
         for b, s in zip(bits, below, strict=True)],
        np.float32,
    )  # fmt: skip


class Layer(NamedTuple):
    """Weights as a crossbar takes them.

    ``slices``: float32 (out, in) for each slice, which ``inverse`` (1,) or (out,) brings into
    [-1, 1] of w_max. ``reset``: bool (out, in), weights whose devices are not programmed, or
    None.
    """

    slices: list[F32]
    inverse: F32
    scales: Scales
    reset: NDArray[np.bool_] | None

    @classmethod
    def of(cls, weight: F32, spec: CrossbarSpec) -> Layer:
        """``weight``: float32 (out, in), C-contiguous and finite."""
        s = scales(weight, spec)
        inverse = reciprocal(s.output if spec.mapping == "column" else s.output[:1])
        if s.row is not None:
            weight = weight * reciprocal(s.row)
        reset = weight == 0 if spec.zero_weights == "reset" else None
        if spec.weight_slice_bits is None:
            return cls([weight], inverse, s, reset)
        magnitude, digits = _codes(weight * inverse[:, None], sum(spec.weight_slice_bits)), []
        for bits in reversed(spec.weight_slice_bits):
            top = (1 << bits) - 1
            digit = (magnitude & top).astype(np.float32) * np.float32(1 / top)
            digits.append(np.copysign(digit, weight))
            magnitude >>= bits
        return cls(digits[::-1], np.ones(1, np.float32), s, reset)


def reciprocal(x: F32) -> F32:
    """1 / x, and 0 where x is 0 or so small that 1 / x is not finite."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / x
    result: F32 = np.where(np.isfinite(inverse), inverse, np.float32(0)).astype(np.float32)
    return result


def _codes(levels: F32, bits: int) -> NDArray[np.int32]:
    result: NDArray[np.int32] = np.rint(np.minimum(np.abs(levels), 1) * ((1 << bits) - 1)).astype(
        np.int32
    )
    return result


# --------------------------------------------------------------------------- the devices


def shape(layer: Layer, spec: CrossbarSpec) -> tuple[int, int, int, int, int]:
    """Of the conductances: (slices, devices, 2, out, in)."""
    n, k = layer.slices[0].shape
    return len(layer.slices), spec.devices_per_polarity, 2, n, k


def targets(layer: Layer, device: Device, spec: CrossbarSpec) -> F32:
    """Target conductances, uS, float32 (slices, devices, 2, out, in).

    Devices that are left RESET count as programmed to g_min, which is what is wanted of them.
    """
    g = np.empty(shape(layer, spec), np.float32)
    inverse, span = layer.inverse[:, None], device.g_max - device.g_min
    for s, weight in enumerate(layer.slices):
        for polarity, sign in enumerate((1, -1)):
            g[s, :, polarity] = _analog.targets(weight, inverse, sign, device.g_min, span)
    return g


def program(
    layer: Layer,
    device: Device,
    spec: CrossbarSpec,
    seed: int,
    stream: int,
    *,
    out: F32 | None = None,
    num_threads: int | None = None,
) -> F32:
    """Conductances of one chip as programmed, uS, float32 (slices, devices, 2, out, in).

    Devices of ``layer.reset`` are drawn from N(mean, std^2) of the device's RESET state, not
    below 0; they may be stuck as the others.
    """
    g = np.empty(shape(layer, spec), np.float32) if out is None else out
    threads, tables = threads_argument(num_threads), _programming(device)
    seed = random.key(seed, "crossbar chip")
    for cell, weight, pair in _pairs(layer, g):
        _core.program_pair(
            weight, layer.inverse, device.g_min, device.g_max - device.g_min, pair[0], pair[1],
            tables, seed, stream, cell, threads,
        )  # fmt: skip
        if layer.reset is not None:
            left = np.empty_like(pair)
            _core.program_pair(
                weight, layer.inverse, 0.0, 1.0, left[0], left[1], _reset(device), seed, stream,
                cell, threads,
            )  # fmt: skip
            np.copyto(pair, left, where=layer.reset)
    return g


def age(
    layer: Layer,
    device: Device,
    programmed: F32,
    seconds: float,
    seed: int,
    stream: int,
    *,
    extrapolate: bool = False,
    out: F32 | None = None,
    num_threads: int | None = None,
) -> F32:
    """Conductances ``seconds`` after programming, uS; pure in (chip, seconds).

    Devices left RESET age as those programmed to g_min do.

    Raises
    ------
    ValueError
        If ``seconds`` is outside the device's measured range and not to be extrapolated to.
    """
    tables = _aging(device, seconds, extrapolate)
    g = np.empty_like(programmed) if out is None else out
    if tables is None:
        np.copyto(g, programmed)
        return g
    seed = random.key(seed, "crossbar chip")
    pairs = zip(_pairs(layer, programmed), _pairs(layer, g), strict=True)
    for (cell, weight, before), (_, _, after) in pairs:
        for polarity, sign in enumerate((1, -1)):
            _core.age(
                weight, layer.inverse, sign, device.g_min, device.g_max - device.g_min,
                before[polarity], after[polarity], tables, seed, stream, cell + polarity,
                threads_argument(num_threads),
            )  # fmt: skip
    return g


def _pairs(layer: Layer, g: F32) -> Iterator[tuple[int, F32, F32]]:
    """(number of the positive device, weights, conductances (2, out, in)) of each pair."""
    slices, devices = g.shape[:2]
    for s in range(slices):
        for d in range(devices):
            yield (s * devices + d) * 2, layer.slices[s], g[s, d]


@lru_cache(maxsize=16)
def _programming(device: Device) -> _core.Programming:
    return bind_programming(device.programming())


@lru_cache(maxsize=16)
def _reset(device: Device) -> _core.Programming:
    assert device.reset is not None
    mean, std = device.reset
    table = np.array([[mean, 0, std, 0]] * 2, np.float32)
    full = device.programming()
    return bind_programming(full._replace(table=table, x0=0.0, inv_dx=1.0, low=0.0))


def _aging(device: Device, seconds: float, extrapolate: bool) -> _core.Aging | None:
    tables = device.aging(seconds, extrapolate)
    return None if tables is None else bind_aging(tables)
