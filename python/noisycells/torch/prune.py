"""Magnitude pruning: keep the largest weights, hold the others at zero while fine-tuning."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from .. import _arguments
from .checks import check_module

__all__ = ["magnitude_prune", "make_permanent"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def magnitude_prune(
    model: nn.Module, quantile: float = 0.8, *, scope: str = "global"
) -> dict[str, npt.NDArray[np.bool_]]:
    """Set the weights of smallest magnitude to zero, in place.

    Weights of linear and convolution layers are pruned, biases and normalization layers are not.
    The masks act through :mod:`torch.nn.utils.prune`: training goes on with the pruned weights
    held at zero until :func:`make_permanent` is called.

    Parameters
    ----------
    model : torch.nn.Module
    quantile : float
        Share of the weights set to zero, in [0, 1): those below this quantile of the magnitudes
        (0.8 in Isik et al. 2020, section 3.1).
    scope : {"global", "layer"}
        Take the quantile over all weights of the model, as the paper does, or over each layer.

    Returns
    -------
    dict of str to ndarray of bool
        For the name of every pruned parameter, as in ``model.state_dict()`` after
        :func:`make_permanent`, the weights kept (True), in the shape of the parameter.

    Raises
    ------
    ValueError
        If ``quantile`` or ``scope`` is not as above, or if the model has nothing to prune or is
        already being pruned.
    """
    check_module(model)
    quantile = _arguments.number("quantile", quantile, 0, below=1)
    _arguments.choice("scope", scope, ("global", "layer"))
    layers = dict(_prunable(model))
    if not layers:
        raise _arguments.wrong_value("model", "at least one linear or convolution layer", "none")
    if torch_prune.is_pruned(model):
        raise _arguments.wrong_value(
            "model", "one without pruning in progress", "one with; use make_permanent first"
        )
    weights = [(layer, "weight") for layer in layers.values()]
    if scope == "global":
        torch_prune.global_unstructured(weights, torch_prune.L1Unstructured, amount=quantile)
    else:
        for layer, name in weights:
            torch_prune.l1_unstructured(layer, name, amount=quantile)
    return {f"{name}.weight" if name else "weight": _mask(layer) for name, layer in layers.items()}


def make_permanent(model: nn.Module) -> None:
    """End the pruning of every layer, in place: pruned weights are ordinary zeros from now on.

    Parameters
    ----------
    model : torch.nn.Module
        A model on which :func:`magnitude_prune` was called; others are left as they are.
    """
    check_module(model)
    for _, layer in _prunable(model):
        if torch_prune.is_pruned(layer):
            torch_prune.remove(layer, "weight")


def _prunable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, _LAYERS))


def _mask(layer: nn.Module) -> npt.NDArray[np.bool_]:
    mask: Tensor = layer.get_buffer("weight_mask")
    result: npt.NDArray[np.bool_] = mask.numpy(force=True) != 0
    return result
