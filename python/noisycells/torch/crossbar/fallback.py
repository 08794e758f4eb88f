"""Crossbars in torch operations, for the devices and dtypes that the compiled core does not take.

The definitions are those of :mod:`noisycells.crossbar`; the random numbers come from torch's
generator on the tensor's device, so results have the same statistics and not the same bits.
Weights and read variances are not rounded to the codes of the integer kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _arguments
from ..._analog import RANGE_SIGMAS
from ..._types import tiles
from ...crossbar import CrossbarSpec, arithmetic, irdrop
from ...crossbar.mapping import slice_factors
from ...crossbar.packed import SMALLEST_RANGE
from ...devices import Device
from .gradient import input_codes, input_digits, input_slices, pack_mask, vector_scale

__all__ = ["Array", "generator", "product", "programmed"]


class Array(NamedTuple):
    """Conductances as a product sees them, as :class:`noisycells.crossbar.Packed` holds them.

    ``stream``: of the array; ``chip``: a number that tells chips apart. Reads have noise of both.
    ``values``, ``variance``: (planes, out, in) in units of g_max - g_min; ``factors``: of each
    plane; ``scale``: (out,); ``row``: (in,) or None; ``full_scale``: of the inputs, None: that of
    each vector; ``ranges``: (passes,) of the ADCs, None: no ADC.
    """

    spec: CrossbarSpec
    stream: int
    chip: int
    values: Tensor
    variance: Tensor | None
    factors: list[float]
    scale: Tensor
    row: Tensor | None
    full_scale: float | None
    ranges: Tensor | None

    def effective_weights(self) -> Tensor:
        """The planes in the units of the weights, digital factors included."""
        factors = self.values.new_tensor(self.factors)[:, None, None]
        planes = self.values * (factors * self.scale[:, None])
        return planes if self.row is None else planes * self.row


def generator(device: torch.device, seed: int) -> torch.Generator:
    """One of that device, seeded (on the CPU torch uses the low 32 bits of a seed)."""
    return torch.Generator(device).manual_seed(seed)


def programmed(
    weight: Tensor,
    device: Device,
    spec: CrossbarSpec,
    random: torch.Generator,
    stream: int,
    chip: int,
    full_scale: float | None,
    ranges: Tensor | None,
) -> Array:
    """Program ``weight`` (out, in) on a fresh array.

    ``stream`` and ``chip`` tell its reads from those of others. ``full_scale`` and ``ranges`` are
    the calibrated ones; None: as the spec says.
    """
    spec = arithmetic.chosen(spec, device)
    magnitude = weight.abs()
    top = magnitude.max()
    scale = magnitude.amax(1) if spec.mapping == "column" else top.expand(len(weight))
    row = _over(magnitude.amax(0), top) if spec.mapping == "row" else None
    level = _over(weight if row is None else _over(weight, row), scale[:, None])
    pairs, variances = [], []
    for digit in _slices(level, spec):
        targets = torch.stack([digit, -digit]).clamp_(min=0) * (device.g_max - device.g_min)
        targets = (targets + device.g_min).expand(spec.devices_per_polarity, *targets.shape)
        g = _program(targets, device, random)
        if spec.zero_weights == "reset":
            left = _reset(targets, device, random)
            g = torch.where(level == 0, left, g)
        pair, variance = _pair(g, device, spec)
        pairs.append(pair)
        variances.append(variance)
    if spec.adc_per == "polarity":
        values = [v for plus, minus in pairs for v in (plus, -minus)]
        squares = [v for pair in variances for v in pair]
    else:
        values = [plus - minus for plus, minus in pairs]
        squares = [plus + minus for plus, minus in variances]
    factors = [f for f in slice_factors(spec).tolist() for _ in range(spec.polarity_planes)]
    noisy = spec.noisy_weights and any(device.read_variance)
    array = Array(
        spec, stream, chip, torch.stack(values), torch.stack(squares) if noisy else None, factors,
        scale, row, full_scale, ranges,
    )  # fmt: skip
    if spec.adc_bits is not None and ranges is None:
        return array._replace(ranges=_ranges(array))
    return array


def _over(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b > 0, a / b, 0)


def _slices(level: Tensor, spec: CrossbarSpec) -> list[Tensor]:
    """Digits of the weights over w_max, most significant first, each in units of its largest."""
    if spec.weight_slice_bits is None:
        return [level]
    codes = (level.abs() * ((1 << sum(spec.weight_slice_bits)) - 1)).round_().int()
    digits = []
    for bits in reversed(spec.weight_slice_bits):
        top = (1 << bits) - 1
        digits.append((codes & top).to(level.dtype) / top * level.sign())
        codes = codes >> bits
    return digits[::-1]


def _program(targets: Tensor, device: Device, random: torch.Generator) -> Tensor:
    p = device.programming()
    table = targets.new_tensor(p.table)
    position = ((targets - p.x0) * p.inv_dx).clamp_(0, len(table) - 1)
    index = position.int().clamp_(max=len(table) - 2)
    fraction = position - index
    mean = table[index, 0] + fraction * table[index, 1]
    std = table[index, 2] + fraction * table[index, 3]
    g = (mean + std * _normal(targets, random)).clamp_(p.low, p.high)
    if p.stuck.off or p.stuck.on:
        off, on = p.stuck.off / 2**32, p.stuck.on / 2**32
        u = torch.rand(g.shape, generator=random, device=g.device, dtype=torch.float64)
        g = torch.where(u < off + on, p.stuck.on_conductance, g)
        g = torch.where(u < off, p.stuck.off_conductance, g)
    return g


def _reset(targets: Tensor, device: Device, random: torch.Generator) -> Tensor:
    assert device.reset is not None
    mean, std = device.reset
    return (mean + std * _normal(targets, random)).clamp_(0, device.g_max)


def _normal(like: Tensor, random: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=random, device=like.device, dtype=like.dtype)


def _pair(devices: Tensor, device: Device, spec: CrossbarSpec) -> tuple[Tensor, Tensor]:
    """Both polarities of one slice (2, out, in) in units of g_max - g_min, and read variances."""
    unit = 1 / (len(devices) * (device.g_max - device.g_min))
    c0, c1, c2 = device.read_variance
    pair = devices.sum(0)
    variance = (c0 * len(devices) + c1 * pair + c2 * devices.square().sum(0)) * unit**2
    if spec.ir_drop == "exact":  # by LAPACK, on the CPU
        found = irdrop.wired(pair.cpu().numpy(), spec)
        effective, share = (torch.from_numpy(part).to(pair.device) for part in found)
        return effective * unit, variance * share.square()
    if spec.wire_resistance_ohm:
        share = _effective_share(pair, spec)
        return pair * share * unit, variance * share.square()
    return pair * unit, variance


def _effective_share(pair: Tensor, spec: CrossbarSpec) -> Tensor:
    """The share of :func:`noisycells.crossbar.irdrop.wired`, to first order."""
    share = torch.empty_like(pair)
    _, n, k = pair.shape
    for outputs in tiles(n, spec.cols):
        for inputs in tiles(k, spec.rows):
            block = pair[:, outputs, inputs].double()
            cells = block.transpose(0, 1).flatten(0, 1)
            beyond = cells.flip(0).cumsum(0).flip(0)
            drop = beyond.cumsum(0) + cells.cumsum(1).flip(1).cumsum(1).flip(1)
            s = 1 / (1 + 1e-6 * spec.wire_resistance_ohm * drop)
            share[:, outputs, inputs] = s.unflatten(0, (-1, 2)).transpose(0, 1).to(pair.dtype)
    return share


def _ranges(array: Array) -> Tensor:
    """Of the ADCs, as :meth:`noisycells.crossbar.Packed.ranges` derives them."""
    spec, values = array.spec, array.values
    parts = tiles(values.shape[2], spec.rows)
    if isinstance(spec.adc_range, float):
        return values.new_full((spec.input_slices * len(values) * len(parts),), spec.adc_range)
    found = []
    for plane in values.double():
        for part in parts:
            squares = plane[:, part].square().sum(1)
            mean = plane[:, part].sum(1).abs() / 2
            signed = float(RANGE_SIGMAS) * (squares / 3).sqrt()
            positive = mean + float(RANGE_SIGMAS) * (squares / 12).sqrt()
            found.append(torch.maximum(signed, positive).amax())
    return torch.stack(found).to(values.dtype).repeat(spec.input_slices)


def product(
    x: Tensor, array: Array, random: torch.Generator, bias: Tensor | None, *, save: bool
) -> tuple[Tensor, Tensor | None]:
    """y = x W^T + bias (batch, out), and bits as :func:`pack_mask` packs them where saved."""
    spec, parts = array.spec, tiles(x.shape[1], array.spec.rows)
    if not x.isfinite().all():
        raise _arguments.wrong_value("x", "finite values", "NaN or infinity")
    if array.row is not None:
        x = x * array.row
    scale: Tensor | float = vector_scale(x) if array.full_scale is None else array.full_scale
    codes = input_codes(x, scale, spec.dac_levels)
    total = x.new_zeros(len(x), array.values.shape[1])
    inside = []
    p = 0
    for shift, digit, factor in input_slices(spec):
        a = codes if spec.input_slice_bits is None else input_digits(codes, shift, digit)
        a = a / digit
        for q, values in enumerate(array.values):
            for part in parts:
                u = _read(a[:, part], values[:, part], array, q, part, random)
                if array.ranges is not None:
                    step = array.ranges[p].clamp(min=SMALLEST_RANGE) / spec.adc_levels
                    code = u / step
                    if save:
                        inside.append(pack_mask(code.abs() <= spec.adc_levels))
                    u = code.round_().clamp_(-spec.adc_levels, spec.adc_levels) * step
                total.add_(u, alpha=array.factors[q] * factor)
                p += 1
    y = total * array.scale * scale
    return (y if bias is None else y + bias), torch.stack(inside) if inside else None


def _read(
    a: Tensor, values: Tensor, array: Array, plane: int, part: slice, random: torch.Generator
) -> Tensor:
    """Analog sums of one tile, noise included."""
    spec = array.spec
    if spec.kernel == "int8":
        peak = values.abs().amax(1, keepdim=True)
        values = _over((_over(values, peak) * 127).round_() * peak, peak.new_tensor(127))
    u = a @ values.T
    fixed = spec.output_noise if spec.noisy_outputs else 0.0
    if array.variance is not None:
        variance = a.square() @ array.variance[plane][:, part].T + fixed**2
        return u + variance.sqrt_() * _normal(u, random)
    return u + fixed * _normal(u, random) if fixed else u
