"""What a model takes on crossbars: :func:`estimate` and :func:`summary`."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

from ..._text import table
from ...crossbar import CrossbarSpec, arithmetic
from ...crossbar.report import counters
from ..checks import Filter, check_module
from .layers import CrossbarLayer
from .linear import CrossbarTransposedLinear
from .repeated import repeated
from .selection import (
    Specs,
    chosen_layers,
    crossbar_class,
    crossbar_layers,
    digital_layers,
    specs_of,
)

__all__ = ["estimate", "summary"]

_BYTES = {"float32": 4, "int16": 2, "int8": 1}


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
        For each layer: ``name``, ``kind``, ``shape`` (groups, out, in) of its arrays; ``weights``
        and their ``share`` of all that are listed, in [0, 1]; ``tiles`` and ``cells`` (devices that
        hold weights); ``bytes`` of memory of the chip and its packed arrays (with variances of
        reads where the spec has them, unless the layer's device is known to have none);
        ``programmed``. Layers that multiply with weights and stay digital have ``tiles`` 0, and
        ``weights`` 0 where they are not initialized yet.
    """
    check_module(model)
    layers: dict[str, nn.Module] = {**crossbar_layers(model)}
    if layers:
        specs = {n: layer.spec for n, layer in crossbar_layers(model).items()}
    else:
        layers = {c.name: c.layer for c in chosen_layers(model, filter_fn)}
        specs = specs_of(spec, layers)
    rows = [_analog_row(name, layer, specs[name]) for name, layer in layers.items()]
    rows += [
        {
            "name": one.name, "kind": type(one.module).__name__, "shape": (),
            "weights": one.weights, "tiles": 0, "cells": 0, "bytes": 0, "programmed": False,
        }
        for one in digital_layers(model, layers, None)
    ]  # fmt: skip
    total = sum(row["weights"] for row in rows)
    for row in rows:
        row["share"] = row["weights"] / total if total else 0.0
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return sorted(rows, key=lambda row: order.get(row["name"], order.get(_parent(row["name"]), 0)))


def _analog_row(name: str, layer: nn.Module, spec: CrossbarSpec) -> dict[str, Any]:
    groups = getattr(layer, "groups", 1)
    transposed = CrossbarTransposedLinear in (type(layer), crossbar_class(layer))
    weight: Tensor = layer.weight.T if transposed else layer.weight  # type: ignore[assignment]
    shape = (groups, len(weight) // groups, weight[0].numel())
    if isinstance(layer, CrossbarLayer):
        spec = arithmetic.chosen(spec, layer.analog)
    counts = counters(shape[1:], spec, 1)
    return {
        "name": name,
        "kind": type(layer).__name__,
        "shape": shape,
        "weights": weight.numel(),
        "tiles": groups * counts["tiles"],
        "cells": groups * counts["cells"],
        "bytes": groups * _array_bytes(shape[1] * shape[2], spec, _noisy_reads(layer, spec)),
        "programmed": isinstance(layer, CrossbarLayer) and layer.chip_seed is not None,
    }


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _noisy_reads(layer: nn.Module, spec: CrossbarSpec) -> bool:
    exact = isinstance(layer, CrossbarLayer) and not any(layer.analog.read_variance)
    return spec.noisy_weights and not exact


def _array_bytes(weights: int, spec: CrossbarSpec, noisy_reads: bool) -> int:
    """Of the weights and conductances as programmed and at present, and of the packed planes."""
    cells = spec.weight_slices * spec.devices_per_polarity * 2
    kind = spec.kernel if spec.kernel != "auto" else "int16" if spec.integer else "float32"
    packed = _BYTES[kind] + (noisy_reads and (1 if spec.integer else 4))
    return weights * (4 + 2 * 4 * cells + spec.weight_slices * spec.polarity_planes * packed)


def summary(model: nn.Module, spec: Specs | None = None, filter_fn: Filter | None = None) -> str:
    """:func:`estimate` as a table, with totals.

    Layers that differ only in a number of their names, as those of repeated blocks, are one line.
    """
    rows = estimate(model, spec, filter_fn)
    lines: list[tuple[str, ...]] = [
        ("layer", "kind", "layers", "arrays", "weights", "tiles", "cells", "memory", "")
    ]
    for name, alike in repeated(rows):
        row = alike[0]
        if row["tiles"]:
            groups, n, k = row["shape"]
            arrays = f"{n} x {k}" if groups == 1 else f"{groups} of {n} x {k}"
            state = "programmed" if row["programmed"] else ""
        else:
            arrays, state = "", "digital" if row["weights"] else "digital, not initialized"
        lines.append((name, row["kind"], f"{len(alike)}", arrays, *_sums(alike), state))
    weights, *others = _sums([row for row in rows if row["tiles"]])
    lines.append(("total", "", f"{len(rows)}", "", f"{weights} analog", *others, ""))
    return "\n".join(table(lines, "<<><>>>><", limit=sys.maxsize))  # a string, for whatever use


def _sums(rows: list[dict[str, Any]]) -> tuple[str, str, str, str]:
    """Share of the weights, tiles, cells and memory of all rows together."""
    share, tiles, cells, size = (
        sum(row[key] for row in rows) for key in ("share", "tiles", "cells", "bytes")
    )
    return f"{100 * share:.1f} %", f"{tiles:,}", f"{cells:,}", _memory(size)


def _memory(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
