"""Gradients of noisy products, at the noisy conductances.

Converters pass gradients straight through inside their ranges (Bengio et al. 2013,
arXiv:1308.3432) and stop them outside: an input that the DAC clipped gets none through the tile,
and an output none from the tile whose ADC saturated. Ranges, scales and noise are constants to
the gradient.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..crossbar import CrossbarSpec
from ..crossbar.reference import tiles
from .crossbar_patches import Geometry, blocks, fold, patches

__all__ = [
    "Product",
    "convolution_gradient",
    "input_codes",
    "input_digits",
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
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)


def _masked(grad: Tensor, bits: Tensor) -> Tensor:
    """``grad`` (batch, out) where the bits (batch, bytes) are set, and 0 elsewhere."""
    n = grad.shape[1]
    full = pack_mask(torch.ones(n, dtype=torch.bool, device=grad.device))
    if torch.equal(bits, full.expand_as(bits)):
        return grad
    shifts = torch.arange(8, dtype=torch.uint8, device=grad.device)
    mask = (bits.unsqueeze(-1) >> shifts).bitwise_and_(1).flatten(1)[:, :n]
    return grad * mask


def input_codes(x: Tensor, full_scale: Tensor | float, levels: int) -> Tensor:
    """Codes of the DAC, or inputs in units of full scale where ``levels`` is 0."""
    top = levels or 1
    if isinstance(full_scale, Tensor):
        inverse: Tensor | float = torch.where(full_scale > 0, top / full_scale, 0)
    else:
        inverse = top / full_scale
    t = x * inverse
    return t.clamp_(-top, top).round_() if levels else t


def input_slices(spec: CrossbarSpec) -> list[tuple[int, int, float]]:
    """(shift, largest digit, digital factor) of each slice of the inputs' codes."""
    bits, levels = spec.input_slice_bits, spec.dac_levels
    if bits is None:
        return [(0, levels or 1, 1.0)]
    digit = (1 << bits) - 1
    return [(s, digit, (digit << s) / levels) for s in range(0, levels.bit_length(), bits)]


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
    spec, row = product.spec, product.row
    driven = x if row is None else x * row
    full_scale = product.full_scale
    codes: list[Tensor] = []
    if need_weight:
        codes = _dequantised(driven, x, product)
    grad_x = torch.zeros_like(x) if need_x else None
    grad_weight = x.new_zeros(product.planes.shape[1:]) if need_weight else None
    for s, (_, _, factor) in enumerate(input_slices(product.spec)):
        for q, plane in enumerate(product.planes):
            for t, masked in _by_tile(grad, s, q, product):
                if grad_x is not None:
                    grad_x[:, t].addmm_(masked, plane[:, t], alpha=factor)
                if grad_weight is not None:
                    _add_share(grad_weight, masked.T @ codes[s][:, t], product.shares[q], t)
    if grad_x is not None and spec.dac_levels and full_scale is not None:
        grad_x.masked_fill_(driven.abs() > full_scale, 0)
    return grad_x, grad_weight


def _by_tile(grad: Tensor, s: int, q: int, product: Product) -> list[tuple[slice, Tensor]]:
    """Tiles of one plane under one slice of the inputs, and the gradients that pass them.

    Neighbouring tiles in which nothing saturated count as one.
    """
    k = product.planes.shape[2]
    if not product.inside.numel():
        return [(slice(0, k), grad)]
    parts = tiles(k, product.spec.rows)
    first = (s * len(product.planes) + q) * len(parts)
    merged: list[tuple[slice, Tensor]] = []
    for i, tile in enumerate(parts):
        masked = _masked(grad, product.inside[first + i])
        if merged and masked is grad and merged[-1][1] is grad:
            tile = slice(merged.pop()[0].start, tile.stop)
        merged.append((tile, masked))
    return merged


def _dequantised(driven: Tensor, x: Tensor, product: Product) -> list[Tensor]:
    """What each slice of the DAC's outputs adds up to, in the units of the inputs."""
    spec, row = product.spec, product.row
    if not spec.dac_levels:
        return [x]
    scale = vector_scale(driven) if product.full_scale is None else product.full_scale
    codes = input_codes(driven, scale, spec.dac_levels)
    step = scale / spec.dac_levels
    slices = input_slices(product.spec)
    parts = [codes] if len(slices) == 1 else [
        input_digits(codes, shift, digit) * (1 << shift) for shift, digit, _ in slices
    ]  # fmt: skip
    if row is None:
        return [part * step for part in parts]
    # Inputs whose weights are all 0 are not driven; x itself lets such weights leave 0.
    factors = [f for _, _, f in slices]
    return [
        torch.where(row > 0, part * step / row, x * f)
        for part, f in zip(parts, factors, strict=True)
    ]


