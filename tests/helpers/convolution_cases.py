"""Convolutions of many shapes, their images, and the patches of these."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from core_cases import RNG
from numpy.typing import NDArray

from noisycells import _core

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


Three = tuple[int, int, int]


class Convolution(NamedTuple):
    size: Three
    channels: int
    kernel: Three
    stride: Three = (1, 1, 1)
    padding: Three = (0, 0, 0)
    dilation: Three = (1, 1, 1)
    batch: int = 2
    slice_bits: int = 2

    @property
    def bound(self) -> _core.Convolution:
        return _core.Convolution(self.kernel, self.stride, self.padding, self.dilation)


CONVOLUTIONS = {
    "1d": Convolution((1, 1, 20), 3, (1, 1, 5)),
    "1d, all": Convolution((1, 1, 23), 3, (1, 1, 4), (1, 1, 3), (0, 0, 5), (1, 1, 2)),
    "2d": Convolution((1, 7, 9), 4, (1, 3, 3)),
    "2d, padding": Convolution((1, 7, 9), 4, (1, 3, 3), padding=(0, 1, 1)),
    "2d, stride": Convolution((1, 9, 10), 2, (1, 3, 2), (1, 2, 3), (0, 1, 0)),
    "2d, dilation": Convolution((1, 9, 11), 2, (1, 3, 3), padding=(0, 2, 1), dilation=(1, 2, 3)),
    "2d, all": Convolution((1, 11, 13), 3, (1, 2, 5), (1, 3, 2), (0, 2, 4), (1, 4, 2)),
    "2d, 1 x 1": Convolution((1, 6, 5), 9, (1, 1, 1)),
    "2d, padding only": Convolution((1, 2, 2), 2, (1, 1, 1), padding=(0, 3, 4)),
    "2d, whole": Convolution((1, 5, 6), 3, (1, 5, 6)),
    "3d": Convolution((4, 5, 6), 2, (2, 3, 2)),
    "3d, all": Convolution((7, 6, 8), 2, (3, 2, 3), (2, 1, 3), (2, 1, 3), (2, 3, 1)),
    "3d, steps in depth": Convolution((5, 3, 3), 2, (2, 2, 2), (2, 1, 1), (1, 0, 1)),
    "lines of 4": Convolution((1, 5, 9), 2, (1, 2, 4), padding=(0, 1, 3)),
    "lines of 9": Convolution((1, 5, 9), 2, (1, 2, 9), padding=(0, 1, 3)),
    # Of more patches than are prepared at once.
    "many": Convolution((1, 27, 27), 3, (1, 3, 3), padding=(0, 1, 1), batch=3, slice_bits=1),
}


def patches(x: F32, c: Convolution) -> F32:
    """im2col: (batch, depth, height, width, channels, *kernel), flattened from channels on."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in c.padding)])
    reach = tuple((k - 1) * d + 1 for k, d in zip(c.kernel, c.dilation, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3, 4))
    places = tuple(np.s_[::s] for s in c.stride)
    windows = windows[(slice(None), slice(None), *places, *(np.s_[::d] for d in c.dilation))]
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 4, 1, 5, 6, 7))


@cache
def images(c: Convolution) -> F32:
    g = RNG([*c.size, c.channels])
    return g.standard_normal((c.batch, c.channels, *c.size)).astype(np.float32)
