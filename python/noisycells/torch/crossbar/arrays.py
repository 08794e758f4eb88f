"""The arrays behind the crossbar operators, and the products of a layer over its groups."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import _arguments
from ...crossbar import CrossbarSpec, Packed, Ranges, mapping
from ...random import key, stream, unnamed
from . import fallback, fused
from .circuit import Circuit, parse, seeds
from .patches import BLOCK_ELEMENTS, Geometry, blocks, core_convolution, patches

__all__ = [
    "Handle",
    "Products",
    "fresh_products",
    "joined",
    "parts",
    "plane_weights",
    "programmed_planes",
    "programmed_products",
]


# --------------------------------------------------------------------------- the arrays

_Elsewhere = fused.Chip | fallback.Array  # than in the core's memory


class _Chip(NamedTuple):
    """Packed arrays, one for each group, and what they were packed from."""

    stamp: list[tuple[int, int]]
    circuit: Circuit
    packed: list[Packed]
    elsewhere: dict[tuple[torch.device, torch.dtype], list[_Elsewhere]]
    planes: list[Tensor]  # one or none: those of the packed arrays


_chips: dict[int, _Chip] = {}


_numbers = count()


class Handle:
    """A number that a layer's packed arrays are kept under while it lives; a copy has its own."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        weakref.finalize(self, _chips.pop, self.number, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Handle:
        return Handle()

    def __reduce__(self) -> tuple[type[Handle], tuple[()]]:
        return Handle, ()


