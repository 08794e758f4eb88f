"""Kinds of noise on weights: Gaussian, that of storage in cells, that of devices of crossbars."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ... import _arguments, random
from ..._types import LARGEST
from ...crossbar import Crossbar, CrossbarSpec
from ...devices import DeviceLike, computing
from ...storage import Codec

__all__ = ["Bounds", "Eta", "Gaussian", "Kind", "Programmed", "Stored", "extent", "std"]

Eta = float | tuple[float, float] | Callable[[int], float]
Bounds = dict[str, tuple[float, float]]

_NORMS = ("range", "absmax", "std", "absolute")


class Kind(Protocol):
    """Draws noisy weights, as a pure function of the weights and a key."""

    def draw(self, weights: dict[str, Tensor], key: int) -> dict[str, Tensor]:
        """New tensors, of the same dtypes and devices; those left out stay clean."""

    def strength(self, name: str, weight: Tensor, key: int) -> tuple[float | None, float]:
        """(eta or None, sigma in units of the weights) of a draw."""


class Gaussian:
    """``w + sigma * z``, with z standard normal; see :func:`~noisycells.torch.inject_noise`.

    ``names`` are those of the weights that ``eta`` may speak of; ``bounds`` are ranges to take
    sigma from instead of the weights' own.
    """

    def __init__(
        self, eta: Eta | Mapping[str, Eta], norm: str, names: Collection[str], bounds: Bounds
    ) -> None:
        self.norm = _arguments.choice("norm", norm, _NORMS)
        self.etas = _etas(eta, names)
        self.bounds = bounds

    def draw(self, weights: dict[str, Tensor], key: int) -> dict[str, Tensor]:
        """Noisy weights; those without noise are left out."""
        noisy = {}
        for name, weight in weights.items():
            _, sigma = self.strength(name, weight, key)
            if sigma:
                z = _standard_normal(weight, key, random.stream(name, "noise"))
                noisy[name] = z.mul_(sigma).add_(weight).to(weight.dtype)
        return noisy

    def strength(self, name: str, weight: Tensor, key: int) -> tuple[float, float]:
        """(eta, sigma) of a draw."""
        eta = _resolve(self.etas[name], key)
        return eta, eta * self._unit(name, weight)

    def _unit(self, name: str, weight: Tensor) -> float:
        """Sigma for eta = 1."""
        if self.norm == "absolute":
            return 1.0
        if self.norm == "std":
            return std(weight)
        low, high = self.bounds.get(name) or extent(name, weight)
        return high - low if self.norm == "range" else max(-low, high)


def chip_of(key: int) -> int:
    """The chip of the draw with that key: none of those numbered ``fold_in(seed, i)``.

    Tests number their chips so, and networks must not have seen them in training.
    """
    return random.fold_in(key, random.stream("noise"))


class _Measured:
    """Strength of noise that has no formula: the root mean square of one draw."""

    def draw(self, weights: dict[str, Tensor], key: int) -> dict[str, Tensor]:
        raise NotImplementedError

    def strength(self, name: str, weight: Tensor, key: int) -> tuple[None, float]:
        error = self.draw({name: weight}, key)[name].float() - weight.float()
        return None, float(error.square().mean().sqrt())


class Stored(_Measured):
    """Weights written through a storage codec and read back (Isik et al. 2020, section 2.3)."""

    def __init__(self, codec: Codec) -> None:
        self.codec = _arguments.instance("codec", codec, Codec)

    def draw(self, weights: dict[str, Tensor], key: int) -> dict[str, Tensor]:
        """What a new chip gives back of the weights."""
        arrays = {name: _to_numpy(weight) for name, weight in weights.items()}
        chip = chip_of(key)
        if self.codec.scope == "model":
            read = self.codec.encode(arrays, "nonzero").read(chip, chip=chip)
        else:
            read = {
                name: self.codec.transmit(array, chip, array != 0, name=name, chip=chip)
                for name, array in arrays.items()
            }
        return {name: _like(read[name], weight) for name, weight in weights.items()}


class Programmed(_Measured):
    """Weights as the differential pairs of a crossbar hold them (Zhou et al. 2020, figure 1)."""

    def __init__(
        self, device: DeviceLike, spec: CrossbarSpec | None, seconds: float | None
    ) -> None:
        self.device, self.spec, self.seconds = computing(device), spec, seconds
        self._weights("", np.ones((1, 1), np.float32), 0)  # checks all three

    def draw(self, weights: dict[str, Tensor], key: int) -> dict[str, Tensor]:
        """What a new chip holds of the weights."""
        return {
            name: _like(self._weights(name, _to_numpy(weight), chip_of(key)), weight)
            for name, weight in weights.items()
        }

    def _weights(self, name: str, weight: npt.NDArray[Any], seed: int) -> npt.NDArray[np.float32]:
        matrix = weight.reshape(len(weight), -1)
        crossbar = Crossbar(matrix, self.device, self.spec, name=name).program(seed)
        if self.seconds is not None:
            crossbar.at(self.seconds)
        return crossbar.effective_weights().reshape(weight.shape)


# --------------------------------------------------------------------------- tensors


def _standard_normal(like: Tensor, key: int, stream: int) -> Tensor:
    """Standard normals of the shape, device and strides of ``like``; float32, or float64."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if like.device.type == "cpu":
        z = torch.empty(like.shape, dtype=torch.float32)
        random.standard_normal(tuple(like.shape), key, stream, out=z.numpy())
        if like.is_contiguous() and dtype == torch.float32:
            return z
        return torch.empty_like(like, dtype=dtype).copy_(z)
    generator = torch.Generator(like.device).manual_seed(random.fold_in(key, stream))
    return torch.empty_like(like, dtype=dtype).normal_(generator=generator)


