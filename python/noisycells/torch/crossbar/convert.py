"""Turn the layers of a model into crossbar layers and back, in place, and run their life cycle."""

from __future__ import annotations

import warnings
from collections import Counter

from torch import Tensor, nn

from ... import _arguments
from ...crossbar import CrossbarSpec
from ...devices import Device, DeviceLike, computing
from ..checks import Filter, check_module
from . import parts as linear_parts
from .circuit import describe
from .layers import CrossbarLayer
from .selection import (
    Digital,
    Specs,
    chosen_layers,
    crossbar_class,
    crossbar_layers,
    digital_layers,
    required,
    specs_of,
)

__all__ = ["at", "convert", "program", "restore"]

# --------------------------------------------------------------------------- there and back


def convert(
    model: nn.Module,
    device: DeviceLike,
    spec: Specs | None = None,
    filter_fn: Filter | None = None,
) -> nn.Module:
    """Let the linear layers and convolutions of a model compute on noisy crossbars, in place.

    Converts :class:`torch.nn.Linear`, Conv1d, Conv2d and Conv3d, ``Conv1D`` of transformers, and
    the linear parts of MultiheadAttention, LSTM, GRU and RNN, whose parameters then have other
    names in the ``state_dict`` (see :mod:`~noisycells.torch.crossbar.parts`). The modules and their
    parameters stay the same objects, so optimizers, hooks and shared layers go on. Subclasses
    are left alone, since what they compute is not known, with one warning that names them.

    Parameters
    ----------
    model : torch.nn.Module
    device : Device or str
        A device, or its name or JSON file.
    spec : CrossbarSpec, mapping or callable, optional
        One for all layers; or by the first pattern (as of a shell) that the layer's name
        matches, the others having the default (a pattern that matches none is refused); or what
        ``spec(layer, name)`` returns.
    filter_fn : callable, optional
        Layers for which ``filter_fn(layer, name)`` is false stay digital.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError
        If there is nothing to convert, a layer is being pruned or parametrized, or ``device`` or
        a spec is not one; the model is then left as it was.
    """
    check_module(model, to_change=True)
    chosen = chosen_layers(model, filter_fn)
    if not chosen:
        wanted = "" if filter_fn is None else " that filter_fn wants"
        raise _arguments.wrong_value("model", f"at least one layer to convert{wanted}", "none")
    layers = {candidate.name: candidate.layer for candidate in chosen}
    specs = specs_of(spec, layers)
    device = computing(device)
    for name, one in specs.items():
        describe(device, one, name)  # checks all three
    _warn_digital(
        digital_layers(model, layers, filter_fn), sum(_size(layer) for layer in layers.values())
    )
    for whole in {id(c.whole): c.whole for c in chosen if c.whole is not None}.values():
        linear_parts.take_apart(whole)
    for name, one in specs.items():
        _become(model.get_submodule(name), device, one, name)
    _leave_fast_paths(model)
    return model


def _become(layer: nn.Module, device: Device, spec: CrossbarSpec, name: str) -> None:
    kind, digital = crossbar_class(layer), type(layer)
    assert kind is not None
    layer.__class__ = kind
    assert isinstance(layer, CrossbarLayer)
    layer.become(device, spec, name)
    layer.digital_class = digital


def _size(layer: nn.Module) -> int:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.numel()


def _warn_digital(digital: list[Digital], converted: int) -> None:
    """One warning for all layers that were wanted and have no crossbar layer."""
    left = [one for one in digital if one.wanted]
    if left:
        weights = sum(one.weights for one in left)
        total = converted + sum(one.weights for one in digital)
        names = ", ".join(f"{one.name} ({type(one.module).__name__})" for one in left)
        lazy = any(not one.weights for one in left)
        warnings.warn(
            f"model: no crossbar layers for {names}; they stay digital, with {weights:,} of "
            f"{total:,} weights"
            + (" (without those that are not initialized: run the model once first)" * lazy),
            stacklevel=3,
        )


def restore(model: nn.Module) -> nn.Module:
    """Undo :func:`convert`, in place: digital layers with the present weights, without chips."""
    check_module(model)
    for layer in crossbar_layers(model).values():
        layer.release()
    for module in list(model.modules()):
        linear_parts.put_together(module)
        if hasattr(module, "_fast_path"):
            vars(module).update(vars(module).pop("_fast_path"))
    return model


def _leave_fast_paths(model: nn.Module) -> None:
    """torch's fused transformer layers take the weights past the modules that hold them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            attribute: str = "use_nested_tensor"
        elif isinstance(module, nn.TransformerEncoderLayer):
            attribute = "activation_relu_or_gelu"
        else:
            continue
        if crossbar_layers(module) and not hasattr(module, "_fast_path"):
            module._fast_path = {attribute: getattr(module, attribute)}  # type: ignore[assignment]
            setattr(module, attribute, 0)


# --------------------------------------------------------------------------- life cycle


def program(model: nn.Module, seed: int) -> nn.Module:
    """Program the weights of all crossbar layers on a chip, a pure function of ``seed``.

    Layers keep the names that :func:`convert` gave them. Where one has none, or two have the same,
    as in parts converted one by one, all get those that they have in ``model``.

    Parameters
    ----------
    model : torch.nn.Module
    seed : int in [0, 2**64)

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    ValueError
        If the model has no crossbar layers.
    """
    check_module(model)
    seed = _arguments.seed("seed", seed)
    layers = required(model)
    named = Counter(layer.name for layer in layers.values())
    if any(not layer.name or named[layer.name] > 1 for layer in layers.values()):
        for name, layer in layers.items():
            layer.rename(name)
    for layer in layers.values():
        layer.program(seed)
    return model


def at(model: nn.Module, seconds: float, extrapolate: bool = False) -> nn.Module:
    """Let the chip be as it is at a time after programming, before or after the present one.

    Parameters
    ----------
    model : torch.nn.Module
    seconds : float
    extrapolate : bool
        Allow times beyond those at which a device was measured.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    RuntimeError
        If a layer has not been programmed.
    ValueError
        If the model has no crossbar layers, or a device is not known at that time.
    """
    check_module(model)
    extrapolate = _arguments.flag("extrapolate", extrapolate)
    layers = required(model).values()
    for layer in layers:
        layer.check_at(seconds, extrapolate)
    for layer in layers:
        layer.at(seconds, extrapolate)
    return model
