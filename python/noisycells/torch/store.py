"""Store a whole model in analog cells, and load a noisy read-back of it in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import _arguments
from ..io import widen
from ..io.dtypes import WITHOUT_NUMPY
from ..storage import Analog, AnalogModel, Codec, CodedModel, ModelInCells, StoredModel
from ..storage.modes.mode import Mode
from ..storage.selection import belongs_in_cells
from .checks import check_module
from .crossbar.layers import CrossbarLayer

__all__ = ["load", "store"]

Masks = Mapping[str, npt.NDArray[np.bool_]] | str | None
Numbers = Mapping[str, npt.NDArray[np.floating[Any]]] | None

_WITHOUT_NUMPY = {getattr(torch, usual): name for name, usual in WITHOUT_NUMPY.items()}
"""What safetensors calls the dtypes that numpy does not have."""


@overload
def store(
    model: nn.Module | Mapping[str, Tensor],
    codec: Codec,
    *,
    mask: Masks = None,
    sensitivity: Numbers = None,
    moments: Numbers = None,
    overrides: Mapping[str, Codec] | None = None,
    store_biases: bool = False,
) -> StoredModel: ...


@overload
def store(
    model: nn.Module | Mapping[str, Tensor],
    codec: Mode,
    *,
    mask: Masks = None,
    sensitivity: Numbers = None,
    moments: Numbers = None,
    overrides: Mapping[str, Mode] | None = None,
    store_biases: bool = False,
) -> CodedModel: ...


@overload
def store(
    model: nn.Module | Mapping[str, Tensor],
    codec: Analog,
    *,
    mask: Masks = None,
    sensitivity: Numbers = None,
    moments: Numbers = None,
    overrides: Mapping[str, Analog] | None = None,
    store_biases: bool = False,
) -> AnalogModel: ...


def store(
    model: nn.Module | Mapping[str, Tensor],
    codec: Codec | Mode | Analog,
    *,
    mask: Masks = None,
    sensitivity: Numbers = None,
    moments: Numbers = None,
    overrides: Mapping[str, Any] | None = None,
    store_biases: bool = False,
) -> StoredModel | CodedModel | AnalogModel:
    """Encode the weights of a model into cells.

    Weights are the floating-point parameters with two dimensions or more. Biases, normalization
    layers (:func:`noisycells.storage.selection.belongs_in_cells`), buffers and integers stay
    digital; they are kept in ``StoredModel.digital`` in the dtype that they have and counted in
    ``StoredModel.cost``. A tensor used under several names (tied weights) is stored once, under
    the first; the others are in ``StoredModel.aliases``. Of crossbar layers the weights are
    stored; their chips, which are other devices, are not.

    Parameters
    ----------
    model : torch.nn.Module or mapping of str to Tensor
        A model or its state dict. In a state dict buffers cannot be told from parameters, so
        floating-point buffers with two dimensions or more are taken for weights.
    codec : Codec, storage.Coded, storage.Levels or storage.Analog
        How the weights are stored.
    mask : mapping of str to ndarray of bool, "nonzero" or None
        The weights to store, by parameter name, as :func:`magnitude_prune` returns them; the
        others read back as zero. A parameter without a mask is stored whole. ``"nonzero"``
        stores what is not zero.
    sensitivity : mapping of str to ndarray, optional
        How much a squared error of each weight counts when thresholds and cells are chosen, by
        parameter name, such as :func:`sensitivity` returns. What it says of parameters that stay
        digital does not matter; a name of no parameter is refused.
    moments : mapping of str to ndarray, optional
        Second moments of layer inputs, such as :func:`input_moments` returns, with which the
        coded modes feed rounding errors back, and the analog one those of programmed cells;
        :class:`noisycells.Codec` takes none.
    overrides : mapping of str to Codec, optional
        Codecs for the parameters whose names match a pattern, as in :meth:`Codec.encode`.
    store_biases : bool
        Store biases in cells too, other than those of normalization layers.

    Returns
    -------
    StoredModel, or CodedModel of the coded modes, or AnalogModel

    Raises
    ------
    TypeError
        If ``moments`` are given to a :class:`noisycells.Codec`, or a tensor is sparse, on the meta
        device, or of a dtype that numpy and safetensors do not have.
    ValueError
        If the model holds no weights or is still being pruned, a mask names no weight, a
        sensitivity no parameter, or a weight is not finite.
    """
    if not isinstance(codec, (Codec, Mode, Analog)):
        expected = "a Codec, storage.Coded, storage.Levels or storage.Analog"
        raise _arguments.wrong_type("codec", expected, codec)
    state, aliases = _untied(_state(model))
    names = _checked_names(model, state, store_biases)
    if sensitivity is not None:
        sensitivity = _of_weights("sensitivity", sensitivity, state, aliases, names)
    if moments is not None:
        moments = _of_weights("moments", moments, state, aliases, names)
    arrays = {name: _to_numpy(name, tensor) for name, tensor in state.items()}
    dtypes = {
        name: _WITHOUT_NUMPY[tensor.dtype]
        for name, tensor in state.items()
        if tensor.dtype in _WITHOUT_NUMPY
    }
    weights = {name: arrays[name] for name in names}
    # copies: later training must not change them
    digital = {name: array.copy() for name, array in arrays.items() if name not in names}
    given: dict[str, Any] = {"overrides": overrides, "digital": digital}
    if not isinstance(codec, Codec):
        given["moments"] = moments
    elif moments is not None:
        raise _arguments.wrong_kind(
            "moments", "none with a Codec, which does not feed errors back", "some"
        )
    stored: StoredModel | CodedModel | AnalogModel
    stored = codec.encode(weights, mask, sensitivity, **given)
    return replace(stored.with_dtypes(dtypes), aliases=aliases)


def load(
    stored: StoredModel | CodedModel | AnalogModel,
    model: nn.Module,
    seed: int,
    chip: int = 0,
    *,
    side_errors: bool = False,
) -> nn.Module:
    """Read a stored model once and put the noisy weights into ``model``, in place.

    Chips of crossbar layers stay as they are: program them again.

    Parameters
    ----------
    stored : StoredModel, CodedModel or AnalogModel
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
        ``model`` itself.

    Raises
    ------
    DecodeError
        If a block of a coded model cannot be decoded.
    ValueError
        If names or shapes of ``stored`` and ``model`` differ, tensors that ``model`` ties are
        stored apart, or a number is beyond the range of the parameter's dtype; the model is then
        left as it was.
    """
    if not isinstance(stored, ModelInCells):
        hint = "; noisycells.load(path) reads a file" if isinstance(stored, (str, PathLike)) else ""
        raise _arguments.wrong_kind("stored", "a stored model", f"{stored!r:.60}{hint}")
    check_module(model)
    names = {name: name for name in (*stored, *stored.digital)} | stored.aliases
    target, tied = _untied(_state(model))
    _check_names(names, target, tied)
    read = stored.read(seed, chip=chip, side_errors=side_errors)
    values = {}
    for name, tensor in target.items():
        source = next(names[n] for n in (name, *_aliases_of(name, tied)) if n in names)
        value = read[source] if source in read else stored.digital[source]
        values[name] = _converted(name, value, tensor)
    with torch.no_grad():
        for name, converted in values.items():
            target[name].copy_(converted)
    return model


def to_store(
    model: nn.Module | Mapping[str, Tensor],
    store_biases: bool,
    mask: Masks,
    sensitivity: Numbers,
    moments: Numbers,
) -> dict[str, Any]:
    """What :func:`store` hands to a codec, by the arguments' names."""
    state, aliases = _untied(_state(model))
    names = _checked_names(model, state, store_biases)
    given = {"sensitivity": sensitivity, "moments": moments}
    return {
        "weights": {name: _to_numpy(name, state[name]) for name in names},
        "mask": mask,
        **{
            key: None if value is None else _of_weights(key, value, state, aliases, names)
            for key, value in given.items()
        },
    }


