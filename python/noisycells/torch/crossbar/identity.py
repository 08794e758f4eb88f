"""Whose chip a state is: the device, spec and versions that its conductances are of."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..._arguments import wrong_value
from ...crossbar.state import STATE_VERSION
from ...random import STREAM_VERSION

if TYPE_CHECKING:
    from .layers import CrossbarLayer

__all__ = ["correction_alone", "differences", "read", "same_weights", "written"]

_CHIP = (
    "chip_conductances",
    "chip_scale",
    "chip_ranges",
    "chip_weight",
    "chip_seed",
    "chip_seconds",
)
_KEYS = ("version", "stream_version", "device", "spec", "name")


def _of(layer: CrossbarLayer) -> dict[str, Any]:
    return {
        "version": STATE_VERSION,
        "stream_version": STREAM_VERSION,
        "device": layer.analog.to_dict(),
        "spec": layer.spec.to_dict(),
        "name": layer.name,
    }


def written(layer: CrossbarLayer) -> Tensor:
    """The identity of a layer as uint8 (bytes,), a JSON text."""
    text = json.dumps(_of(layer), sort_keys=True, allow_nan=False)
    return torch.tensor(list(text.encode()), dtype=torch.uint8, device="cpu")


def read(tensor: Tensor) -> dict[str, Any]:
    """What :func:`written` wrote; empty where it is not that."""
    try:
        found = json.loads(bytes(tensor.tolist()))
    except (ValueError, TypeError, RecursionError):
        return {}
    known = isinstance(found, dict) and set(_KEYS) <= set(found) and isinstance(found["name"], str)
    return found if known else {}


def differences(layer: CrossbarLayer, given: dict[str, Tensor]) -> list[ValueError]:
    """Why a state with these tensors is none for ``layer``, an error each; none where it is."""
    if "identity" not in given:
        return [_wrong("the device and spec that the chip is of", "a state without")]
    theirs, ours = read(given["identity"]), _of(layer)
    if not theirs:
        return [_wrong("a JSON text with device and spec", "something else")]
    wrong = []
    for key in ("version", "stream_version"):
        if theirs[key] != ours[key]:
            wrong.append(_wrong(f"{key} {ours[key]}", theirs[key]))
    for key in ("device", "spec"):
        if theirs[key] != json.loads(json.dumps(ours[key])):
            wrong += _differences(key, ours[key], theirs[key])
    if not wrong:
        wrong = _tensors(layer, given)
    chip_stays = layer.chip_seed is not None and "chip_seed" not in given
    if chip_stays and not same_weights(layer, given):
        right = "those of the chip that the layer has"
        wrong.append(wrong_value("smoothing, limits", right, "others"))
    return wrong


def correction_alone(given: dict[str, Tensor], of_chip: Tensor | None) -> list[ValueError]:
    """That a state has an adapter of one chip, but not the chip; nothing where it has not."""
    if of_chip is None or not of_chip.any() or "chip_seed" in given:
        return []
    return [wrong_value("adapter.chip", "it with the chip that it corrects", "none")]


def same_weights(layer: CrossbarLayer, given: dict[str, Tensor]) -> bool:
    """Whether a state smoothes inputs and limits weights as the layer does."""
    pairs = ((given.get("smoothing"), layer.smoothing), (given.get("limits"), layer.limits))
    return all(
        theirs is ours
        if theirs is None or ours is None
        else theirs.shape == ours.shape and torch.equal(theirs.to(ours), ours)
        for theirs, ours in pairs
    )


_wrong = partial(wrong_value, "identity")


def _differences(part: str, ours: dict[str, Any], theirs: Any) -> list[ValueError]:
    """Both values where they differ, by name, of a device or spec."""
    ours = json.loads(json.dumps(ours))
    if not isinstance(theirs, dict):
        return [_wrong(f"{part} as a mapping", repr(theirs))]
    if ours.get("device") != theirs.get("device"):
        return [_wrong(f"{part} {ours.get('device')!r}", repr(theirs.get("device")))]
    return [
        _wrong(f"{part} with {key} {ours.get(key)!r}", repr(theirs.get(key)))
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key)
    ]


def _tensors(layer: CrossbarLayer, given: dict[str, Tensor]) -> list[ValueError]:
    """Parts that are missing, and tensors that are no chip of weights such as the layer's."""
    groups, matrix = layer.arrays, layer.matrix()
    n, k = len(matrix), matrix[0].numel()
    passes, spec = layer.spec.passes(k), layer.spec
    cells = (spec.weight_slices, spec.devices_per_polarity, 2, n // groups, k)
    expected = {
        "chip_conductances": (groups, *cells),
        "chip_programmed": (groups, *cells),
        "chip_scale": (groups, n // groups),
        "chip_ranges": (groups, 1 + passes),
        "chip_row": (groups, k),
        "chip_weight": (n, k),
        "chip_seed": (1,),
        "chip_seconds": (1,),
        "ranges": (groups, 1 + passes),
        "smoothing": (groups * matrix.shape[1],),
        "limits": (n,),
    }
    required = _CHIP if any(name.startswith("chip_") for name in given) else ()
    wrong = [
        wrong_value(name, "it with the rest of the chip", "none")
        for name in required
        if name not in given
    ]
    for name, shape in expected.items():
        if name in given and tuple(given[name].shape) != shape:
            wrong.append(wrong_value(name, f"shape {shape}", tuple(given[name].shape)))
        elif name in given:
            wrong += _values(name, given[name])
    return wrong


def _values(name: str, tensor: Tensor) -> list[ValueError]:
    """What is wrong with the numbers of a tensor."""
    dtype = {"chip_seed": torch.int64, "chip_seconds": torch.float64}.get(name, torch.float32)
    if tensor.dtype is not dtype:
        return [wrong_value(name, str(dtype), tensor.dtype)]
    if name == "chip_seconds":  # NaN: just programmed
        wrong = tensor.lt(0) | tensor.isinf()
        return [wrong_value(name, "a time", f"{tensor.item():g}")] if wrong else []
    if tensor.isfinite().all():
        return []
    return [wrong_value(name, "finite numbers", "NaN or infinity")]
