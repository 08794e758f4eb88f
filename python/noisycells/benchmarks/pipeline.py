"""Contenders for storing weights: encode, the channel, decode, together and alone.

Signs and two ranges of magnitudes, four cells for a small weight and one for a large one, nine
weights in ten stored. "encode" ends with float32 cell inputs and packed 2-bit side codes, from
which "decode" starts; in one go, nobody packs side codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import _core, random
from ..channel import Channel
from ..storage import Codec, StoredTensor
from .bits import numpy_pack, numpy_unpack
from .channels import smooth_cell
from .contenders import F32, OURS, OWN, Call, Contenders, chunks, torch_or_none
from .lookup import by_interp, by_numpy, by_torch, by_torch_plainly

__all__ = ["KEPT", "Job", "contend", "side", "transmit_call"]

Part = Literal["transmit", "encode", "decode"]

KEPT = 0.9
THRESHOLD = 0.05
INVERSE_ROWS = 4096  # as many as the codec's own table


@dataclass(frozen=True, eq=False)
class Job:
    """Weights to store, the same for all contenders."""

    codec: Codec
    weights: F32
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, n: int) -> Job:
        """Gaussian weights, a third of them large."""
        generator = np.random.default_rng(3)
        weights = generator.standard_normal(n, np.float32)
        weights *= np.float32(THRESHOLD)
        codec = Codec(smooth_cell(), thresholds=THRESHOLD, cells=(4, 1))
        return cls(codec, weights, generator.random(n, np.float32) < KEPT)

    @property
    def cell(self) -> Channel:
        """What the weights are stored in."""
        return self.codec.channel

    @cached_property
    def stored(self) -> StoredTensor:
        """The weights in cells."""
        return self.codec.encode(self.weights, self.mask)


def contend(n: int, part: Part) -> Contenders:
    """One part of storing ``n`` weights."""
    job = Job.of(n)
    calls: Contenders = {OURS: _core_call(job, part)}
    for tuned in (False, True) if part == "transmit" else (False,):
        suffix = " tuned" if tuned else ""
        calls["numpy" + suffix] = _numpy_call(job, part, tuned)
        if torch := torch_or_none():
            calls["torch" + suffix] = _torch_call(torch, job, part, tuned)
    return calls


def transmit_call(n: int) -> Contenders:
    """What the public call adds: packing the mask, checks, choice of the scales, a new array."""
    job = Job.of(n)
    return {
        OURS: lambda: job.codec.transmit(job.weights, 1, job.mask),
        OWN + "core": _core_call(job, "transmit"),
    }


def side(n: int) -> Contenders:
    """Only the 2-bit side codes, of all weights."""
    job = Job.of(n)
    tables = job.codec.tables(job.stored.ranges)
    out = np.empty(n // 4, np.uint8)
    magnitude, codes, flag = np.empty(n, np.float32), np.empty(n, np.uint8), np.empty(n, np.bool_)
    pack = numpy_pack(codes)

    def ours() -> Any:
        _core.side_bits(job.weights, tables, out)
        return out

    def numpy_side() -> Any:
        np.abs(job.weights, out=magnitude)
        np.greater(magnitude, np.float32(THRESHOLD), out=flag)
        np.left_shift(flag.view(np.uint8), 1, out=codes)
        np.signbit(job.weights, out=flag)
        np.bitwise_or(codes, flag.view(np.uint8), out=codes)
        return pack()

    return {OURS: ours, "numpy": numpy_side}


def _core_call(job: Job, part: Part) -> Call:
    stored = job.stored
    tables, channel = job.codec.tables(stored.ranges), job.cell.tables
    draws = (*job.cell.keys(1), random.stream(stored.name))
    levels, side = np.empty_like(stored.levels), np.empty_like(stored.side)
    out = np.empty_like(job.weights)

    def transmit() -> F32:
        _core.transmit(job.weights, stored.mask, out, tables, channel, *draws)
        return out

    def encode() -> tuple[Any, Any]:
        _core.encode(job.weights, stored.mask, tables, levels, side)
        return levels, side

    def decode() -> F32:
        _core.decode(stored.levels, stored.side, stored.mask, out, tables, channel, *draws)
        return out

    return {"transmit": transmit, "encode": encode, "decode": decode}[part]


def _numpy_call(job: Job, part: Part, tuned: bool) -> Call:
    cell, stored = job.cell, job.stored
    count, (small, large) = stored.stored, stored.ranges
    outputs = np.linspace(*cell.range, INVERSE_ROWS)
    inverse = by_numpy(outputs, cell.inverse(outputs)) if tuned else by_interp(cell.mean, cell.x)
    look_up = (by_numpy if tuned else by_interp)(cell.x, cell.mean, cell.std)
    generator = np.random.default_rng(1)
    out = np.zeros_like(job.weights)
    codes = np.zeros(-(-count // 4) * 4, np.uint8)
    pack, unpack = numpy_pack(codes), numpy_unpack(stored.side)

    def choose(flags: Any, of_false: float, of_true: float) -> F32:
        if tuned:  # a gather beats np.where
            return np.array([of_false, of_true], np.float32).take(flags.view(np.uint8))
        return np.where(flags, np.float32(of_true), np.float32(of_false))

    def to_cells(w: F32) -> tuple[Any, Any, Any]:
        negative = np.signbit(w)
        u = np.abs(w)
        big = u > np.float32(small.threshold)
        u *= choose(big, small.alpha, large.alpha)
        u -= choose(big, small.beta, large.beta)
        return inverse(u)[0], negative, big

    def from_cells(x: Any, negative: Any, big: Any) -> F32:
        mean, y = look_up(x)
        y *= choose(big, small.cells**-0.5, large.cells**-0.5)
        y *= generator.standard_normal(len(y), np.float32)
        y += mean
        y *= choose(big, small.inv_alpha, large.inv_alpha)
        y += choose(big, small.shift, large.shift)
        y *= choose(negative, 1, -1)
        return y

    def transmit() -> F32:
        for some in chunks(len(out), tuned):
            where = np.flatnonzero(job.mask[some])
            out[some][where] = from_cells(*to_cells(job.weights[some].take(where)))
        return out

    def encode() -> tuple[Any, Any]:
        x, negative, big = to_cells(job.weights.take(np.flatnonzero(job.mask)))
        np.left_shift(big.view(np.uint8), 1, out=codes[:count])
        np.bitwise_or(codes[:count], negative.view(np.uint8), out=codes[:count])
        return x, pack()

    def decode() -> F32:
        code = unpack()[:count]
        out[np.flatnonzero(job.mask)] = from_cells(
            stored.levels, (code & 1).view(np.bool_), code > 1
        )
        return out

    return {"transmit": transmit, "encode": encode, "decode": decode}[part]


def _torch_call(torch: ModuleType, job: Job, part: Part, tuned: bool) -> Call:
    cell, stored = job.cell, job.stored
    count, (small, large) = stored.stored, stored.ranges
    outputs = np.linspace(*cell.range, INVERSE_ROWS)
    by = by_torch if tuned else by_torch_plainly
    inverse = by(torch, outputs, cell.inverse(outputs))
    look_up = by(torch, cell.x, cell.mean, cell.std)
    source = torch.Generator().manual_seed(1)
    weights, mask = torch.from_numpy(job.weights), torch.from_numpy(job.mask)
    levels, side = torch.from_numpy(stored.levels), torch.from_numpy(stored.side)
    out = torch.zeros(len(weights))
    codes = torch.zeros(-(-count // 4), 4, dtype=torch.uint8)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)

    def choose(flags: Any, of_false: float, of_true: float) -> Any:
        if tuned:  # a gather beats torch.where
            return torch.index_select(torch.tensor([of_false, of_true]), 0, flags.int())
        return torch.where(flags, of_true, of_false)

    def to_cells(w: Any) -> tuple[Any, Any, Any]:
        negative, u = torch.signbit(w), w.abs()
        big = u > small.threshold
        u.mul_(choose(big, small.alpha, large.alpha))
        u.sub_(choose(big, small.beta, large.beta))
        return inverse(u)[0], negative, big

    def from_cells(x: Any, negative: Any, big: Any) -> Any:
        y, std = look_up(x)
        std.mul_(choose(big, small.cells**-0.5, large.cells**-0.5))
        y.addcmul_(std, torch.randn(len(x), generator=source))
        y.mul_(choose(big, small.inv_alpha, large.inv_alpha))
        y.add_(choose(big, small.shift, large.shift))
        return y.mul_(choose(negative, 1.0, -1.0))

    # Computing the pruned weights too is faster in torch than gathering the others.
    def transmit() -> Any:
        for some in chunks(len(out), tuned):
            torch.mul(from_cells(*to_cells(weights[some])), mask[some], out=out[some])
        return out

    def encode() -> tuple[Any, Any]:
        x, negative, big = to_cells(torch.masked_select(weights, mask))
        codes.view(-1)[:count] = big.byte().mul_(2).add_(negative)
        return x, codes[:, 0] | codes[:, 1] << 2 | codes[:, 2] << 4 | codes[:, 3] << 6

    def decode() -> Any:
        code = (side[:, None] >> shifts).view(-1)[:count]
        return out.masked_scatter_(mask, from_cells(levels, (code & 1).bool(), (code & 2).bool()))

    return {"transmit": transmit, "encode": encode, "decode": decode}[part]
