"""Input smoothing: outliers of activations move into the weights (:func:`smooth`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ... import _arguments
from ..checks import check_module
from . import identity
from .calibration import watch
from .layers import CrossbarLayer
from .selection import required

__all__ = ["smooth"]


@torch.inference_mode(False)  # whose tensors could not take part in gradients later
@torch.no_grad()
def smooth(model: nn.Module, batches: Any, strength: float = 0.5) -> nn.Module:
    """Even out the input channels of crossbar layers, digitally, before the DACs.

    Channel j of the inputs is divided by s_j and its weights are multiplied with s_j, so the
    product is the same but for float rounding; s_j = max|x_j|^a / max|w_j|^(1 - a) with a =
    ``strength``, relative to the geometric mean of the layer (SmoothQuant, Xiao et al., ICML
    2023, equation 4).
    Small channels then reach further above the steps of the DAC, and the noise of their weights
    counts less. The model's parameters stay as they are: the factors are part of the layers' state
    and of the arrays that are programmed next. Limits and ranges have to be found anew; adapters
    are taken away.

    Parameters
    ----------
    model : torch.nn.Module
        Converted, and not programmed yet.
    batches
        As for :func:`calibrate`.
    strength : float
        In [0, 1]: how much of the outliers goes into the weights.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers or is programmed, no data reach a layer, or an argument
        is not as said above; the layers are then as they were.
    """
    check_module(model)
    layers = required(model)
    strength = _arguments.number("strength", strength, 0, 1)
    for name, layer in layers.items():
        layer.check_unprogrammed(name)
    before = {layer: layer.chip_state() for layer in layers.values()}
    for layer in before:
        layer.smoothing = None
    try:
        largest = {layer: _Largest() for layer in before}
        watch(model, batches, largest)
        factors = {
            layer: _factors(name, layer, largest[layer], strength) for name, layer in layers.items()
        }
    except BaseException:
        for layer, state in before.items():
            layer.put_back(state)
        raise
    for layer, values in factors.items():
        layer.smoothing, layer.limits, layer.ranges = values, None, None
        layer.set_adapter(None)
        layer.identity = identity.written(layer).to(values.device)
    return model


class _Largest:
    """Largest magnitude of each input, (groups, in)."""

    def __init__(self) -> None:
        self.values: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """``rows``: (groups, vectors, in)."""
        found = rows.abs().amax(1)
        self.values = found if self.values is None else torch.maximum(self.values, found)


def _factors(name: str, layer: CrossbarLayer, largest: _Largest, strength: float) -> Tensor:
    """Of each input channel (in channels,); 1 for channels without inputs or weights."""
    if largest.values is None:
        raise _arguments.wrong_value("batches", f"data that reaches {name!r}", "none")
    if not largest.values.isfinite().all():
        raise _arguments.wrong_value("batches", f"finite inputs of {name!r}", "NaN or infinity")
    matrix = layer.matrix().detach().float()
    groups, channels = layer.arrays, matrix.shape[1]
    inputs = largest.values.float().reshape(groups, channels, -1).amax(2)
    weights = matrix.reshape(groups, -1, channels, matrix[0, 0].numel()).abs().amax((1, 3))
    logs = strength * inputs.log2() - (1 - strength) * weights.log2()
    known = (inputs > 0) & (weights > 0)
    if not known.any():
        return torch.ones_like(inputs).flatten()
    logs = torch.where(known, logs - logs[known].mean(), 0.0)
    return torch.exp2(logs.clamp(-MAX_BITS, MAX_BITS)).flatten()


MAX_BITS = 12  # either way; beyond them a channel is as good as empty
