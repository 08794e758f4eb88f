"""Patches of images, whole as rows of a matrix or tap by tap, in any dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple, cast

from torch import Tensor
from torch.nn import functional as F

from ... import _core

__all__ = ["Geometry", "blocks", "core_convolution", "padded", "patches", "windows"]

BLOCK_ELEMENTS = 1 << 16  # a quarter of a megabyte of float32, which caches hold


Triple = tuple[int, int, int]


class Geometry(NamedTuple):
    """Of a convolution of 1 to 3 dimensions, a number for each; padding with zeros, both sides."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Weights of a filter in each channel."""
        return math.prod(self.kernel)

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Of an input of this size; all are spatial sizes alone."""
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, *self, strict=True)
        )


@lru_cache(maxsize=1024)
def core_convolution(geometry: Geometry) -> _core.Convolution:
    """The geometry with three dimensions, as the core takes it."""
    missing = 3 - len(geometry.kernel)
    filled = tuple((one,) * missing + v for one, v in zip((1, 1, 0, 1), geometry, strict=True))
    kernel, stride, padding, dilation = cast("tuple[Triple, Triple, Triple, Triple]", filled)
    return _core.Convolution(kernel, stride, padding, dilation)


def patches(x: Tensor, geometry: Geometry) -> Tensor:
    """Every patch of ``x`` (batch, channels, ...), as rows (batch * positions, channels * taps).

    Columns are ordered as ``weight.flatten(1)`` of a convolution.
    """
    out = geometry.output_size(tuple(x.shape[2:]))
    x = F.pad(x, [p for p in reversed(geometry.padding) for _ in range(2)])
    batch, channel, *steps = x.stride()
    positions = [a * b for a, b in zip(steps, geometry.stride, strict=True)]
    taps = [a * b for a, b in zip(steps, geometry.dilation, strict=True)]
    view = x.as_strided(
        (x.shape[0], *out, x.shape[1], *geometry.kernel),
        (batch, *positions, channel, *taps),
    )
    return view.reshape(x.shape[0] * math.prod(out), x.shape[1] * geometry.taps)


def padded(x: Tensor, geometry: Geometry) -> Tensor:
    """``x`` (batch, channels, ...) with zeros around it, as (batch, ..., channels) in memory."""
    around = [p for p in reversed(geometry.padding) for _ in range(2)]
    return F.pad(x.movedim(1, -1).contiguous(), [0, 0, *around])


def windows(image: Tensor, geometry: Geometry, out: tuple[int, ...]) -> Iterator[Tensor]:
    """What each tap of the kernel sees of a :func:`padded` image, (batch, *out, channels) views."""
    for offset in product(*map(range, geometry.kernel)):
        taken = [
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, geometry.dilation, out, geometry.stride, strict=True)
        ]
        yield image[tuple([slice(None), *taken])]


def blocks(batch: int, elements: int, most: int = BLOCK_ELEMENTS) -> Iterator[slice]:
    """Parts of a batch whose patches, ``elements`` for each sample, are ``most`` elements or one.

    Of an empty batch one, which is empty.
    """
    size = max(1, most // max(1, elements))
    for start in range(0, max(1, batch), size):
        yield slice(start, min(start + size, batch))
