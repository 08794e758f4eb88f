"""What the crossbar operators know besides their tensors, as one canonical string."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ... import devices
from ...crossbar import Crossbar, CrossbarSpec
from ...devices import Device
from ...random import stream
from .patches import Geometry

__all__ = ["Circuit", "array_name", "describe", "parse", "seeds"]


_SEEDS = (1 << 64) - 1


class Circuit(NamedTuple):
    """``geometry``: of a convolution; None: a linear layer. Each group is an array of its own.

    ``streams``: of the groups; where there is no name, fresh arrays take those of their weights.
    """

    device: Device
    spec: CrossbarSpec
    geometry: Geometry | None
    groups: int
    streams: tuple[int, ...]
    named: bool

    @property
    def planes(self) -> int:
        """Matrices that the conductances of an array form together."""
        return self.spec.weight_slices * self.spec.polarity_planes

    def passes(self, inputs: int) -> int:
        """Reads that a product of ``inputs`` inputs takes."""
        return self.spec.input_slices * self.planes * -(-inputs // self.spec.rows)


def array_name(layer: str, group: int, groups: int) -> str:
    """Name of the array of one group; it draws its own random numbers."""
    return layer if groups == 1 else f"{layer}.{group}"


@lru_cache(maxsize=1024)
def describe(
    device: Device,
    spec: CrossbarSpec,
    name: str = "",
    geometry: Geometry | None = None,
    groups: int = 1,
) -> str:
    """The string of a layer, JSON with sorted keys.

    Raises
    ------
    TypeError, ValueError
        If device, spec or name is not one, or the device cannot do what the spec says.
    """
    Crossbar(np.ones((1, 1), np.float32), device, spec, name)  # checks them
    what = {
        "device": device.to_dict(),
        "spec": spec.to_dict(),
        "name": name,
        "geometry": geometry,
        "groups": groups,
    }
    return json.dumps(what, sort_keys=True, separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=1024)
def parse(circuit: str) -> Circuit:
    """What :func:`describe` described."""
    what = json.loads(circuit)
    geometry, groups, name = what["geometry"], what["groups"], what["name"]
    return Circuit(
        devices.from_dict(what["device"]),
        CrossbarSpec.from_dict(what["spec"]),
        None if geometry is None else Geometry(*(tuple(values) for values in geometry)),
        groups,
        tuple(stream(array_name(name, g, groups), "crossbar") for g in range(groups)),
        bool(name),
    )


def seeds(key: Tensor) -> tuple[int, int]:
    """Of programming and of reading, from the tensor of their bits."""
    bits = key.tolist()
    return bits[0] & _SEEDS, bits[-1] & _SEEDS
