"""Cases of random normals, noisy cells, storing weights, and packing codes.

"encode" ends with float32 cell inputs and packed 2-bit side codes, from which "decode" starts; in
one go, nobody packs side codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from noisycells import Channel, _core, devices, random
from noisycells._types import F32
from noisycells.bits import pack_bits
from noisycells.speed import cases as main
from noisycells.speed.cases import OURS, Numpy, Storing, Torch, Weights, smooth_cell
from noisycells.speed.timing import Call, Contenders, torch_or_none

from ..rivals import TunedNumpy, TunedTorch, numpy_pack, numpy_unpack, word_pack
from .case import OWN, Case, Field, Job, Work

__all__ = ["CASES", "JOBS", "Sized"]

U8 = NDArray[np.uint8]
Part = Literal["transmit", "encode", "decode"]


@dataclass(frozen=True)
class Sized:
    """A job that takes so much an element.

    Attributes
    ----------
    title : str
    size : int
        Elements in a full run.
    contend : callable
        Makes the inputs for a number of elements, a multiple of 4, and returns the contenders.
    rivals : tuple of str
        Names of those to be compared with; torch may be missing.
    reads, writes : float
        Bytes an element that the job cannot do without.
    draws : float
        Random words an element.
    """

    title: str
    size: int
    contend: Callable[[int], Contenders]
    rivals: tuple[str, ...]
    reads: float
    writes: float
    draws: float = 0.0

    def field(self, shrink: int, levels: Sequence[str] = ()) -> Field:
        """The job and its rivals, at the SIMD level in use."""
        n = self.size // shrink // 4 * 4
        calls = self.contend(n)
        work = Work("", 0, self.reads * n, self.writes * n, self.draws * n)
        return Field([Job(OURS, calls.pop(OURS), self.rivals, work=work)], calls, elements=n)


# --------------------------------------------------------------------------- cells


def sample(channel: Channel, n: int) -> Contenders:
    """One cell each; all contenders read the same inputs."""
    calls = {OURS: _core_sample(channel, n)}
    for library in (Numpy(), TunedNumpy()):
        calls[library.name] = main.sample_by(library, channel, n)
    if torch := torch_or_none():
        for rival in (Torch(torch), TunedTorch(torch)):
            calls[rival.name] = main.sample_by(rival, channel, n)
    return calls


def averages(n: int, literal: bool) -> Contenders:
    """The mean of four cells, against one cell."""
    cell = smooth_cell()
    return {OURS: _core_sample(cell, n, 4, literal), OWN + "r=1": _core_sample(cell, n)}


def sample_call(n: int) -> Contenders:
    """What the checks of the public call add."""
    return {OURS: main.sample(n)[OURS], OWN + "core": _core_sample(smooth_cell(), n)}


def _core_sample(channel: Channel, n: int, cells: int = 1, literal: bool = False) -> Call:
    x, out = main.cell_inputs(channel, n), np.empty(n, np.float32)
    tables, keys = channel.tables, channel.keys(1)

    def call() -> F32:
        _core.sample(x, out, cells, tables, *keys, 0, 0, literal)
        return out

    return call


# --------------------------------------------------------------------------- storing weights


def transmit(n: int) -> Contenders:
    """Store ``n`` weights and read them back."""
    weights = Weights.of(n)
    calls: Contenders = {OURS: _core_storing(weights, "transmit")}
    for library in (Numpy(), TunedNumpy()):
        calls[library.name] = Storing(library, weights).transmit
    if torch := torch_or_none():
        for rival in (Torch(torch), TunedTorch(torch)):
            calls[rival.name] = Storing(rival, weights).transmit
    return calls


def transmit_call(n: int) -> Contenders:
    """What the public call adds: packing the mask, checks, choice of the scales."""
    core = _core_storing(Weights.of(n), "transmit")
    return {OURS: main.transmit(n)[OURS], OWN + "core": core}


def encode(n: int) -> Contenders:
    """To float32 cell inputs and packed side codes."""
    weights = Weights.of(n)
    calls = {OURS: _core_storing(weights, "encode"), "numpy": _numpy_encode(weights)}
    if torch := torch_or_none():
        calls["torch"] = _torch_encode(Torch(torch), weights)
    return calls


def decode(n: int) -> Contenders:
    """From them through the channel back to weights."""
    weights = Weights.of(n)
    calls = {OURS: _core_storing(weights, "decode"), "numpy": _numpy_decode(weights)}
    if torch := torch_or_none():
        calls["torch"] = _torch_decode(Torch(torch), weights)
    return calls


def _core_storing(weights: Weights, part: Part) -> Call:
    stored = weights.stored
    tables, channel = weights.codec.tables(stored.ranges), weights.cell.tables
    draws = (*weights.cell.keys(1), random.stream(stored.name))
    levels, side = np.empty_like(stored.levels), np.empty_like(stored.side)
    out = np.empty_like(weights.values)

    def transmit() -> F32:
        _core.transmit(weights.values, stored.mask, out, tables, channel, *draws)
        return out

    def encode() -> tuple[Any, Any]:
        _core.encode(weights.values, stored.mask, tables, levels, side)
        return levels, side

    def decode() -> F32:
        _core.decode(stored.levels, stored.side, stored.mask, out, tables, channel, *draws)
        return out

    return {"transmit": transmit, "encode": encode, "decode": decode}[part]


def _numpy_encode(weights: Weights) -> Call:
    storing, count = Storing(Numpy(), weights), weights.stored.stored
    codes = np.zeros(-(-count // 4) * 4, np.uint8)
    pack = numpy_pack(codes)

    def call() -> tuple[Any, Any]:
        kept = weights.values.take(np.flatnonzero(weights.mask))
        x, negative, big = storing.to_cells(kept)
        np.left_shift(big.view(np.uint8), 1, out=codes[:count])
        np.bitwise_or(codes[:count], negative.view(np.uint8), out=codes[:count])
        return x, pack()

    return call


def _numpy_decode(weights: Weights) -> Call:
    storing, stored = Storing(Numpy(), weights), weights.stored
    unpack = numpy_unpack(stored.side)

    def call() -> F32:
        code = unpack()[: stored.stored]
        w = storing.from_cells(stored.levels, (code & 1).view(np.bool_), code > 1)
        storing.out[np.flatnonzero(weights.mask)] = w
        out: F32 = storing.out
        return out

    return call


def _torch_encode(library: Torch, weights: Weights) -> Call:
    torch, storing, count = library.module, Storing(library, weights), weights.stored.stored
    codes = torch.zeros(-(-count // 4), 4, dtype=torch.uint8)

    def call() -> tuple[Any, Any]:
        x, negative, big = storing.to_cells(torch.masked_select(storing.weights, storing.mask))
        codes.view(-1)[:count] = big.byte().mul_(2).add_(negative)
        return x, codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6

    return call


def _torch_decode(library: Torch, weights: Weights) -> Call:
    torch, storing, stored = library.module, Storing(library, weights), weights.stored
    levels, side = library.array(stored.levels), library.array(stored.side)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)

    def call() -> Any:
        code = (side[:, None] >> shifts).view(-1)[: stored.stored]
        w = storing.from_cells(levels, (code & 1).bool(), (code & 2).bool())
        return storing.out.masked_scatter_(storing.mask, w)

    return call


# --------------------------------------------------------------------------- codes


def side(n: int) -> Contenders:
    """Only the 2-bit side codes, of all weights."""
    job = Weights.of(n)
    tables = job.codec.tables(job.stored.ranges)
    out = np.empty(n // 4, np.uint8)
    magnitude, codes, flag = np.empty(n, np.float32), np.empty(n, np.uint8), np.empty(n, np.bool_)
    pack = numpy_pack(codes)
    threshold = np.float32(job.stored.ranges[0].threshold)

    def ours() -> Any:
        _core.side_bits(job.values, tables, out)
        return out

    def numpy_side() -> Any:
        np.abs(job.values, out=magnitude)
        np.greater(magnitude, threshold, out=flag)
        np.left_shift(flag.view(np.uint8), 1, out=codes)
        np.signbit(job.values, out=flag)
        np.bitwise_or(codes, flag.view(np.uint8), out=codes)
        return pack()

    return {OURS: ours, "numpy": numpy_side}


def pack(n: int) -> Contenders:
    """``n`` codes to bytes."""
    codes = _codes(n)
    return {OURS: _core_pack(codes), "numpy": numpy_pack(codes), "numpy tuned": word_pack(codes)}


def pack_call(n: int) -> Contenders:
    """What the checks of the public call add."""
    codes = _codes(n)
    out = np.empty(n // 4, np.uint8)
    return {OURS: lambda: pack_bits(codes, 2, out=out), OWN + "core": _core_pack(codes)}


def unpack(n: int) -> Contenders:
    """And back."""
    packed = np.random.default_rng(5).integers(0, 256, n // 4, np.uint8)
    out = np.empty(n, np.uint8)

    def ours() -> U8:
        _core.unpack_bits(packed, 2, out)
        return out

    return {OURS: ours, "numpy": numpy_unpack(packed)}


def _codes(n: int) -> U8:
    return np.random.default_rng(4).integers(0, 4, n, np.uint8)


def _core_pack(codes: U8) -> Call:
    out = np.empty(len(codes) // 4, np.uint8)

    def call() -> U8:
        _core.pack_bits(codes, 2, out)
        return out

    return call


# --------------------------------------------------------------------------- the cases

_M = 1 << 20
_PLAIN = ("numpy", "torch")
_ALL = ("numpy", "numpy tuned", "torch", "torch tuned")
_KEPT = main.KEPT
_SIDE, _MASK = 2 / 8, 1 / 8  # bytes of side code a stored weight and of mask a weight

JOBS: dict[str, Sized] = {
    "normals": Sized("standard normals", 16 * _M, main.normals, _PLAIN, 0, 4, 1),
    "channel": Sized(
        "channel r=1, 1024 rows", 4 * _M,
        lambda n: sample(smooth_cell(), n), _ALL, 4, 4, 1,
    ),
    "pcm_array": Sized(
        "channel r=1, pcm_array", 4 * _M,
        lambda n: sample(devices.pcm_array(), n), _ALL, 4, 4, 1,
    ),
    "collapse": Sized(
        "channel r=4, collapsed", 4 * _M,
        lambda n: averages(n, False), (OWN + "r=1",), 4, 4, 1,
    ),
    "literal": Sized(
        "channel r=4, every cell", 4 * _M,
        lambda n: averages(n, True), (OWN + "r=1",), 4, 4, 4,
    ),
    "transmit": Sized("encode, channel, decode", 4 * _M, transmit, _ALL, 4 + _MASK, 4, _KEPT),
    "encode": Sized(
        "encode alone", 4 * _M, encode, _PLAIN, 4 + _MASK, _KEPT * (4 + _SIDE),
    ),
    "decode": Sized(
        "channel and decode alone", 4 * _M,
        decode, _PLAIN, _KEPT * (4 + _SIDE) + _MASK, 4, _KEPT,
    ),
    "pack": Sized("pack 2-bit codes", 64 * _M, pack, ("numpy", "numpy tuned"), 1, 1 / 4),
    "unpack": Sized("unpack 2-bit codes", 64 * _M, unpack, ("numpy",), 1 / 4, 1),
    "side": Sized("2-bit codes from float32", 16 * _M, side, ("numpy",), 4, _SIDE),
    "Channel.sample": Sized(
        "Channel.sample, r=1", 4 * _M, sample_call, (OWN + "core",), 4, 4, 1,
    ),
    "Codec.transmit": Sized(
        "Codec.transmit", 4 * _M, transmit_call, (OWN + "core",), 4 + _MASK, 4, _KEPT,
    ),
    "pack_bits": Sized("pack_bits, 2 bits", 64 * _M, pack_call, (OWN + "core",), 1, 1 / 4),
}  # fmt: skip

CASES: tuple[Case, ...] = tuple(
    Case(name, sized.title, name, sized.field) for name, sized in JOBS.items()
)
