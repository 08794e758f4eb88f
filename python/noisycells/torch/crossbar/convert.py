"""Turn the layers of a model into crossbar layers and back, in place, and run their life cycle."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...crossbar import CrossbarSpec
from ...crossbar.report import counters
from ...devices import Device
from ...random import check_seed
from ..modes import evaluating
from . import parts as linear_parts
from .circuit import describe
from .layers import (
    CrossbarConv1d,
    CrossbarConv2d,
    CrossbarConv3d,
    CrossbarLayer,
    CrossbarLinear,
    CrossbarTransposedLinear,
)

__all__ = ["at", "calibrate", "convert", "estimate", "program", "restore", "summary"]

Filter = Callable[[nn.Module, str], bool]
Specs = CrossbarSpec | Mapping[str, CrossbarSpec] | Callable[[nn.Module, str], CrossbarSpec]

_CLASSES: dict[type[nn.Module], type[CrossbarLayer]] = {
    nn.Linear: CrossbarLinear,
    nn.Conv1d: CrossbarConv1d,
    nn.Conv2d: CrossbarConv2d,
    nn.Conv3d: CrossbarConv3d,
}
_UNSUPPORTED = (
    nn.modules.conv._ConvTransposeNd,
    nn.Bilinear,
    nn.RNNCellBase,
)
_BYTES = {"float32": 4, "int16": 2, "int8": 1}


def _crossbar_class(module: nn.Module) -> type[CrossbarLayer] | None:
    """The class that ``module`` becomes, if there is one."""
    kind = type(module)
    if kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers."):
        return CrossbarTransposedLinear
    return _CLASSES.get(kind)


# --------------------------------------------------------------------------- there and back


class _Candidate(NamedTuple):
    """A layer that can be converted; ``whole``: the module that it is a part of and gets."""

    name: str
    layer: nn.Module
    whole: nn.Module | None


def convert(
    model: nn.Module,
    device: Device,
    spec: Specs | None = None,
    filter_fn: Filter | None = None,
) -> nn.Module:
    """Let the linear layers and convolutions of a model compute on noisy crossbars, in place.

    Converts :class:`torch.nn.Linear`, Conv1d, Conv2d and Conv3d, ``Conv1D`` of transformers, and
    the linear parts of MultiheadAttention, LSTM, GRU and RNN, whose parameters then have other
    names in the ``state_dict`` (see :mod:`~noisycells.torch.crossbar.parts`). The modules and their
    parameters stay the same objects, so optimizers, hooks and shared layers go on. Subclasses
    are left alone, since what they compute is not known.

    Parameters
    ----------
    model : torch.nn.Module
    device : Device
    spec : CrossbarSpec, mapping or callable, optional
        One for all layers; or by the first pattern (as of a shell) that the layer's name
        matches, the others having the default; or what ``spec(layer, name)`` returns.
    filter_fn : callable, optional
        Layers for which ``filter_fn(layer, name)`` is false stay digital.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    TypeError, ValueError
        If there is nothing to convert, a layer is being pruned or parametrised, or ``device`` or
        a spec is not one; the model is then left as it was.
    """
    chosen = list(_chosen(model, filter_fn))
    if not chosen:
        raise ValueError("model: expected at least one layer to convert, got none")
    specs = [_spec_of(spec, c.layer, c.name) for c in chosen]
    for candidate, one in zip(chosen, specs, strict=True):
        describe(device, one, candidate.name)  # checks all three
    _warn_unsupported(model, filter_fn)
    for whole in {id(c.whole): c.whole for c in chosen if c.whole is not None}.values():
        linear_parts.take_apart(whole)
    for candidate, one in zip(chosen, specs, strict=True):
        layer = model.get_submodule(candidate.name)
        kind = _crossbar_class(layer)
        assert kind is not None
        digital = type(layer)
        layer.__class__ = kind
        assert isinstance(layer, CrossbarLayer)
        layer.become(device, one, candidate.name)
        layer.digital_class = digital
    _leave_fast_paths(model)
    return model


def restore(model: nn.Module) -> nn.Module:
    """Undo :func:`convert`, in place: digital layers with the present weights, without chips."""
    for layer in _layers(model).values():
        layer.release()
    for module in list(model.modules()):
        linear_parts.put_together(module)
        if hasattr(module, "_fast_path"):
            vars(module).update(vars(module).pop("_fast_path"))
    return model


def _chosen(model: nn.Module, filter_fn: Filter | None) -> Iterator[_Candidate]:
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        found = linear_parts.parts(module)
        if found:
            inside.update(module.modules())
            members = {
                part: linear_parts.linear_part(module, *names) for part, names in found.items()
            }
            if isinstance(module, nn.MultiheadAttention):
                members["out_proj"] = linear_parts.linear_part(
                    module.out_proj, "weight", "bias" if module.out_proj.bias is not None else None
                )
            candidates = [
                _Candidate(f"{name}.{part}" if name else part, layer, module)
                for part, layer in members.items()
            ]
        elif _crossbar_class(module) is not None:
            _check_weight(name, module)
            candidates = [_Candidate(name, module, None)]
        else:
            continue
        for candidate in candidates:
            if filter_fn is None or filter_fn(candidate.layer, candidate.name):
                yield candidate


def _check_weight(name: str, module: nn.Module) -> None:
    weight = module._parameters.get("weight")
    if weight is None:
        raise ValueError(
            f"model: expected {name or 'the layer'!r} to have an ordinary weight, got one that is "
            "pruned or parametrised; make it permanent first"
        )


def _spec_of(spec: Specs | None, layer: nn.Module, name: str) -> CrossbarSpec:
    found: Any = spec
    if isinstance(spec, Mapping):
        found = next((s for pattern, s in spec.items() if fnmatchcase(name, pattern)), None)
    elif callable(spec):
        found = spec(layer, name)
    return CrossbarSpec() if found is None else found


def _warn_unsupported(model: nn.Module, filter_fn: Filter | None) -> None:
    left = [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, _UNSUPPORTED) and (filter_fn is None or filter_fn(module, name))
    ]
    if left:
        warnings.warn(f"model: no crossbar layers for {', '.join(left)}; digital", stacklevel=3)


def _leave_fast_paths(model: nn.Module) -> None:
    """torch's fused transformer layers take the weights past the modules that hold them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            attribute: str = "use_nested_tensor"
        elif isinstance(module, nn.TransformerEncoderLayer):
            attribute = "activation_relu_or_gelu"
        else:
            continue
        if _layers(module) and not hasattr(module, "_fast_path"):
            module._fast_path = {attribute: getattr(module, attribute)}  # type: ignore[assignment]
            setattr(module, attribute, 0)


