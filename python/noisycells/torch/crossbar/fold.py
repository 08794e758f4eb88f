"""Fold batch normalization into the layers before it, and what that does to their noise."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from ... import _arguments
from ...crossbar import Crossbar, CrossbarSpec
from ...devices import Device, DeviceLike, computing
from ..checks import check_module
from .layers import CrossbarLayer

__all__ = ["NORMS", "FoldedNorm", "fold_batchnorm", "found_pairs"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""What can be folded."""


@torch.no_grad()
def fold_batchnorm(
    model: nn.Module,
    device: DeviceLike,
    spec: CrossbarSpec | None = None,
    pairs: Iterable[tuple[str, str]] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Fold every batch normalization, as it is in ``eval()``, into the layer before it, in place.

    The layer's output channels are scaled, each by its own factor, and its bias takes the rest;
    the normalization becomes :class:`torch.nn.Identity` (behind a linear layer one that refuses
    inputs other than (batch, features), of which BatchNorm1d normalizes another dimension).
    Channels whose weights differ in size share one w_max with ``mapping="tensor"``, so folding
    changes the noise per weight: the result says how much. To be called before
    :func:`~noisycells.torch.convert`.

    Parameters
    ----------
    model : torch.nn.Module
    device : Device or str
        A device, or its name or JSON file.
    spec : CrossbarSpec, optional
        That the noise is measured with.
    pairs : iterable of (str, str), optional
        Names of layers and their batch normalizations. None finds them with :mod:`torch.fx`.
    seed : int
        Of the chips that the noise is measured on.

    Returns
    -------
    list of dict
        For each pair ``layer``, ``batchnorm``, and ``noise_before`` and ``noise_after``: root mean
        square of the programming errors over that of the weights, both behind the batch
        normalization.

    Raises
    ------
    ValueError
        If the model cannot be traced, a pair is not of a layer and a batch normalization with
        running statistics, or a layer is a crossbar layer already; the model is then left as it
        was.
    """
    check_module(model, to_change=True)
    device = computing(device)
    found = found_pairs(model) if pairs is None else list(pairs)
    modules = dict(model.named_modules())
    for layer, norm in found:
        _check_pair(layer, modules.get(layer), norm, modules.get(norm))
    return [_folded(model, layer, norm, device, spec, seed) for layer, norm in found]


class FoldedNorm(nn.Identity):
    """In place of a batch normalization that was folded into the linear layer before it.

    Behind a linear layer, features are last; BatchNorm1d normalizes the second dimension, which
    is another one in (batch, tokens, features). Nothing but an input tells which it is.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``input``, (batch, features)."""
        if input.ndim != 2:
            raise _arguments.wrong_value(
                "fold_batchnorm",
                "(batch, features) behind the linear layer",
                f"shape {tuple(input.shape)}, whose second dimension the folded BatchNorm1d "
                "normalized: it cannot be folded into the features; leave it out by pairs=",
            )
        return input


def _folded(
    model: nn.Module,
    name: str,
    norm_name: str,
    device: Device,
    spec: CrossbarSpec | None,
    seed: int,
) -> dict[str, Any]:
    """Fold one pair, and say what that does to the noise."""
    layer, norm = cast(Any, model.get_submodule(name)), cast(Any, model.get_submodule(norm_name))
    deviation = (norm.running_var + norm.eps).sqrt()
    factor = (1 if norm.weight is None else norm.weight) / deviation
    before = _noise(layer, device, spec, name, factor, seed)
    linear = isinstance(layer, nn.Linear)
    fuse = fuse_linear_bn_weights if linear else fuse_conv_bn_weights
    weight, bias = fuse(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight,
        norm.bias,
    )  # fmt: skip
    layer.weight.copy_(weight)
    if layer.bias is None:
        layer.bias = nn.Parameter(bias.clone(), requires_grad=layer.weight.requires_grad)
    else:
        layer.bias.copy_(bias)
    model.set_submodule(norm_name, FoldedNorm() if linear else nn.Identity())
    after = _noise(layer, device, spec, name, torch.ones_like(factor), seed)
    return {"layer": name, "batchnorm": norm_name, "noise_before": before, "noise_after": after}


def found_pairs(model: nn.Module) -> list[tuple[str, str]]:
    """Names of layers and of the batch normalizations that take their outputs and no others'.

    Raises ValueError where torch.fx cannot trace the model.
    """
    try:
        graph = fx.Tracer().trace(copy.copy(model))
    except Exception as error:
        raise _arguments.wrong_value(
            "model",
            "one that torch.fx can trace, or pairs=[(layer, batchnorm), ...]",
            f"one whose tracing ended with: {error}",
        ) from error
    modules = dict(model.named_modules())
    uses = Counter(node.target for node in graph.nodes if node.op == "call_module")
    pairs = []
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], NORMS):
            continue
        before = node.args[0] if node.args else None
        if (
            isinstance(before, fx.Node)
            and before.op == "call_module"
            and isinstance(modules[cast(str, before.target)], _LAYERS)
            and len(before.users) == uses[before.target] == uses[node.target] == 1
        ):
            pairs.append((str(before.target), str(node.target)))
    return pairs


def _check_pair(name: str, layer: nn.Module | None, norm_name: str, norm: nn.Module | None) -> None:
    if not isinstance(layer, _LAYERS) or isinstance(layer, CrossbarLayer):
        raise _arguments.wrong_value(
            "pairs", f"{name!r} to be a digital linear layer or convolution", type(layer).__name__
        )
    if not isinstance(norm, NORMS) or norm.running_var is None:
        raise _arguments.wrong_value(
            "pairs",
            f"{norm_name!r} to be a batch normalization with running statistics",
            type(norm).__name__,
        )
    outputs = len(layer.weight)
    if norm.num_features != outputs:
        raise _arguments.wrong_value(
            "pairs",
            f"{norm_name!r} to normalize the {outputs} outputs of {name!r}",
            f"num_features={norm.num_features}: of (batch, tokens, features) it "
            "normalizes the tokens, which cannot be folded into the features",
        )


def _noise(
    layer: Any, device: Device, spec: CrossbarSpec | None, name: str, factor: Tensor, seed: int
) -> float:
    """Programming errors over weights, after the outputs are scaled by ``factor``."""
    weights = layer.weight.detach().flatten(1).float().cpu().numpy()
    groups = getattr(layer, "groups", 1)
    noisy = np.concatenate(
        [
            Crossbar(w, device, spec, name).program(seed).effective_weights()
            for w in np.split(weights, groups)
        ]
    )
    scaled = factor.float().cpu().numpy()[:, None].astype(np.float64)
    signal = np.mean(np.square(weights * scaled))
    return float(np.sqrt(np.mean(np.square((noisy - weights) * scaled)) / signal))
