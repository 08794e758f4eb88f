"""Rivals on crossbars: the product without noise, and the same noisy jobs in torch.

All are written with care: tables and tiles of weights made beforehand, buffers reused, operations
in place and as few passes over memory as torch allows.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..crossbar import Packed
from ..devices.pcm import JOSHI_STD
from .contenders import F32, Call, chunks

__all__ = ["linear", "matmul", "noisy_linear", "programming", "tile_by_tile"]


def linear(torch: ModuleType, x: F32, weights: F32) -> Call:
    """``F.linear``, which has no noise."""
    xs, ws = torch.from_numpy(x), torch.from_numpy(weights)
    return lambda: torch.nn.functional.linear(xs, ws)


def matmul(x: F32, weights: F32) -> Call:
    """The same by numpy's BLAS."""
    y = np.empty((len(x), len(weights)), np.float32)
    return lambda: np.matmul(x, weights.T, out=y)


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
        for part in chunks(len(flat), tuned):
            drawn = torch.empty(part.stop - part.start)
            for out, sign in ((g[0, part], 1), (g[1, part], -1)):
                torch.mul(flat[part], sign * inverse, out=out).clamp_(min=0)
                std = torch.mul(out, c2).add_(c1).mul_(out).add_(c0)
                out.mul_(g_max).addcmul_(drawn.normal_(generator=source), std).clamp_(min=0)
        return g.view(2, *weights.shape)

    return call
