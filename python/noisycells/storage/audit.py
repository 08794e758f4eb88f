"""What stored weights lose and carry, beside Shannon's limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _arguments, random
from .._types import F64
from ..channel import Channel

if TYPE_CHECKING:
    from .model import ModelInCells

__all__ = ["Audit", "TensorAudit", "audit", "capacities"]

AVERAGED = 4
VERIFIED = 0.5
"""What verifying leaves of the programming noise's standard deviation, for the capacity."""
DECIBELS = 20 * math.log10(2)
"""Of a bit a weight."""


@dataclass(frozen=True)
class TensorAudit:
    """What became of a tensor.

    Attributes
    ----------
    name : str
    weights, stored : int
        All, and those that are not pruned; of pruned ones there are no figures.
    variance, bias : float
        Mean variance of a read weight, and mean squared difference of its mean from what it should
        be, as shares of the weights' variance. Without the weights, ``bias`` is None.
    gaussian_bits, source_bits : float or None
        Bits a stored weight that Shannon's bound asks for that much error: of a Gaussian,
        1/2 log2(variance / error); of the weights as they are distributed, h - 1/2 log2(2 pi e
        error) with the differential entropy h of their histogram. None where nothing is lost.
    """

    name: str
    weights: int
    stored: int
    variance: float
    bias: float | None
    gaussian_bits: float | None
    source_bits: float | None

    @property
    def decibels(self) -> float | None:
        """Signal to error; None where nothing is lost."""
        error = self.variance + (self.bias or 0.0)
        return -10 * math.log10(error) if error > 0 else None


@dataclass(frozen=True)
class Audit:
    """Of a model: see :func:`audit`.

    Attributes
    ----------
    tensors : tuple of TensorAudit
    cells : int
        All cells.
    capacity : dict of str to float or None
        Bits a cell of the channel: "nominal", and where it has a ``read_std`` with the mean of 4
        "reads", "verified" and with "both". None where it is not bounded.
    carried : float or None
        Bits a cell that are carried behind an error-correcting code; None without one.
    """

    tensors: tuple[TensorAudit, ...]
    cells: int
    capacity: dict[str, float | None]
    carried: float | None

    @property
    def stored(self) -> int:
        """Weights that are not pruned."""
        return sum(tensor.stored for tensor in self.tensors)

    def needed(self, bits: str = "source_bits") -> float | None:
        """Bits a cell that the errors and the places of pruned weights ask for.

        Places are counted as n H2(p) for n weights of which a share p is stored. None where errors
        are not known.
        """
        total = 0.0
        for tensor in self.tensors:
            each = getattr(tensor, bits)
            if each is None and tensor.stored:
                return None
            p = tensor.stored / max(1, tensor.weights)
            places = sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)
            total += (each or 0.0) * tensor.stored + places * tensor.weights
        return total / max(1, self.cells)

    def distance(self, setting: str = "nominal", bits: str = "source_bits") -> float | None:
        """Bits a stored weight that the same cells could carry beyond what is needed."""
        capacity, needed = self.capacity[setting], self.needed(bits)
        if capacity is None or needed is None:
            return None
        return (capacity - needed) * self.cells / max(1, self.stored)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return {
            "tensors": [asdict(t) | {"decibels": t.decibels} for t in self.tensors],
            "cells": self.cells,
            "capacity": self.capacity,
            "carried": self.carried,
            "needed": {name: self.needed(f"{name}_bits") for name in _SOURCES},
            "distance": {
                setting: {name: self.distance(setting, f"{name}_bits") for name in _SOURCES}
                for setting in self.capacity
            },
        }

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("tensor", "stored", "variance", "bias^2", "dB", "Gaussian", "source")
        ]
        for t in self.tensors:
            figures = (_shown(t.decibels, ".2f"), *(_shown(b) for b in _bits(t)))
            row = (t.name, f"{t.stored:,}", f"{t.variance:.3g}", _shown(t.bias, ".3g"), *figures)
            rows.append(row)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(w) if k == 0 else text.rjust(w) for k, (text, w) in enumerate(
                zip(row, widths, strict=True)))
            for row in rows
        ]  # fmt: skip
        lines.append(f"{self.cells:,} cells, bits a cell:")
        for name in _SOURCES:
            lines.append(f"  needed, {name:<9}{_shown(self.needed(f'{name}_bits'))}")
        lines.append(f"  carried by code  {_shown(self.carried)}")
        for setting, capacity in self.capacity.items():
            away = self.distance(setting)
            beyond = "" if away is None else (
                f", {away:.3f} bits ({DECIBELS * away:.2f} dB) a stored weight from the limit"
            )  # fmt: skip
            lines.append(f"  capacity, {setting:<9}{_shown(capacity)}{beyond}")
        return "\n".join(lines)


_SOURCES = ("gaussian", "source")


