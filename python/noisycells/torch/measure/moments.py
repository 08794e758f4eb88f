"""Second moments of what layers take in: which errors of their weights add up, and which cancel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checks import check_module
from ..modes import evaluating
from ..training.fit import device_of

__all__ = ["input_moments"]

BATCH = 50  # images at a time

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def input_moments(
    model: nn.Module, images: npt.NDArray[np.float32] | Tensor
) -> dict[str, npt.NDArray[np.float64]]:
    """Second moments E[a a^T] of the inputs of linear and convolution layers.

    An error e of a row of a layer's weights, flattened, changes its output by e^T E[a a^T] e on
    average, squared. The coded storage feeds rounding errors back with it.

    Parameters
    ----------
    model : torch.nn.Module
        In ``eval()`` meanwhile, and left as it was.
    images : ndarray of float32 or Tensor, shape (n, ...)
        Inputs of the model, for calibration; at least one.

    Returns
    -------
    dict of str to ndarray of float64, shape (inputs, inputs)
        By the name of the layer's weight. Inputs of a convolution are those of a filter: channels
        times taps. Grouped and transposed convolutions and layers that are never called are left
        out; a layer that is called often counts every call.

    Raises
    ------
    ValueError
        If there is no image.
    """
    check_module(model)
    if len(images) == 0:
        raise ValueError("images: expected at least one, got none")
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def add(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows = _rows(layer, inputs[0]).double()
            sums[name] = sums.get(name, 0) + rows.T @ rows
            counts[name] = counts.get(name, 0) + len(rows)

        return add

    device = device_of(model)
    with ExitStack() as stack, evaluating(model), torch.no_grad():
        for prefix, layer in model.named_modules():
            plain = isinstance(layer, nn.Linear) or (
                isinstance(layer, _CONVOLUTIONS)
                and layer.groups == 1
                and layer.padding_mode == "zeros"
            )
            if plain:
                name = f"{prefix}.weight".removeprefix(".")
                hook = layer.register_forward_pre_hook(watch(name))
                stack.callback(hook.remove)
        for part in torch.as_tensor(images).split(BATCH):
            model(part.to(device))
    return {name: (total / counts[name]).numpy(force=True) for name, total in sums.items()}


def _rows(layer: nn.Module, x: Tensor) -> Tensor:
    """What a row of the layer's weights is multiplied with, one a row; (n, inputs)."""
    x = x.detach().float()
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2)
    assert isinstance(layer, _CONVOLUTIONS)
    padding: Any = layer.padding
    if padding == "valid":
        padding = [0] * len(layer.kernel_size)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(n // 2, n - n // 2) for n in total]
    else:
        sides = [(n, n) for n in padding]
    x = F.pad(x, [n for side in reversed(sides) for n in side])
    for k, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        x = x.unfold(2 + k, dilation * (size - 1) + 1, stride)[..., ::dilation]
    dimensions = len(layer.kernel_size)
    order = [0, *range(2, 2 + dimensions), 1, *range(2 + dimensions, 2 + 2 * dimensions)]
    return x.permute(order).flatten(dimensions + 1).flatten(0, dimensions)