def _add_share(total: Tensor, part: Tensor, share: Tensor | float, tile: slice) -> None:
    if isinstance(share, Tensor):
        total[:, tile] += part * share[:, tile]
    else:
        total[:, tile].add_(part, alpha=share)


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
    by_row = spec.dac_levels > 0 and product.row is not None
    by_patch = by_row or (spec.dac_levels > 0 and product.full_scale is None)
    grad_x = grad_weight = None
    if by_patch and (need_weight or by_row):
        whole_x = need_x and by_row
        grad_x, grad_weight = _by_patches(grad, x, product, geometry, whole_x, need_weight)
        need_x, need_weight = need_x and not whole_x, False
    if need_x or need_weight:
        image, weight = _by_convolutions(grad, x, product, geometry, need_x, need_weight)
        grad_x, grad_weight = image if need_x else grad_x, weight if need_weight else grad_weight
    return grad_x, grad_weight


def _rows(grad: Tensor) -> Tensor:
    """(batch, out, ...) as (batch * positions, out); a view where channels are last."""
    return grad.movedim(1, -1).reshape(-1, grad.shape[1])


def _by_patches(
    grad: Tensor, x: Tensor, product: Product, geometry: Geometry, need_x: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """With inputs that are converted differently in each patch."""
    positions = math.prod(grad.shape[2:])
    grad_x = torch.empty_like(x) if need_x else None
    grad_weight = x.new_zeros(product.planes.shape[1:]) if need_weight else None
    for part in blocks(len(x), positions * product.planes.shape[2]):
        rows = slice(part.start * positions, part.stop * positions)
        inside = product.inside[:, rows] if product.inside.numel() else product.inside
        of_rows, of_weight = linear_gradient(
            _rows(grad[part]),
            patches(x[part], geometry),
            product._replace(inside=inside),
            need_x=need_x,
            need_weight=need_weight,
        )
        if grad_x is not None and of_rows is not None:
            grad_x[part] = fold(of_rows, x[part].shape, geometry)
        if grad_weight is not None:
            grad_weight += of_weight
    return grad_x, grad_weight


def _by_convolutions(
    grad: Tensor, x: Tensor, product: Product, geometry: Geometry, need_x: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """With each input converted once: the gradients of a convolution for every tile.

    A tile of rows covers some of the channels, those at its ends in part.
    """
    spec, full_scale, taps = product.spec, product.full_scale, geometry.taps
    rows = _rows(grad)
    quantise = need_weight and spec.dac_levels > 0
    codes = _dequantised(x, x, product._replace(row=None)) if quantise else [x]
    grad_x = torch.zeros_like(x) if need_x else None
    grad_weight = x.new_zeros(product.planes.shape[1:]) if need_weight else None
    for s, (_, _, factor) in enumerate(input_slices(product.spec)):
        image = codes[min(s, len(codes) - 1)]
        for q, plane in enumerate(product.planes):
            for tile, masked in _by_tile(rows, s, q, product):
                first, last = tile.start // taps, -(-tile.stop // taps)
                whole = slice(first * taps, last * taps)
                weight = torch.zeros_like(plane[:, whole])
                inner = slice(tile.start - whole.start, tile.stop - whole.start)
                weight[:, inner] = plane[:, tile]
                of_x, of_weight, _ = torch.ops.aten.convolution_backward(
                    masked.reshape(len(x), *grad.shape[2:], -1).movedim(-1, 1),
                    image[:, first:last],
                    weight.reshape(len(weight), last - first, *geometry.kernel),
                    None, geometry.stride, geometry.padding, geometry.dilation, False,
                    [0] * len(geometry.kernel), 1, [need_x, need_weight, False],
                )  # fmt: skip
                if grad_x is not None:
                    grad_x[:, first:last].add_(of_x, alpha=factor)
                if grad_weight is not None:
                    part = of_weight.flatten(1)[:, inner]
                    _add_share(grad_weight, part, product.shares[q], tile)
    if grad_x is not None and spec.dac_levels and full_scale is not None:
        grad_x.masked_fill_(x.abs() > full_scale, 0)
    return grad_x, grad_weight
