"""The jobs that are measured, their rivals in numpy and torch, and the cases made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import devices, random
from .._types import F32, F64
from ..channel import Channel
from ..crossbar import Crossbar, CrossbarSpec
from ..storage import Codec, StoredTensor
from .timing import Call, Contenders, torch_or_none

__all__ = [
    "CASES",
    "OURS",
    "Case",
    "Numpy",
    "Storing",
    "Torch",
    "Weights",
    "cell_inputs",
    "linear",
    "matmul",
    "normals",
    "product",
    "sample",
    "sample_by",
    "smooth_cell",
    "transmit",
]


Lookup = Callable[[Any], list[Any]]
"""New arrays of the values of some tables, which share their knots, at given inputs."""

OURS = "noisycells"

KEPT = 0.9
THRESHOLD = 0.05
INVERSE_ROWS = 4096  # as many as the codec's own table
BATCH, INPUTS, OUTPUTS = 512, 1024, 1024
ROWS = 256

# --------------------------------------------------------------------------- the rivals' libraries


class Numpy:
    """What the jobs take of numpy, written plainly."""

    name = "numpy"
    module: ModuleType = np

    def __init__(self) -> None:
        self.generator = np.random.default_rng(1)

    def array(self, values: Any) -> Any:
        """A numpy array as an array of this library; they share memory."""
        return values

    def parts(self, n: int) -> Iterator[slice]:
        """The slices of ``n`` elements that are worked on at a time: here one."""
        yield slice(0, n)

    def table(self, knots: F64, *values: F64) -> Lookup:
        """Linear interpolation in tables; here by ``np.interp``, in float64."""
        return lambda x: [np.interp(x, knots, value) for value in values]

    def inverse(self, channel: Channel) -> Lookup:
        """The cell inputs that give some outputs."""
        return self.table(channel.mean, channel.x)

    def choose(self, flags: Any, of_false: float, of_true: float) -> Any:
        """One of two numbers for each flag."""
        return np.where(flags, np.float32(of_true), np.float32(of_false))

    def noisy(self, mean: Any, std: Any, out: Any) -> Any:
        """Write draws of N(mean, std^2) to ``out``; ``std`` may be it, or is overwritten."""
        std *= self.generator.standard_normal(len(std), np.float32)
        return np.add(std, mean, out=out, casting="same_kind")

    def where(self, mask: Any, job: Callable[[Any], Any], x: Any, out: Any) -> None:
        """Write ``job`` of the elements of ``x`` that a mask keeps to ``out``."""
        kept = np.flatnonzero(mask)
        out[kept] = job(x.take(kept))


class Torch:
    """The same of torch."""

    name = "torch"

    def __init__(self, torch: ModuleType) -> None:
        self.module = torch
        self.generator = torch.Generator().manual_seed(1)

    def array(self, values: Any) -> Any:
        """A numpy array as a tensor; they share memory."""
        return self.module.from_numpy(values)

    def parts(self, n: int) -> Iterator[slice]:
        """The slices of ``n`` elements that are worked on at a time: here one."""
        yield slice(0, n)

    def table(self, knots: F64, *values: F64) -> Lookup:
        """Linear interpolation between uniform knots: index, and ``torch.lerp``."""
        torch, low, last = self.module, float(knots[0]), len(knots) - 2
        per_unit = (len(knots) - 1) / float(np.ptp(knots))
        tables = [torch.from_numpy(value.astype(np.float32)) for value in values]

        def look_up(x: Any) -> list[Any]:
            place = (x - low) * per_unit
            row = place.long().clamp_(0, last)
            fraction = place - row
            return [torch.lerp(value[row], value[row + 1], fraction) for value in tables]

        return look_up

    def inverse(self, channel: Channel) -> Lookup:
        """The cell inputs that give some outputs, from a table with uniform outputs."""
        outputs = np.linspace(*channel.range, INVERSE_ROWS)
        return self.table(outputs, channel.inverse(outputs))

    def choose(self, flags: Any, of_false: float, of_true: float) -> Any:
        """One of two numbers for each flag."""
        return self.module.where(flags, of_true, of_false)

    def noisy(self, mean: Any, std: Any, out: Any) -> Any:
        """Write draws of N(mean, std^2) to ``out``, which may be ``std``."""
        drawn = self.module.randn(len(std), generator=self.generator)
        return self.module.addcmul(mean, std, drawn, out=out)

    def where(self, mask: Any, job: Callable[[Any], Any], x: Any, out: Any) -> None:
        """Write ``job`` of ``x`` to ``out``, and 0 where a mask does not keep the element.

        Computing the other elements too is faster in torch than gathering those that are kept.
        """
        self.module.mul(job(x), mask, out=out)


Library = Numpy | Torch


def libraries() -> Iterator[Library]:
    """numpy, and torch where it is installed."""
    yield Numpy()
    if torch := torch_or_none():
        yield Torch(torch)


# --------------------------------------------------------------------------- the jobs


def normals(n: int) -> Contenders:
    """Fill an array with ``n`` standard normals."""
    out, numpy_out = np.empty(n, np.float32), np.empty(n, np.float32)
    generator = np.random.default_rng(1)
    calls: Contenders = {
        OURS: lambda: random.standard_normal(n, 1, out=out),
        "numpy": lambda: generator.standard_normal(dtype=np.float32, out=numpy_out),
    }
    if torch := torch_or_none():
        tensor, source = torch.empty(n), torch.Generator().manual_seed(1)
        calls["torch"] = lambda: tensor.normal_(generator=source)
    return calls


def smooth_cell() -> Channel:
    """The cell of most cases: ``synthetic_pcm`` in a table of 1024 rows, all noise at once."""
    pcm = devices.synthetic_pcm()
    x = np.linspace(-1, 1, 1024)
    return Channel(x, pcm.mean_at(x), pcm.std_at(x), name="synthetic_pcm, 1024 rows")


def cell_inputs(channel: Channel, n: int) -> F32:
    """Cell inputs over the whole table."""
    x = np.random.default_rng(2).random(n, np.float32)
    x *= np.float32(np.ptp(channel.x))
    x += np.float32(channel.x[0])
    return x


def sample(n: int) -> Contenders:
    """Write to and read from ``n`` cells; all contenders have the same inputs."""
    cell = smooth_cell()
    x, out = cell_inputs(cell, n), np.empty(n, np.float32)
    calls: Contenders = {OURS: lambda: cell.sample(x, 1, out=out)}
    return calls | {library.name: sample_by(library, cell, n) for library in libraries()}


def sample_by(library: Library, channel: Channel, n: int) -> Call:
    """The job of :func:`sample` by another library."""
    x, out = library.array(cell_inputs(channel, n)), library.array(np.empty(n, np.float32))
    look_up = library.table(channel.x, channel.mean, channel.std)

    def call() -> Any:
        for part in library.parts(n):
            mean, std = look_up(x[part])
            library.noisy(mean, std, out[part])
        return out

    return call


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights to store, the same for all contenders.

    Signs and two ranges of magnitudes, four cells for a small weight and one for a large one,
    nine weights in ten stored.
    """

    codec: Codec
    values: F32
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, n: int) -> Weights:
        """Gaussian weights, a third of them large."""
        generator = np.random.default_rng(3)
        values = generator.standard_normal(n, np.float32)
        values *= np.float32(THRESHOLD)
        codec = Codec(smooth_cell(), thresholds=THRESHOLD, cells=(4, 1))
        return cls(codec, values, generator.random(n, np.float32) < KEPT)

    @property
    def cell(self) -> Channel:
        """What the weights are stored in."""
        return self.codec.channel

    @cached_property
    def stored(self) -> StoredTensor:
        """The weights in cells."""
        return self.codec.encode(self.values, self.mask)


