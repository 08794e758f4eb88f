"""Store a whole model in analog cells, and load a noisy read-back of it in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..storage import Codec, StoredModel
from ..storage.selection import belongs_in_cells

__all__ = ["load", "store"]

Masks = Mapping[str, npt.NDArray[np.bool_]] | str | None


def store(
    model: nn.Module | Mapping[str, Tensor],
    codec: Codec,
    *,
    masks: Masks = None,
    sensitivity: Mapping[str, npt.NDArray[np.floating[Any]]] | None = None,
    overrides: Mapping[str, Codec] | None = None,
    store_biases: bool = False,
) -> StoredModel:
    """Encode the weights of a model into cells.

    Weights are the floating-point parameters with two dimensions or more. Biases, normalisation
    layers (:func:`noisycells.storage.selection.belongs_in_cells`), buffers and integers stay
    digital; they are kept in ``StoredModel.digital`` at full precision and counted in
    ``StoredModel.cost``. A parameter used under several names (tied weights) is stored once,
    under the first.

    Parameters
    ----------
    model : torch.nn.Module or mapping of str to Tensor
        A model or its state dict. In a state dict buffers cannot be told from parameters, so
        floating-point buffers with two dimensions or more are taken for weights.
    codec : Codec
        How the weights are stored.
    masks : mapping of str to ndarray of bool, "nonzero" or None
        The weights to store, by parameter name, as :func:`magnitude_prune` returns them; the
        others read back as zero. A parameter without a mask is stored whole. ``"nonzero"``
        stores what is not zero.
    sensitivity : mapping of str to ndarray, optional
        How much a squared error of each weight counts when thresholds and cells are chosen, by
        parameter name, such as :func:`sensitivity` returns; what is no weight is ignored.
    overrides : mapping of str to Codec, optional
        Codecs for the parameters whose names match a pattern, as in :meth:`Codec.encode`.
    store_biases : bool
        Store biases in cells too, other than those of normalisation layers.

    Returns
    -------
    StoredModel

    Raises
    ------
    ValueError
        If the model holds no weights or is still being pruned, a mask names no weight, or a
        weight is not finite.
    """
    state = _state(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    buffers = state.keys() - _parameters(model) if isinstance(model, nn.Module) else set()
    for name in state:
        if name.endswith("_orig") and f"{name.removesuffix('_orig')}_mask" in state:
            raise ValueError(
                f"model: expected finished weights, got {name!r} of a pruning in progress; "
                "call noisycells.torch.make_permanent(model) first"
            )
    weights: dict[str, npt.NDArray[Any]] = {}
    digital: dict[str, npt.NDArray[Any]] = {}
    for name, tensor in state.items():
        in_cells = (
            tensor.is_floating_point()
            and name not in buffers
            and belongs_in_cells(name, shapes, store_biases)
        )
        if in_cells:
            weights[name] = _to_numpy(tensor)
        else:
            digital[name] = _to_numpy(tensor).copy()  # later training must not change it
    if not weights:
        raise ValueError("model: expected at least one weight to store, got none")
    if sensitivity is not None:
        sensitivity = {name: sensitivity[name] for name in weights if name in sensitivity}
    return codec.encode(weights, masks, sensitivity, overrides=overrides, digital=digital)


def load(
    stored: StoredModel, model: nn.Module, seed: int, chip: int = 0, *, side_errors: bool = False
) -> nn.Module:
    """Read a stored model once and put the noisy weights into `model`, in place.

    Parameters
    ----------
    stored : StoredModel
        What :func:`store` returned, or such a model loaded from a file.
    model : torch.nn.Module
        A model of the same architecture; dtype and device of its parameters are kept.
    seed : int
        Seed of this read.
    chip : int
        Number of the chip, which fixes its programming errors (see :meth:`StoredModel.read`).
    side_errors : bool
        Misread signs and ranges as their side cells would be.

    Returns
    -------
    torch.nn.Module
        `model` itself.

    Raises
    ------
    ValueError
        If names or shapes of `stored` and `model` differ; the model is then left as it was.
    """
    target = _state(model)
    values = {**stored.digital, **stored.read(seed, chip=chip, side_errors=side_errors)}
    if values.keys() != target.keys():
        raise ValueError(
            "model: expected the parameters of the stored model; "
            f"missing {sorted(values.keys() - target.keys())}, "
            f"not stored {sorted(target.keys() - values.keys())}"
        )
    for name, value in values.items():
        if value.shape != target[name].shape:
            raise ValueError(
                f"model: expected shape {value.shape} for {name!r}, got {tuple(target[name].shape)}"
            )
    with torch.no_grad():
        for name, value in values.items():
            target[name].copy_(torch.from_numpy(value))
    return model


def _state(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors; of tied tensors (the same memory) the first only."""
    state = model.state_dict() if isinstance(model, nn.Module) else model
    first: dict[object, str] = {}

    def is_first(name: str, tensor: Tensor) -> bool:
        memory = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        return first.setdefault(memory, name) == name

    return {name: tensor for name, tensor in state.items() if is_first(name, tensor)}


def _parameters(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters(remove_duplicate=False)}


def _to_numpy(tensor: Tensor) -> npt.NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()  # exact; numpy has no bfloat16, cells know float32 and float64
    return tensor.numpy()
