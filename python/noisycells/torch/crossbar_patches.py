"""Patches of images as the rows of a matrix, and back: convolutions of any dimension."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Geometry", "blocks", "fold", "patches"]

BLOCK_ELEMENTS = 1 << 22  # of one block of patches: 16 MB of float32


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


def fold(rows: Tensor, shape: torch.Size, geometry: Geometry) -> Tensor:
    """The adjoint of :func:`patches`: sums ``rows`` into an image batch of ``shape``."""
    size = tuple(shape[2:])
    padded = [n + 2 * p for n, p in zip(size, geometry.padding, strict=True)]
    out = geometry.output_size(size)
    image = rows.new_zeros(*shape[:2], *padded)
    taps = rows.reshape(shape[0], *out, shape[1], geometry.taps).movedim(len(out) + 1, 1)
    offsets = torch.cartesian_prod(*(torch.arange(k) for k in geometry.kernel))
    for tap, offset in enumerate(offsets.reshape(geometry.taps, -1).tolist()):
        window = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, geometry.dilation, out, geometry.stride, strict=True)
        )
        image[(..., *window)] += taps[..., tap]
    inner = tuple(slice(p, p + n) for p, n in zip(geometry.padding, size, strict=True))
    return image[(..., *inner)].contiguous()


def blocks(batch: int, elements: int) -> Iterator[slice]:
    """Parts of a batch whose patches, ``elements`` for each sample, fit in little memory."""
    size = max(1, BLOCK_ELEMENTS // max(1, elements))
    for start in range(0, batch, size):
        yield slice(start, min(start + size, batch))