class Storing:
    """Storing weights by whole-array operations of another library."""

    def __init__(self, library: Library, weights: Weights) -> None:
        self.library = library
        self.small, self.large = weights.stored.ranges
        self.inverse = library.inverse(weights.cell)
        self.look_up = library.table(weights.cell.x, weights.cell.mean, weights.cell.std)
        self.weights, self.mask = library.array(weights.values), library.array(weights.mask)
        self.out = library.array(np.zeros_like(weights.values))

    def _choose(self, big: Any, name: str) -> Any:
        return self.library.choose(big, getattr(self.small, name), getattr(self.large, name))

    def to_cells(self, w: Any) -> tuple[Any, Any, Any]:
        """Cell inputs, and whether weights are negative and in the range of large ones."""
        negative, u = self.library.module.signbit(w), self.library.module.abs(w)
        big = u > self.small.threshold
        u *= self._choose(big, "alpha")
        u -= self._choose(big, "beta")
        (x,) = self.inverse(u)
        return x, negative, big

    def from_cells(self, x: Any, negative: Any, big: Any) -> Any:
        """Noisy weights."""
        mean, y = self.look_up(x)
        y *= self.library.choose(big, self.small.cells**-0.5, self.large.cells**-0.5)
        self.library.noisy(mean, y, y)
        y *= self._choose(big, "inv_alpha")
        y += self._choose(big, "shift")
        y *= self.library.choose(negative, 1.0, -1.0)
        return y

    def transmit(self) -> Any:
        """Encode, the channel, decode."""
        for part in self.library.parts(len(self.out)):
            self.library.where(
                self.mask[part], lambda w: self.from_cells(*self.to_cells(w)),
                self.weights[part], self.out[part],
            )  # fmt: skip
        return self.out