def _checked_names(
    model: nn.Module | Mapping[str, Tensor], state: Mapping[str, Tensor], store_biases: bool
) -> list[str]:
    """The weights to store; refused where there are none, or the model is being pruned."""
    _check_finished(state)
    names = _names_in_cells(model, state, _arguments.flag("store_biases", store_biases))
    if not names:
        raise _arguments.wrong_value("model", "at least one weight to store", "none")
    return names


def _check_names(
    names: Mapping[str, str], target: Mapping[str, Tensor], tied: Mapping[str, str]
) -> None:
    """Check that the stored names are those of the model, and tied where the model's are."""
    missing = names.keys() - target.keys() - tied.keys()
    groups = {name: [name, *_aliases_of(name, tied)] for name in target}
    absent = {name for name, group in groups.items() if not names.keys() & set(group)}
    if missing or absent:
        raise _arguments.wrong_value(
            "model",
            "the parameters of the stored model",
            f"one without {sorted(missing)} and with {sorted(absent)}, which are not stored",
        )
    for group in groups.values():
        apart = {names[name] for name in group if name in names}
        if len(apart) > 1:
            raise _arguments.wrong_value(
                "model", f"{sorted(apart)}, stored apart, not to be tied", "one that ties them"
            )


def _aliases_of(name: str, tied: Mapping[str, str]) -> list[str]:
    return [alias for alias, first in tied.items() if first == name]