def _layers(model: nn.Module) -> dict[str, CrossbarLayer]:
    return {n: m for n, m in model.named_modules() if isinstance(m, CrossbarLayer)}


def _required(model: nn.Module) -> dict[str, CrossbarLayer]:
    layers = _layers(model)
    if not layers:
        raise ValueError("model: expected crossbar layers, got none; use convert first")
    return layers


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
    seed = check_seed("seed", seed)
    layers = _required(model)
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
    layers = _required(model).values()
    for layer in layers:
        layer.check_at(seconds, extrapolate)
    for layer in layers:
        layer.at(seconds, extrapolate)
    return model


def calibrate(
    model: nn.Module, batches: Iterable[Any], quantile: float = 1.0, vectors: int = 4096
) -> nn.Module:
    """Set the converter ranges that specs leave to calibration, from example data.

    The data runs through the model in ``eval()`` with digital products. Of the inputs of each
    layer, evenly spaced ones are looked at.

    Parameters
    ----------
    model : torch.nn.Module
    batches : iterable
        Inputs of the model: a tensor, a tuple of arguments or a dict of them each.
    quantile : float
        Of the magnitudes that a range covers, in (0, 1].
    vectors : int
        Input vectors (of a convolution: patches) of each layer to look at, about.

    Returns
    -------
    torch.nn.Module
        ``model``.

    Raises
    ------
    ValueError
        If the model has no crossbar layers, a layer saw no data, or an argument is out of range.
    """
    layers = _required(model)
    if vectors < 1:
        raise ValueError(f"vectors: expected at least 1, got {vectors}")
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile: expected a number in (0, 1], got {quantile}")
    given = list(batches)
    share = -(-vectors // max(1, len(given)))
    seen: dict[CrossbarLayer, list[list[Tensor]]] = {layer: [] for layer in layers.values()}
    with evaluating(model), torch.no_grad(), _recording(seen, share):
        for batch in given:
            if isinstance(batch, Mapping):
                model(**batch)
            elif isinstance(batch, (tuple, list)):
                model(*batch)
            else:
                model(batch)
    for name, layer in layers.items():
        if not seen[layer]:
            raise ValueError(f"batches: expected data that reaches {name!r}, got none")
    for layer, found in seen.items():
        layer.calibrate([torch.cat(parts) for parts in zip(*found, strict=True)], quantile)
    return model


@contextmanager
def _recording(seen: dict[CrossbarLayer, list[list[Tensor]]], share: int) -> Iterator[None]:
    """Digital products whose inputs are kept, ``share`` vectors of each call."""

    def recorder(layer: CrossbarLayer) -> Callable[..., Tensor]:
        def forward(x: Tensor, key: Tensor | None = None) -> Tensor:
            groups = layer.vectors(x)
            seen[layer].append([v[:: max(1, len(v) // share)].clone() for v in groups])
            return layer.digital(x)

        return forward

    for layer in seen:
        layer.forward = recorder(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in seen:
            del layer.forward


# --------------------------------------------------------------------------- reports


def estimate(
    model: nn.Module, spec: Specs | None = None, filter_fn: Filter | None = None
) -> list[dict[str, Any]]:
    """What a converted model has, or what :func:`convert` would make of a model; a dry run.

    Parameters
    ----------
    model : torch.nn.Module
    spec, filter_fn
        As for :func:`convert`; not used where the model has crossbar layers.

    Returns
    -------
    list of dict
        For each layer: ``name``, ``kind``, ``shape`` (groups, out, in) of its arrays; ``tiles``
        and ``cells`` (devices that hold weights); ``bytes`` of memory of the chip and its packed
        arrays (with variances of reads where the spec has them, unless the layer's device is
        known to have none); ``programmed``. Layers with weights that stay digital have ``tiles`` 0.
    """
    rows = []
    chosen: dict[str, nn.Module] = {**_layers(model)}
    if not chosen:
        chosen = {c.name: c.layer for c in _chosen(model, filter_fn)}
    for name, layer in chosen.items():
        converted = isinstance(layer, CrossbarLayer)
        one = layer.spec if isinstance(layer, CrossbarLayer) else _spec_of(spec, layer, name)
        groups = getattr(layer, "groups", 1)
        transposed = CrossbarTransposedLinear in (type(layer), _crossbar_class(layer))
        weight: Tensor = layer.weight.T if transposed else layer.weight  # type: ignore[assignment]
        shape = (groups, len(weight) // groups, weight[0].numel())
        counts = counters(shape[1:], one, 1)
        rows.append({
            "name": name,
            "kind": type(layer).__name__,
            "shape": shape,
            "tiles": groups * counts["tiles"],
            "cells": groups * counts["cells"],
            "bytes": groups * _array_bytes(shape[1] * shape[2], one, _noisy_reads(layer, one)),
            "programmed": converted and layer.chip_seed is not None,
        })  # fmt: skip
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    for name, module in model.named_modules():
        parts = [f"{name}.{part}".lstrip(".") for part in linear_parts.parts(module)]
        multiplies = bool(parts) or _crossbar_class(module) or isinstance(module, _UNSUPPORTED)
        if multiplies and chosen.keys().isdisjoint([name, *parts]):
            rows.append({
                "name": name, "kind": type(module).__name__, "shape": (),
                "tiles": 0, "cells": 0, "bytes": 0, "programmed": False,
            })  # fmt: skip
    return sorted(rows, key=lambda row: order.get(row["name"], order.get(_parent(row["name"]), 0)))


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _noisy_reads(layer: nn.Module, spec: CrossbarSpec) -> bool:
    exact = isinstance(layer, CrossbarLayer) and not any(layer.analog.read_variance)
    return spec.noisy_weights and not exact


def _array_bytes(weights: int, spec: CrossbarSpec, noisy_reads: bool) -> int:
    """Of the weights and conductances as programmed and at present, and of the packed planes."""
    cells = spec.weight_slices * spec.devices_per_polarity * 2
    kind = ("int8" if spec.kernel == "int8" else "int16") if spec.integer else "float32"
    packed = _BYTES[kind] + (noisy_reads and (1 if spec.integer else 4))
    return weights * (4 + 2 * 4 * cells + spec.weight_slices * spec.polarity_planes * packed)


def summary(model: nn.Module, spec: Specs | None = None, filter_fn: Filter | None = None) -> str:
    """:func:`estimate` as a table, with totals."""
    rows = estimate(model, spec, filter_fn)
    lines = [("layer", "kind", "arrays", "tiles", "cells", "memory", "")]
    for row in rows:
        if row["tiles"]:
            groups, n, k = row["shape"]
            arrays = f"{n} x {k}" if groups == 1 else f"{groups} of {n} x {k}"
            state = "programmed" if row["programmed"] else ""
        else:
            arrays, state = "", "digital"
        lines.append((
            row["name"], row["kind"], arrays, f"{row['tiles']:,}", f"{row['cells']:,}",
            _memory(row["bytes"]), state,
        ))  # fmt: skip
    totals = {key: sum(row[key] for row in rows) for key in ("tiles", "cells", "bytes")}
    lines.append((
        "total", "", "", f"{totals['tiles']:,}", f"{totals['cells']:,}",
        _memory(totals["bytes"]), "",
    ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 2 < i < 6 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _memory(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