def transmit(n: int) -> Contenders:
    """Store ``n`` weights and read them back."""
    weights = Weights.of(n)
    out, name = np.empty_like(weights.values), weights.stored.name
    transmit = weights.codec.transmit
    calls: Contenders = {
        OURS: lambda: transmit(weights.values, 1, weights.mask, name=name, out=out)
    }
    return calls | {
        library.name: Storing(library, weights).transmit for library in libraries()
    }  # fmt: skip


def product(batch: int) -> Contenders:
    """Products of a crossbar of PCM with 8-bit converters and output noise."""
    x = np.random.default_rng(7).standard_normal((batch, INPUTS), np.float32)
    weights = np.random.default_rng(6).standard_normal((OUTPUTS, INPUTS), np.float32)
    spec = CrossbarSpec(rows=ROWS, kernel="int16", read_noise="output")
    crossbar = Crossbar(weights, devices.pcm_joshi2020(), spec)
    crossbar.program(1)
    calls: Contenders = {OURS: lambda: crossbar.matmul(x, 1), "numpy": matmul(x, weights)}
    if torch := torch_or_none():
        calls["torch"] = linear(torch, x, weights)
    return calls


def linear(torch: ModuleType, x: F32, weights: F32) -> Call:
    """torch's ``F.linear``, which has no noise."""
    xs, ws = torch.from_numpy(x), torch.from_numpy(weights)
    return lambda: torch.nn.functional.linear(xs, ws)


def matmul(x: F32, weights: F32) -> Call:
    """The same by numpy's BLAS."""
    y = np.empty((len(x), len(weights)), np.float32)
    return lambda: np.matmul(x, weights.T, out=y)


class Case(NamedTuple):
    """A job, its size in a full run, and the contenders for a size.

    ``pools``: contenders whose library has threads of its own (see :func:`times`).
    """

    title: str
    size: int
    prepare: Callable[[int], Contenders]
    pools: tuple[str, ...] = ()


CASES: tuple[Case, ...] = (
    Case("standard normals", 16 << 20, normals),
    Case("cells: Channel.sample", 4 << 20, sample),
    Case("weights: Codec.transmit", 4 << 20, transmit),
    Case("vectors: Crossbar.matmul", BATCH, product, ("numpy",)),
)
