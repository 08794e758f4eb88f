"""The largest weight of each output, chosen for what a device does to weights of each size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import _arguments
from ..._types import F64
from ...crossbar import CrossbarSpec
from ...devices import Device
from ..checks import check_module
from . import identity
from .calibration import watch
from .layers import CrossbarLayer
from .selection import required

__all__ = ["limit_weights"]

SHARES = np.linspace(1.0, 0.2, 33)
"""Of the largest weight: the limits that are tried."""


@torch.inference_mode(False)  # whose tensors could not take part in gradients later
@torch.no_grad()
def limit_weights(model: nn.Module, batches: Any) -> nn.Module:
    """Cut off the largest weights on the arrays where the others gain more by it.

    Conductances are weights over w_max, and errors of devices are in conductance: with a smaller
    w_max all weights are further from zero, where most devices err less relative to them. For
    each output (with ``mapping="tensor"`` for the layer) that limit is taken whose error is least,

        sum_j <x_j^2> ((|w_j| - t)_+^2 + t^2 (v(g_j) + v(g_min)) / (g_max - g_min)^2),

    with v the variance of programming and of one read of the device, and <x_j^2> of the data. It
    is the expected square error of the sum, were errors of weights independent of the inputs.
    Parameters of the model stay as they are; limits are part of the layers' state. Layers with
    ``mapping="row"`` or sliced weights are left alone. Ranges have to be calibrated anew.

    Parameters
    ----------
    model : torch.nn.Module
        Converted, and not programmed yet.
    batches
        As for :func:`calibrate`.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers or is programmed, or no data reach a layer or some that
        are not finite; the layers are then as they were.
    """
    check_module(model)
    layers = required(model)
    for name, layer in layers.items():
        layer.check_unprogrammed(name)
    squares = {layer: _Squares() for layer in layers.values()}
    watch(model, batches, squares)
    limits = {}
    for name, layer in layers.items():
        total = squares[layer].total
        if total is None:
            raise _arguments.wrong_value("batches", f"data that reaches {name!r}", "none")
        if not total.isfinite().all():
            raise _arguments.wrong_value("batches", f"finite inputs of {name!r}", "NaN or infinity")
        if layer.spec.mapping != "row" and layer.spec.weight_slice_bits is None:
            limits[layer] = _limits(layer, total)
    for layer, values in limits.items():
        layer.limits, layer.ranges = values, None
        layer.identity = identity.written(layer).to(values.device)
    return model


class _Squares:
    """Sum of the squares of each input, float64 (groups, in)."""

    def __init__(self) -> None:
        self.total: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """``rows``: (groups, vectors, in)."""
        found = rows.double().square().sum(1)
        self.total = found if self.total is None else self.total + found


def _limits(layer: CrossbarLayer, squares: Tensor) -> Tensor:
    """Of each output, float32 (out,)."""
    layer.limits = None
    weights = layer.mapped().detach().double().abs().flatten(1).cpu().numpy()
    energy = np.repeat(squares.cpu().numpy(), len(weights) // layer.arrays, axis=0)
    top = weights.max(axis=1, keepdims=True)
    each_output = layer.spec.mapping == "column"
    if not each_output:
        top = np.full_like(top, top.max())
    at, variance = _variances(layer.analog, layer.spec)
    errors = []
    for share in SHARES:
        limit = share * top
        kept = np.minimum(weights, limit)
        levels = np.divide(kept, limit, out=np.zeros_like(kept), where=limit > 0)
        noise = np.interp(levels, at, variance) + variance[0]
        errors.append(((np.square(weights - kept) + np.square(limit) * noise) * energy).sum(axis=1))
    found = np.array(errors)
    if not each_output:
        found = np.broadcast_to(found.sum(axis=1, keepdims=True), found.shape)
    best = SHARES[found.argmin(axis=0)][:, None]
    return torch.from_numpy((best * top)[:, 0]).to(layer.weight.device, torch.float32)


def _variances(device: Device, spec: CrossbarSpec) -> tuple[F64, F64]:
    """Levels in [0, 1] and the variance of one polarity there, in squares of w_max."""
    span = device.g_max - device.g_min
    levels = np.linspace(0.0, 1.0, 513)
    grid = device.g_min + levels * span
    _, std = device.moments(grid, None)
    variance = np.square(std)
    if spec.noisy_weights:
        c0, c1, c2 = device.read_variance
        variance = variance + np.maximum(c0 + c1 * grid + c2 * grid**2, 0.0)
    return levels, variance / (spec.devices_per_polarity * span**2)