def _to_numpy(weight: Tensor) -> npt.NDArray[Any]:
    return weight.detach().to("cpu", torch.promote_types(weight.dtype, torch.float32)).numpy()


def _like(value: npt.NDArray[np.float32], weight: Tensor) -> Tensor:
    """As a tensor with the device, dtype and strides of ``weight``."""
    tensor = torch.from_numpy(value)
    if weight.is_contiguous() and weight.device.type == "cpu":
        return tensor.to(weight.dtype)
    return torch.empty_like(weight, requires_grad=False).copy_(tensor)


def extent(name: str, weight: Tensor) -> tuple[float, float]:
    """Smallest and largest weight.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite.
    """
    low, high = (float(value) for value in torch.aminmax(weight.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _arguments.wrong_value("model", "finite weights", f"NaN or infinity in {name!r}")
    return low, high


def std(weight: Tensor) -> float:
    """Standard deviation of all elements."""
    return float(weight.detach().float().std(correction=0))


# --------------------------------------------------------------------------- arguments


def _etas(eta: Eta | Mapping[str, Eta], names: Collection[str]) -> dict[str, Eta]:
    """By name of the parameter; those that no pattern matches are left out."""
    if not isinstance(eta, Mapping):
        return dict.fromkeys(names, _check_eta(eta))
    if not eta:
        raise _arguments.wrong_value("eta", "patterns that match a weight", "none")
    _arguments.patterns("eta", eta, names, "a weight")
    found = {}
    for name in names:
        pattern = next((pattern for pattern in eta if fnmatchcase(name, pattern)), None)
        if pattern is not None:
            found[name] = _check_eta(eta[pattern])
    return found


def _check_eta(eta: Any) -> Eta:
    if callable(eta):
        found: Eta = eta
        return found
    if not isinstance(eta, tuple):
        return _strength(eta)
    values = tuple(map(_strength, eta))
    if len(values) != 2 or values[0] > values[1]:
        raise _arguments.wrong_value("eta", "a pair (low, high) in ascending order", repr(eta))
    return values


def _strength(eta: Any) -> float:
    return _arguments.number("eta", eta, 0, LARGEST)


def _resolve(eta: Eta, key: int) -> float:
    """Eta of the draw with that key."""
    if callable(eta):
        return _strength(eta(key))
    if isinstance(eta, tuple):
        low, high = eta
        return low + (high - low) * random.fold_in(key, random.stream("eta")) / 2**64
    return eta
