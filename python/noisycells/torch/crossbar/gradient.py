"""Gradients of noisy products, at the noisy conductances.

Converters pass gradients straight through inside their ranges (Bengio et al. 2013,
arXiv:1308.3432) and stop them outside: an input that the DAC clipped gets none through the tile,
and an output none from the tile whose ADC saturated. Ranges, scales and noise are constants to
the gradient.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import _core
from ..._analog import ENLARGED, TINY
from ..._types import tiles
from ...crossbar import CrossbarSpec
from .patches import Geometry, blocks, core_convolution, padded, windows

__all__ = [
    "Product",
    "convolution_gradient",
    "input_codes",
    "input_digits",
    "input_shares",
    "input_slices",
    "linear_gradient",
    "pack_mask",
    "vector_scale",
]


class Product(NamedTuple):
    """What the gradient of a product needs besides its inputs.

    ``planes``: noisy weights (planes, out, in) in the units of the weights, whose sum the
    product multiplies with. ``shares``: d plane / d weight, a number for each, or (out, in).
    ``inside``: uint8 (passes, batch, (out + 7) // 8), bit j % 8 of byte j // 8 set where the sum
    of output j was within the ADC's range; empty where there is no ADC. ``row``: (in,), inputs
    are multiplied by it before the DAC, or None. ``full_scale``: of the inputs; None: that of
    each vector.
    """

    spec: CrossbarSpec
    planes: Tensor
    shares: list[Tensor | float]
    inside: Tensor
    row: Tensor | None
    full_scale: float | None


def pack_mask(inside: Tensor) -> Tensor:
    """bool (..., n) as bits, uint8 (..., (n + 7) // 8)."""
    padded = torch.nn.functional.pad(inside.to(torch.uint8), [0, -inside.shape[-1] % 8])
    weights = 1 << torch.arange(8, dtype=torch.uint8, device=inside.device)
    result: Tensor = (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)
    return result


@lru_cache(maxsize=256)
def _all_inside(n: int, device: torch.device) -> Tensor:
    return pack_mask(torch.ones(n, dtype=torch.bool, device=device))


def _masked(grad: Tensor, bits: Tensor) -> Tensor:
    """``grad`` (batch, out) where the bits (batch, bytes) are set, and 0 elsewhere."""
    n = grad.shape[1]
    if torch.equal(bits, _all_inside(n, grad.device).expand_as(bits)):
        return grad
    shifts = torch.arange(8, dtype=torch.uint8, device=grad.device)
    mask = (bits.unsqueeze(-1) >> shifts).bitwise_and_(1).flatten(1)[:, :n]
    return grad * mask


def input_codes(x: Tensor, full_scale: Tensor | float, levels: int) -> Tensor:
    """Codes of the DAC, or inputs in units of full scale where ``levels`` is 0."""
    if isinstance(full_scale, Tensor):
        enlarged = torch.where(full_scale < float(TINY), float(ENLARGED), 1.0).to(
            x
        )  # else inverses overflow
        inverse = (levels or 1) / (full_scale * enlarged)
        t = x * enlarged * torch.where(full_scale > 0, inverse, 0)
        return t.round_() if levels else t  # no driven input exceeds its vector's full scale
    t = x * ((levels or 1) / full_scale)
    return t.clamp_(-levels, levels).round_() if levels else t


def input_slices(spec: CrossbarSpec) -> list[tuple[int, int, float]]:
    """(shift, largest digit, digital factor) of each slice of the inputs' codes."""
    bits, levels = spec.input_slice_bits, spec.dac_levels
    if bits is None:
        return [(0, levels or 1, 1.0)]
    digit = (1 << bits) - 1
    return [(s, digit, (digit << s) / levels) for s in range(0, levels.bit_length(), bits)]


def input_shares(spec: CrossbarSpec) -> list[float]:
    """The share of the codes' range that each slice covers, and so of a change of an input."""
    if spec.input_slice_bits is None:
        return [1.0]
    levels = spec.dac_levels
    return [
        (min(digit, levels >> shift) << shift) / levels for shift, digit, _ in input_slices(spec)
    ]


def input_digits(codes: Tensor, shift: int, digit: int) -> Tensor:
    """The digits of one slice of input codes, with their sign."""
    return codes.sign() * (codes.abs().int() >> shift).bitwise_and_(digit)


def vector_scale(x: Tensor) -> Tensor:
    """Largest magnitude of each row of ``x``, as a column."""
    return x.abs().amax(dim=1, keepdim=True) if x.shape[1] else x.new_zeros(len(x), 1)


def linear_gradient(
    grad: Tensor, x: Tensor, product: Product, *, need_x: bool = True, need_weight: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Of the inputs (batch, in) and weights (out, in); ``grad``: (batch, out)."""
    spec, row, full_scale = product.spec, product.row, product.full_scale
    driven = x if row is None else x * row
    grad_x = torch.zeros_like(x) if need_x else None
    totals = x.new_zeros(product.planes.shape) if need_weight else None
    scale = codes = None
    if need_weight:
        if spec.dac_levels:
            scale = vector_scale(driven) if full_scale is None else full_scale
        codes = _codes(x, scale, None if row is None else _undriven_as_one(row), spec)
    for s, share in enumerate(input_shares(spec)):
        for q, plane in enumerate(product.planes):
            for tile, masked in _by_tile(grad, product.inside, s, q, product):
                if grad_x is not None:
                    grad_x[:, tile].addmm_(masked, plane[:, tile], alpha=share)
                if totals is not None and codes is not None:
                    steps = _scaled(masked, scale)
                    totals[q, :, tile].addmm_(steps.T, codes[s][:, tile])
    if grad_x is not None and spec.dac_levels and full_scale is not None:
        grad_x = _unclipped(grad_x, driven, full_scale)
    return grad_x, None if totals is None else _shared(totals, product)


def _unclipped(grad: Tensor, driven: Tensor, full_scale: float) -> Tensor:
    """``grad`` where the DAC did not clip, and 0 elsewhere, in one pass."""
    beyond = math.nextafter(full_scale, math.inf)
    if grad.dtype is torch.float32:
        beyond = float(np.nextafter(np.float32(full_scale), np.float32(np.inf)))
    result: Tensor = torch.ops.aten.hardtanh_backward(grad, driven, -beyond, beyond)
    return result


def _by_tile(
    grad: Tensor, inside: Tensor, s: int, q: int, product: Product
) -> list[tuple[slice, Tensor]]:
    """Tiles of one plane under one slice of the inputs, and the gradients that pass them.

    Neighboring tiles in which nothing saturated count as one.
    """
    k = product.planes.shape[2]
    if not inside.numel():
        return [(slice(0, k), grad)]
    parts = tiles(k, product.spec.rows)
    first = (s * len(product.planes) + q) * len(parts)
    of_plane = inside[first : first + len(parts)]
    if torch.equal(of_plane, _all_inside(grad.shape[1], grad.device).expand_as(of_plane)):
        return [(slice(0, k), grad)]
    merged: list[tuple[slice, Tensor]] = []
    for i, tile in enumerate(parts):
        masked = _masked(grad, inside[first + i])
        if merged and masked is grad and merged[-1][1] is grad:
            tile = slice(merged.pop()[0].start, tile.stop)
        merged.append((tile, masked))
    return merged


def _undriven_as_one(row: Tensor) -> Tensor:
    """Inputs whose weights are all 0 are not driven; as if they were, such weights can leave 0."""
    return torch.where(row > 0, row, 1)


def _codes(
    x: Tensor, scale: Tensor | float | None, row: Tensor | None, spec: CrossbarSpec
) -> list[Tensor]:
    """The DAC's output in each slice, (..., inputs), of full scale; without a DAC the inputs."""
    if scale is None:
        return [x]
    codes = input_codes(x if row is None else x * row, scale, spec.dac_levels)
    if spec.input_slice_bits is None:
        return [codes / spec.dac_levels]
    slices = input_slices(spec)
    return [
        input_digits(codes, shift, digit) * ((1 << shift) / spec.dac_levels)
        for shift, digit, _ in slices
    ]


def _scaled(masked: Tensor, scale: Tensor | float | None) -> Tensor:
    """Gradients times the full scale of the DAC; steps of tiny ones float32 does not resolve."""
    return masked if scale is None else masked * scale


def _shared(totals: Tensor, product: Product) -> Tensor:
    """Of the weights, from those of the planes (planes, out, in) at what was driven."""
    parts = [
        total if isinstance(share, float) and share == 1 else total * share
        for total, share in zip(totals, product.shares, strict=True)
    ]
    grad_weight: Tensor = sum(parts[1:], parts[0])
    if product.row is not None and product.spec.dac_levels:
        grad_weight = grad_weight / _undriven_as_one(product.row)
    return grad_weight


# --------------------------------------------------------------------------- convolutions


def convolution_gradient(
    grad: Tensor,
    x: Tensor,
    product: Product,
    geometry: Geometry,
    *,
    need_x: bool = True,
    need_weight: bool = True,
) -> tuple[Tensor | None, Tensor | None]:
    """Of the inputs (batch, channels, ...) and weights (out, channels * taps).

    ``grad``: (batch, out, ...), fastest with the channels last in memory.
    """
    spec = product.spec
    rows = grad.movedim(1, -1).reshape(-1, grad.shape[1])
    by_row = spec.dac_levels > 0 and product.row is not None
    by_patch = spec.dac_levels > 0 and (by_row or product.full_scale is None)
    grad_x = grad_weight = None
    if need_x and by_row and product.full_scale is not None:
        grad_x, need_x = _inputs_by_taps(rows, x, product, geometry), False
    if need_weight and by_patch:
        grad_weight, need_weight = _weights_by_patches(rows, x, product, geometry), False
    if need_x or need_weight:
        of_x, of_weight = _by_convolutions(rows, x, product, geometry, need_x, need_weight)
        grad_x = of_x if need_x else grad_x
        grad_weight = of_weight if need_weight else grad_weight
    return grad_x, grad_weight


def _by_convolutions(
    rows: Tensor, x: Tensor, product: Product, geometry: Geometry, need_x: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """With each input converted once: the gradients of a convolution for every tile.

    A tile of rows covers some of the channels, those at its ends in part.
    """
    spec, taps = product.spec, geometry.taps
    full_scale = product.full_scale if spec.dac_levels else None
    out = geometry.output_size(tuple(x.shape[2:]))
    images = _codes(x, full_scale, None, spec) if need_weight else [x] * spec.input_slices
    grad_x: Tensor | None = None
    totals = x.new_zeros(product.planes.shape) if need_weight else None
    for s, share in enumerate(input_shares(spec)):
        for q, plane in enumerate(product.planes):
            for tile, masked in _by_tile(rows, product.inside, s, q, product):
                first, last = tile.start // taps, -(-tile.stop // taps)
                inner = slice(tile.start - first * taps, tile.stop - first * taps)
                weight = plane.new_zeros(len(plane), (last - first) * taps)
                weight[:, inner] = plane[:, tile] * share if share != 1 else plane[:, tile]
                of_x, of_weight, _ = torch.ops.aten.convolution_backward(
                    masked.reshape(len(x), *out, -1).movedim(-1, 1),
                    images[s][:, first:last],
                    weight.reshape(len(weight), last - first, *geometry.kernel),
                    None, geometry.stride, geometry.padding, geometry.dilation, False,
                    [0] * len(out), 1, [need_x, need_weight, False],
                )  # fmt: skip
                if totals is not None:
                    totals[q, :, tile] += of_weight.flatten(1)[:, inner]
                if grad_x is None and need_x and of_x.shape == x.shape:
                    grad_x = of_x
                elif need_x:
                    grad_x = torch.zeros_like(x) if grad_x is None else grad_x
                    grad_x[:, first:last] += of_x
    if grad_x is not None and full_scale is not None:
        grad_x = _unclipped(grad_x, x, full_scale)
    if totals is None:
        return grad_x, None
    return grad_x, _shared(_scaled(totals, full_scale), product)


def _inputs_by_taps(rows: Tensor, x: Tensor, product: Product, geometry: Geometry) -> Tensor:
    """With inputs that are clipped differently under each tap."""
    assert product.row is not None and product.full_scale is not None
    out = geometry.output_size(tuple(x.shape[2:]))
    image = padded(x, geometry)
    total = torch.zeros_like(image)
    scales = product.row.unflatten(0, (-1, geometry.taps)).T
    passing = [
        (plane[:, tile] * share, tile, masked)
        for s, share in enumerate(input_shares(product.spec))
        for q, plane in enumerate(product.planes)
        for tile, masked in _by_tile(rows, product.inside, s, q, product)
    ]
    views = zip(windows(image, geometry, out), windows(total, geometry, out), strict=True)
    for tap, (seen, summed) in enumerate(views):
        inside = (seen * scales[tap]).abs() <= product.full_scale
        for weight, tile, masked in passing:
            some = _channels(tile, tap, geometry.taps)
            of_tap = weight[:, (tap - tile.start) % geometry.taps :: geometry.taps]
            part = (masked @ of_tap).reshape(*seen.shape[:-1], -1)
            summed[..., some] += part * inside[..., some]
    inner = [slice(p, p + n) for p, n in zip(geometry.padding, x.shape[2:], strict=True)]
    return total[tuple([slice(None), *inner])].movedim(-1, 1)


def _channels(tile: slice, tap: int, taps: int) -> slice:
    """Channels whose input ``channel * taps + tap`` is in the tile."""
    return slice(max(0, -(-(tile.start - tap) // taps)), -(-(tile.stop - tap) // taps))


def _weights_by_patches(rows: Tensor, x: Tensor, product: Product, geometry: Geometry) -> Tensor:
    """With inputs that are converted differently in each patch."""
    if x.device.type != "cpu" or x.dtype is not torch.float32:
        return _weights_by_taps(rows, x, product, geometry)
    spec = product.spec
    size = (1,) * (3 - len(geometry.kernel)) + tuple(x.shape[2:])
    images = x.reshape(*x.shape[:2], *size).contiguous().numpy()
    gradients = rows.contiguous().numpy()
    inside = product.inside.numpy() if product.inside.numel() else None
    row = None if product.row is None else product.row.contiguous().numpy()
    totals = x.new_zeros(product.planes.shape)
    of_pass = x.new_empty(product.planes.shape[1:])
    per_plane = len(tiles(of_pass.shape[1], spec.rows))
    convolution = core_convolution(geometry)
    passes = [(s, q) for s in range(spec.input_slices) for q in range(len(product.planes))]
    for i, (s, q) in enumerate(passes):
        shift, digit, _ = input_slices(spec)[s]
        _core.weight_gradient(
            images,
            gradients,
            of_pass.numpy(),
            convolution,
            rows=spec.rows,
            dac_levels=spec.dac_levels,
            shift=shift,
            digit=0 if spec.input_slice_bits is None else digit,
            fixed_range=product.full_scale,
            row_scale=row,
            inside=None if inside is None else inside[i * per_plane : (i + 1) * per_plane],
        )
        totals[q].add_(of_pass, alpha=1 << shift)
    return _shared(totals, product)


def _weights_by_taps(rows: Tensor, x: Tensor, product: Product, geometry: Geometry) -> Tensor:
    """The same in torch operations, for other devices and dtypes.

    Tap by tap and in small blocks of the batch, so that patches are never in memory.
    """
    spec, taps = product.spec, geometry.taps
    out = geometry.output_size(tuple(x.shape[2:]))
    image = padded(x, geometry)
    channels, positions = x.shape[1], math.prod(out)
    totals = x.new_zeros(len(product.planes), taps, rows.shape[1], channels)
    drives = None
    if product.row is not None:
        drives = _undriven_as_one(product.row).unflatten(0, (-1, taps)).T
    for block in blocks(len(x), positions * channels):
        part = slice(block.start * positions, block.stop * positions)
        inside = product.inside[:, part] if product.inside.numel() else product.inside
        scale: Tensor | float | None = product.full_scale
        if scale is None:
            scale = _patch_scale(image[block], product, geometry, out)
        flat = scale.reshape(-1, 1) if isinstance(scale, Tensor) else scale
        passing = [
            (s, q, tile, _scaled(masked, flat).T)
            for s in range(spec.input_slices)
            for q in range(len(product.planes))
            for tile, masked in _by_tile(rows[part], inside, s, q, product)
        ]
        for tap, seen in enumerate(windows(image[block], geometry, out)):
            codes = _codes(seen, scale, None if drives is None else drives[tap], spec)
            flats = [c.reshape(-1, channels) for c in codes]
            for s, q, tile, masked in passing:
                some = _channels(tile, tap, taps)
                totals[q, tap, :, some].addmm_(masked, flats[s][:, some])
    return _shared(totals.movedim(1, -1).flatten(2), product)


def _patch_scale(
    image: Tensor, product: Product, geometry: Geometry, out: tuple[int, ...]
) -> Tensor:
    """Largest magnitude of each patch, (batch, *out, 1)."""
    if product.row is None:
        seen = list(windows(image.abs().amax(-1, keepdim=True), geometry, out))
    else:
        scales = product.row.unflatten(0, (-1, geometry.taps)).T
        seen = [
            (w * r).abs().amax(-1, keepdim=True)
            for w, r in zip(windows(image, geometry, out), scales, strict=True)
        ]
    largest = seen[0]
    for window in seen[1:]:
        largest = torch.maximum(largest, window)
    return largest