def _bits(tensor: TensorAudit) -> tuple[float | None, float | None]:
    return tensor.gaussian_bits, tensor.source_bits


def _shown(value: float | None, how: str = ".3f") -> str:
    return "-" if value is None else f"{value:{how}}"


def audit(
    stored: ModelInCells[Any],
    weights: Mapping[str, ArrayLike] | None,
    repeats: int,
    seed: int,
) -> Audit:
    """What the ``audit`` of a stored model gives.

    Parameters
    ----------
    stored : stored model
        In cells of one kind.
    weights : mapping of str to array_like, optional
        What was stored, pruned weights being 0. Without it, errors are those of reads about their
        mean.
    repeats : int
        Reads, each of another chip, at least 2.
    seed : int
        Of these reads.
    """
    kinds = stored.channels
    if len(kinds) != 1:
        raise _arguments.wrong_value("model", "cells of one kind", f"{len(kinds)} kinds")
    (channel,) = kinds
    repeats = _arguments.count("repeats", repeats, 2)
    key = _arguments.seed("seed", seed)
    first = {name: read.astype(np.float64) for name, read in stored.read(key, chip=key).items()}
    sums = {name: np.zeros_like(first[name]) for name in stored}
    squares = {name: np.zeros_like(first[name]) for name in stored}
    for _ in range(repeats - 1):
        key = random.fold_in(key, 1)
        read = stored.read(key, chip=key)
        for name in stored:
            away = read[name] - first[name]  # so that little is lost in the difference of squares
            sums[name] += away
            squares[name] += away**2
    tensors = []
    for name in stored:
        away = sums[name] / repeats
        variance = np.maximum(squares[name] - repeats * away**2, 0) / (repeats - 1)
        true = None if weights is None else _of_shape(name, weights, away.shape)
        mean, count = first[name] + away, int(stored[name].stored)
        kept = np.ones(mean.shape, bool)
        if count < mean.size:
            kept = (mean != 0) if true is None else (mean != 0) | (true != 0)
        tensors.append(_tensor(name, count, mean, variance, true, kept, repeats))
    return Audit(tuple(tensors), stored.cost.total_cells, capacities(channel), stored.carried)


def _of_shape(name: str, weights: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> F64:
    if name not in weights:
        raise _arguments.wrong_value("weights", f"those of {name!r} too", sorted(weights))
    found = np.asarray(weights[name], np.float64)
    if found.shape != shape:
        raise _arguments.wrong_value(f"weights {name!r}", f"shape {shape}", found.shape)
    return found


def _tensor(
    name: str,
    count: int,
    mean: F64,
    variance: F64,
    true: F64 | None,
    kept: NDArray[np.bool_],
    repeats: int,
) -> TensorAudit:
    values = (mean if true is None else true)[kept]
    power = float(values.var()) if len(values) else 0.0
    if not power > 0:
        return TensorAudit(name, mean.size, count, 0.0, None if true is None else 0.0, None, None)
    noise = float(variance[kept].mean())
    bias = None
    if true is not None:
        # The mean of some reads still has a share of their variance.
        off = float(np.square(mean[kept] - true[kept]).mean()) - noise / repeats
        bias = max(off, 0.0)
    error = noise + (bias or 0.0)
    gaussian = source = None
    if error > 0:
        gaussian = max(0.5 * math.log2(power / error), 0.0)
        source = max(_entropy(values) - 0.5 * math.log2(2 * math.pi * math.e * error), 0.0)
    share = None if bias is None else bias / power
    return TensorAudit(name, mean.size, count, noise / power, share, gaussian, source)


def _entropy(values: F64) -> float:
    """Differential entropy in bits, of a histogram with Scott's width of the bins."""
    width = 3.49 * float(values.std()) * len(values) ** (-1 / 3)
    bins = np.floor((values - values.min()) / width).astype(np.int64)
    p = np.bincount(bins) / len(values)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum()) + math.log2(width)


def capacities(channel: Channel) -> dict[str, float | None]:
    """Bits a cell as it is, and with less of either noise where reads are told apart."""
    found = {"nominal": _capacity(channel, 1, 1.0)}
    if channel.read_std is not None:
        found["reads"] = _capacity(channel, AVERAGED, 1.0)
        found["verified"] = _capacity(channel, 1, VERIFIED)
        found["both"] = _capacity(channel, AVERAGED, VERIFIED)
    return found


def _capacity(channel: Channel, reads: int, programming: float) -> float | None:
    if channel.read_std is not None:
        written, read = channel.std_parts_at(channel.x)
        read = read / math.sqrt(reads)
        std = np.hypot(written * programming, read)
        changed = {"std": std.tolist(), "read_std": read.tolist()}
        channel = Channel.from_dict({**channel.to_dict(), **changed})
    bits = channel.capacity()
    return bits if math.isfinite(bits) else None
