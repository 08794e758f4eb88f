"""Crossbars on a GPU: products in fused kernels, with the same bits as the compiled core's.

An array is made of a chip that the core packed; its weights go to the device once, as 8-bit
codes. A product is two kernels (:mod:`.fused_kernels`): the DAC, and all passes with their noise,
converters and digital sums. :func:`takes` says what is multiplied here; the rest is left to torch
operations (:mod:`.fallback`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache, cached_property
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _arguments, random
from ..._analog import Plane, inverse_range
from ..._types import F32, VARIANCE_LEVELS, WEIGHT_LEVELS, tiles
from ...crossbar import CrossbarSpec, Packed

__all__ = ["PATCH_ELEMENTS", "Array", "Chip", "Draw", "Settings", "product", "takes"]

NARROW_LEVELS = 127  # of the int8 kernel
# Of a program, at most; with more, registers of sm_90 spill.
VECTORS, OUTPUTS, INPUTS = 128, 64, 64
WARPS = 8
CONVERTED = 4  # vectors of a program that converts them
LEAST_INPUTS = 32  # of the GPU's products of 8-bit codes
OLDEST = (8, 0)  # compute capability
PATCH_ELEMENTS = 1 << 27  # of a convolution's inputs at once, half a gigabyte


def takes(x: Tensor, spec: CrossbarSpec) -> bool:
    """Whether a product of ``x`` runs here: float32 on CUDA, integer codes, and Triton installed.

    Integer codes are what ``kernel`` "auto", "int16" and "int8" give with dac_bits <= 8 and
    rows <= 512. GPUs are those of compute capability 8.0 and later.
    """
    if x.device.type != "cuda" or x.dtype is not torch.float32 or torch.version.cuda is None:
        return False
    new = torch.cuda.get_device_capability(x.device) >= OLDEST
    return new and spec.integer and _kernels() is not None


@cache
def _kernels() -> ModuleType | None:
    """The kernels, or None where Triton is not installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module(f"{__package__}.fused_kernels")


# --------------------------------------------------------------------------- arrays


class Settings(NamedTuple):
    """Of an array's products; the numbers of :class:`noisycells.reference.crossbar.Spec`.

    ``fixed_range``: full scale of the inputs; None: that of each vector. ``scale``: float32
    (out,). ``row_scale``: float32 (in,) or None.
    """

    rows: int
    dac_levels: int
    slice_bits: int
    adc_levels: int
    steps: F32
    plane_factors: F32
    output_noise: float
    weight_noise: bool
    int8: bool
    fixed_range: float | None
    scale: F32
    row_scale: F32 | None

    @property
    def digit(self) -> int:
        """Largest digit of an input slice."""
        return (1 << self.slice_bits) - 1 if self.slice_bits else self.dac_levels

    @property
    def slice_factors(self) -> list[np.float32]:
        """Digital factor of each input slice, least significant first."""
        if not self.slice_bits:
            return [np.float32(1)]
        shifts = range(0, self.dac_levels.bit_length(), self.slice_bits)
        return [np.float32((1 << s) * self.digit) / np.float32(self.dac_levels) for s in shifts]


class Draw(NamedTuple):
    """Which noise a product has: of this seed and stream, from this vector on."""

    seed: int
    stream: int
    first_row: int = 0

    def words(self) -> dict[str, int]:
        """Both numbers as signed 32-bit integers, low and high."""
        numbers = {"stream": self.stream, "seed": self.seed}
        return {
            f"{name}_{part}": _signed(number >> shift)
            for name, number in numbers.items()
            for part, shift in (("low", 0), ("high", 32))
        }


def _signed(word: int) -> int:
    return (word + (1 << 31)) % (1 << 32) - (1 << 31)


