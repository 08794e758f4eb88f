"""Weights of the tests of codecs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def heavy_tailed(size: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_t(4, size) * 0.02).astype(np.float32)
