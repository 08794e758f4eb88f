"""Gradients of a layer's products over all its groups, as tensors of the operators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...crossbar import CrossbarSpec, mapping
from .arrays import joined, parts
from .circuit import parse
from .gradient import Product, convolution_gradient, linear_gradient

__all__ = ["bias_gradient", "product_gradient"]


def product_gradient(
    grad: Tensor,
    x: Tensor,
    planes: Tensor,
    inside: Tensor,
    weight: Tensor | None,
    row: Tensor | None,
    ranges: Tensor | None,
    circuit: str,
    need_x: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Of the inputs and the weights; empty where it is not needed.

    ``planes``: noisy weights (planes, out, in); ``inside``: masks of all groups, empty where there
    is no ADC; ``row``: scales of the inputs (groups, in) of a programmed chip; ``ranges``: as of
    the operators.
    """
    what = parse(circuit)
    geometry, groups = what.geometry, what.groups
    if not grad.numel():
        empty = x.new_empty(0)
        of_none = x.new_zeros(planes.shape[1:]) if need_weight else empty
        return torch.zeros_like(x) if need_x else empty, of_none
    channels = 1 if geometry else -1
    grads, xs = parts(grad, groups, channels), parts(x, groups, channels)
    of_x, of_weight = [], []
    masks = parts(inside, groups) if inside.numel() else [inside] * groups
    weights: Sequence[Tensor | None] = [None] * groups
    if weight is not None:
        weights = parts(weight.reshape(len(weight), -1), groups)
    for g, part in enumerate(parts(planes, groups, 1)):
        product = Product(
            what.spec,
            part,
            _shares(what.spec, weights[g], need_weight),
            masks[g],
            _row(what.spec, weights[g], row, g),
            _full_scale(what.spec, ranges, g),
        )
        if geometry is None:
            found = linear_gradient(
                _rows(grads[g]), _rows(xs[g]), product, need_x=need_x, need_weight=need_weight
            )
        else:
            found = convolution_gradient(
                grads[g], xs[g], product, geometry, need_x=need_x, need_weight=need_weight
            )
        of_x.append(found[0])
        of_weight.append(found[1])
    return (
        _joined(of_x, x) if need_x else x.new_empty(0),  # type: ignore[arg-type]
        joined(of_weight) if need_weight else x.new_empty(0),  # type: ignore[arg-type]
    )


def _rows(vectors: Tensor) -> Tensor:
    return vectors if vectors.ndim == 2 else vectors.reshape(-1, vectors.shape[-1])


def _joined(found: list[Tensor], x: Tensor) -> Tensor:
    """Gradients of the groups as one, laid out in memory as ``x``."""
    whole = joined(found, 1)
    if whole.shape == x.shape and whole.is_contiguous() and x.is_contiguous():
        return whole
    like = torch.empty_like(x)
    whole = whole.reshape(x.shape)
    return whole if whole.stride() == like.stride() else like.copy_(whole)


def _shares(spec: CrossbarSpec, weight: Tensor | None, need: bool) -> list[Tensor | float]:
    """Of each plane in a change of the weight: slices by their digits, polarities by the sign."""
    if not need:
        return []
    shares: list[Tensor | float] = []
    for factor in mapping.slice_factors(spec).tolist():
        if spec.adc_per == "polarity":
            assert weight is not None
            shares += [(weight >= 0) * factor, (weight < 0) * factor]
        else:
            shares.append(factor)
    return shares


def _row(
    spec: CrossbarSpec, weight: Tensor | None, row: Tensor | None, group: int
) -> Tensor | None:
    if spec.mapping != "row":
        return None
    if row is not None:
        return row[group]
    assert weight is not None
    magnitude = weight.abs()
    top = magnitude.max()
    return torch.where(top > 0, magnitude.amax(0) / top, 0)


def _full_scale(spec: CrossbarSpec, ranges: Tensor | None, group: int) -> float | None:
    if isinstance(spec.dac_range, float):
        return spec.dac_range
    if spec.dac_range == "calibrated" and ranges is not None:
        return float(ranges[group, 0])
    return None


def bias_gradient(grad: Tensor, circuit: str) -> Tensor:
    """The sum over all but the channels."""
    channels = 1 if parse(circuit).geometry is not None else grad.ndim - 1
    others = [d for d in range(grad.ndim) if d != channels]
    return grad.sum(others) if others else grad  # the sum over no dimension is that of all
