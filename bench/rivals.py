"""Rivals beyond the plain ones of :mod:`noisycells.speed`: tuned ones, and those of crossbars.

All are written with care: tables and tiles of weights made beforehand, buffers reused, operations
in place and as few passes over memory as the library allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisycells import Channel
from noisycells._types import F32, F64
from noisycells.crossbar import Packed
from noisycells.devices.pcm import JOSHI_STD
from noisycells.speed.cases import INVERSE_ROWS, Lookup, Numpy, Torch
from noisycells.speed.timing import Call

__all__ = [
    "TunedNumpy",
    "TunedTorch",
    "chunks",
    "noisy_linear",
    "numpy_pack",
    "numpy_unpack",
    "programming",
    "tile_by_tile",
    "word_pack",
]

U8 = NDArray[np.uint8]
CHUNK = 1 << 17


def chunks(n: int) -> Iterator[slice]:
    """Parts of ``n`` elements whose temporaries stay in the caches."""
    return (slice(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK))


# --------------------------------------------------------------------------- cells and weights


class TunedNumpy(Numpy):
    """numpy with float32 tables of values and steps, gathers, and parts that stay in the caches."""

    name = "numpy tuned"

    def parts(self, n: int) -> Iterator[slice]:
        """Parts that stay in the caches."""
        return chunks(n)

    def table(self, knots: F64, *values: F64) -> Lookup:
        """Interpolation between uniform knots; the place is found once for all tables."""
        low, per_unit = np.float32(knots[0]), np.float32(_per_unit(knots))
        tables = [value.astype(np.float32) for value in values]
        steps = [np.append(np.diff(value), np.float32(0)) for value in tables]

        def look_up(x: F32) -> list[F32]:
            place = (x - low) * per_unit
            row = place.astype(np.intp)
            place -= row.astype(np.float32)
            found = []
            for value, step in zip(tables, steps, strict=True):
                y = step.take(row, mode="clip")
                y *= place
                y += value.take(row, mode="clip")
                found.append(y)
            return found

        return look_up

    def inverse(self, channel: Channel) -> Lookup:
        """The cell inputs that give some outputs, from a table with uniform outputs."""
        outputs = np.linspace(*channel.range, INVERSE_ROWS)
        return self.table(outputs, channel.inverse(outputs))

    def choose(self, flags: Any, of_false: float, of_true: float) -> Any:
        """A gather, which beats ``np.where``."""
        return np.array([of_false, of_true], np.float32).take(flags.view(np.uint8))


class TunedTorch(Torch):
    """torch with tables of steps, ``index_select``, and parts that stay in the caches."""

    name = "torch tuned"

    def parts(self, n: int) -> Iterator[slice]:
        """Parts that stay in the caches."""
        return chunks(n)

    def table(self, knots: F64, *values: F64) -> Lookup:
        """Interpolation between uniform knots by ``index_select``, the fastest of its gathers."""
        torch, low, last = self.module, float(knots[0]), len(knots) - 1
        per_unit = _per_unit(knots)
        tables = [torch.from_numpy(value.astype(np.float32)) for value in values]
        steps = [torch.diff(value, append=value[-1:]) for value in tables]

        def look_up(x: Any) -> list[Any]:
            place = (x - low).mul_(per_unit)
            row = place.int().clamp_(0, last)
            place.sub_(row)
            return [
                torch.index_select(value, 0, row).addcmul_(place, torch.index_select(step, 0, row))
                for value, step in zip(tables, steps, strict=True)
            ]

        return look_up

    def choose(self, flags: Any, of_false: float, of_true: float) -> Any:
        """A gather, which beats ``torch.where``."""
        return self.module.index_select(self.module.tensor([of_false, of_true]), 0, flags.int())


def _per_unit(knots: F64) -> float:
    return (len(knots) - 1) / float(np.ptp(knots))


# --------------------------------------------------------------------------- codes


def numpy_pack(codes: U8) -> Call:
    """Shift and or, without temporary arrays; the number of codes is a multiple of 4."""
    out, shifted = np.empty(len(codes) // 4, np.uint8), np.empty(len(codes) // 4, np.uint8)

    def call() -> U8:
        np.copyto(out, codes[::4])
        for k in (1, 2, 3):
            np.left_shift(codes[k::4], 2 * k, out=shifted)
            np.bitwise_or(out, shifted, out=out)
        return out

    return call


def numpy_unpack(packed: U8) -> Call:
    """Shift and mask, without temporary arrays."""
    out, shifted = np.empty(len(packed) * 4, np.uint8), np.empty_like(packed)

    def call() -> U8:
        for k in range(4):
            np.right_shift(packed, 2 * k, out=shifted)
            np.bitwise_and(shifted, 3, out=out[k::4])
        return out

    return call


def word_pack(codes: U8) -> Call:
    """Four codes in a word at once: a product brings them together in its top byte."""
    words = codes.view("<u4")
    product, out = np.empty_like(words), np.empty(len(words), np.uint8)

    def call() -> U8:
        np.multiply(words, np.uint32(1 << 24 | 1 << 18 | 1 << 12 | 1 << 6), out=product)
        np.right_shift(product, 24, out=product)
        np.copyto(out, product, casting="unsafe")
        return out

    return call


# --------------------------------------------------------------------------- crossbars


def noisy_linear(torch: ModuleType, x: F32, weights: F32) -> Call:
    """What is usually done in training: one Gaussian draw of all weights, no converters."""
    xs, ws = torch.from_numpy(x), torch.from_numpy(weights)
    noisy, source = torch.empty_like(ws), torch.Generator().manual_seed(1)
    std = 0.02 * float(ws.abs().max())
    linear = torch.nn.functional.linear
    return lambda: linear(xs, noisy.normal_(std=std, generator=source).add_(ws))


def tile_by_tile(torch: ModuleType, x: F32, packed: Packed) -> Call:
    """DAC, and for each tile of rows its product, noise, ADC, and the sum.

    For arrays of one plane with the DAC's range from each vector and ``mapping="tensor"``. Tiles
    are kept in units that make a step of the ADC 1.
    """
    (plane,), spec, adc = packed.planes(), packed.spec, packed.ranges.adc
    assert adc is not None
    xs, source = torch.from_numpy(x), torch.Generator().manual_seed(1)
    levels, top = spec.dac_levels, spec.adc_levels
    tiles = []
    for tile, step in zip(packed.tiles, (adc / np.float32(top)).tolist(), strict=True):
        weights = torch.from_numpy((plane.values[:, tile] * (1 / (levels * step))).T.copy())
        noise = spec.output_noise / step if spec.noisy_outputs else 0.0
        variances = None
        if packed.weight_noise:
            assert plane.variance is not None
            unit = 1 / (levels * step) ** 2
            variances = torch.from_numpy((plane.variance[:, tile] * unit).T.copy())
        tiles.append((tile, weights, variances, noise, step))
    scale = float(packed.scales.output[0])
    codes = torch.empty_like(xs)
    sums, drawn, std, y = (torch.empty(len(x), packed.n) for _ in range(4))

    def call() -> Any:
        full_scale = torch.maximum(xs.amax(1, keepdim=True), xs.amin(1, keepdim=True).neg_())
        torch.mul(xs, levels / full_scale, out=codes).round_()
        for i, (tile, weights, variances, noise, step) in enumerate(tiles):
            part = codes[:, tile]
            torch.mm(part, weights, out=sums)
            if variances is not None:
                torch.mm(part.square(), variances, out=std).sqrt_()
                sums.addcmul_(drawn.normal_(generator=source), std)
            elif noise:
                sums.add_(drawn.normal_(generator=source), alpha=noise)
            sums.round_().clamp_(-top, top)
            torch.add(y, sums, alpha=step, out=y) if i else torch.mul(sums, step, out=y)
        return y.mul_(full_scale.mul_(scale))

    return call


def programming(torch: ModuleType, weights: F32, inverse: float, g_max: float, tuned: bool) -> Call:
    """Conductances (2, out, in) of both devices of each weight, by the noise of Joshi et al.

    Tuned, in parts whose temporaries stay in the caches.
    """
    flat = torch.from_numpy(weights).view(-1)
    g = torch.empty(2, len(flat))
    source = torch.Generator().manual_seed(1)
    c0, c1, c2 = JOSHI_STD

    def call() -> Any:
        for part in chunks(len(flat)) if tuned else [slice(0, len(flat))]:
            drawn = torch.empty(part.stop - part.start)
            for out, sign in ((g[0, part], 1), (g[1, part], -1)):
                torch.mul(flat[part], sign * inverse, out=out).clamp_(min=0)
                std = torch.mul(out, c2).add_(c1).mul_(out).add_(c0)
                out.mul_(g_max).addcmul_(drawn.normal_(generator=source), std).clamp_(min=0)
        return g.view(2, *weights.shape)

    return call