def _converted(name: str, value: npt.NDArray[Any], target: Tensor) -> Tensor:
    """A value in the dtype of the tensor that it is for."""
    if value.shape != target.shape:
        raise _arguments.wrong_value(
            "model", f"shape {value.shape} for {name!r}", tuple(target.shape)
        )
    converted = torch.from_numpy(value).to(target.dtype)
    if not np.isfinite(value).all() or not target.is_floating_point():
        return converted
    if not converted.float().isfinite().all():
        raise _arguments.wrong_value(
            "model", f"a dtype for {name!r} that holds {np.abs(value).max():g}", target.dtype
        )
    return converted


def _of_weights(
    name: str,
    given: Mapping[str, Any],
    state: Mapping[str, Tensor],
    aliases: Mapping[str, str],
    weights: Sequence[str],
) -> dict[str, Any]:
    """What is given by parameter names, of the weights by their first names."""
    if not isinstance(given, Mapping):
        raise _arguments.wrong_type(name, "a mapping of parameter names", given)
    _arguments.names(name, given, [*state, *aliases], "names of parameters")
    first = {aliases.get(key, key): value for key, value in given.items()}
    return {key: value for key, value in first.items() if key in weights}


def _state(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors, without the chips of crossbar layers."""
    if not isinstance(model, (nn.Module, Mapping)):
        raise _arguments.wrong_type("model", "a torch.nn.Module or its state dict", model)
    state = model.state_dict() if isinstance(model, nn.Module) else model
    chips = _chips(model)
    kept = {name: value for name, value in state.items() if name not in chips}
    for name, value in kept.items():
        if not isinstance(value, Tensor):
            raise _arguments.wrong_kind("model", "tensors", f"{type(value).__name__} for {name!r}")
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            kind = "one on the meta device" if value.is_meta else "one that is sparse or quantized"
            raise _arguments.wrong_kind("model", "dense tensors with numbers", f"{kind}: {name!r}")
    return kept


def _chips(model: nn.Module | Mapping[str, Tensor]) -> set[str]:
    """Names of what crossbar layers hold beside their parameters: their chips."""
    if isinstance(model, nn.Module):
        return {
            f"{prefix}.{name}".removeprefix(".")
            for prefix, layer in model.named_modules(remove_duplicate=False)
            if isinstance(layer, CrossbarLayer)
            for name in (*layer._buffers, "_extra_state")
        }
    layers = {
        prefix + dot
        for name, value in model.items()
        for prefix, dot, last in [name.rpartition(".")]
        if last == "chip_seed" or (last == "identity" and value.dtype is torch.uint8)
    }
    return {
        name
        for name in model
        for prefix, dot, last in [name.rpartition(".")]
        if prefix + dot in layers
        and (last.startswith("chip_") or last in ("ranges", "identity", "_extra_state"))
    }


def _untied(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under their first names, and what tensor every further name is of.

    Tensors are tied where they are the same memory, shape and dtype.
    """
    first: dict[object, str] = {}
    tied = {}
    for name, tensor in state.items():
        memory: object = name
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr())
            memory = (*place, tensor.dtype, tensor.shape, tensor.stride())
        found = first.setdefault(memory, name)
        if found != name:
            tied[name] = found
    return {name: tensor for name, tensor in state.items() if name not in tied}, tied


def _check_finished(state: Mapping[str, Tensor]) -> None:
    for name in state:
        if name.endswith("_orig") and f"{name.removesuffix('_orig')}_mask" in state:
            raise _arguments.wrong_value(
                "model",
                "finished weights",
                f"{name!r} of a pruning in progress; call "
                "noisycells.torch.make_permanent(model) first",
            )


def _names_in_cells(
    model: nn.Module | Mapping[str, Tensor], state: Mapping[str, Tensor], store_biases: bool
) -> list[str]:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    buffers = set()
    if isinstance(model, nn.Module):
        buffers = state.keys() - {
            name for name, _ in model.named_parameters(remove_duplicate=False)
        }
    return [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point()
        and name not in buffers
        and belongs_in_cells(name, shapes, store_biases)
    ]


def _to_numpy(name: str, tensor: Tensor) -> npt.NDArray[Any]:
    """The numbers of a tensor; of a dtype that numpy does not have in float32."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype in _WITHOUT_NUMPY:
        bits = torch.uint16 if tensor.itemsize == 2 else torch.uint8
        return widen(tensor.contiguous().view(bits).numpy(), _WITHOUT_NUMPY[tensor.dtype])
    try:
        return tensor.numpy()
    except TypeError:
        raise _arguments.wrong_kind(
            "model", f"a dtype of numpy for {name!r}", tensor.dtype
        ) from None
