"""Converted and programmed models in files: :func:`save_chip` and :func:`load_chip`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import _arguments
from ..crossbar import CrossbarSpec
from ..devices import Device, from_dict
from ..io import DecodeError, FormatError, Reader, Writer, dumps
from ..io.dtypes import WITHOUT_NUMPY
from ..random import STREAM_VERSION
from ..storage.fields import Field, computed, json_field, metadata_fields, stream_version
from .checks import check_module
from .crossbar.convert import convert, restore
from .crossbar.fold import NORMS, FoldedNorm
from .crossbar.selection import chosen_layers, crossbar_layers, required

__all__ = ["load_chip", "save_chip"]

KIND = "chip"
_T = TypeVar("_T")
_BITS = {getattr(torch, usual): name for name, usual in WITHOUT_NUMPY.items()}
_INTEGERS = {1: torch.uint8, 2: torch.int16}


def save_chip(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a converted model to a safetensors file, with its chips, ranges, devices and specs.

    All of the ``state_dict`` is in it, weights and digital parameters too, under its names, and
    a checksum of each tensor. The file is at ``path`` when it is complete; until then what was
    there stays.

    Parameters
    ----------
    model : torch.nn.Module
        Converted, programmed or not.
    path : path-like

    Raises
    ------
    TypeError, ValueError
        If the model has no crossbar layers, or its state holds something other than tensors of
        dtypes that safetensors has.
    OSError
        If the file cannot be written.
    """
    check_module(model)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    layers = {
        name: {"device": layer.analog.to_dict(), "spec": layer.spec.to_dict(), "name": layer.name}
        for name, layer in required(model).items()
    }
    folded = {
        name: isinstance(module, FoldedNorm)
        for name, module in model.named_modules()
        if isinstance(module, nn.Identity)
    }
    state = model.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise _arguments.wrong_type("model", f"a state of tensors, but for {name!r}", tensor)
    with Writer(path) as writer:
        for name, tensor in state.items():
            array, dtype = _bits(tensor)
            writer.add(name, array, dtype)
        writer.metadata |= {
            "kind": KIND,
            "stream_version": str(STREAM_VERSION),
            "layers": dumps(layers),
            "folded": dumps(folded),
        }


def load_chip(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Make of a model the one that :func:`save_chip` wrote, in place.

    Parameters
    ----------
    path : path-like
    model : torch.nn.Module
        Of the same architecture: digital, as it was before :func:`convert` or :func:`deploy` (batch
        normalization that was folded then is folded away), or converted in the same way. Its dtype
        and device are kept.

    Returns
    -------
    torch.nn.Module
        ``model``, which gives what the saved one gave, bit for bit with the same reads.

    Raises
    ------
    FormatError, DecodeError, OSError
        If the file is not one of :func:`save_chip`, damaged, or cannot be read.
    ValueError
        If the model is another one; it is then digital as it was, but for folded layers.
    """
    check_module(model, to_change=True)
    with Reader(path) as reader:
        if reader.metadata.get("kind") != KIND:
            said = _arguments.expectation("a model on a chip (save_chip)", "another file")
            raise FormatError(f"{path}: {said}")
        try:
            made, folded = _described(reader)
        except ValueError as error:
            raise DecodeError(f"{path}: {error}") from None
        state = {name: _tensor(reader, name) for name in reader.entries}
    before = crossbar_layers(model)
    if not before:
        _fold_away(model, folded, state)
    try:
        if not before:
            for device in {one[0] for one in made.values()}:
                _convert(model, device, {n: one[1] for n, one in made.items() if one[0] == device})
        _check_layers(path, model, made)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise _arguments.wrong_value("model", f"that of {path}", error) from None
    except BaseException:
        if not before and crossbar_layers(model):
            restore(model)
        raise
    return model


_Layer = tuple[Device, CrossbarSpec, str]


def _described(reader: Reader) -> tuple[dict[str, _Layer], dict[str, bool]]:
    """Device, spec and name of each crossbar layer, and which folded norms are behind a linear one.

    Raises ValueError, which names the field, where the metadata say something else.
    """
    fields = metadata_fields(reader, {"kind", "stream_version", "layers", "folded"})
    version = stream_version(fields["stream_version"])
    if version != STREAM_VERSION:
        fields["stream_version"].fail(f"{STREAM_VERSION!r}, whose draws the chip goes on with")
    made = {}
    for name, field in _members(json_field(fields["layers"])).items():
        parts = field.members({"device", "spec", "name"})
        device = _made(parts["device"], from_dict)
        made[name] = device, _made(parts["spec"], CrossbarSpec.from_dict), parts["name"].text()
    folded = _members(json_field(fields["folded"]))
    return made, {name: field.boolean() for name, field in folded.items()}


def _members(field: Field) -> dict[str, Field]:
    return field.members(set(), set(field.value) if isinstance(field.value, dict) else set())


def _made(field: Field, make: Callable[[Any], _T]) -> _T:
    return computed(field, lambda: make(field.value))


def _convert(model: nn.Module, device: Device, specs: dict[str, CrossbarSpec]) -> None:
    """Convert the layers that have a spec, if any; the first device takes LSTMs and such apart."""

    def known(_: nn.Module, name: str) -> bool:
        return name in specs

    if chosen_layers(model, known):
        convert(model, device, lambda _, name: specs[name], known)


def _check_layers(path: Any, model: nn.Module, made: dict[str, _Layer]) -> None:
    found = {name: (layer.analog, layer.spec) for name, layer in crossbar_layers(model).items()}
    wanted = {name: (device, spec) for name, (device, spec, _) in made.items()}
    wrong = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if wrong:
        more = ", ..." if len(wrong) > 5 else ""
        raise _arguments.wrong_value(
            "model",
            f"crossbar layers, devices and specs of {path}",
            f"others for {', '.join(wrong[:5])}{more}",
        )
    for name, layer in crossbar_layers(model).items():
        layer.rename(made[name][2])


def _fold_away(model: nn.Module, folded: dict[str, bool], state: dict[str, Tensor]) -> None:
    """Leave batch normalizations out that the saved model has in the layers before them."""
    modules = dict(model.named_modules())
    for name, linear in folded.items():
        if isinstance(modules.get(name), NORMS):
            model.set_submodule(name, FoldedNorm() if linear else nn.Identity())
    for name, module in modules.items():
        bias = state.get(f"{name}.bias")
        if bias is not None and module._parameters.get("bias", bias) is None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            module.bias = nn.Parameter(torch.zeros(bias.shape).to(weight))


def _bits(tensor: Tensor) -> tuple[npt.NDArray[Any], str | None]:
    """An array, and the dtype of the bits in it where numpy does not have it."""
    tensor = tensor.detach().cpu().contiguous()
    name = _BITS.get(tensor.dtype)
    if name is None:
        return tensor.numpy(), None
    bits = tensor.view(_INTEGERS[tensor.element_size()]).numpy()
    return bits.view(np.dtype(f"u{tensor.element_size()}")), name


def _tensor(reader: Reader, name: str) -> Tensor:
    """A tensor of the file, in its dtype."""
    array, dtype = reader.read(name), reader.entries[name].dtype
    if dtype not in WITHOUT_NUMPY:
        return torch.from_numpy(array)
    signed = array.view(np.int16) if array.itemsize == 2 else array
    return torch.from_numpy(signed).view(getattr(torch, WITHOUT_NUMPY[dtype]))
