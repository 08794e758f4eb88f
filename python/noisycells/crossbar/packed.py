"""Conductances of one layer at one moment, packed for products.

What :class:`noisycells.Crossbar` and the torch layers share: planes, read variances, ADC ranges,
and the compiled product over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _arguments, _core, random
from .._analog import Plane, dac, input_ranges, plane_values
from .._types import F32, LARGEST, SMALLEST, tiles
from ..devices.device import Device
from ..runtime import simd_level, threads_argument
from . import arithmetic, calibration, irdrop
from .mapping import Scales, slice_factors
from .spec import CrossbarSpec

__all__ = ["Packed", "Ranges", "read_variances"]

BLOCK = 1 << 16  # elements
CHIP_DEVICES = 1 << 12  # as many as tell a chip from every other
SMALLEST_RANGE = np.float32(1e-6)  # of an ADC where all sums are 0, in full scale times w_max


class Ranges(NamedTuple):
    """Converter ranges that stay with a chip.

    ``dac``: full scale of the inputs, or None for that of each vector. ``adc``: float32
    (passes,), largest sum of each pass in full scale times w_max; None: to be derived.
    """

    dac: float | None = None
    adc: F32 | None = None


class _Made(NamedTuple):
    """Settings of products, and what they were made from."""

    ranges: Ranges
    gain: F32 | None
    settings: _core.ProductSettings


def read_variances(devices: Sequence[F32], coefficients: tuple[float, float, float]) -> F32:
    """Variance of one read of devices that are summed: that of each is c0 + c1 g + c2 g^2.

    Not below 0. ``devices``: float32 (out, in) each; so is the result.
    """
    c0, c1, c2 = (np.float32(c) for c in coefficients)
    total = np.empty_like(devices[0])
    for block in _blocks(*total.shape):
        parts = [g[block] for g in devices]
        out = total[block]
        np.multiply(sum(parts[1:], parts[0]), c1, out=out)
        if c0:
            out += c0 * np.float32(len(parts))
        if c2:
            for g in parts:
                out += c2 * (g * g)
        np.maximum(out, np.float32(0), out=out)
    return total


def _full_scale(found: float) -> float:
    if not SMALLEST <= found <= LARGEST:
        raise _arguments.wrong_value(
            "x",
            f"example inputs that give a dac_range from {SMALLEST:g} to {LARGEST:g}",
            f"{found:g}",
        )
    return found


def _blocks(n: int, k: int) -> Iterator[slice]:
    """Outputs in blocks that stay in the caches."""
    step = max(1, BLOCK // k)
    return (slice(start, start + step) for start in range(0, n, step))


class Packed:
    """A layer's conductances, ready for products.

    The arrays it is given are packed for the first product, or at once where ADC ranges are to be
    found from them. A product is made of *passes*, one
    for each slice of the inputs, plane of conductances and tile of rows, in this order (see
    :mod:`noisycells.reference.crossbar`).

    Parameters
    ----------
    conductances : float32 (slices, devices, 2, out, in), C-contiguous
        uS; not to be changed while this object is in use.
    device : Device
        For g_min, g_max and the noise of a read.
    spec : CrossbarSpec
    scales : Scales
        Digital factors, of :func:`~noisycells.crossbar.mapping.scales`.
    ranges : Ranges
        Of the converters. ADC ranges that are None are those of these conductances; a chip keeps
        the ones it had when it was programmed.
    gain : float32 (out,), optional
        Drift compensation, a digital factor of each output; may be set later.
    stream : int
        Of the layer; products draw their noise from it.
    num_threads : int, optional
        For packing at once.

    Attributes
    ----------
    ranges : Ranges
        As given, or as derived from the spec and the conductances; still None where they have to
        be calibrated.
    plane_factors : float32 (planes,)
    passes : int
    spec : CrossbarSpec
        As given, with the kernel that was :func:`~.arithmetic.chosen`.
    """

    def __init__(
        self,
        conductances: F32,
        device: Device,
        spec: CrossbarSpec,
        scales: Scales,
        ranges: Ranges = Ranges(),  # noqa: B008, a NamedTuple does not change
        *,
        gain: F32 | None = None,
        stream: int = 0,
        num_threads: int | None = None,
    ) -> None:
        self.conductances, self.device = conductances, device
        self.spec = spec = arithmetic.chosen(spec, device)
        self.scales, self.stream = scales, stream
        self.gain = gain
        _, devices, _, self.n, self.k = conductances.shape
        self.inverse_span = 1 / (devices * (device.g_max - device.g_min))
        self.plane_factors = np.repeat(slice_factors(spec), spec.polarity_planes)
        self.tiles = tiles(self.k, spec.rows)
        self.passes = spec.passes(self.k)
        self.weight_noise = spec.noisy_weights and any(device.read_variance)
        self.ranges = self._given(ranges)
        self._made: _Made | None = None
        self._array: _core.CrossbarArray | None = None
        self._level = ""  # that it was packed for
        threads = threads_argument(num_threads)
        if spec.adc_bits is not None and spec.adc_range == "weights" and self.ranges.adc is None:
            self._current(threads)
            adc = np.tile(np.maximum(self._reach, SMALLEST_RANGE), spec.input_slices)
            self.ranges = self.ranges._replace(adc=adc)

    @cached_property
    def chip(self) -> int:
        """A digest of the first conductances; chips that differ read with noise of their own."""
        return random.content(self.conductances.reshape(-1)[:CHIP_DEVICES])

    # ----------------------------------------------------------------- what is packed

    def _planes(
        self, with_variance: bool = True
    ) -> Iterator[tuple[F32 | None, F32 | None, F32 | None]]:
        """(G+, G-, variance) of each plane; None for what it leaves out."""
        spec = self.spec

        def variance(polarities: tuple[int, ...]) -> F32 | None:
            return self._variance(devices, polarities, share) if with_variance else None

        for devices in self.conductances:
            pair = devices[0] if len(devices) == 1 else devices.sum(axis=0)
            share = None
            if spec.wire_resistance_ohm:
                pair, share = irdrop.wired(pair, spec)
            if spec.adc_per == "polarity":
                yield pair[0], None, variance((0,))
                yield None, pair[1], variance((1,))
            else:
                yield pair[0], pair[1], variance((0, 1))

    def _variance(self, devices: F32, polarities: tuple[int, ...], share: F32 | None) -> F32 | None:
        """Of one read of ``devices`` (devices, 2, out, in), in units of (g_max - g_min)^2."""
        if not self.weight_noise:
            return None
        c0, c1, c2 = (c * self.inverse_span**2 for c in self.device.read_variance)
        if share is None:
            return read_variances([g[i] for g in devices for i in polarities], (c0, c1, c2))
        each = [
            read_variances([g[i] for g in devices], (c0, c1, c2)) * np.square(share[i])
            for i in polarities
        ]
        result: F32 | None = each[0] if len(each) == 1 else each[0] + each[1]
        return result

    def planes(self) -> Iterator[Plane]:
        """The planes in units of g_max - g_min, as :func:`reference.product` takes them."""
        for positive, negative, variance in self._planes():
            yield Plane(plane_values(positive, negative, self.inverse_span), variance)

    def _values(self) -> Iterator[F32]:
        """The values of each plane alone."""
        for positive, negative, _ in self._planes(with_variance=False):
            yield plane_values(positive, negative, self.inverse_span)

    def effective_weights(self) -> F32:
        """The weights that the conductances stand for, digital factors included; (out, in)."""
        total = np.zeros((self.n, self.k), np.float32)
        for values, factor in zip(self._values(), self.plane_factors, strict=True):
            total += values * factor
        total *= self.output_scale[:, None]
        return total if self.scales.row is None else total * self.scales.row

    def plane_weights(self) -> F32:
        """What each plane adds to the effective weights; (planes, out, in)."""
        scale = self.scales.output[:, None]
        if self.scales.row is not None:
            scale = scale * self.scales.row
        planes = zip(self._values(), self.plane_factors, strict=True)
        return np.stack([values * (scale * factor) for values, factor in planes])

    def _pack(self, threads: int) -> _core.CrossbarArray:
        """Pack all planes; how far their sums are to be expected to reach is found on the way."""
        spec = self.spec
        array = _core.CrossbarArray(
            self.n, self.k, spec.rows, len(self.plane_factors), spec.integer,
            spec.kernel == "int8", self.weight_noise,
        )  # fmt: skip
        self._level = array.simd_level
        found = [
            array.pack(i, positive, negative, self.inverse_span, variance, threads)
            for i, (positive, negative, variance) in enumerate(self._planes())
        ]
        self._reach: F32 = np.concatenate(found)
        return array

    @property
    def expected_sums(self) -> F32:
        """Reach of the sums of each plane and tile; float32 (planes * tiles,).

        See :func:`reference.reach <noisycells.reference.crossbar.reach>`.
        """
        self._current(0)
        return self._reach

    # ----------------------------------------------------------------- ranges

    def _given(self, ranges: Ranges) -> Ranges:
        """``ranges``, and those that the spec gives as numbers."""
        spec = self.spec
        if isinstance(spec.dac_range, float):
            ranges = ranges._replace(dac=spec.dac_range)
        if spec.adc_bits is not None and isinstance(spec.adc_range, float):
            ranges = ranges._replace(adc=np.full(self.passes, spec.adc_range, np.float32))
        return ranges

    def calibrated(self, x: F32, quantile: float | str = 1.0) -> Ranges:
        """The ranges with those that the spec leaves to calibration taken from data.

        A DAC range that is already set is kept. Passes whose sums are all 0 get the range that
        their weights give. Reads are noiseless here.

        Parameters
        ----------
        x : float32 (batch, in), finite
        quantile : float or "error"
            Of the magnitudes (of inputs, and of the sums of each pass) that the ranges cover; or
            the ranges of least square error of the product (see :mod:`.calibration`).

        Raises
        ------
        ValueError
            If the range of the inputs would not be a number in [1e-30, 1e30].
        """
        spec, (full_scale, adc) = self.spec, self.ranges
        if self.scales.row is not None:
            x = x * self.scales.row
        if spec.dac_range == "calibrated" and full_scale is None:
            full_scale = _full_scale(
                calibration.input_range(x, quantile, spec.dac_levels, self.effective_weights())
            )
        if spec.adc_bits is not None and spec.adc_range == "calibrated":
            codes = dac(x, input_ranges(x, full_scale), spec.dac_levels)
            planes = list(self._values())
            found = []
            for shift, digit in self._input_slices():
                a = codes
                if spec.input_slice_bits:
                    digits = (np.abs(codes).astype(np.int64) >> shift) & digit
                    a = np.copysign(digits.astype(np.float32), codes)
                for values in planes:
                    for tile in self.tiles:
                        sums = a[:, tile] @ values[:, tile].T
                        reach = calibration.sum_range(
                            sums, quantile, spec.adc_levels, self.output_scale
                        )
                        found.append(reach / digit)
            reaches = np.array(found, np.float32)
            known = np.tile(self.expected_sums, spec.input_slices)
            adc = np.maximum(np.where(reaches > 0, reaches, known), SMALLEST_RANGE)
        return Ranges(full_scale, adc)

    def _input_slices(self) -> list[tuple[int, int]]:
        """(shift, largest digit) of each slice of the input codes."""
        bits, levels = self.spec.input_slice_bits, self.spec.dac_levels
        if bits is None:
            return [(0, levels or 1)]
        return [(s, (1 << bits) - 1) for s in range(0, levels.bit_length(), bits)]

    # ----------------------------------------------------------------- products

    def product(
        self,
        x: F32,
        y: F32,
        seed: int,
        bias: F32 | None = None,
        inside: NDArray[np.uint8] | None = None,
        convolution: _core.Convolution | None = None,
        *,
        num_threads: int | None = None,
    ) -> int:
        """Write x W^T + bias, as the crossbar computes it, to ``y``.

        Parameters
        ----------
        x : float32 (batch, in), C-contiguous
            With a convolution (batch, channels, depth, height, width): its patches, padded with
            zeros, are the inputs, channels x kernel each, in the order of a convolution's
            flattened weights.
        y : float32 (batch, out), C-contiguous
            With a convolution (batch, depth', height', width', out). Rows of ``inside`` are
            numbered in its order.
        seed : int in [0, 2**64)
            Of the read noise.
        bias : float32 (out,), optional
            Added digitally.
        inside : uint8 (passes, batch, (out + 7) // 8), optional
            Is written: bits, lowest first, of the sums within the range of their ADC.
        convolution : _core.Convolution, optional
            Sizes of a kernel that moves over images.
        num_threads : int, optional
            Default: the package setting.

        Returns
        -------
        int
            Input values that the DAC clipped.

        Raises
        ------
        ValueError
            If a range has not been calibrated, or ``x`` holds NaN or infinity. The latter is found
            as the product goes along, so ``y`` and ``inside`` are then written in part: callers
            drop them, as :meth:`noisycells.Crossbar.matmul` and the operators of torch do, whose
            results are arrays of their own.
        """
        threads = threads_argument(num_threads)
        array = self._current(threads)
        key = random.key(seed, "crossbar read", self.chip)
        return array.product(
            x, y, self._settings(), key, self.stream, bias, inside, convolution, threads
        )

    @property
    def output_scale(self) -> F32:
        """Digital factor of each output, drift compensation in it."""
        return self.scales.output if self.gain is None else self.scales.output * self.gain

    def inside(self, batch: int) -> NDArray[np.uint8]:
        """Room for the ``inside`` of a product of ``batch`` vectors."""
        return np.empty((self.passes, batch, (self.n + 7) // 8), np.uint8)

    def _current(self, threads: int) -> _core.CrossbarArray:
        if self._array is None or self._level != simd_level():  # panels are laid out for one level
            self._array = self._pack(threads)
        return self._array

    def _settings(self) -> _core.ProductSettings:
        """How products are computed; made again where ranges or gain have been replaced."""
        made = self._made
        if made is None or made.ranges is not self.ranges or made.gain is not self.gain:
            made = self._made = _Made(self.ranges, self.gain, self._make_settings())
        return made.settings

    def steps(self) -> F32:
        """The step of the ADC in each pass (passes,), in full scale times w_max; 1 without ADC.

        Raises
        ------
        ValueError
            If a range has not been calibrated.
        """
        spec, (full_scale, adc) = self.spec, self.ranges
        for name, missing in (
            ("dac_range", spec.dac_range == "calibrated" and full_scale is None),
            ("adc_range", spec.adc_bits is not None and adc is None),
        ):
            if missing:
                raise _arguments.wrong_value(
                    name, "calibrate() before a product where the range is 'calibrated'", "none"
                )
        if adc is None or not spec.adc_levels:
            return np.ones(self.passes, np.float32)
        steps: F32 = adc / np.float32(spec.adc_levels)
        return steps

    def _make_settings(self) -> _core.ProductSettings:
        spec = self.spec
        return _core.ProductSettings(
            dac_levels=spec.dac_levels,
            slice_bits=spec.input_slice_bits or 0,
            adc_levels=spec.adc_levels,
            steps=self.steps(),
            plane_factors=self.plane_factors,
            output_noise=spec.output_noise if spec.noisy_outputs else 0.0,
            weight_noise=self.weight_noise,
            fixed_range=self.ranges.dac,
            scale=self.output_scale,
            row_scale=self.scales.row,
        )