def _stamp(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Other where the tensors are others, or were written to (but in inference mode)."""
    return [(t.data_ptr(), -1 if t.is_inference() else t._version) for t in tensors]


def _programmed_arrays(
    chip: Sequence[Tensor], circuit: Circuit, handle: int, x: Tensor
) -> Sequence[Packed | _Elsewhere]:
    """Arrays of every group for inputs such as ``x``, kept under ``handle`` if it is >= 0."""
    stamp = _stamp(chip)
    known = _chips.get(handle)
    if known is None or known.stamp != stamp or known.circuit is not circuit:
        known = _Chip(stamp, circuit, _packed(chip, circuit), {}, [])
        if handle >= 0:
            _chips[handle] = known
    if _core_takes(x):
        return known.packed
    where = (x.device, x.dtype)
    if where not in known.elsewhere:
        known.elsewhere[where] = [
            fused.Chip(packed, x.device) if fused.takes(x, packed.spec) else _moved(packed, x)
            for packed in known.packed
        ]
    return known.elsewhere[where]


def _packed(chip: Sequence[Tensor], circuit: Circuit) -> list[Packed]:
    conductances, scale, ranges, *row = (t.detach().cpu().numpy() for t in chip)
    return [
        Packed(
            np.ascontiguousarray(conductances[g]),
            circuit.device,
            circuit.spec,
            mapping.Scales(scale[g], row[0][g] if row else None),
            _ranges(ranges[g]),
            stream=circuit.streams[g],
        )
        for g in range(circuit.groups)
    ]


def _moved(packed: Packed, like: Tensor) -> fallback.Array:
    planes = list(packed.planes())
    variances = [p.variance for p in planes if p.variance is not None]

    def tensor(array: Any) -> Tensor:
        return like.new_tensor(array)

    adc = packed.ranges.adc if packed.spec.adc_bits is not None else None
    return fallback.Array(
        packed.spec,
        packed.stream,
        packed.chip,
        tensor(np.stack([p.values for p in planes])),
        tensor(np.stack(variances)) if variances else None,
        packed.plane_factors.tolist(),
        tensor(packed.scales.output),
        None if packed.scales.row is None else tensor(packed.scales.row),
        packed.ranges.dac,
        None if adc is None else tensor(adc),
    )


def _ranges(ranges: Any) -> Ranges:
    """Of one group, ``ranges`` (1 + passes,); -1 stands for none."""
    dac, adc = float(ranges[0]), ranges[1:]
    return Ranges(dac if dac > 0 else None, adc if adc[0] >= 0 else None)


def _fresh_arrays(
    weight: Tensor, ranges: Tensor | None, circuit: Circuit, seed: int
) -> list[Packed] | list[fallback.Array]:
    """Program every group; Packed where the core computes."""
    n = len(weight) // circuit.groups
    matrix = weight.detach().reshape(len(weight), -1)
    given = None if ranges is None else ranges.detach().cpu().numpy()
    if _core_takes(weight):
        weights = matrix.contiguous().numpy()
        return [
            _fresh_packed(weights[g * n : (g + 1) * n], given, circuit, g, seed)
            for g in range(circuit.groups)
        ]
    if not matrix.isfinite().all():
        raise _arguments.wrong_value("weight", "finite values", "NaN or infinity")
    arrays = []
    for g in range(circuit.groups):
        group = matrix[g * n : (g + 1) * n]
        number = _stream(circuit, g, group)
        dac, adc = Ranges() if given is None else _ranges(given[g])
        if isinstance(circuit.spec.dac_range, float):
            dac = circuit.spec.dac_range
        _require_ranges(circuit.spec, dac, adc)
        arrays.append(
            fallback.programmed(
                group,
                circuit.device,
                circuit.spec,
                fallback.generator(weight.device, key(seed, "torch crossbar chip", number)),
                number,
                seed,
                dac,
                None if adc is None else torch.from_numpy(adc).to(matrix),
            )
        )
    return arrays


def _stream(circuit: Circuit, group: int, weights: Tensor) -> int:
    """Of a fresh array: by its name or, as for a Crossbar, by its weights."""
    if circuit.named:
        return circuit.streams[group]
    return stream(unnamed(weights.cpu().numpy()), "crossbar")


def _require_ranges(spec: CrossbarSpec, dac: float | None, adc: Any) -> None:
    for name, found in (("dac_range", dac), ("adc_range", adc)):
        if getattr(spec, name) == "calibrated" and found is None:
            raise _arguments.wrong_value(
                name, "calibrate() before a product where the range is 'calibrated'", "none"
            )


def _fresh_packed(weights: Any, given: Any, circuit: Circuit, group: int, seed: int) -> Packed:
    layer = mapping.Layer.of(weights, circuit.spec)
    if not np.isfinite(layer.scales.output).all():
        raise _arguments.wrong_value("weight", "finite values", "NaN or infinity")
    number = _stream(circuit, group, torch.from_numpy(weights))
    conductances = mapping.program(layer, circuit.device, circuit.spec, seed, number)
    ranges = Ranges() if given is None else _ranges(given[group])
    return Packed(conductances, circuit.device, circuit.spec, layer.scales, ranges, stream=number)


def _core_takes(x: Tensor) -> bool:
    return x.is_cpu and x.dtype is torch.float32


# --------------------------------------------------------------------------- products


Products = tuple[Tensor, Tensor | None, Sequence[Packed | _Elsewhere]]
"""y; the packed masks of all groups, None where they are not wanted or there is no ADC; arrays."""


def fresh_products(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    key: Tensor,
    ranges: Tensor | None,
    circuit: str,
    save: bool,
) -> Products:
    """On arrays that are programmed for them; ``save`` the masks for gradients."""
    what = parse(circuit)
    chip, read = seeds(key)
    arrays = _fresh_arrays(weight, ranges, what, chip)
    return *_products(x, arrays, bias, what, read, save), arrays


def programmed_products(
    x: Tensor,
    chip: Sequence[Tensor],
    bias: Tensor | None,
    key: Tensor,
    circuit: str,
    handle: int,
    save: bool,
) -> Products:
    """On arrays that were programmed before."""
    what = parse(circuit)
    arrays = _programmed_arrays(chip, what, handle, x)
    return *_products(x, arrays, bias, what, seeds(key)[1], save), arrays


def parts(tensor: Tensor, groups: int, dim: int = 0) -> Sequence[Tensor]:
    """Of each group."""
    return (tensor,) if groups == 1 else tensor.chunk(groups, dim)


def joined(found: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Of all groups."""
    return found[0] if len(found) == 1 else torch.cat(list(found), dim)


def plane_weights(arrays: Sequence[Packed | _Elsewhere]) -> Tensor:
    """Noisy weights of each plane of all groups, (planes, out, in)."""
    return joined([_planes(array) for array in arrays], 1)


def programmed_planes(arrays: Sequence[Packed | _Elsewhere], handle: int) -> Tensor:
    """Those of programmed arrays, made once; not to be changed."""
    known = _chips.get(handle)
    if known is None or known.packed is not arrays:
        return plane_weights(arrays)
    if not known.planes:
        known.planes.append(plane_weights(arrays))
    return known.planes[0]


def _planes(array: Packed | _Elsewhere) -> Tensor:
    if isinstance(array, fallback.Array):
        return array.effective_weights()
    return torch.from_numpy(array.plane_weights()) if isinstance(array, Packed) else array.planes


def _products(
    x: Tensor,
    arrays: Sequence[Packed | _Elsewhere],
    bias: Tensor | None,
    circuit: Circuit,
    seed: int,
    save: bool,
) -> tuple[Tensor, Tensor | None]:
    """y and the packed masks of all groups; None where they are not wanted or there is no ADC."""
    groups, geometry = circuit.groups, circuit.geometry
    x = x.detach() if x.requires_grad else x
    bias = bias.detach() if bias is not None and bias.requires_grad else bias
    rows = x if geometry is not None or x.ndim == 2 else x.reshape(-1, x.shape[-1])
    biases: Sequence[Tensor | None] = [None] * groups
    if bias is not None:
        biases = parts(bias, groups)
    found = [
        _core_product(part, array, b, geometry, seed, save)
        if isinstance(array, Packed)
        else _product(part, array, b, geometry, seed, save)
        for part, array, b in zip(parts(rows, groups, 1), arrays, biases, strict=True)
    ]
    y = joined([y for y, _ in found], 1)
    if geometry is not None:
        size = geometry.output_size(tuple(x.shape[2:]))
        y = y.reshape(x.shape[0], *size, y.shape[1]).movedim(-1, 1)
    elif x.ndim != 2:
        y = y.reshape(*x.shape[:-1], y.shape[1])
    masks = [inside for _, inside in found if inside is not None]
    return y, joined(masks) if masks else None


def _core_product(
    x: Tensor, packed: Packed, bias: Tensor | None, geometry: Geometry | None, seed: int, save: bool
) -> tuple[Tensor, Tensor | None]:
    """Rows of y, and masks; by the compiled core."""
    convolution = None
    if geometry is None:
        batch = x.shape[0]
        y = x.new_empty(batch, packed.n)
    else:
        convolution, lead = core_convolution(geometry), [1] * (3 - len(geometry.kernel))
        size = [len(x), *lead, *geometry.output_size(tuple(x.shape[2:]))]
        x = x.reshape(*x.shape[:2], *lead, *x.shape[2:])
        batch, y = math.prod(size), x.new_empty(*size, packed.n)
    inside = None
    if save and packed.spec.adc_bits is not None:
        inside = packed.inside(batch)
    if batch:
        offset = None if bias is None else bias.contiguous().numpy()
        packed.product(x.contiguous().numpy(), y.numpy(), seed, offset, inside, convolution)
    return (
        y if geometry is None else y.reshape(-1, packed.n),
        None if inside is None else torch.from_numpy(inside),
    )


def _product(
    x: Tensor,
    array: _Elsewhere,
    bias: Tensor | None,
    geometry: Geometry | None,
    seed: int,
    save: bool,
) -> tuple[Tensor, Tensor | None]:
    """Rows of y, and masks; on the tensor's device."""
    if isinstance(array, fused.Chip):
        chip, k, most = array, array.packed.k, fused.PATCH_ELEMENTS

        def multiply(rows: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
            return chip.product(rows, bias, seed, first, save=save)
    else:
        floats, k, most = array, array.values.shape[2], BLOCK_ELEMENTS
        number = key(seed, "torch crossbar read", array.stream, array.chip)
        random = fallback.generator(x.device, number)

        def multiply(rows: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
            return fallback.product(rows, floats, random, bias, save=save)

    if geometry is None:
        return multiply(x, 0)
    positions = math.prod(geometry.output_size(tuple(x.shape[2:])))
    found = [
        multiply(patches(x[part], geometry), part.start * positions)
        for part in blocks(len(x), positions * k, most)
    ]
    masks = [inside for _, inside in found if inside is not None]
    return torch.cat([y for y, _ in found]), torch.cat(masks, dim=1) if masks else None