class Array:
    """Codes of a chip's weights and read variances on a device, as the kernels take them.

    Parameters
    ----------
    planes : sequence of Plane
        float32 (out, in), in units of g_max - g_min.
    settings : Settings
    device : torch.device
    """

    def __init__(self, planes: Sequence[Plane], settings: Settings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.n, self.k = planes[0].values.shape
        self.tiles = tiles(self.k, settings.rows)
        self.step = _power_of_2(min(settings.rows, self.k), LEAST_INPUTS, INPUTS)
        self.tile = -(-settings.rows // self.step) * self.step
        last = self.tiles[-1].stop - self.tiles[-1].start
        self.padded = (len(self.tiles) - 1) * self.tile + -(-last // self.step) * self.step
        levels = NARROW_LEVELS if settings.int8 else WEIGHT_LEVELS
        codes, peaks = self._encoded([p.values for p in planes], levels)
        parts = [codes] if settings.int8 else [codes >> 8, (codes & 255) - 128]
        self.weights = self._tensor(np.stack(parts, 1).astype(np.int8))
        self.units = self._tensor(peaks * np.float32(1 / (levels * settings.digit)))
        self.variances = self.variance_units = self.units  # not read without weight noise
        if settings.weight_noise:
            found = [p.variance for p in planes if p.variance is not None]
            codes, peaks = self._encoded(found, VARIANCE_LEVELS)
            unit = np.float32(1 / (VARIANCE_LEVELS * settings.digit**2))
            self.variances = self._tensor((codes - 128).astype(np.int8))
            self.variance_units = self._tensor(peaks * unit)
        plane_factors = np.repeat(settings.plane_factors, len(self.tiles))
        factors = np.concatenate([plane_factors * s for s in settings.slice_factors])
        steps = settings.steps if settings.adc_levels else np.ones_like(settings.steps)
        self.inverse_steps = self._tensor(np.float32(1) / steps)
        self.gains = self._tensor(steps * factors)
        self.scale = self._tensor(settings.scale)
        self.row_scale = None if settings.row_scale is None else self._tensor(settings.row_scale)

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _encoded(self, planes: list[F32], levels: int) -> tuple[NDArray[np.int32], F32]:
        """Codes (planes, out, padded) and the peaks that they count from (planes, tiles, out)."""
        codes = np.zeros((len(planes), self.n, self.padded), np.int32)
        peaks = np.empty((len(planes), len(self.tiles), self.n), np.float32)
        for p, values in enumerate(planes):
            for t, tile in enumerate(self.tiles):
                part = values[:, tile]
                peaks[p, t] = peak = np.abs(part).max(axis=1)
                of_tile = np.rint(part * inverse_range(peak, levels)[:, None])
                first = t * self.tile
                codes[p, :, first : first + part.shape[1]] = np.clip(of_tile, -levels, levels)
        return codes, peaks

    @property
    def passes(self) -> int:
        """Analog reads of a product."""
        return len(self.gains)


class Chip:
    """A chip that the core packed, on a device."""

    def __init__(self, packed: Packed, device: torch.device) -> None:
        self.packed = packed
        self.array = Array(list(packed.planes()), _settings(packed), device)

    @cached_property
    def planes(self) -> Tensor:
        """:meth:`noisycells.crossbar.Packed.plane_weights`, on the device."""
        return torch.from_numpy(self.packed.plane_weights()).to(self.array.device)

    def product(
        self, x: Tensor, bias: Tensor | None, seed: int, first_row: int, *, save: bool
    ) -> tuple[Tensor, Tensor | None]:
        """As :func:`product`, with the noise that the core draws for this chip and ``seed``."""
        key = random.key(seed, "crossbar read", self.packed.chip)
        draw = Draw(key, self.packed.stream, first_row)
        return product(x, self.array, bias, draw, save=save)


def _settings(packed: Packed) -> Settings:
    spec = packed.spec
    return Settings(
        rows=spec.rows,
        dac_levels=spec.dac_levels,
        slice_bits=spec.input_slice_bits or 0,
        adc_levels=spec.adc_levels,
        steps=packed.steps(),
        plane_factors=packed.plane_factors,
        output_noise=spec.output_noise if spec.noisy_outputs else 0.0,
        weight_noise=packed.weight_noise,
        int8=spec.kernel == "int8",
        fixed_range=packed.ranges.dac,
        scale=packed.output_scale,
        row_scale=packed.scales.row,
    )


# --------------------------------------------------------------------------- products


def product(
    x: Tensor, array: Array, bias: Tensor | None, draw: Draw, *, save: bool
) -> tuple[Tensor, Tensor | None]:
    """y = x W^T + bias, and which sums were within the range of their ADC.

    Parameters
    ----------
    x : float32 (batch, in)
        On the array's device, as everything else.
    bias : float32 (out,), optional
    save : bool
        Whether the second is wanted.

    Returns
    -------
    y : float32 (batch, out)
    inside : uint8 (passes, batch, (out + 7) // 8) or None
        As :meth:`noisycells.crossbar.Packed.product` writes it.

    Raises
    ------
    ValueError
        If ``x`` holds NaN or infinity.
    """
    how, batch = array.settings, len(x)
    y = x.new_empty(batch, array.n)
    inside = None
    if save and how.adc_levels:
        inside = x.new_empty(array.passes, batch, (array.n + 7) // 8, dtype=torch.uint8)
    if not batch:
        return y, inside
    with torch.cuda.device_of(x):  # of several GPUs; nothing for the interpreter's CPU
        inputs = _convert(x.contiguous(), array)
        _multiply(inputs, array, None if bias is None else bias.contiguous(), draw, y, inside)
    if inputs.infinite.item():  # asked late, so that the GPU has work while this waits for it
        raise _arguments.wrong_value("x", "finite values", "NaN or infinity")
    return y, inside


class _Inputs(NamedTuple):
    """What the kernel ``convert`` makes of vectors."""

    codes: Tensor
    squares: Tensor
    offsets: Tensor
    square_offsets: Tensor
    ranges: Tensor
    infinite: Tensor


def _convert(x: Tensor, array: Array) -> _Inputs:
    kernels, how = _kernels(), array.settings
    assert kernels is not None
    batch, slices = len(x), len(how.slice_factors)
    codes = x.new_empty(slices, batch, array.padded, dtype=torch.int8)
    offsets = x.new_empty(slices, len(array.tiles), batch, dtype=torch.int32)
    squares, square_offsets = codes, offsets  # not written without weight noise
    if how.weight_noise:
        squares, square_offsets = codes.new_empty(2, *codes.shape), torch.empty_like(offsets)
    inputs = _Inputs(
        codes, squares, offsets, square_offsets, x.new_empty(batch), offsets.new_zeros(1)
    )
    kernels.convert[(-(-batch // CONVERTED),)](
        x, x if array.row_scale is None else array.row_scale, *inputs,
        batch, array.k, array.padded, how.rows, len(array.tiles),
        how.fixed_range or 0.0, float(how.dac_levels),
        SLICES=slices, SLICE_BITS=how.slice_bits, TILE=array.tile, K=array.step, M=CONVERTED,
        HAS_ROW=array.row_scale is not None, FIXED=how.fixed_range is not None,
        SQUARES=how.weight_noise, enable_fp_fusion=False,
    )  # fmt: skip
    return inputs


def _multiply(
    inputs: _Inputs, array: Array, bias: Tensor | None, draw: Draw, y: Tensor, inside: Tensor | None
) -> None:
    kernels, how = _kernels(), array.settings
    assert kernels is not None
    batch, n = y.shape
    width = 16 if n <= 16 else 32 if n <= 32 else 64  # of a patch of normals
    rows, columns = _power_of_2(batch, 16, VECTORS), _power_of_2(n, 16, OUTPUTS)
    noise = np.float32(how.output_noise)
    kernels.multiply[(-(-batch // rows), -(-n // columns))](
        *inputs[:-1], array.weights, array.variances, array.units, array.variance_units,
        array.inverse_steps, array.gains, array.scale, array.scale if bias is None else bias,
        y, y if inside is None else inside,
        batch, n, array.padded, len(array.tiles), len(array.weights), -(-n // width),
        draw.first_row, float(how.adc_levels), float(noise), float(noise * noise), **draw.words(),
        SLICES=len(how.slice_factors), TILE=array.tile, M=rows, N=columns, K=array.step,
        WIDTH=width, PARTS=1 if how.int8 else 2, OUTPUT_NOISE=bool(noise > 0),
        WEIGHT_NOISE=how.weight_noise, ADC=how.adc_levels > 0, INSIDE=inside is not None,
        BIAS=bias is not None,
        num_warps=WARPS if rows == VECTORS else WARPS // 2, enable_fp_fusion=False,
    )  # fmt: skip


def _power_of_2(count: int, least: int, most: int) -> int:
    """The next one from ``count`` on, between the others."""
    return min(max(least, 1 << (count - 1).bit_length()), most)
